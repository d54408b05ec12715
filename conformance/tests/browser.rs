//! The HTML report and the matrix in a real browser: Debian's Chromium, driven through its ChromeDriver.
//!
//! Without both the tests are skipped, and say so. With CONFORMANCE_PICTURES=FOLDER they leave pictures of what they
//! have seen there (`make pictures`).

mod proof;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use libtest_mimic::{Arguments, Failed, Trial};
use proof::faulty_wrapper;
use serde_json::{Value, json};

/// The fault of the wrapper whose report is looked at.
const FAULT: &str = "sigpipe-left-ignored";

/// A width in CSS pixels and a height, with the colours that the user wants.
#[derive(Clone, Copy)]
struct View {
    name: &'static str,
    width: u32,
    height: u32,
    dark: bool,
}

const DESKTOP: View = View {
    name: "1280",
    width: 1280,
    height: 900,
    dark: false,
};
const DARK: View = View {
    name: "1280-dark",
    width: 1280,
    height: 900,
    dark: true,
};
const PHONE: View = View {
    name: "390",
    width: 390,
    height: 844,
    dark: false,
};

/// ChromeDriver, which ends with this value and takes its browsers along.
struct Driver {
    process: Child,
    address: String,
}

impl Driver {
    fn start() -> Driver {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        // "ChromeDriver was started successfully on port 40321."
        let port = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.split_once("successfully on port ")?.1;
                Some(port.trim_end_matches('.').to_owned())
            })
            .expect("chromedriver says its port");
        let address = format!("http://127.0.0.1:{port}");
        Driver { process, address }
    }

    async fn open(&self, view: View, page: &Path) -> Client {
        let options = json!({
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                format!("--blink-settings=preferredColorScheme={}", if view.dark { 0 } else { 1 }),
            ],
            "mobileEmulation": {
                "deviceMetrics": {"width": view.width, "height": view.height, "pixelRatio": 1.0, "mobile": view.width < 500}
            },
        });
        let Value::Object(capabilities) = json!({"goog:chromeOptions": options}) else {
            unreachable!("an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&self.address)
            .await
            .expect("a browser");
        let address = format!("file://{}", page.display());
        client.goto(&address).await.expect("the page opens");
        client
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.process.kill().expect("chromedriver is ours");
        self.process.wait().expect("chromedriver ends");
    }
}

/// Runs, and the pages made of them.
struct Pages {
    folder: tempfile::TempDir,
}

