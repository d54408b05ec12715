//! What an agent does in an afternoon, in one session.

use serde_json::{Value, json};

use super::client::{Came, Client};
use super::support::processes::{children, gone_within};
use super::support::repository::repository;

/// Waits until the session's output contains a text; answers forms.
fn until(
    client: &mut Client,
    id: u64,
    chars: &str,
    part: &str,
    mut answer: impl FnMut(&mut Client, &super::client::Form),
) -> String {
    let mut seen = String::new();
    let mut chars = chars.to_owned();
    while !seen.contains(part) {
        let arguments = json!({"session_id": id, "chars": chars, "yield_time_ms": 20_000});
        chars.clear();
        let call = client.start_call("write_stdin", arguments);
        let result = loop {
            match client.came(call) {
                Came::Result(result) => break result,
                Came::Form(form) => answer(client, &form),
            }
        };
        let output = result["structuredContent"]["output"].as_str();
        seen.push_str(output.unwrap_or_else(|| panic!("no output: {result}, after {seen:?}")));
    }
    seen
}

fn asks_nothing(_: &mut Client, form: &super::client::Form) {
    panic!("asks: {}", form.message);
}

#[test]
fn an_agent_types_pushes_interrupts_resizes_and_closes_and_nothing_is_left() {
    let policy = "default = \"run\"\n\
        [[rule]]\nprogram = \"/usr/bin/git\"\nargv = [\"push\"]\naction = \"prompt\"\nreason = \"publishes\"\n";
    let mut client = Client::start(policy, &json!({"elicitation": {"form": {}}}), &[]);
    let outside = repository(client.folder.path());
    let shell = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shells/bash-5.3/bin/bash");
    let command = format!("PS1='ready> ' exec {} --norc --noprofile -i", shell.display());
    let opened = client.call(
        "exec_command",
        json!({"cmd": command, "tty": true, "yield_time_ms": 20_000}),
    );
    let id = opened["structuredContent"]["session_id"]
        .as_u64()
        .unwrap_or_else(|| panic!("{opened}"));
    if !opened["structuredContent"]["output"]
        .as_str()
        .unwrap()
        .contains("ready> ")
    {
        until(&mut client, id, "", "ready> ", asks_nothing);
    }
    until(&mut client, id, "python3 -q\n", ">>> ", asks_nothing);
    until(&mut client, id, "6 * 7\n", "42", asks_nothing);
    until(&mut client, id, "exit()\n", "ready> ", asks_nothing);

    let mut asked = Vec::new();
    let pushed = until(
        &mut client,
        id,
        "/usr/bin/git push origin HEAD:main; echo \"pushed: $?\"\n",
        "pushed: 0",
        |client, form| {
            asked.push(form.message.clone());
            client.decide(form, "approve");
        },
    );
    assert!(pushed.contains("HEAD -> main"), "{pushed}");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].contains("arguments   /usr/bin/git push origin HEAD:main"),
        "{}",
        asked[0]
    );
    assert!(outside.path().join("bare.git/refs/heads/main").exists());

    until(
        &mut client,
        id,
        "echo begins; sleep 600\n",
        "begins\r\n",
        asks_nothing,
    );
    control(&mut client, json!({"session_id": id, "action": "interrupt"}));
    until(&mut client, id, "", "ready> ", asks_nothing);
    control(
        &mut client,
        json!({"session_id": id, "action": "resize", "rows": 40, "columns": 100}),
    );
    until(&mut client, id, "stty size\n", "40 100", asks_nothing);
    control(&mut client, json!({"session_id": id, "action": "close"}));
    assert_eq!(
        client.call("list_sessions", json!({}))["structuredContent"]["sessions"],
        json!([])
    );
    let own = children(client.server.id());
    assert_eq!(client.end(), Some(0));
    for pid in own {
        assert!(
            gone_within(pid, std::time::Duration::from_secs(5)),
            "{pid} is left"
        );
    }
}

fn control(client: &mut Client, arguments: Value) {
    let result = client.call("control_session", arguments);
    assert_eq!(result["isError"], false, "{result}");
}
