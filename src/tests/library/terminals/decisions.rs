//! Each command is decided on its own, for as long as the terminal lives; and only what is meant for it has the socket.

use shell_escalation::terminal::{Backend, End, ExecRequest};
use shell_escalation::{Decision, PolicyError, PolicyRequest};

use super::super::support::processes::{descriptors, eventually, gone_within};
use super::super::{Always, Asking};
use super::{DEADLINE, EVERY_KIND, TYPED, Wrapped, env, on_terminal, read_number, read_until, text_to_end};

#[tokio::test(flavor = "multi_thread")]
async fn the_hundredth_command_is_decided_as_the_first_was() {
    for streams in EVERY_KIND {
        let (policy, mut questions) = Asking::new();
        let wrapped = Wrapped::new(policy);
        let id = wrapped.open(TYPED, streams).await;
        for number in 0..100 {
            // Alike in everything, and decided by turns.
            wrapped
                .terminals
                .write(id, b"/bin/expr expr 40 + 2\n")
                .await
                .unwrap();
            let question = questions.recv().await.unwrap();
            assert_eq!(question.request.argv, ["expr", "40", "+", "2"]);
            let (decision, answer) = match number % 3 {
                0 => (Decision::escalate(), "42".to_owned()),
                1 => (Decision::run(), "42".to_owned()),
                _ => {
                    let reason = format!("no {number}");
                    (
                        Decision::deny(Some(reason.clone())),
                        format!("Execution denied: {reason}"),
                    )
                }
            };
            assert!(question.answer.send(Ok(decision)).is_ok());
            read_until(&wrapped.terminals, id, &answer).await;
        }
        assert!(questions.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlives_its_shell_is_decided_until_the_terminal_ends() {
    for streams in EVERY_KIND {
        let (policy, mut questions) = Asking::new();
        let wrapped = Wrapped::new(policy);
        let terminals = &wrapped.terminals;
        let script = ":(echo $(exec sh -c 'echo $PPID'); trap '' HUP; sleep 0.2; \"$EXEC_WRAPPER\" /bin/echo echo late; sleep 600) &";
        let id = wrapped.open(script, streams).await;
        let (text, end) = text_to_end(terminals, id).await;
        assert_eq!(end, End::Exited(0));
        let question = questions.recv().await.unwrap();
        assert!(question.answer.send(Ok(Decision::escalate())).is_ok());
        let mut read = text;
        eventually_read(terminals, id, &mut read, "late").await;
        let job: i32 = read.lines().next().unwrap().trim().parse().unwrap();
        assert_eq!(terminals.close(id).await.unwrap(), []);
        assert!(gone_within(job, std::time::Duration::ZERO));
    }
}

/// Reads what is written after the program's end.
async fn eventually_read(
    terminals: &shell_escalation::terminal::Terminals,
    id: shell_escalation::terminal::TerminalId,
    read: &mut String,
    text: &str,
) {
    let begun = std::time::Instant::now();
    while !read.contains(text) {
        assert!(begun.elapsed() < DEADLINE, "no {text:?} in {read:?}");
        let output = terminals.read(id, DEADLINE, usize::MAX).await.unwrap();
        *read += &String::from_utf8(output.bytes).unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_withdraws_a_question_and_its_answer_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let (policy, mut questions) = Asking::new();
    let wrapped = Wrapped::new(policy);
    let id = wrapped
        .open(&format!("/bin/touch touch {}", witness.display()), on_terminal())
        .await;
    let question = questions.recv().await.unwrap();
    assert_eq!(wrapped.terminals.close(id).await.unwrap(), []);
    assert!(question.answer.is_closed());
    assert!(question.answer.send(Ok(Decision::escalate())).is_err());
    assert!(!witness.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_wrapped_program_has_overlay_and_socket_and_the_host_has_no_copy_of_it() {
    let wrapped = Wrapped::new(Always::new(Decision::run()));
    let terminals = &wrapped.terminals;
    for streams in EVERY_KIND {
        let script = ":echo $$; echo $CODEX_ESCALATE_SOCKET $EXEC_WRAPPER; sleep 600";
        let id = wrapped.open(script, streams).await;
        assert_eq!(terminals.list()[0].backend, Backend::Wrapped);
        let text = read_until(terminals, id, "minimal-wrapper").await;
        let mut words = text.split_whitespace();
        let pid: u32 = words.next().unwrap().parse().unwrap();
        let number: i32 = words.next().unwrap().parse().unwrap();
        let held = descriptors(pid);
        let (_, socket) = held.iter().find(|(held, _)| *held == number).unwrap();
        assert!(socket.starts_with("socket:["), "{held:?}");
        // Nor anything else: the script's shell has its script at 9, and what sh keeps it at.
        assert!(
            held.iter().all(|(held, _)| *held < 12 || *held == number),
            "{held:?}"
        );
        assert!(
            descriptors(std::process::id())
                .iter()
                .all(|(_, held)| held != socket)
        );

        let request = ExecRequest::shell("/bin/sh", "env; exec ls -1 /proc/self/fd", "/").with_env(env());
        let direct = terminals.open(request.on(streams)).await.unwrap();
        assert_eq!(terminals.list()[0].backend, Backend::Direct);
        let (text, _) = text_to_end(terminals, direct).await;
        assert!(
            !text.contains("ESCALATE") && !text.contains("EXEC_WRAPPER"),
            "{text}"
        );
        assert!(text.ends_with("0\n1\n2\n3\n"), "{text}");
        terminals.close(id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_behind_a_launcher_is_recognised_and_executed_unchanged() {
    let policy = Always::new(Decision::run());
    let asked = policy.asked.clone();
    let wrapped = Wrapped::new(policy);
    let shell = wrapped.shell.to_str().unwrap();
    let request = ExecRequest::new(
        "/usr/bin/env",
        [
            "env",
            "-u",
            "A",
            "B=2",
            shell,
            "-c",
            "/usr/bin/printenv printenv A B",
        ],
        "/",
    );
    let mut env = env();
    env.push(("A".into(), "1".into()));
    let id = wrapped.terminals.open(request.with_env(env)).await.unwrap();
    assert_eq!(wrapped.terminals.list()[0].backend, Backend::Wrapped);
    let (text, _) = text_to_end(&wrapped.terminals, id).await;
    assert_eq!(text, "2\n");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

/// Escalates, and says no more.
struct Escalate;

impl shell_escalation::EscalationPolicy for Escalate {
    async fn decide(&self, _: &PolicyRequest) -> Result<Decision, PolicyError> {
        Ok(Decision::escalate())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn escalated_commands_write_to_the_terminal_and_are_resized_with_it() {
    let wrapped = Wrapped::new(Escalate);
    let terminals = &wrapped.terminals;
    let id = wrapped
        .open(
            "/bin/sh sh -c 'test -t 0 && test -t 1 && tty && stty size'",
            on_terminal(),
        )
        .await;
    let (text, end) = text_to_end(terminals, id).await;
    assert!(
        text.starts_with("/dev/pts/") && text.ends_with("\n24 80\n"),
        "{text}"
    );
    assert_eq!(end, End::Exited(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_without_a_program_of_its_own_left_still_ends_what_was_escalated() {
    let wrapped = Wrapped::new(Escalate);
    let terminals = &wrapped.terminals;
    for streams in EVERY_KIND {
        let id = wrapped
            .open("/bin/sh sh -c 'setsid sleep 600 & echo $!'", streams)
            .await;
        let escalated = read_number(terminals, id).await;
        let (_, end) = text_to_end(terminals, id).await;
        assert_eq!(end, End::Exited(0));
        assert!(!gone_within(escalated, std::time::Duration::ZERO));
        assert_eq!(terminals.close(id).await.unwrap(), []);
        assert!(gone_within(escalated, std::time::Duration::ZERO));
        eventually("no terminal", || terminals.list().is_empty());
    }
}
