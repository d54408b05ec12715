//! Questions: what is asked once, what is asked again, and what is not asked at all.

use tokio::sync::{mpsc, oneshot};

use super::*;

/// An approver whose questions the test answers.
struct Asking(mpsc::UnboundedSender<(PolicyRequest, oneshot::Sender<Approval>)>);

impl Approver for Asking {
    async fn approve(&self, question: Question<'_>) -> Result<Approval, PolicyError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((question.request.clone(), answer))?;
        Ok(answered.await?)
    }
}

type Questions = mpsc::UnboundedReceiver<(PolicyRequest, oneshot::Sender<Approval>)>;

fn approvals() -> (Arc<Approvals>, Questions) {
    let (sender, questions) = mpsc::unbounded_channel();
    (Arc::new(Approvals::new(Asking(sender))), questions)
}

/// The next question; fails where none is asked.
async fn next(questions: &mut Questions) -> (PolicyRequest, oneshot::Sender<Approval>) {
    let asked = tokio::time::timeout(DEADLINE, questions.recv()).await;
    asked.expect("nothing is asked").expect("the approver is gone")
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

fn asking(
    approvals: &Arc<Approvals>,
    request: &PolicyRequest,
) -> tokio::task::JoinHandle<Result<Outcome, PolicyError>> {
    asking_by(approvals, request, Asks::EachTime)
}

fn asking_by(
    approvals: &Arc<Approvals>,
    request: &PolicyRequest,
    asks: Asks,
) -> tokio::task::JoinHandle<Result<Outcome, PolicyError>> {
    let (approvals, request) = (Arc::clone(approvals), request.clone());
    tokio::spawn(async move { approvals.ask(&request, "default", None, asks).await })
}

/// The same request in another session.
fn elsewhere(request: &PolicyRequest, session: u64) -> PolicyRequest {
    let mut other = request.clone();
    other.session = session;
    other.clock = PolicyRequest::new("/bin/true").clock;
    other
}

/// Lets all tasks run until each of them waits.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn no(reason: &str) -> Approval {
    Approval::No {
        reason: Some(reason.to_owned()),
    }
}

fn refused(reason: &str) -> Outcome {
    Outcome::Refused(Some(reason.to_owned()))
}

fn script(folder: &std::path::Path, content: &str) -> PathBuf {
    let path = folder.join("tool");
    std::fs::write(&path, content).unwrap();
    path
}

fn identity(path: &std::path::Path) -> Option<Identity> {
    PolicyRequest::new(path).identity
}

#[tokio::test]
async fn always_is_for_the_same_command_in_every_respect() {
    let folder = tempfile::tempdir().unwrap();
    let tool = script(folder.path(), "one");
    let mut request = PolicyRequest::new(&tool);
    request.env = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
    let (approvals, mut questions) = approvals();
    let first = asking(&approvals, &request);
    next(&mut questions).await.1.send(Approval::Always).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), Outcome::Approved);

    let mut reordered = request.clone();
    reordered.env.reverse();
    for same in [&request, &reordered] {
        assert_eq!(
            approvals
                .ask(same, "default", None, Asks::EachTime)
                .await
                .unwrap(),
            Outcome::Approved
        );
    }
    let mut others: Vec<(&str, PolicyRequest)> = Vec::new();
    let mut with = |what, change: &dyn Fn(&mut PolicyRequest)| {
        let mut other = request.clone();
        change(&mut other);
        others.push((what, other));
    };
    with("another variable", &|other| {
        other.env.push(("EVIL".into(), "1".into()));
    });
    with("another value", &|other| other.env[0].1 = "2".into());
    with("a variable less", &|other| {
        other.env.pop();
    });
    with("another argument", &|other| other.argv.push("x".into()));
    with("another argv[0]", &|other| other.argv[0] = "x".into());
    with("another directory", &|other| other.workdir = "/tmp".into());
    with("a directory behind the same name", &|other| {
        other.canonical_workdir = Some("/tmp".into());
    });
    with("another umask", &|other| other.umask = Some(0));
    with("in place instead of from a copy", &|other| other.in_place = true);
    with("another session", &|other| *other = elsewhere(other, 99));
    // Rewritten in place with the same size, and its time of modification set back.
    let before = std::fs::metadata(&tool).unwrap().modified().unwrap();
    script(folder.path(), "two");
    let file = std::fs::File::options().write(true).open(&tool).unwrap();
    file.set_modified(before).unwrap();
    with("another content", &|other| other.identity = identity(&tool));
    std::fs::remove_file(&tool).unwrap();
    script(folder.path(), "one");
    with("another file", &|other| other.identity = identity(&tool));
    for (what, other) in others {
        let asked = asking(&approvals, &other);
        let (_, answer) = next(&mut questions).await;
        answer.send(no(what)).unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), refused(what));
    }
    assert!(questions.try_recv().is_err());
}

