//! Approval through the client.

use std::time::Duration;

use serde_json::json;

use super::client::{Client, text};

/// Writing to the policy's folder is not possible inside, so what is written there was written outside.
const PROMPT: &str = "default = \"run\"\n\
    [[rule]]\nprogram = \"/usr/bin/touch\"\naction = \"prompt\"\nreason = \"it writes outside\"\n";

fn asking() -> Client {
    Client::with_shell_tool(PROMPT, &json!({"elicitation": {}}), &["--sandbox", "read-only"])
}

const TOUCH: &str = "/usr/bin/touch file && echo done";

#[test]
fn what_is_approved_runs_outside_once() {
    let mut client = asking();
    let call = client.start_call("shell_command", json!({"command": TOUCH}));
    let form = client.form(call);
    assert!(form.message.starts_with("Question "), "{}", form.message);
    for part in [
        "A command asks to run outside the sandbox:",
        "program     /usr/bin/touch",
        "arguments   /usr/bin/touch file",
        "reason      it writes outside",
        "rule        line 2",
    ] {
        assert!(form.message.contains(part), "{part} is missing: {}", form.message);
    }
    assert!(!client.folder.path().join("file").exists());
    client.decide(&form, "approve");
    let result = client.result(call);
    assert_eq!(result["structuredContent"]["stdout"], "done\n");
    assert!(client.folder.path().join("file").exists());
    // It is asked again.
    let call = client.start_call("shell_command", json!({"command": TOUCH}));
    let form = client.form(call);
    client.reply(&form, json!({"action": "decline"}));
    let result = client.result(call);
    assert_eq!(
        result["structuredContent"]["stderr"],
        "Execution denied: not approved\n"
    );
    assert_eq!(client.end(), Some(0));
}

#[test]
fn for_a_session_means_for_its_same_commands() {
    let mut client = asking();
    let twice = format!("{TOUCH}; {TOUCH}; /usr/bin/touch other");
    let call = client.start_call("shell_command", json!({"command": twice}));
    let form = client.form(call);
    client.decide(&form, "approve_for_session");
    let form = client.form(call);
    assert!(
        form.message.contains("arguments   /usr/bin/touch other"),
        "{}",
        form.message
    );
    client.decide(&form, "deny");
    let result = client.result(call);
    assert_eq!(result["structuredContent"]["stdout"], "done\ndone\n");
    assert!(!client.folder.path().join("other").exists());
    assert_eq!(client.end(), Some(0));
}

