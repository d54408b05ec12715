//! One-shot commands.

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use shell_escalation::{
    Decision, EscalateServer, ExecParams, ExecResult, Execution, LocalExecutor, PreparedExec, Profile,
    SandboxedExecutor, ShellCommand, ShellCommandExecutor, ShellOutput, ShellStart,
};
use tokio_util::sync::CancellationToken;

use super::Always;
use super::support::chain::{self, script};
use super::support::processes::{eventually, gone_within};

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
async fn everything_is_killed_at_the_timeout() {
    let mut params = command("echo start; sleep 600 & echo $!; setsid sleep 600 & echo $!; wait");
    // Within its time it has to say what it starts.
    params.timeout = Some(Duration::from_secs(2));
    let start = Instant::now();
    let result = exec(params).await;
    assert!(result.timed_out && start.elapsed() < Duration::from_secs(10));
    assert_eq!(result.exit_code, 124);
    let stdout = String::from_utf8(result.stdout).unwrap();
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("start"));
    let pids: Vec<&str> = lines.collect();
    assert_eq!(pids.len(), 2, "{stdout}");
    for pid in pids {
        assert!(
            gone_within(pid.parse().unwrap(), Duration::ZERO),
            "{pid} lives on"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_process_does_not_delay_the_end() {
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

#[tokio::test(flavor = "multi_thread")]
async fn escalated_children_in_the_background_end_with_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("pid");
    let told = told.to_str().unwrap();
    let policy = Always::new(Decision::escalate());
    let server = EscalateServer::new(chain::shell(folder.path()), chain::wrapper(), policy);
    let child = format!("trap : TERM HUP; echo $$ > {told}; while :; do sleep 600; done");
    let command = format!(
        ":\"$EXEC_WRAPPER\" /bin/sh sh -c '{child}' & while ! [ -s {told} ]; do sleep 0.01; done; exit 6"
    );
    let result = server
        .exec(ExecParams::new(command, "/"), &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(result.exit_code, 6);
    let pid = std::fs::read_to_string(told).unwrap();
    assert!(
        gone_within(pid.trim().parse().unwrap(), Duration::ZERO),
        "{pid} lives on"
    );
}

/// Appends an argument to every escalated command, and refuses some commands.
struct Meddling(LocalExecutor);

impl ShellCommandExecutor for Meddling {
    async fn run(&self, command: ShellCommand) -> std::io::Result<ShellOutput> {
        self.0.run(command).await
    }

    async fn prepare(&self, mut exec: PreparedExec) -> std::io::Result<PreparedExec> {
        if exec.argv.iter().any(|argument| argument == "refuse") {
            return Err(std::io::Error::other("refused by the host"));
        }
        exec.file = "/usr/bin/printf".into();
        exec.argv.insert(1, "<%s>".into());
        Ok(exec)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executor_has_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let server = EscalateServer::new(
        chain::shell(folder.path()),
        chain::wrapper(),
        Always::new(Decision::escalate()),
    )
    .with_executor(Meddling(LocalExecutor::default()));
    let params = ExecParams::new("/bin/echo echo a b\n/bin/echo echo refuse", "/");
    let result = server.exec(params, &CancellationToken::new()).await.unwrap();
    assert_eq!(result.stdout, b"<a><b>");
    assert_ne!(result.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_the_host_starts_is_confined_as_the_executor_s_own_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("written");
    let script = format!("echo written > '{}'; echo $NAME", file.display());
    let start = || {
        let argv = ["sh", "-c", &script].map(Into::into).to_vec();
        ShellStart::new(
            "/bin/sh".into(),
            argv,
            vec![("NAME".into(), "value".into())],
            Vec::new(),
        )
    };
    let run = |shell: ShellStart| {
        let mut command = std::process::Command::new(&shell.program);
        command
            .arg0(&shell.argv[0])
            .args(&shell.argv[1..])
            .env_clear()
            .envs(shell.env);
        command.output().unwrap()
    };
    let confined = SandboxedExecutor::new(
        LocalExecutor::default(),
        folder.path(),
        "read-only",
        &Profile::read_only(),
    );
    let launcher = env!("CARGO_BIN_EXE_shell-escalation");
    let confining = server().with_executor(confined.unwrap().with_launcher(launcher));
    let output = run(confining.confine(start()).unwrap());
    assert_eq!(output.stdout, b"value\n", "{output:?}");
    assert!(!file.exists());

    let output = run(server().confine(start()).unwrap());
    assert_eq!(output.stdout, b"value\n");
    assert!(file.exists());

    let meddling = server().with_executor(Meddling(LocalExecutor::default()));
    assert_eq!(
        meddling.confine(start()).unwrap_err().to_string(),
        "/bin/sh is not started: its executor confines only shells that it runs itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn output_may_be_bounded() {
    let server = server().with_executor(LocalExecutor::default().output_limit(Some(100_000)));
    let exec = async |text: &str| server.exec(command(text), &CancellationToken::new()).await;
    let within = exec("head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2")
        .await
        .unwrap();
    assert_eq!((within.stdout.len(), within.stderr.len()), (100_000, 100_000));
    for stream in ["1", "2"] {
        // It never ends by itself.
        let error = exec(&format!("exec cat /dev/zero >&{stream}")).await.unwrap_err();
        let name = if stream == "1" { "output" } else { "error" };
        let expected = format!("the command wrote more than 100000 bytes to standard {name}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_answers_and_names_what_cannot_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let mut params = command(&format!(
        "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait",
        path.display()
    ));
    params.timeout = Some(Duration::from_secs(2));
    let (answered, over) = std::sync::mpsc::channel::<()>();
    // A zombie stays until its tracer, a thread, has seen it end.
    let tracer = std::thread::spawn(move || {
        let mut text = String::new();
        eventually("the command runs", || {
            text = std::fs::read_to_string(&path).unwrap_or_default();
            !text.is_empty()
        });
        let pid = nix::unistd::Pid::from_raw(text.trim().parse().unwrap());
        nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
        over.recv().unwrap();
        nix::sys::wait::waitpid(pid, None).unwrap();
        pid.as_raw()
    });
    let start = Instant::now();
    let result = exec(params).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    answered.send(()).unwrap();
    let pid = tracer.join().unwrap();
    let survivors: Vec<i32> = result.survivors.iter().map(|process| process.pid).collect();
    assert_eq!((result.timed_out, survivors), (true, vec![pid]));
    assert!(gone_within(pid, Duration::from_secs(10)));
}

#[tokio::test]
async fn without_a_sandbox_nothing_is_executed_in_one() {
    let folder = tempfile::tempdir().unwrap();
    for execution in [Execution::SameSandbox, Execution::Profile("net".to_owned())] {
        let policy = Always::new(Decision::escalate().executed(execution));
        let server = EscalateServer::new(chain::shell(folder.path()), chain::wrapper(), policy);
        let params = ExecParams::new("/bin/echo echo executed", folder.path());
        let result = server.exec(params, &CancellationToken::new()).await.unwrap();
        assert_eq!(String::from_utf8(result.stdout).unwrap(), "");
        assert_ne!(result.exit_code, 0);
    }
}