#[tokio::test]
async fn the_same_command_waits_for_the_same_question() {
    let (approvals, mut questions) = approvals();
    let request = PolicyRequest::new("/bin/true");
    let asked: Vec<_> = (0..20).map(|_| asking(&approvals, &request)).collect();
    let (_, answer) = next(&mut questions).await;
    settle().await;
    assert!(questions.try_recv().is_err(), "asked twice");
    answer.send(no("once for all")).unwrap();
    for task in asked {
        assert_eq!(task.await.unwrap().unwrap(), refused("once for all"));
    }
    assert!(questions.try_recv().is_err());
}

#[tokio::test]
async fn a_yes_is_for_one_command() {
    let (approvals, mut questions) = approvals();
    let request = PolicyRequest::new("/bin/true");
    let asked: Vec<_> = (0..3).map(|_| asking(&approvals, &request)).collect();
    next(&mut questions).await.1.send(Approval::Yes).unwrap();
    next(&mut questions).await.1.send(no("enough")).unwrap();
    let mut approved = 0;
    for task in asked {
        approved += usize::from(task.await.unwrap().unwrap() == Outcome::Approved);
    }
    assert_eq!(approved, 1);
}

#[tokio::test]
async fn a_withdrawn_question_is_asked_again_for_those_that_wait() {
    let (approvals, mut questions) = approvals();
    let request = PolicyRequest::new("/bin/true");
    let first = asking(&approvals, &request);
    let (_, mut withdrawn) = next(&mut questions).await;
    let second = asking(&approvals, &request);
    settle().await;
    first.abort();
    withdrawn.closed().await;
    next(&mut questions).await.1.send(Approval::Yes).unwrap();
    assert_eq!(second.await.unwrap().unwrap(), Outcome::Approved);
}

#[tokio::test]
async fn no_to_all_ends_every_question_of_the_session() {
    let (approvals, mut questions) = approvals();
    let mut request = PolicyRequest::new("/bin/true");
    let first = asking(&approvals, &request);
    let (_, answer) = next(&mut questions).await;
    request.argv.push("other".into());
    let second = asking(&approvals, &request);
    let (_, mut other) = next(&mut questions).await;
    let all = Approval::NoToAll {
        reason: Some("enough".to_owned()),
    };
    answer.send(all).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), refused("enough"));
    other.closed().await;
    assert_eq!(second.await.unwrap().unwrap(), refused("enough"));
    assert_eq!(
        approvals
            .ask(&request, "default", None, Asks::EachTime)
            .await
            .unwrap(),
        refused("enough")
    );
    // Another session is asked.
    let another = asking(&approvals, &PolicyRequest::new("/bin/true"));
    next(&mut questions).await.1.send(Approval::Yes).unwrap();
    assert_eq!(another.await.unwrap().unwrap(), Outcome::Approved);
}

#[tokio::test]
async fn only_so_many_commands_of_a_session_wait() {
    let (approvals, mut questions) = approvals();
    let mut request = PolicyRequest::new("/bin/true");
    let mut asked = Vec::new();
    for number in 0..MOST_WAITING {
        request.argv = vec![number.to_string().into()];
        asked.push(asking(&approvals, &request));
    }
    settle().await;
    let one_more =
        tokio::time::timeout(DEADLINE, approvals.ask(&request, "default", None, Asks::EachTime)).await;
    let Outcome::Refused(Some(reason)) = one_more.expect("one more waits").unwrap() else {
        panic!("one more is approved");
    };
    assert_eq!(reason, "64 commands of this session already wait for approval");
    // Another session is not affected, and there is room again when one has its answer.
    let another = asking(&approvals, &PolicyRequest::new("/bin/true"));
    for _ in 0..=MOST_WAITING {
        next(&mut questions).await.1.send(Approval::Yes).unwrap();
    }
    assert_eq!(another.await.unwrap().unwrap(), Outcome::Approved);
    for task in asked {
        assert_eq!(task.await.unwrap().unwrap(), Outcome::Approved);
    }
    let after = asking(&approvals, &request);
    next(&mut questions).await.1.send(Approval::Yes).unwrap();
    assert_eq!(after.await.unwrap().unwrap(), Outcome::Approved);
}