impl Pages {
    fn make() -> Pages {
        let folder = tempfile::tempdir().expect("a folder");
        faulty_wrapper(folder.path(), FAULT);
        faulty_wrapper(folder.path(), "");
        let broken = format!("./faulty-wrapper--{FAULT}");
        run(
            folder.path(),
            "broken",
            &broken,
            &["wrapper.run.*", "wrapper.deny.*"],
            1,
        );
        run(
            folder.path(),
            "whole",
            "./faulty-wrapper--",
            &["wrapper.run.*", "wrapper.deny.*"],
            0,
        );
        run(
            folder.path(),
            "nothing",
            "/bin/true",
            &["wrapper.run.*", "wrapper.deny.*"],
            1,
        );
        let terminal = run(
            folder.path(),
            "few",
            &broken,
            &["wrapper.run.signals/default", "wrapper.deny.*"],
            1,
        );
        let matrix = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args([
                "compare",
                "whole.json",
                "broken.json",
                "nothing.json",
                "--html",
                "matrix.html",
            ])
            .current_dir(folder.path())
            .output()
            .expect("a comparison");
        assert!(matrix.status.success());
        // What a terminal shows, as a page, for the picture.
        let escaped = terminal.replace('&', "&amp;").replace('<', "&lt;");
        let page = format!(
            "<!doctype html><meta charset=utf-8><title>x</title><body style='margin:0;background:#14181b'>\
             <pre style='font:13px/1.45 monospace;color:#e6e8e6;padding:18px;margin:0;white-space:pre-wrap;overflow-wrap:anywhere'>$ conformance run \
             --wrapper {broken} --only wrapper.run.signals/default --only 'wrapper.deny.*'\n{escaped}</pre>"
        );
        fs::write(folder.path().join("terminal.html"), page).expect("a page");
        Pages { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn report(&self) -> Value {
        let text = fs::read(self.path("broken.json")).expect("a report");
        serde_json::from_slice(&text).expect("JSON")
    }
}

/// A run with its reports in `folder`, and what it prints.
fn run(folder: &Path, name: &str, wrapper: &str, only: &[&str], status: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--seed", "1", "--jobs", "4", "--wrapper", wrapper])
        .args(only.iter().flat_map(|pattern| ["--only", pattern]))
        .args([
            "--json",
            &format!("{name}.json"),
            "--html",
            &format!("{name}.html"),
        ])
        .current_dir(folder)
        .output()
        .expect("a run");
    assert_eq!(
        output.status.code(),
        Some(status),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a script returns on the page.
async fn ask(client: &Client, script: &str) -> Value {
    client.execute(script, Vec::new()).await.expect("the script runs")
}

/// A picture, where they are wanted.
async fn picture(client: &Client, name: &str) {
    if let Some(folder) = std::env::var_os("CONFORMANCE_PICTURES") {
        let png = client.screenshot().await.expect("a picture");
        fs::write(Path::new(&folder).join(format!("{name}.png")), png)
            .expect("CONFORMANCE_PICTURES is a folder");
    }
}

/// How many cases the filter lets through, folded or not.
const SHOWN: &str =
    "return [...document.querySelectorAll('.case')].filter(item => !item.closest('[hidden]')).length";

/// How many cases are seen.
const SEEN: &str =
    "return [...document.querySelectorAll('.case')].filter(item => item.checkVisibility()).length";

async fn filter_and_outcomes(driver: &Driver, pages: &Pages) {
    let report = pages.report();
    let cases = report["cases"].as_array().expect("cases");
    let (all, failed) = (json!(cases.len()), &report["summary"]["fail"]);
    let client = driver.open(DESKTOP, &pages.path("broken.html")).await;
    assert_eq!(ask(&client, SHOWN).await, all);
    assert_eq!(&ask(&client, SEEN).await, failed, "what passed is folded");

    // By text: an id, then nothing that exists.
    let filter = client.find(Locator::Css("#filter")).await.expect("a filter");
    filter.send_keys("wrapper.run.signals").await.expect("typing");
    let found = ask(&client, SHOWN).await.as_u64().expect("a number");
    let signals = report["cases"].as_array().expect("cases").iter();
    let signals = signals
        .filter(|case| case["requirement"] == "wrapper.run.signals")
        .count();
    assert!(
        found as usize >= signals && found < all.as_u64().expect("a number"),
        "{found} of {all}, {signals}"
    );
    assert_eq!(ask(&client, SEEN).await, found, "what is found is unfolded");
    filter.send_keys(" no such text").await.expect("typing");
    assert_eq!(ask(&client, SHOWN).await, 0);
    let notice = "return document.getElementById('nothing').checkVisibility()";
    assert_eq!(ask(&client, notice).await, true);
    filter.clear().await.expect("clearing");
    ask(
        &client,
        "document.getElementById('filter').dispatchEvent(new Event('input'))",
    )
    .await;
    assert_eq!(ask(&client, SHOWN).await, all);

    // By outcome.
    let passed = client
        .find(Locator::Css(".outcome[value=pass]"))
        .await
        .expect("a box");
    passed.click().await.expect("a click");
    assert_eq!(&ask(&client, SHOWN).await, failed);
    client.close().await.expect("closing");
}

async fn failures_first(driver: &Driver, pages: &Pages) {
    for view in [DESKTOP, PHONE] {
        let client = driver.open(view, &pages.path("broken.html")).await;
        let failed = &pages.report()["summary"]["fail"];
        let said = ask(
            &client,
            "return document.querySelector('#counts .fail').textContent",
        )
        .await;
        assert_eq!(said, format!("{failed} fail"));
        let top = "return document.querySelector('#failing a').getBoundingClientRect().bottom < innerHeight";
        assert_eq!(ask(&client, top).await, true, "{}", view.name);
        let link = client.find(Locator::Css("#failing a")).await.expect("a link");
        let requirement = link.text().await.expect("an id");
        link.click().await.expect("a click");
        // Where a link leads, a failure is seen, and the controls that stay in sight don't cover the heading.
        let arrived = format!(
            "const section = document.getElementById('{requirement}'), box = section.getBoundingClientRect();
            const controls = document.querySelector('.controls').getBoundingClientRect();
            const failure = section.querySelector('.case.fail').getBoundingClientRect();
            return [box.top >= controls.bottom - 1, failure.top < innerHeight]"
        );
        assert_eq!(ask(&client, &arrived).await, json!([true, true]), "{}", view.name);
        client.close().await.expect("closing");
    }
}

async fn wire_of_a_failure(driver: &Driver, pages: &Pages) {
    let client = driver.open(DESKTOP, &pages.path("broken.html")).await;
    let drawn = "return [...document.querySelectorAll('.wire .message')].filter(item => item.checkVisibility()).length";
    assert_eq!(ask(&client, drawn).await, 0, "closed at first");
    let failure = client
        .find(Locator::Css("details.fail > summary"))
        .await
        .expect("a failure");
    failure.click().await.expect("a click");
    let report = pages.report();
    let mut cases = report["cases"].as_array().expect("cases").iter();
    let id = "return document.querySelector('details.fail .name').textContent";
    let id = ask(&client, id).await;
    let first = cases.find(|case| case["id"] == id).expect("a failure");
    assert_eq!(
        ask(&client, drawn).await,
        first["transcript"].as_array().expect("a transcript").len()
    );
    let expected = ask(
        &client,
        "return document.querySelector('details.fail dd.expected-text').textContent",
    )
    .await;
    assert_eq!(expected, first["expected"]);
    // An arrow from the left to the right is what the suite sends, and it is drawn.
    let arrow = "const line = document.querySelector('.message.to .line');
        return line.getBoundingClientRect().width > 100 && getComputedStyle(line, '::after').borderLeftWidth";
    assert_eq!(ask(&client, arrow).await, "5px");
    ask(&client, "document.querySelector('details.fail').scrollIntoView()").await;
    picture(&client, "report-wire").await;
    client.close().await.expect("closing");
}

async fn sizes(driver: &Driver, pages: &Pages) {
    for page in ["broken", "matrix"] {
        for view in [DESKTOP, PHONE] {
            let client = driver.open(view, &pages.path(&format!("{page}.html"))).await;
            assert_eq!(
                ask(&client, "return innerWidth").await,
                view.width,
                "{page} {}",
                view.name
            );
            ask(
                &client,
                "document.querySelectorAll('details').forEach(item => { item.open = true; })",
            )
            .await;
            let width = ask(&client, "return document.documentElement.scrollWidth").await;
            let width = width.as_u64().expect("a number");
            assert!(
                width <= view.width.into(),
                "{page} is {width} pixels wide at {}",
                view.name
            );
            // Nobody reads what is smaller on a phone.
            let small = "return [...document.querySelectorAll('body *')].filter(item =>
                item.checkVisibility() && parseFloat(getComputedStyle(item).fontSize) < 11).map(item => item.outerHTML)";
            assert_eq!(ask(&client, small).await, json!([]));
            ask(
                &client,
                "document.querySelectorAll('details').forEach(item => { item.open = false; })",
            )
            .await;
            picture(
                &client,
                &format!("{}-{}", if page == "broken" { "report" } else { page }, view.name),
            )
            .await;
            client.close().await.expect("closing");
        }
    }
    let client = driver.open(DESKTOP, &pages.path("terminal.html")).await;
    picture(&client, "terminal").await;
    client.close().await.expect("closing");
}

/// The contrast of text and ground as WCAG 2 defines it, the least of all texts that are seen.
const LEAST_CONTRAST: &str = "
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = colour => channels(colour).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = item => {
        for (; item; item = item.parentElement) {
            const colour = getComputedStyle(item).backgroundColor;
            if ((channels(colour)[3] ?? 1) > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    let least = 21;
    for (const item of document.querySelectorAll('body *')) {
        if (!item.checkVisibility() || ![...item.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        const [a, b] = [getComputedStyle(item).color, ground(item)].map(luminance);
        least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return least;";

async fn light_and_dark(driver: &Driver, pages: &Pages) {
    let mut grounds = Vec::new();
    for view in [DESKTOP, DARK] {
        for page in ["broken.html", "matrix.html"] {
            let client = driver.open(view, &pages.path(page)).await;
            ask(
                &client,
                "document.querySelectorAll('details').forEach(item => { item.open = true; })",
            )
            .await;
            let least = ask(&client, LEAST_CONTRAST).await.as_f64().expect("a number");
            assert!(least >= 4.5, "{page} {}: contrast {least}", view.name);
            grounds.push(ask(&client, "return getComputedStyle(document.body).backgroundColor").await);
            client.close().await.expect("closing");
        }
    }
    assert_ne!(grounds[0], grounds[2]);
    assert_ne!(grounds[1], grounds[3]);
}

async fn printed_and_offline(driver: &Driver, pages: &Pages) {
    let client = driver.open(DESKTOP, &pages.path("broken.html")).await;
    let loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    assert_eq!(ask(&client, loaded).await, json!([]), "the page loads nothing");
    let closed = "return document.querySelectorAll('details:not([open])').length";
    assert_ne!(ask(&client, closed).await, 0);
    let paper = client.print(Default::default()).await.expect("printing");
    assert!(paper.starts_with(b"%PDF"));
    assert_eq!(ask(&client, closed).await, 0, "paper can't be clicked");
    client.close().await.expect("closing");
}

fn main() {
    let arguments = Arguments::from_args();
    let found = |tool: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
    };
    let missing: Vec<_> = ["chromium", "chromedriver"]
        .into_iter()
        .filter(|tool| !found(tool))
        .collect();
    let skipped = !missing.is_empty();
    if skipped {
        eprintln!(
            "SKIPPED: the HTML report is not tested in a browser: {missing:?} is missing (Debian: apt-get install chromium chromium-driver)"
        );
    }
    // One test: browsers are slow to start, and the pages are the same.
    let trial = Trial::test("the_html_pages_work_in_a_browser", || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (driver, pages) = (Driver::start(), Pages::make());
            filter_and_outcomes(&driver, &pages).await;
            failures_first(&driver, &pages).await;
            wire_of_a_failure(&driver, &pages).await;
            sizes(&driver, &pages).await;
            light_and_dark(&driver, &pages).await;
            printed_and_offline(&driver, &pages).await;
        });
        Ok::<(), Failed>(())
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(skipped)]).exit();
}
