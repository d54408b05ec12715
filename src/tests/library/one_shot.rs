//! One-shot commands.

use std::time::{Duration, Instant};

use shell_escalation::{Decision, EscalateServer, ExecParams, ExecResult};
use tokio_util::sync::CancellationToken;

use super::Always;
use super::support::chain::script;
use super::support::processes::gone_within;

fn server() -> EscalateServer {
    EscalateServer::new("/bin/sh", "/no/wrapper", Always::new(Decision::run()))
}

async fn exec(params: ExecParams) -> ExecResult {
    server().exec(params, &CancellationToken::new()).await.unwrap()
}

fn command(command: &str) -> ExecParams {
    let mut params = ExecParams::new(command, "/tmp");
    params.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    params.login = false;
    params
}

#[tokio::test(flavor = "multi_thread")]
async fn output_and_status_come_back() {
    let result = exec(command("pwd; echo error >&2; env | sort; exit 7")).await;
    let stdout = String::from_utf8(result.stdout).unwrap();
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("/tmp"));
    assert!(lines.next().unwrap().starts_with("CODEX_ESCALATE_SOCKET="));
    assert_eq!(lines.next(), Some("EXEC_WRAPPER=/no/wrapper"));
    assert_eq!(result.stderr, b"error\n");
    assert_eq!(
        (result.exit_code, result.signal, result.timed_out),
        (7, None, false)
    );
    let result = exec(command("kill -TERM $$")).await;
    assert_eq!((result.exit_code, result.signal), (143, Some(15)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_holds_the_socket_under_the_number_of_the_overlay() {
    let result = exec(command(
        "readlink /proc/self/fd/$CODEX_ESCALATE_SOCKET; ls /proc/self/fd | wc -l",
    ))
    .await;
    let stdout = String::from_utf8(result.stdout).unwrap();
    assert!(
        stdout.starts_with("socket:[") && stdout.ends_with("\n5\n"),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn long_output_is_complete() {
    let result = exec(command("head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2")).await;
    assert_eq!((result.stdout.len(), result.stderr.len()), (3_000_000, 200_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_shell_is_the_default() {
    let mut params = command("echo $0-$-");
    params.login = true;
    let result = server().exec(params, &CancellationToken::new()).await.unwrap();
    assert_eq!(result.exit_code, 0);
    let folder = tempfile::tempdir().unwrap();
    let shell = folder.path().join("shell");
    script(&shell, "#!/bin/sh\necho \"$@\"\n");
    for (login, expected) in [(true, "-lc x y\n"), (false, "-c x y\n")] {
        let server = EscalateServer::new(&shell, "/no/wrapper", Always::new(Decision::run()));
        let mut params = command("x y");
        params.login = login;
        let result = server.exec(params, &CancellationToken::new()).await.unwrap();
        assert_eq!(String::from_utf8(result.stdout).unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_timeout_everything_is_killed() {
    let mut params = command("echo start; sleep 600 & echo $!; setsid sleep 600 & echo $!; wait");
    params.timeout = Some(Duration::from_millis(300));
    let start = Instant::now();
    let result = exec(params).await;
    assert!(result.timed_out && start.elapsed() < Duration::from_secs(10));
    assert_eq!(result.exit_code, 124);
    let stdout = String::from_utf8(result.stdout).unwrap();
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("start"));
    for pid in lines {
        assert!(
            gone_within(pid.parse().unwrap(), Duration::ZERO),
            "{pid} lives on"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_process_does_not_hold_up_the_end() {
    let result = exec(command("setsid sleep 600 & echo $!")).await;
    let pid = String::from_utf8(result.stdout).unwrap();
    assert!(gone_within(pid.trim().parse().unwrap(), Duration::ZERO));
    assert_eq!((result.exit_code, result.timed_out), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_parent_ends_a_one_shot() {
    let parent = CancellationToken::new();
    let server = server();
    let running = server.exec(command("sleep 600"), &parent);
    let (result, ()) = tokio::join!(running, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        parent.cancel();
    });
    assert_eq!(result.unwrap().exit_code, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_shell_is_an_error_that_names_it() {
    let server = EscalateServer::new("/no/shell", "/no/wrapper", Always::new(Decision::run()));
    let error = server
        .exec(command("true"), &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("/no/shell: "), "{error}");
}
