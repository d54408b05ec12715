//! Rules that execute scripts in place.

use std::sync::{Arc, Mutex};

use super::super::{PolicyError, PolicyFile};
use super::decide;
use crate::policy::EscalationPolicy;
use crate::{Action, Approval, Approver, PolicyRequest, Question};

/// Says yes, and remembers whether it was told that a script runs in place.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Option<bool>>>);

impl Approver for Told {
    async fn approve(&self, question: Question<'_>) -> Result<Approval, PolicyError> {
        *self.0.lock().unwrap() = Some(question.request.in_place);
        Ok(Approval::Yes)
    }
}

#[tokio::test]
async fn a_rule_says_whether_scripts_are_executed_in_place_and_so_does_its_question() {
    for (more, in_place) in [
        ("", false),
        ("in_place = false", false),
        ("replaceable = true", false),
        ("in_place = true", true),
        ("in_place = true\nprofile = \"same\"", true),
    ] {
        for action in ["escalate", "prompt"] {
            let rule = format!("[[rule]]\nprogram = \"/usr/bin/env\"\naction = \"{action}\"\n{more}\n");
            let policy = PolicyFile::parse(&format!("default = \"run\"\n{rule}")).unwrap();
            let told = Told::default();
            let policy = policy.with_approver(told.clone());
            let decision = policy.decide(&PolicyRequest::new("/usr/bin/env")).await.unwrap();
            assert_eq!(decision.action(), &Action::Escalate, "{rule}");
            assert_eq!(decision.is_in_place(), in_place, "{rule}");
            let expected = (action == "prompt").then_some(in_place);
            assert_eq!(*told.0.lock().unwrap(), expected, "{rule}");
        }
    }
    let default = decide("default = \"escalate\"", "/bin/cat", &[]).await;
    assert!(!default.is_in_place());
}

#[tokio::test]
async fn a_script_in_place_is_escalated_no_sooner_than_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("configure");
    std::fs::write(&own, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let own = own.to_str().unwrap();
    let rule =
        format!("default = \"run\"\n[[rule]]\nprogram = {own:?}\naction = \"escalate\"\nin_place = true\n");
    let without = decide(&rule, own, &[]).await;
    assert_eq!((without.action(), without.is_in_place()), (&Action::Run, false));
    let with = decide(&format!("{rule}replaceable = true\n"), own, &[]).await;
    assert_eq!((with.action(), with.is_in_place()), (&Action::Escalate, true));
}

#[tokio::test]
async fn without_replaceable_a_script_is_in_place_only_by_a_name_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let linked = folder.path().join("env");
    std::os::unix::fs::symlink("/usr/bin/env", &linked).unwrap();
    let linked = linked.to_str().unwrap();
    for (more, program, expected) in [
        ("", "/usr/bin/env", true),
        ("", linked, false),
        ("replaceable = true\n", linked, true),
    ] {
        let policy = format!(
            "default = \"run\"\n[[rule]]\nprogram = \"env\"\naction = \"escalate\"\nin_place = true\n{more}"
        );
        let decision = decide(&policy, program, &[]).await;
        assert_eq!(decision.action(), &Action::Escalate, "{more}{program}");
        assert_eq!(decision.is_in_place(), expected, "{more}{program}");
        let explanation = PolicyFile::parse(&policy)
            .unwrap()
            .explain(&PolicyRequest::new(program));
        assert_eq!(explanation.in_place, expected, "{more}{program}");
    }
}
