//! Whatever goes wrong: nothing is executed, the status is 126, and one line says why.

mod support;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use nix::libc;
use support::*;

fn started_with(variable: Option<&str>, prepare: impl Fn(&mut Command)) -> Output {
    let mut command = Command::new(wrapper_path());
    command
        .args(["/bin/echo", "echo", "ran"])
        .env_remove("CODEX_ESCALATE_SOCKET");
    if let Some(value) = variable {
        command.env("CODEX_ESCALATE_SOCKET", value);
    }
    isolate(&mut command);
    prepare(&mut command);
    finish(spawn(command))
}

#[test]
fn a_wrong_variable_is_named() {
    assert_fails_closed(&started_with(None, |_| {}), "CODEX_ESCALATE_SOCKET is not set");
    for value in [
        "",
        "x",
        "-1",
        "+9",
        " 9",
        "9 ",
        "0x9",
        "9\n",
        "2147483648",
        "99999999999999999999",
        "٩",
    ] {
        assert_fails_closed(
            &started_with(Some(value), |_| {}),
            "CODEX_ESCALATE_SOCKET is not a descriptor number",
        );
    }
    // The lowest free numbers are those that the wrapper's own sockets get.
    for value in ["3", "4", "5", "99", "2147483647"] {
        assert_fails_closed(
            &started_with(Some(value), |_| {}),
            "CODEX_ESCALATE_SOCKET names is not open",
        );
        assert_fails_closed(
            &started_with(Some(value), |command| close(command, &[0])),
            "CODEX_ESCALATE_SOCKET names is not open",
        );
    }
}

#[test]
fn a_descriptor_that_is_no_socket_is_left_alone() {
    let file = tempfile::tempfile().expect("a file");
    let output = started_with(Some("9"), |command| inherit(command, &file, 9));
    assert_fails_closed(&output, "CODEX_ESCALATE_SOCKET names is not a socket");
    assert_eq!(file.metadata().expect("a file").len(), 0);
}

#[test]
fn a_session_that_has_ended_is_told() {
    let Session { server, client } = Session::new();
    drop(server);
    assert_fails_closed(
        &started_with(Some("9"), |command| inherit(command, &client, 9)),
        "the session has ended",
    );
    let lonely = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    assert_fails_closed(
        &started_with(Some("9"), |command| inherit(command, &lonely, 9)),
        "the session has ended",
    );
}

#[test]
fn the_end_of_the_stream_is_no_decision() {
    let session = Session::new();
    for begun in [&b""[..], b"\x10", b"\x10\0\0\0", b"\x10\0\0\0{\"action\":\"Run\""] {
        let child = spawn(session.command(&["/bin/echo"]));
        let mut request = session.accept();
        request.stream.write_all(begun).expect("the wrapper reads");
        drop(request);
        assert_fails_closed(&finish(child), "closed the request stream before: its decision");
    }
}

#[test]
fn a_server_that_goes_before_it_has_read_the_request_is_told() {
    let session = Session::new();
    let mut command = session.command(&["/bin/echo"]);
    // More than a socket holds, so the wrapper is still sending.
    for number in 0..8 {
        command.env(format!("V{number}"), "x".repeat(100_000));
    }
    let child = spawn(command);
    drop(session.accept_handshake());
    assert_fails_closed(&finish(child), "before it had read the request");
}

#[test]
fn the_end_of_the_stream_is_no_result() {
    let session = Session::new();
    let child = spawn(session.command(&["/bin/echo"]));
    let mut request = session.accept();
    request.escalate();
    drop(request);
    assert_fails_closed(
        &finish(child),
        "closed the request stream before: the command's result",
    );
}

#[test]
fn a_malformed_decision_is_refused() {
    let session = Session::new();
    for payload in [
        &b""[..],
        b"{}",
        b"Run",
        b"{\"action\":\"Sudo\"}",
        b"{\"action\":\"Run\"}!",
        b"{\"action\":\"Run\",\"x\":\"\xff\"}",
        b"[[[[",
    ] {
        let child = spawn(session.command(&["/bin/echo"]));
        let mut request = session.accept();
        request
            .stream
            .write_all(&frame(payload))
            .expect("the wrapper reads");
        assert_fails_closed(&finish(child), "decision is malformed");
        request.wait_for_end();
    }
}

#[test]
fn a_malformed_result_is_refused() {
    let session = Session::new();
    for payload in [
        "{}",
        "{\"exit_code\":\"0\"}",
        "{\"stopped\":0}",
        "{\"exit_code\":0",
    ] {
        let child = spawn(session.command(&["/bin/echo"]));
        let mut request = session.accept();
        request.escalate();
        request.send(payload);
        assert_fails_closed(&finish(child), "result is malformed");
    }
}

