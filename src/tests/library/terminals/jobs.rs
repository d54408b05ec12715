//! Job control of a real patched bash with the real wrapper: in a terminal, an escalated command is part of its job.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shell_escalation::terminal::{Config, ExecRequest, ShellBackend, Terminals};
use shell_escalation::{Decision, EscalateServer, EscalationPolicy, PolicyError, PolicyRequest};

use super::super::support::processes::{eventually, gone_within};
use super::{env, on_terminal, read_until};

/// What `make reference shells` has built.
fn built(path: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(path);
    assert!(
        built.is_file(),
        "{} is built by `make reference shells`",
        built.display()
    );
    built
}

/// Escalates /bin/sh, and nothing else.
struct EscalateSh;

impl EscalationPolicy for EscalateSh {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        Ok(if request.program == Path::new("/bin/sh") {
            Decision::escalate()
        } else {
            Decision::run()
        })
    }
}

/// What proc_pid_stat(5) says of a process, at this place behind its name.
fn stat(pid: i32, place: usize) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(place).unwrap().to_owned()
}

const STATE: usize = 0;
const PARENT: usize = 1;
const GROUP: usize = 2;
const SESSION: usize = 3;
/// The process group in the foreground of its terminal.
const FOREGROUND: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn keys_act_on_an_escalated_command_as_on_any_other() {
    let bash = built("shells/bash-5.3/bin/bash");
    let server = EscalateServer::new(&bash, built("wrapper/execve-wrapper"), EscalateSh);
    let terminals = Terminals::new(Config::new(ShellBackend::Wrapped(Arc::new(server))));
    // Only `-c SCRIPT` is recognised; the interactive shell takes its place.
    let script = "echo shell $$; PS1='ready> ' exec \"$BASH\" --norc --noprofile -i";
    let request = ExecRequest::shell(&bash, script, "/tmp")
        .with_env(env())
        .on(on_terminal());
    let id = terminals.open(request).await.unwrap();
    let said = read_until(&terminals, id, "ready> ").await;
    let first = said.lines().next().unwrap();
    let shell = first.strip_prefix("shell ").unwrap().trim().to_owned();

    let command = b"/bin/sh -c 'trap \"echo got int; exit 3\" INT; echo pid $$.; while :; do read -r typed && echo read $typed; done'; echo status $?\n";
    for stops in [false, true] {
        terminals.write(id, command).await.unwrap();
        let said = read_until(&terminals, id, ".\r\n").await;
        let pid = said
            .rsplit_once("pid ")
            .unwrap()
            .1
            .trim_end()
            .trim_end_matches('.');
        let pid: i32 = pid.parse().unwrap();
        // It is outside, and yet in the shell's session, as the job in the foreground of its terminal.
        assert_ne!(stat(pid, PARENT), shell);
        assert_eq!(stat(pid, SESSION), stat(shell.parse().unwrap(), SESSION));
        assert_eq!(stat(pid, GROUP), stat(pid, FOREGROUND));
        if stops {
            terminals.write(id, b"\x1a").await.unwrap();
            let said = read_until(&terminals, id, "status 148").await;
            assert!(said.contains("Stopped"), "{said:?}");
            eventually("the escalated command stops", || stat(pid, STATE) == "T");
            terminals.write(id, b"fg; echo status $?\n").await.unwrap();
            eventually("it goes on", || stat(pid, STATE) != "T");
        }
        // It reads from the terminal as the foreground does.
        terminals.write(id, b"something\n").await.unwrap();
        read_until(&terminals, id, "read something").await;
        terminals.write(id, b"\x03").await.unwrap();
        let said = read_until(&terminals, id, "status 3").await;
        assert!(said.contains("got int"), "{said:?}");
        assert!(gone_within(pid, super::DEADLINE));
    }
    assert_eq!(terminals.close(id).await.unwrap(), []);
}
