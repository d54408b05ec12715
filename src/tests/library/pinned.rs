//! What was decided on is what runs, to the last byte, against a client that changes files all the time.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};
use shell_escalation::{Decision, PolicyFile};

use super::support::chain::script;
use super::support::wrapper::{null, pipe, read_all};
use super::{Always, Fixture, blocking, start};

/// How long each attack goes on; with `--ignored` longer.
pub const ATTACK: Duration = Duration::from_millis(1500);
const LONG_ATTACK: Duration = Duration::from_secs(10);

/// What a test file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Binary,
    Script,
    Bare,
}

const KINDS: [Kind; 3] = [Kind::Binary, Kind::Script, Kind::Bare];

impl Kind {
    /// The file's content: it exits with `status`. Files of one kind have the same size.
    fn content(self, status: bool) -> Vec<u8> {
        match self {
            Self::Script => format!("#!/bin/sh\nexit {}\n", u8::from(status)).into_bytes(),
            Self::Bare => format!("exit {}\n", u8::from(status)).into_bytes(),
            Self::Binary => {
                let [yes, no] = ["/bin/false", "/bin/true"].map(|path| fs::read(path).unwrap());
                let size = yes.len().max(no.len());
                let mut content = if status { yes } else { no };
                content.resize(size, 0);
                content
            }
        }
    }
}

/// Writes an executable file in another process, see [`script`].
fn write(path: &Path, content: &[u8]) {
    script(path, "");
    let mut writer = std::process::Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(content).unwrap();
    assert!(writer.wait().unwrap().success());
}

fn request(program: &Path) -> Value {
    json!({"file": program.to_str().unwrap(), "argv": ["program"], "workdir": "/", "env": {"PATH": "/usr/bin:/bin"}})
}

/// Escalates the program, and does something between decision and execution; the exit status.
fn escalate(fixture: &Fixture, program: &Path, between: impl FnOnce()) -> i64 {
    let mut stream = fixture.client.connect();
    stream.send(&request(program));
    assert_eq!(stream.receive(), json!({"action": "Escalate"}));
    between();
    stream.send_descriptors(&[(&null(), 2)]);
    stream.receive()["exit_code"].as_i64().unwrap()
}

/// Does something again and again, on a thread of its own, until it is dropped.
struct Meanwhile {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Meanwhile {
    fn again_and_again(mut act: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    act();
                }
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(matches!(joined, Some(Ok(()))) || std::thread::panicking());
    }
}

