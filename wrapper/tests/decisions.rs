//! Deny and Escalate: what the user sees, what the server gets, and how the wrapper ends.

mod support;

use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::*;

fn denied(reason: &str) -> String {
    let session = Session::new();
    let decision = format!(r#"{{"action":{{"Deny":{{"reason":{reason}}}}}}}"#);
    let output = decided(&session, session.command(&["/bin/echo", "ran"]), &decision);
    assert_status(output.status, 1);
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// One wake-up for a question: a server that looks as soon as it has the stream finds the request there.
#[test]
fn a_request_is_in_its_stream_before_the_server_has_that() {
    let session = Session::new();
    for _ in 0..50 {
        let child = spawn(session.command(&["/bin/true"]));
        let mut stream = session.accept_handshake();
        stream.set_nonblocking(true).expect("a flag");
        let mut request = [0; 64 << 10];
        let length = stream.read(&mut request).expect("the request is there");
        let (header, payload) = request[..length].split_first_chunk().expect("a header");
        assert_eq!(u32::from_le_bytes(*header) as usize, payload.len());
        drop(stream);
        assert_fails_closed(&finish(child), "the server closed the request stream");
    }
}

#[test]
fn a_denial_says_its_reason() {
    assert_eq!(denied("null"), "Execution denied\n");
    assert_eq!(denied(r#""not here""#), "Execution denied: not here\n");
    assert_eq!(
        denied(r#""two\nlines\tand \u00e9\ud83d\ude00""#),
        "Execution denied: two\nlines\tand é😀\n"
    );
    let long = "é".repeat(100_000);
    assert_eq!(
        denied(&format!("{long:?}")),
        format!("Execution denied: {long}\n")
    );
}

#[test]
fn control_characters_of_a_reason_are_shown_and_not_obeyed() {
    assert_eq!(
        denied(r#""\u001b[2J\u0007\r\u007f\u009b\u0000\udcff""#),
        "Execution denied: \\x1b[2J\\x07\\x0d\\x7f\\x9b\\x00\\xff\n"
    );
}

#[test]
fn a_denial_keeps_its_status_when_its_message_has_no_reader() {
    let session = Session::new();
    let mut command = session.command(&["/bin/true"]);
    close(&mut command, &[2]);
    let child = spawn(command);
    let mut request = session.accept();
    request.send(r#"{"action":{"Deny":{"reason":"x"}}}"#);
    assert_status(finish(child).status, 1);
    // Had the stream taken number 2, the message would be there.
    request.wait_for_end();

    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = session.command(&["/bin/true"]);
    drop(reader);
    let mut child = command.stderr(writer).spawn().expect("the wrapper starts");
    session.accept().send(r#"{"action":{"Deny":{"reason":"x"}}}"#);
    assert_status(child.wait().expect("an end"), 1);
}

#[test]
fn a_long_denial_waits_for_a_slow_terminal() {
    let session = Session::new();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    // SAFETY: changes this test's own pipe: of one page, and non-blocking.
    unsafe {
        libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096);
        libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
    }
    let mut command = session.command(&["/bin/true"]);
    let mut child = command.stderr(writer).spawn().expect("the wrapper starts");
    drop(command);
    let reason = "x".repeat(300_000);
    session
        .accept()
        .send(&format!(r#"{{"action":{{"Deny":{{"reason":"{reason}"}}}}}}"#));
    while rustix::io::ioctl_fionread(&reader).expect("a size") < 4096 {
        std::thread::yield_now();
    }
    // Full. A wrapper that waits sleeps now, and one that gives up is gone.
    wait_until(&child, |status| {
        status.contains("State:\tS") || status.contains("State:\tZ")
    });
    let mut message = String::new();
    reader.read_to_string(&mut message).expect("text");
    assert_eq!(message.len(), "Execution denied: \n".len() + reason.len());
    assert_status(child.wait().expect("an end"), 1);
}

fn ended(result: &str) -> std::process::ExitStatus {
    let session = Session::new();
    let child = spawn(session.command(&["/bin/echo", "ran here"]));
    let mut request = session.accept();
    request.escalate();
    request.send(result);
    let output = finish(child);
    assert!(
        output.stdout.is_empty(),
        "the wrapper has executed the command itself"
    );
    output.status
}

#[test]
fn every_status_of_the_child_is_the_wrappers() {
    for status in [0, 1, 2, 42, 126, 127, 128, 137, 255] {
        assert_status(ended(&format!(r#"{{"exit_code":{status}}}"#)), status);
    }
}

#[test]
fn an_impossible_status_is_no_success() {
    for status in [
        "256",
        "-1",
        "-256",
        "65536",
        "2147483648",
        "9223372036854775807",
        "99999999999999999999",
    ] {
        assert_status(ended(&format!(r#"{{"exit_code":{status}}}"#)), 126);
    }
}

#[test]
fn the_wrapper_dies_by_the_signal_that_killed_the_child() {
    for signal in [1, 2, 3, 6, 9, 11, 13, 14, 15, 24, 31, 34, 64] {
        let status = ended(&format!(r#"{{"exit_code":{},"signal":{signal}}}"#, 128 + signal));
        assert_eq!(status.signal(), Some(signal));
        assert!(!status.core_dumped());
    }
    for (signal, code, status) in [
        (0, 128, 128),
        (17, 145, 145),
        (19, 147, 147),
        (65, 3, 3),
        (-1, 4, 4),
        (1_i64 << 40, 5, 5),
        (0, 0, 126),
    ] {
        assert_status(
            ended(&format!(r#"{{"exit_code":{code},"signal":{signal}}}"#)),
            status,
        );
    }
}

#[test]
fn a_death_by_signal_needs_neither_disposition_nor_mask() {
    let session = Session::new();
    let mut command = session.command(&["/bin/true"]);
    before_exec(&mut command, || {
        // SAFETY: changes disposition and mask of the child alone.
        unsafe {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut mask);
            libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
        }
    });
    let child = spawn(command);
    let mut request = session.accept();
    request.escalate();
    request.send(r#"{"exit_code":143,"signal":15}"#);
    assert_eq!(finish(child).status.signal(), Some(15));
}

#[test]
fn the_descriptors_that_are_sent_are_the_wrappers_own() {
    let session = Session::new();
    let mut files: Vec<_> = (0..3).map(|_| tempfile::tempfile().expect("a file")).collect();
    let mut command = session.command(&["/bin/true"]);
    for (file, number) in files.iter().zip([0, 7, 63]) {
        inherit(&mut command, file, number);
    }
    // A second number of the escalation socket is the escalation socket too.
    inherit(&mut command, &session.client, 20);
    let child = spawn(command);
    let mut request = session.accept();
    let (message, descriptors) = request.escalate();
    assert_eq!(message["fds"], serde_json::json!([0, 1, 2, 7, 63]));
    assert_eq!(
        (&message["signals"], &message["group"]),
        (&true.into(), &true.into())
    );
    assert_eq!(descriptors.len(), 5);
    for (file, descriptor) in files
        .iter_mut()
        .zip([&descriptors[0], &descriptors[3], &descriptors[4]])
    {
        let text = format!("for {}", descriptor.as_raw_fd());
        std::fs::File::from(descriptor.try_clone().expect("a copy"))
            .write_all(text.as_bytes())
            .expect("a write");
        assert_eq!(
            file.stream_position().expect("an offset"),
            text.len() as u64,
            "not the same open file description"
        );
    }
    // They hold the pipes that the wrapper's output is read from.
    drop(descriptors);
    request.send(r#"{"exit_code":0}"#);
    assert_status(finish(child).status, 0);
}

#[test]
fn closed_standard_streams_are_not_sent() {
    for combination in 0..8 {
        let open: Vec<i32> = (0..3).filter(|number| combination & 1 << number == 0).collect();
        let closed: Vec<i32> = (0..3).filter(|number| !open.contains(number)).collect();
        let session = Session::new();
        let mut command = session.command(&["/bin/true"]);
        close(&mut command, &closed);
        assert_escalates(&session, command, &open);
    }
}

/// Demands that the wrapper sends just these descriptors, and ends as the child did.
fn assert_escalates(session: &Session, command: Command, numbers: &[i32]) {
    let child = spawn(command);
    let mut request = session.accept();
    let (message, descriptors) = request.escalate();
    assert_eq!(
        (&message["fds"], descriptors.len()),
        (&serde_json::json!(numbers), numbers.len())
    );
    drop(descriptors);
    request.send(r#"{"exit_code":5}"#);
    assert_status(finish(child).status, 5);
}

#[test]
fn without_proc_the_descriptors_are_found_one_by_one() {
    let mut trial = Command::new("/bin/true");
    hide_proc(&mut trial);
    if let Err(error) = trial.status() {
        eprintln!("SKIPPED: no namespace without /proc can be made here: {error}");
        return;
    }
    let session = Session::new();
    let file = tempfile::tempfile().expect("a file");
    let mut command = session.command(&["/bin/true"]);
    inherit(&mut command, &file, 77);
    inherit(&mut command, &session.client, 78);
    hide_proc(&mut command);
    assert_escalates(&session, command, &[0, 1, 2, 77]);
}

#[test]
fn a_descriptor_above_the_limit_of_open_files_is_sent_too() {
    let session = Session::new();
    let file = tempfile::tempfile().expect("a file");
    let mut command = session.command(&["/bin/true"]);
    inherit(&mut command, &file, 77);
    before_exec(&mut command, || {
        let limit = libc::rlimit {
            rlim_cur: 20,
            rlim_max: 20,
        };
        // SAFETY: setrlimit reads the structure and nothing else.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    });
    assert_escalates(&session, command, &[0, 1, 2, 77]);
}

#[test]
fn sixteen_descriptors_go_and_seventeen_are_refused() {
    for more in [13, 14] {
        let session = Session::new();
        let file = tempfile::tempfile().expect("a file");
        let mut command = session.command(&["/bin/true"]);
        for number in 30..30 + more {
            inherit(&mut command, &file, number);
        }
        let child = spawn(command);
        let mut request = session.accept();
        request.send(r#"{"action":"Escalate"}"#);
        if more == 13 {
            let (payload, descriptors) = request.receive();
            assert_eq!(descriptors.len(), 16, "{}", String::from_utf8_lossy(&payload));
            drop(descriptors);
            request.send(r#"{"exit_code":0}"#);
            assert_status(finish(child).status, 0);
        } else {
            request.wait_for_end();
            assert_fails_closed(&finish(child), "17");
        }
    }
}

#[test]
fn the_end_of_the_commands_files_is_seen_when_the_child_closes_them() {
    let session = Session::new();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let other = std::io::pipe().expect("a pipe");
    let mut command = session.command(&["/bin/true"]);
    inherit(&mut command, &other.1, 5);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn()
        .expect("the wrapper starts");
    drop((command, other.1));
    let mut request = session.accept();
    let (_, mut descriptors) = request.escalate();
    let mut other = other.0;
    descriptors.clear();
    assert_ends(&mut reader);
    assert_ends(&mut other);
    request.send(r#"{"exit_code":0}"#);
    assert_status(child.wait().expect("an end"), 0);
}

#[test]
fn a_result_may_come_with_the_decision_and_the_stream_may_be_closed_behind_it() {
    let session = Session::new();
    for _ in 0..20 {
        let child = spawn(session.command(&["/bin/true"]));
        let mut request = session.accept();
        let both = [frame(br#"{"action":"Escalate"}"#), frame(br#"{"exit_code":127}"#)].concat();
        request.stream.write_all(&both).expect("the wrapper reads");
        drop(request);
        assert_status(finish(child).status, 127);
    }
}

#[test]
fn frames_may_come_in_pieces_and_together() {
    let session = Session::new();
    let child = spawn(session.command(&["/bin/true"]));
    let mut request = session.accept();
    for byte in frame(br#" { "action" : "Escalate" } "#) {
        request.stream.write_all(&[byte]).expect("the wrapper reads");
    }
    request.receive();
    let child_pid = Pid::from_raw(child.id() as i32);
    let all = [
        frame(br#"{"stopped":19}"#),
        frame(br#"{"stopped":20}"#),
        frame(br#"{"exit_code":9}"#),
    ]
    .concat();
    request.stream.write_all(&all).expect("the wrapper reads");
    assert!(matches!(
        waitpid(child_pid, Some(WaitPidFlag::WUNTRACED)),
        Ok(WaitStatus::Stopped(..))
    ));
    // It comes later than both stops, so there is no second one.
    kill(child_pid, Signal::SIGCONT).expect("the wrapper is there");
    assert_status(finish(child).status, 9);
}

#[test]
fn a_result_about_as_large_as_the_buffer_may_begin_behind_the_decision() {
    const BUFFER: usize = 64 << 10;
    // The working directory takes the first bytes of the buffer, and the decision 25 more.
    for size in (BUFFER - 50..=BUFFER).step_by(5) {
        let session = Session::new();
        let mut command = session.command(&["/bin/true"]);
        command.current_dir("/");
        let child = spawn(command);
        let mut request = session.accept();
        let head = r#"{"exit_code":9,"more":""#;
        let padding = size - 4 - head.len() - 2;
        let result = frame(format!(r#"{head}{}"}}"#, "x".repeat(padding)).as_bytes());
        assert_eq!(result.len(), size);
        let both = [frame(br#"{"action":"Escalate"}"#), result].concat();
        request.stream.write_all(&both).expect("the wrapper reads");
        request.receive();
        assert_status(finish(child).status, 9);
    }
}

#[test]
fn descriptors_of_a_reply_never_become_the_wrappers() {
    use sendfd::SendWithFd;
    let session = Session::new();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let child = spawn(session.command(&["/bin/true"]));
    let mut request = session.accept();
    let decision = frame(br#"{"action":"Escalate"}"#);
    request
        .stream
        .send_with_fd(&decision, &[writer.as_raw_fd(); 3])
        .expect("the wrapper reads");
    drop(writer);
    request.receive();
    assert_eq!(
        reader.read(&mut [0]).expect("the end"),
        0,
        "the wrapper holds the pipe"
    );
    request.send(r#"{"exit_code":0}"#);
    assert_status(finish(child).status, 0);
}

fn signal_of(request: &mut Request) -> i64 {
    let message: serde_json::Value = serde_json::from_slice(&request.receive().0).expect("JSON");
    message["signal"].as_i64().expect("a signal")
}

#[test]
fn signals_reach_the_child_and_the_wrapper_waits_on() {
    let session = Session::new();
    let child = spawn(session.command(&["/bin/true"]));
    let pid = Pid::from_raw(child.id() as i32);
    let mut request = session.accept();
    request.escalate();
    use Signal::*;
    for signal in [
        SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT, SIGTERM, SIGSEGV,
        SIGPIPE, SIGCHLD, SIGTTIN, SIGALRM,
    ] {
        kill(pid, signal).expect("the wrapper is there");
        assert_eq!(signal_of(&mut request), signal as i64);
    }
    request.send(r#"{"exit_code":6}"#);
    assert_status(finish(child).status, 6);
}

#[test]
fn a_signal_before_the_decision_acts_on_the_wrapper() {
    let session = Session::new();
    let child = spawn(session.command(&["/bin/true"]));
    let mut request = session.accept();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("the wrapper is there");
    assert_eq!(finish(child).status.signal(), Some(15));
    request.wait_for_end();
}

/// Sends a signal and waits until the wrapper has taken it, or has no room for it, and sleeps again.
fn signal_and_settle(child: &Child, signal: Signal, has_room: impl Fn() -> bool) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("the wrapper is there");
    let bit = 1_u64 << (signal as i32 - 1);
    wait_until(child, |status| {
        let pending = status
            .lines()
            .find_map(|line| line.strip_prefix("ShdPnd:\t"))
            .expect("a set");
        let is_taken = u64::from_str_radix(pending, 16).expect("a set") & bit == 0;
        (is_taken || !has_room()) && status.contains("State:\tS")
    });
}

#[test]
fn a_server_that_reads_no_signals_delays_no_sender_and_loses_none() {
    for server_reads_in_the_end in [false, true] {
        let session = Session::new();
        let child = spawn(session.command(&["/bin/true"]));
        let mut request = session.accept();
        request.escalate();
        let mut unread = 0;
        loop {
            signal_and_settle(&child, Signal::SIGUSR1, || true);
            let now = rustix::io::ioctl_fionread(&request.stream).expect("a size");
            if now == unread {
                break;
            }
            unread = now;
        }
        // The wrapper has taken one signal that it has no room for; the next one waits in the kernel.
        signal_and_settle(&child, Signal::SIGUSR2, || false);
        if server_reads_in_the_end {
            while signal_of(&mut request) != Signal::SIGUSR2 as i64 {}
        }
        request.send(r#"{"exit_code":8}"#);
        assert_status(finish(child).status, 8);
    }
}

#[test]
fn ignored_signals_are_forwarded_and_the_server_knows_of_them() {
    let session = Session::new();
    let mut command = session.command(&["/bin/true"]);
    before_exec(&mut command, || {
        // SAFETY: sets no handler.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    });
    let child = spawn(command);
    let pid = Pid::from_raw(child.id() as i32);
    let mut request = session.accept();
    let (message, _) = request.escalate();
    let ignored = message["ignored"].as_array().expect("a list");
    assert!(ignored.contains(&(Signal::SIGHUP as i32).into()), "{message}");
    assert!(!ignored.contains(&(Signal::SIGTERM as i32).into()), "{message}");
    kill(pid, Signal::SIGHUP).expect("the wrapper is there");
    assert_eq!(signal_of(&mut request), Signal::SIGHUP as i64);
    request.send(r#"{"exit_code":0}"#);
    assert_status(finish(child).status, 0);
}

#[test]
fn the_wrapper_stops_and_continues_with_the_child() {
    // In its own session the wrapper's process group is orphaned, and a terminal's stop signals stop no process there.
    for own_session in [false, true] {
        for signal in [Signal::SIGTSTP, Signal::SIGSTOP, Signal::SIGTTIN, Signal::SIGTTOU] {
            let session = Session::new();
            let mut command = session.command(&["/bin/true"]);
            before_exec(&mut command, move || {
                // SAFETY: concerns the child alone.
                unsafe {
                    if own_session {
                        libc::setsid()
                    } else {
                        libc::setpgid(0, 0)
                    }
                };
            });
            let child = spawn(command);
            let pid = Pid::from_raw(child.id() as i32);
            let mut request = session.accept();
            request.escalate();
            for _ in 0..3 {
                request.send(&format!(r#"{{"stopped":{}}}"#, signal as i32));
                let stop = if own_session { Signal::SIGSTOP } else { signal };
                assert_eq!(
                    waitpid(pid, Some(WaitPidFlag::WUNTRACED)),
                    Ok(WaitStatus::Stopped(pid, stop))
                );
                kill(pid, Signal::SIGCONT).expect("the wrapper is there");
                assert_eq!(signal_of(&mut request), Signal::SIGCONT as i64);
            }
            request.send(r#"{"exit_code":4}"#);
            assert_status(finish(child).status, 4);
        }
    }
}

/// The second signal discards the first, unless that has been taken by then.
#[test]
fn a_wrapper_that_is_continued_and_stopped_at_once_forwards_both() {
    let session = Session::new();
    let mut command = session.command(&["/bin/true"]);
    before_exec(&mut command, || {
        // SAFETY: concerns the child alone.
        unsafe { libc::setsid() };
    });
    let child = spawn(command);
    let pid = Pid::from_raw(child.id() as i32);
    let mut request = session.accept();
    request.escalate();
    for _ in 0..50 {
        request.send(r#"{"stopped":20}"#);
        assert_eq!(
            waitpid(pid, Some(WaitPidFlag::WUNTRACED)),
            Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP))
        );
        for signal in [Signal::SIGCONT, Signal::SIGTSTP] {
            kill(pid, signal).expect("the wrapper is there");
        }
        assert_eq!(signal_of(&mut request), Signal::SIGCONT as i64);
        assert_eq!(signal_of(&mut request), Signal::SIGTSTP as i64);
    }
    request.send(r#"{"exit_code":4}"#);
    assert_status(finish(child).status, 4);
}

#[test]
fn however_the_wrapper_dies_its_stream_closes() {
    let session = Session::new();
    for escalated in [false, true] {
        let mut child = spawn(session.command(&["/bin/true"]));
        let mut request = session.accept();
        if escalated {
            request.escalate();
        }
        child.kill().expect("the wrapper is there");
        request.wait_for_end();
        finish(child);
    }
}