#[test]
fn sixteen_mebibytes_are_accepted_and_more_is_refused_by_its_length_alone() {
    let session = Session::new();
    let child = spawn(session.command(&["/bin/echo", "ran"]));
    let mut request = session.accept();
    let mut payload = br#"{"action":"Run","more":""#.to_vec();
    payload.resize((16 << 20) - 2, b'x');
    payload.extend(b"\"}");
    request
        .stream
        .write_all(&frame(&payload))
        .expect("the wrapper reads");
    assert_status(finish(child).status, 0);

    for length in [(16 << 20) + 1, u32::MAX] {
        let child = spawn(session.command(&["/bin/echo", "ran"]));
        let mut request = session.accept();
        request
            .stream
            .write_all(&length.to_le_bytes())
            .expect("the wrapper reads");
        request.wait_for_end();
        assert_fails_closed(&finish(child), "too large");
    }
}

#[test]
fn without_arguments_there_is_usage_and_no_request() {
    let session = Session::new();
    for arguments in [&[][..], &["/bin/true"]] {
        let mut command = Command::new(wrapper_path());
        command.args(arguments);
        session.hand_over(&mut command);
        let output = finish(spawn(command));
        assert_status(output.status, 2);
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: execve-wrapper FILE ARGV0"));
    }
    session.server.set_nonblocking(true).expect("a flag");
    assert!(session.server.recv(&mut [0]).is_err(), "something was sent");
}

fn status_flags(descriptor: &impl AsRawFd) -> i32 {
    // SAFETY: only asks.
    unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFL) }
}

#[test]
fn a_full_escalation_socket_delays_the_request() {
    for nonblocking in [false, true] {
        let session = Session::new();
        session.client.set_nonblocking(true).expect("a flag");
        let mut datagrams = 0;
        while session.client.send(&[1]).is_ok() {
            datagrams += 1;
        }
        session.client.set_nonblocking(nonblocking).expect("a flag");
        let flags = status_flags(&session.client);
        let mut child = spawn(session.command(&["/bin/echo", "ran"]));
        // The wrapper sleeps once it has found the socket full; its flags are the same then.
        let state = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&state)
            .expect("the wrapper is there")
            .contains("(execve-wrapper) S")
        {
            std::thread::yield_now();
        }
        assert_eq!(status_flags(&session.client), flags);
        assert!(child.try_wait().expect("a status").is_none());
        for _ in 0..datagrams {
            assert_eq!(
                uninterrupted(|| session.server.recv(&mut [0])).expect("a datagram"),
                1
            );
        }
        session.accept().send(r#"{"action":"Run"}"#);
        let output = finish(child);
        assert_eq!(output.stdout, b"ran\n");
        assert_eq!(status_flags(&session.client), flags);
    }
}

#[test]
fn sixteen_open_files_and_no_further_process_suffice() {
    for decision in ["Run", "Escalate"] {
        let session = Session::new();
        let file = tempfile::tempfile().expect("a file");
        let mut command = session.command(&["/bin/true"]);
        // With the standard streams and the escalation socket these leave the two numbers that the stream needs.
        for number in (3..9).chain(10..14) {
            inherit(&mut command, &file, number);
        }
        before_exec(&mut command, || {
            let files = libc::rlimit {
                rlim_cur: 16,
                rlim_max: 16,
            };
            let processes = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: limits the child alone.
            unsafe {
                libc::setrlimit(libc::RLIMIT_NOFILE, &files);
                libc::setrlimit(libc::RLIMIT_NPROC, &processes);
            }
        });
        let child = spawn(command);
        let mut request = session.accept();
        if decision == "Run" {
            request.send(r#"{"action":"Run"}"#);
        } else {
            let (message, descriptors) = request.escalate();
            assert_eq!(descriptors.len(), 13);
            assert_eq!(message["signals"], true);
            request.send(r#"{"exit_code":0}"#);
        }
        assert_status(finish(child).status, 0);
    }
}

#[test]
fn a_working_directory_that_was_deleted_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = std::ffi::CString::new(folder.path().as_os_str().as_encoded_bytes()).expect("a path");
    let session = Session::new();
    let mut command = session.command(&["/bin/echo", "echo", "ran"]);
    // After the change into it, and before the exec.
    command.current_dir(folder.path());
    before_exec(&mut command, move || {
        // SAFETY: a string that lives; rmdir(2) keeps to async-signal-safety.
        unsafe { libc::rmdir(path.as_ptr()) };
    });
    let output = finish(spawn(command));
    assert_fails_closed(
        &output,
        "the working directory has been deleted; cd to another one first",
    );
}