fn exchange(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_rewritten_in_place_does_not_run_whatever_its_times_say() {
    for decision in [Decision::escalate(), Decision::escalate().in_place()] {
        let fixture = start(Always::new(decision));
        blocking(move || {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("program");
            for kind in KINDS {
                write(&program, &kind.content(false));
                assert_eq!(escalate(&fixture, &program, || {}), 0, "{kind:?}");
                let status = escalate(&fixture, &program, || {
                    let modified = program.metadata().unwrap().modified().unwrap();
                    write(&program, &kind.content(true));
                    let file = File::options().append(true).open(&program).unwrap();
                    file.set_modified(modified).unwrap();
                });
                assert_eq!(status, 126, "{kind:?}");
                assert_eq!(escalate(&fixture, &program, || {}), 1, "{kind:?}");
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_mapped_for_writing_does_not_run() {
    for decision in [Decision::escalate(), Decision::escalate().in_place()] {
        let fixture = start(Always::new(decision));
        blocking(move || {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("program");
            for kind in KINDS {
                write(&program, &kind.content(false));
                let file = File::options().read(true).write(true).open(&program).unwrap();
                let length = std::num::NonZeroUsize::new(1).unwrap();
                let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
                let shared = nix::sys::mman::MapFlags::MAP_SHARED;
                // SAFETY: a new mapping; the file is as long as what is touched of it.
                let mapped =
                    unsafe { nix::sys::mman::mmap(None, length, protection, shared, &file, 0) }.unwrap();
                drop(file);
                // While it is mapped the file's times say nothing; unmapped before the execution, it would look as before.
                let status = escalate(&fixture, &program, || {
                    // SAFETY: nothing uses the mapping any more.
                    unsafe { nix::sys::mman::munmap(mapped, 1) }.unwrap();
                });
                assert_eq!(status, 126, "{kind:?}");
                assert_eq!(escalate(&fixture, &program, || {}), 0, "{kind:?}");
            }
        })
        .await;
    }
}

/// After each decision, something is done without pause until the program has ended: the one that was decided on (0), or
/// none (126), never another (1).
pub fn attack(
    fixture: &Fixture,
    time: Duration,
    kind: Kind,
    how: impl Fn(PathBuf, PathBuf) -> Box<dyn FnMut() + Send>,
) {
    let until = Instant::now() + time;
    let (mut decided, mut refused) = (0, 0);
    while Instant::now() < until {
        let folder = tempfile::tempdir().unwrap();
        let [program, other] = ["program", "other"].map(|name| folder.path().join(name));
        write(&program, &kind.content(false));
        write(&other, &kind.content(true));
        let mut meanwhile = None;
        let status = escalate(fixture, &program, || {
            meanwhile = Some(Meanwhile::again_and_again(how(program.clone(), other.clone())));
        });
        drop(meanwhile);
        match status {
            0 => decided += 1,
            126 => refused += 1,
            other => panic!("{kind:?}: {other}, after {decided} right ones and {refused} refused"),
        }
    }
    println!("{kind:?}: {decided} ran as decided, {refused} were refused");
}

pub fn exchanging(program: PathBuf, other: PathBuf) -> Box<dyn FnMut() + Send> {
    Box::new(move || exchange(&program, &other))
}

/// Writes the other program's content into the file, and back, with the times set back.
pub fn rewriting(program: PathBuf, other: PathBuf) -> Box<dyn FnMut() + Send> {
    let contents = [&other, &program].map(|path| fs::read(path).unwrap());
    let modified = program.metadata().unwrap().modified().unwrap();
    let mut turn = 0;
    Box::new(move || {
        // Busy while it is executed.
        if let Ok(mut file) = File::options().write(true).open(&program) {
            file.write_all(&contents[turn % 2]).unwrap();
            file.set_modified(modified).unwrap();
            turn += 1;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_exchanged_or_rewritten_without_pause_do_not_run() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        for kind in KINDS {
            attack(&fixture, ATTACK, kind, exchanging);
            attack(&fixture, ATTACK, kind, rewriting);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn programs_that_are_exchanged_or_rewritten_for_long_do_not_run() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        for kind in KINDS {
            attack(&fixture, LONG_ATTACK, kind, exchanging);
            attack(&fixture, LONG_ATTACK, kind, rewriting);
        }
    })
    .await;
}

/// While requests name `evil/true`, that directory changes places with a link to /usr/bin, without pause: a rule by the
/// mere name trusts what is in /usr/bin only.
fn attack_a_rule_by_name(fixture: &Fixture, time: Duration) {
    // Both are in the directory for temporary files itself: root's, and sticky.
    let folder = tempfile::tempdir().unwrap();
    let evil = folder.path().to_owned();
    let link = evil.with_extension("link");
    symlink("/usr/bin", &link).unwrap();
    write(&evil.join("true"), &Kind::Binary.content(true));
    // Not root's, even if root runs this test.
    fs::set_permissions(&evil, PermissionsExt::from_mode(0o777)).unwrap();
    let until = Instant::now() + time;
    let (mut tries, mut escalated) = (0, 0);
    while Instant::now() < until {
        let mut meanwhile = Some(Meanwhile::again_and_again({
            let (evil, link) = (evil.clone(), link.clone());
            move || exchange(&evil, &link)
        }));
        for _ in 0..20 {
            tries += 1;
            let mut stream = fixture.client.connect();
            stream.send(&request(&evil.join("true")));
            match stream.try_receive() {
                Some(answer) if answer == json!({"action": "Escalate"}) => {}
                // A path that changes while it is looked at, or the rule does not apply.
                None => continue,
                Some(answer) => {
                    assert_eq!(answer, json!({"action": "Run"}));
                    continue;
                }
            }
            meanwhile = None;
            if evil.is_symlink() {
                exchange(&evil, &link);
            }
            escalated += 1;
            stream.send_descriptors(&[(&null(), 2)]);
            assert_ne!(
                stream.receive()["exit_code"],
                1,
                "the attacker's program ran, in try {tries}"
            );
            break;
        }
        drop(meanwhile);
    }
    if evil.is_symlink() {
        exchange(&evil, &link);
    }
    fs::remove_file(&link).unwrap();
    println!("{tries} tries, {escalated} escalated, none of the attacker's");
}

fn a_rule_by_name() -> PolicyFile {
    let rule = "[[rule]]\nprogram = \"true\"\naction = \"escalate\"\n";
    PolicyFile::parse(&format!("default = \"run\"\n{rule}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_by_name_is_not_misled_by_a_directory_that_changes() {
    let fixture = start(a_rule_by_name());
    blocking(move || attack_a_rule_by_name(&fixture, ATTACK)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten seconds"]
async fn a_rule_by_name_is_not_misled_for_long() {
    let fixture = start(a_rule_by_name());
    blocking(move || attack_a_rule_by_name(&fixture, LONG_ATTACK)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_called_like_an_option_is_what_runs() {
    let fixture = start(Always::new(Decision::escalate()));
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        for name in ["-c", "--", "+x"] {
            script(&folder.path().join(name), "echo decided: \"$1\"\n");
            let (reader, writer) = pipe();
            let mut stream = fixture.client.connect();
            let argv = [name, "echo swapped"];
            stream.send(&json!({"file": name, "argv": argv, "workdir": folder.path(), "env": {}}));
            assert_eq!(stream.receive(), json!({"action": "Escalate"}));
            stream.send_descriptors(&[(&writer, 1), (&writer, 2)]);
            drop(writer);
            assert_eq!(read_all(reader), "decided: echo swapped\n", "{name}");
        }
    })
    .await;
}