#[test]
fn denying_all_is_for_the_rest_of_the_session() {
    let mut client = asking();
    let call = client.start_call(
        "shell_command",
        json!({"command": "/usr/bin/touch a; /usr/bin/touch b"}),
    );
    let form = client.form(call);
    client.decide(&form, "deny_all");
    let result = client.result(call);
    let denied = "Execution denied: nothing is approved any more in this session\n";
    assert_eq!(result["structuredContent"]["stderr"], denied.repeat(2));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_client_that_cannot_ask_is_told_so() {
    for capabilities in [json!({}), json!({"elicitation": {"url": {}}})] {
        let mut client = Client::with_shell_tool(PROMPT, &capabilities, &["--sandbox", "read-only"]);
        let result = client.call("shell_command", json!({"command": TOUCH}));
        let text = text(&result);
        let reason = "Execution denied: needs approval, but this MCP client can't ask for it (it does not support elicitation)";
        assert!(text.contains(reason), "{text}");
        assert!(!client.folder.path().join("file").exists());
        assert_eq!(client.end(), Some(0));
    }
}

#[test]
fn a_client_that_fails_to_ask_approves_nothing() {
    let mut client = asking();
    let call = client.start_call("shell_command", json!({"command": TOUCH}));
    let form = client.form(call);
    let error =
        json!({"jsonrpc": "2.0", "id": form.id, "error": {"code": -32603, "message": "no window\u{1b}"}});
    client.send(&error);
    let result = client.result(call);
    assert_eq!(
        result["structuredContent"]["stderr"],
        "Execution denied: needs approval, but the MCP client could not ask for it: no window\\u{1b}\n"
    );
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_question_is_withdrawn_when_its_command_is_gone() {
    let mut client = asking();
    let call = client.start_call("shell_command", json!({"command": TOUCH}));
    let form = client.form(call);
    client.notify("notifications/cancelled", json!({"requestId": call}));
    let withdrawn = client.notification("notifications/cancelled");
    assert_eq!(withdrawn["params"]["requestId"], form.id);
    // A late answer starts nothing.
    client.decide(&form, "approve");
    let result = client.call("shell_command", json!({"command": "test -e file || echo none"}));
    assert_eq!(result["structuredContent"]["stdout"], "none\n");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn waiting_for_a_person_does_not_use_up_the_time_of_a_command() {
    let mut client = asking();
    let call = client.start_call("shell_command", json!({"command": TOUCH, "timeout_ms": 1500}));
    let form = client.form(call);
    std::thread::sleep(Duration::from_millis(2000));
    client.decide(&form, "approve");
    let result = client.result(call);
    assert_eq!(result["structuredContent"]["stdout"], "done\n");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_script_that_is_to_be_asked_about_once_is_approved_for_all_calls() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("skill");
    super::support::chain::script(&script, "#!/bin/sh\necho \"skill $1\"\n");
    let policy = format!(
        "default = \"run\"\n[[rule]]\nprogram = \"{}/**\"\naction = \"prompt\"\nask = \"once\"\nreplaceable = true\n",
        folder.path().display()
    );
    let mut client = Client::with_shell_tool(&policy, &json!({"elicitation": {"form": {}}}), &[]);
    let command = format!("{} a", script.display());
    let call = client.start_call("shell_command", json!({"command": command}));
    let form = client.form(call);
    let said = "a yes holds for this same command in every session, until its program file changes";
    assert!(form.message.contains(said), "{}", form.message);
    client.decide(&form, "approve");
    assert_eq!(client.result(call)["structuredContent"]["stdout"], "skill a\n");
    let again = client.call("shell_command", json!({"command": command}));
    assert_eq!(again["structuredContent"]["stdout"], "skill a\n");
    let other = client.start_call(
        "shell_command",
        json!({"command": format!("{} b", script.display())}),
    );
    let form = client.form(other);
    client.decide(&form, "deny");
    assert_eq!(client.result(other)["structuredContent"]["exit_code"], 1);
    super::support::chain::script(&script, "#!/bin/sh\necho \"changed $1\"\n");
    let call = client.start_call("shell_command", json!({"command": command}));
    let form = client.form(call);
    client.decide(&form, "approve");
    assert_eq!(client.result(call)["structuredContent"]["stdout"], "changed a\n");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_person_is_told_that_a_script_runs_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("configure");
    super::support::chain::script(&script, "#!/bin/sh\necho \"$0\"\n");
    for (more, in_place) in [("", false), ("in_place = true\n", true)] {
        let policy = format!(
            "default = \"run\"\n[[rule]]\nprogram = \"{}/**\"\naction = \"prompt\"\nreplaceable = true\n{more}",
            folder.path().display()
        );
        let mut client = Client::with_shell_tool(&policy, &json!({"elicitation": {"form": {}}}), &[]);
        let call = client.start_call("shell_command", json!({"command": script.to_str().unwrap()}));
        let form = client.form(call);
        let told = form
            .message
            .contains("what is written there after your answer is executed, too");
        assert_eq!(told, in_place, "{}", form.message);
        client.decide(&form, "approve");
        let result = client.result(call);
        let name = result["structuredContent"]["stdout"].as_str().unwrap();
        assert_eq!(name == format!("{}\n", script.display()), in_place, "{name}");
        assert_eq!(client.end(), Some(0));
    }
}
