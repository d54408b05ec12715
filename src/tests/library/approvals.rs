//! Approvals: what is asked, what is remembered, and how the clock is stopped in the meantime.

use std::time::Duration;

use shell_escalation::{
    Approval, Approver, EscalateServer, ExecParams, ExecResult, PolicyError, PolicyFile, Question,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::support::chain;

/// An approver whose questions the test answers.
struct Asking(mpsc::UnboundedSender<oneshot::Sender<Approval>>);

impl Approver for Asking {
    async fn approve(&self, _: Question<'_>) -> Result<Approval, PolicyError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer)?;
        Ok(answered.await?)
    }
}

type Questions = mpsc::UnboundedReceiver<oneshot::Sender<Approval>>;

/// A one-shot command, every line of which needs approval, except those that begin with `:`.
async fn exec(command: &str, timeout: Option<Duration>, answer: impl AsyncFnOnce(Questions)) -> ExecResult {
    let folder = tempfile::tempdir().unwrap();
    let (sender, questions) = mpsc::unbounded_channel();
    let policy = PolicyFile::parse("default = \"prompt\"")
        .unwrap()
        .with_approver(Asking(sender));
    let server = EscalateServer::new(chain::shell(folder.path()), chain::wrapper(), policy);
    let mut params = ExecParams::new(command, "/");
    params.timeout = timeout;
    let parent = CancellationToken::new();
    let (result, ()) = tokio::join!(server.exec(params, &parent), answer(questions));
    result.unwrap()
}

fn output(result: &ExecResult) -> &str {
    std::str::from_utf8(&result.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn yes_is_for_once_and_no_has_a_reason() {
    let result = exec(
        "/bin/echo echo hi\n/bin/echo echo hi",
        None,
        async |mut questions| {
            questions.recv().await.unwrap().send(Approval::Yes).unwrap();
            let no = Approval::No {
                reason: Some("not twice".into()),
            };
            questions.recv().await.unwrap().send(no).unwrap();
        },
    )
    .await;
    assert_eq!(output(&result), "hi\n");
    assert_eq!(result.stderr, b"Execution denied: not twice\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_below_a_folder_is_asked_about_once_and_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("skills/a")).unwrap();
    let script = folder.path().join("skills/a/run");
    chain::script(&script, "#!/bin/sh\necho \"one $1\"\n");
    let (sender, mut questions) = mpsc::unbounded_channel();
    let policy = format!(
        "default = \"run\"\n[[rule]]\nprogram = \"{}/skills/**\"\naction = \"prompt\"\nask = \"once\"\nreplaceable = true\n",
        folder.path().display()
    );
    let policy = PolicyFile::parse(&policy).unwrap().with_approver(Asking(sender));
    let server = EscalateServer::new(chain::shell(folder.path()), chain::wrapper(), policy);
    let parent = CancellationToken::new();
    let run = async |argument: &str| {
        let params = ExecParams::new(format!("{} run {argument}", script.display()), "/");
        output(&server.exec(params, &parent).await.unwrap()).to_owned()
    };
    // Each command has a session of its own.
    let (first, ()) = tokio::join!(run("x"), answer(&mut questions));
    assert_eq!((first, run("x").await), ("one x\n".into(), "one x\n".into()));
    let (other, ()) = tokio::join!(run("y"), answer(&mut questions));
    assert_eq!(other, "one y\n");
    chain::script(&script, "#!/bin/sh\necho \"two $1\"\n");
    let (changed, ()) = tokio::join!(run("x"), answer(&mut questions));
    assert_eq!(changed, "two x\n");
    assert!(questions.try_recv().is_err());
}

/// Says yes to the next question.
async fn answer(questions: &mut Questions) {
    questions.recv().await.unwrap().send(Approval::Yes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn always_is_for_the_same_program_with_the_same_arguments() {
    let result = exec(
        "/bin/echo echo a\n/bin/echo echo a\n/bin/echo echo b",
        None,
        async |mut questions| {
            questions.recv().await.unwrap().send(Approval::Always).unwrap();
            // There is no question about the second one, but one about the third.
            questions
                .recv()
                .await
                .unwrap()
                .send(Approval::No { reason: None })
                .unwrap();
        },
    )
    .await;
    assert_eq!(
        (output(&result), &*result.stderr),
        ("a\na\n", &b"Execution denied\n"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn always_is_neither_for_another_environment_nor_for_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("tool");
    chain::script(&tool, "#!/bin/sh\necho first\n");
    let tool = tool.display();
    let lines = format!(
        "{tool} tool\n{tool} tool\n:export EVIL=1\n{tool} tool\n\
         :unset EVIL; printf '#!/bin/sh\\necho other\\n' > {tool}\n{tool} tool"
    );
    let no = |reason: &str| Approval::No {
        reason: Some(reason.to_owned()),
    };
    let result = exec(&lines, None, async |mut questions| {
        questions.recv().await.unwrap().send(Approval::Always).unwrap();
        questions
            .recv()
            .await
            .unwrap()
            .send(no("another environment"))
            .unwrap();
        questions.recv().await.unwrap().send(no("another file")).unwrap();
    })
    .await;
    assert_eq!(output(&result), "first\nfirst\n");
    assert_eq!(
        String::from_utf8_lossy(&result.stderr),
        "Execution denied: another environment\nExecution denied: another file\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn time_spent_on_approval_does_not_count() {
    let limit = Duration::from_millis(400);
    // Two overlapping approvals: the clock is stopped from the first question to the last answer.
    let command = ":\"$EXEC_WRAPPER\" /bin/echo echo a & \"$EXEC_WRAPPER\" /bin/echo echo b; wait";
    let result = exec(command, Some(limit), async |mut questions| {
        let first = questions.recv().await.unwrap();
        let second = questions.recv().await.unwrap();
        tokio::time::sleep(2 * limit).await;
        first.send(Approval::Yes).unwrap();
        tokio::time::sleep(2 * limit).await;
        second.send(Approval::Yes).unwrap();
    })
    .await;
    assert!(!result.timed_out, "{result:?}");
    assert_eq!(output(&result).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_around_an_approval_counts() {
    let limit = Duration::from_millis(400);
    let result = exec(
        "/bin/echo echo a\n:sleep 600",
        Some(limit),
        async |mut questions| {
            let question = questions.recv().await.unwrap();
            tokio::time::sleep(2 * limit).await;
            question.send(Approval::Yes).unwrap();
        },
    )
    .await;
    assert!(result.timed_out && result.duration > 3 * limit, "{result:?}");
    assert_eq!(output(&result), "a\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_withdrawn_with_its_session() {
    let parent = CancellationToken::new();
    let folder = tempfile::tempdir().unwrap();
    let (sender, mut questions) = mpsc::unbounded_channel();
    let policy = PolicyFile::parse("default = \"prompt\"")
        .unwrap()
        .with_approver(Asking(sender));
    let server = EscalateServer::new(chain::shell(folder.path()), chain::wrapper(), policy);
    let (result, ()) = tokio::join!(
        server.exec(ExecParams::new("/bin/echo echo", "/"), &parent),
        async {
            let mut question = questions.recv().await.unwrap();
            parent.cancel();
            question.closed().await;
        }
    );
    assert_eq!(result.unwrap().exit_code, 137);
}
