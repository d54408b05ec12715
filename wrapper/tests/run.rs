//! Run: the command is as if the wrapper had never been there.

mod support;

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

use nix::libc;
use support::*;

const RUN: &str = r#"{"action":"Run"}"#;

/// Runs `argv` directly and through the wrapper, both prepared alike, and demands the same outcome.
fn same_as_direct(argv: &[&str], prepare: impl Fn(&mut Command)) -> Output {
    let session = Session::new();
    let mut direct = Command::new(argv[0]);
    direct.args(&argv[1..]);
    session.hand_over(&mut direct);
    prepare(&mut direct);
    let direct = finish(spawn(direct));

    let mut wrapped = session.command(argv);
    prepare(&mut wrapped);
    let wrapped = decided(&session, wrapped, RUN);
    assert_eq!(
        String::from_utf8_lossy(&wrapped.stdout),
        String::from_utf8_lossy(&direct.stdout)
    );
    assert_eq!(wrapped.status, direct.status);
    assert_eq!(wrapped.stderr, direct.stderr);
    wrapped
}

fn ignore(signals: &'static [i32]) -> impl Fn(&mut Command) {
    move |command| {
        before_exec(command, move || {
            for &signal in signals {
                // SAFETY: sets no handler.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        });
    }
}

#[test]
fn the_command_takes_the_wrappers_place() {
    let session = Session::new();
    let child = spawn(session.command(&[
        "/bin/sh",
        "-c",
        "echo $$ $0 $1 $CODEX_ESCALATE_SOCKET $EXEC_WRAPPER",
        "a b",
        "c",
    ]));
    let pid = child.id();
    let mut request = session.accept();
    assert_eq!(request.request["file"], "/bin/sh");
    assert_eq!(request.request["argv"][0], "/bin/sh");
    assert_eq!(request.request["argv"][3], "a b");
    request.send(RUN);
    let output = finish(child);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{pid} a b c 9 /w\n")
    );
    request.wait_for_end();
}

#[test]
fn the_request_tells_what_the_command_would_have_got() {
    let session = Session::new();
    let mut command = Command::new(wrapper_path());
    command
        .args(["./relative", "-x", "", "a\n\"b\\"])
        .env_clear()
        .env("K", "a=b")
        .env("EMPTY", "")
        .current_dir("/usr");
    session.hand_over(&mut command);
    before_exec(&mut command, || {
        // SAFETY: changes the mask of the child alone.
        unsafe { libc::umask(0o27) };
    });
    let child = spawn(command);
    let mut request = session.accept();
    assert_eq!(
        request.request,
        serde_json::json!({
            "file": "./relative", "argv": ["-x", "", "a\n\"b\\"], "workdir": "/usr", "env": {"K": "a=b", "EMPTY": ""}, "umask": 0o27
        })
    );
    request.send(r#"{"action":{"Deny":{"reason":null}}}"#);
    finish(child);
}

#[test]
fn no_disposition_and_no_mask_is_changed() {
    let status = [
        "/bin/grep",
        "-E",
        "^(Sig[BCIP]|ShdPnd|Umask|Groups|NoNewPrivs)",
        "/proc/self/status",
    ];
    same_as_direct(&status, |_| {});
    same_as_direct(
        &status,
        ignore(&[
            libc::SIGPIPE,
            libc::SIGINT,
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGWINCH,
            40,
        ]),
    );
    same_as_direct(&status, |command| {
        before_exec(command, || {
            // SAFETY: changes the mask of the child alone.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&mut mask);
                libc::sigdelset(&mut mask, libc::SIGUSR1);
                libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
                libc::umask(0o123);
            }
        });
    });
}

#[test]
fn a_closed_pipe_kills_the_command_and_not_its_temper() {
    let session = Session::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = session.command(&["/usr/bin/yes"]);
    command.stdout(writer);
    let mut child = command.spawn().expect("the wrapper starts");
    drop(command);
    session.accept().send(RUN);
    drop(reader);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().expect("an end").signal(), Some(libc::SIGPIPE));
}

#[test]
fn descriptors_and_their_flags_stay_as_they_were() {
    let pipe = std::io::pipe().expect("a pipe");
    // SAFETY: changes the flags of this test's own pipe.
    unsafe { libc::fcntl(pipe.0.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    let listing = "cd /proc/$$/fdinfo; for n in *; do echo $n $(readlink ../fd/$n | sed 's/pipe:.*/pipe/') $(grep flags $n); done";
    let output = same_as_direct(&["/bin/sh", "-c", listing], |command| {
        inherit(command, &pipe.0, 5);
        inherit(command, &pipe.1, 23);
    });
    let listing = String::from_utf8(output.stdout).expect("text");
    for number in ["0 ", "1 ", "2 ", "5 pipe", "9 socket", "23 pipe"] {
        assert!(listing.lines().any(|line| line.starts_with(number)), "{listing}");
    }
}

#[test]
fn closed_standard_streams_stay_closed() {
    for combination in 0..8 {
        let closed: Vec<i32> = (0..3).filter(|number| combination & 1 << number != 0).collect();
        for number in 0..3 {
            let session = Session::new();
            let mut command = session.command(&["/usr/bin/test", "-e", &format!("/proc/self/fd/{number}")]);
            close(&mut command, &closed);
            let output = decided(&session, command, RUN);
            assert_status(output.status, i32::from(closed.contains(&number)));
        }
    }
}

#[test]
fn what_cannot_be_executed_is_told_as_a_shell_tells_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("plain"), "echo no").expect("a file");
    write_program(path("interpreted").as_ref(), "#!/nonexistent/interpreter\n");
    for (file, status, text) in [
        (path("missing"), 127, "No such file or directory"),
        (path("plain/below"), 127, "Not a directory"),
        (path("plain"), 126, "Permission denied"),
        (path("."), 126, "Is a directory"),
        (path("interpreted"), 127, "required file not found"),
        (path("new\nline"), 127, "new\\x0aline: No such file or directory"),
        (String::new(), 127, "No such file or directory"),
    ] {
        let session = Session::new();
        let output = decided(&session, session.command(&[&file]), RUN);
        assert_status(output.status, status);
        let message = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            message.contains(text) && message.matches('\n').count() == 1,
            "{message:?}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_text_without_an_interpreter_line_runs_as_a_shell_script() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["script", "-x", "+x", "-"] {
        let path = folder.path().join(name);
        write_program(&path, "echo \"${0##*/}|$1|$2|$#\"; exit 7\n");
        let session = Session::new();
        let mut command = Command::new(wrapper_path());
        command.args([name, "argv0", "-a", ""]).current_dir(&folder);
        session.hand_over(&mut command);
        let output = decided(&session, command, RUN);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{name}|-a||2\n"));
        assert_status(output.status, 7);
    }
}

#[test]
fn bytes_that_are_not_utf8_travel_unaltered() {
    let folder = tempfile::tempdir().expect("a folder");
    let workdir = folder.path().join(OsStr::from_bytes(b"d\xfe"));
    std::fs::create_dir(&workdir).expect("a folder");
    let session = Session::new();
    let mut command = Command::new(wrapper_path());
    command
        .args(["/bin/echo", "echo"])
        .arg(OsStr::from_bytes(b"a\xff\xc3\xa9\xed\xb2\x80"))
        .current_dir(&workdir);
    command
        .env_clear()
        .env(OsStr::from_bytes(b"N\x80"), OsStr::from_bytes(b"\xf0\x9f"));
    session.hand_over(&mut command);
    let child = spawn(command);
    let mut request = session.accept();
    let text = String::from_utf8(request.raw.clone()).expect("the payload is UTF-8");
    assert!(
        text.contains(r#"["echo","a\udcffé\udced\udcb2\udc80"]"#),
        "{text}"
    );
    assert!(text.contains(r#""env":{"N\udc80":"\udcf0\udc9f"}"#), "{text}");
    assert!(text.contains(r#"/d\udcfe","#), "{text}");
    request.send(RUN);
    assert_eq!(finish(child).stdout, b"a\xff\xc3\xa9\xed\xb2\x80\n");
}

#[test]
fn a_request_of_megabytes_arrives_whole() {
    let session = Session::new();
    let arguments: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let mut command = Command::new(wrapper_path());
    command.args(["/bin/true", "true"]).args(&arguments).env_clear();
    for number in 0..12 {
        command.env(format!("V{number}"), "\u{1}\"x".repeat(30_000));
    }
    session.hand_over(&mut command);
    let child = spawn(command);
    let mut request = session.accept();
    assert!(request.raw.len() > 3_000_000);
    assert_eq!(request.request["argv"].as_array().map(Vec::len), Some(10_001));
    assert_eq!(request.request["argv"][10_000], "9999");
    for number in 0..12 {
        assert_eq!(
            request.request["env"][format!("V{number}")],
            "\u{1}\"x".repeat(30_000)
        );
    }
    request.send(RUN);
    assert_status(finish(child).status, 0);
}