#[tokio::test]
async fn a_rule_that_asks_once_asks_again_only_about_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let tool = script(folder.path(), "one");
    let request = PolicyRequest::new(&tool);
    let (approvals, mut questions) = approvals();
    let once = |request: &PolicyRequest| asking_by(&approvals, request, Asks::Once);
    // A no is for this time.
    let refusing = once(&request);
    next(&mut questions).await.1.send(no("not now")).unwrap();
    assert_eq!(refusing.await.unwrap().unwrap(), refused("not now"));
    let approving = once(&request);
    next(&mut questions).await.1.send(Approval::Yes).unwrap();
    assert_eq!(approving.await.unwrap().unwrap(), Outcome::Approved);

    for session in 0..3 {
        let again = once(&elsewhere(&request, session)).await.unwrap();
        assert_eq!(again.unwrap(), Outcome::Approved);
    }
    let mut arguments = elsewhere(&request, 4);
    arguments.argv.push("x".into());
    script(folder.path(), "two");
    let changed = PolicyRequest::new(&tool);
    for other in [&arguments, &changed] {
        let asked = once(other);
        next(&mut questions).await.1.send(no("another")).unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), refused("another"));
    }
    // What one rule approved for good, another that asks each time asks about.
    let asked = asking(&approvals, &request);
    next(&mut questions).await.1.send(no("each time")).unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), refused("each time"));
    assert!(questions.try_recv().is_err());
}

#[tokio::test]
async fn sessions_that_ask_once_share_a_question_and_not_its_end() {
    let request = PolicyRequest::new("/bin/true");
    let (approvals, mut questions) = approvals();
    let first = asking_by(&approvals, &elsewhere(&request, 1), Asks::Once);
    let (_, withdrawn) = next(&mut questions).await;
    let second = asking_by(&approvals, &elsewhere(&request, 2), Asks::Once);
    settle().await;
    assert!(questions.try_recv().is_err(), "asked twice");
    // The end of the first session is not the answer for the second.
    withdrawn.send(Approval::NoToAll { reason: None }).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), Outcome::Refused(None));
    next(&mut questions).await.1.send(Approval::Yes).unwrap();
    assert_eq!(second.await.unwrap().unwrap(), Outcome::Approved);
}

#[tokio::test]
async fn each_question_has_an_id_of_its_own_and_all_that_was_decided_on() {
    struct Ids(mpsc::UnboundedSender<(u64, PolicyRequest, String, Option<String>)>);
    impl Approver for Ids {
        async fn approve(&self, question: Question<'_>) -> Result<Approval, PolicyError> {
            let reason = question.reason.map(str::to_owned);
            self.0.send((
                question.id,
                question.request.clone(),
                question.rule.to_owned(),
                reason,
            ))?;
            Ok(Approval::Yes)
        }
    }
    let (sender, mut asked) = mpsc::unbounded_channel();
    let approvals = Approvals::new(Ids(sender));
    let mut request = PolicyRequest::new("/bin/true");
    request.execution = Execution::SameSandbox;
    request.argv.push("x".into());
    for _ in 0..2 {
        let outcome = approvals.ask(&request, "line 6", Some("why"), Asks::EachTime);
        assert_eq!(outcome.await.unwrap(), Outcome::Approved);
    }
    let (first, seen, rule, reason) = asked.recv().await.unwrap();
    assert_eq!((rule.as_str(), reason.as_deref()), ("line 6", Some("why")));
    assert_eq!(
        (seen.argv, seen.execution),
        (request.argv, Execution::SameSandbox)
    );
    assert_ne!(asked.recv().await.unwrap().0, first);
}
