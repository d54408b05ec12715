//! A session and its shell, before the first request.

use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use shell_escalation::{Decision, EscalateServer, EscalationSession};
use tokio_util::sync::CancellationToken;

use super::Always;

fn session() -> EscalationSession {
    EscalateServer::new("/bin/sh", "/no/wrapper", Always::new(Decision::run()))
        .start_session(&CancellationToken::new())
        .unwrap()
}

#[tokio::test]
async fn sessions_are_distinct() {
    assert_ne!(session().id(), session().id());
}

#[tokio::test]
async fn an_attached_command_inherits_the_socket() {
    let session = session();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "test -S /proc/self/fd/$CODEX_ESCALATE_SOCKET"]);
    session.attach(&mut command).unwrap();
    let mut shell = command.spawn().unwrap();
    session.close_client_socket();
    assert!(shell.wait().unwrap().success());
}

#[tokio::test]
async fn a_command_whose_socket_was_closed_before_it_started_does_not_start() {
    let session = session();
    let mut command = Command::new("/bin/true");
    session.attach(&mut command).unwrap();
    session.close_client_socket();
    // The number now belongs to another file, which the command must not inherit.
    let number: i32 = session.env()["CODEX_ESCALATE_SOCKET"].parse().unwrap();
    let other = std::fs::File::open("/dev/null").unwrap();
    fcntl(&other, FcntlArg::F_DUPFD_CLOEXEC(number)).unwrap();
    let error = command.spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EBADF));
    assert!(session.attach(&mut Command::new("/bin/true")).is_err());
}
