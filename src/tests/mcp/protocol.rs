//! What the server says about itself, and what it refuses.

use serde_json::{Value, json};

use super::client::{Client, hello, text};

const RUN: &str = "default = \"run\"\n";

/// The tools that a server with these options lists.
fn tools(options: &[&str]) -> Vec<Value> {
    let mut client = Client::start(RUN, &json!({}), options);
    let tools = client.request("tools/list", json!({}))["result"]["tools"].clone();
    assert_eq!(client.end(), Some(0));
    tools.as_array().unwrap().clone()
}

#[test]
fn the_selection_says_which_tools_there_are() {
    let names = |options: &[&str]| {
        let names = tools(options)
            .into_iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&["--tools", "shell"]), "shell_command");
    let terminals = "exec_command write_stdin control_session list_sessions";
    assert_eq!(names(&[]), terminals);
    assert_eq!(names(&["--tools", "terminals"]), terminals);
}

#[test]
fn tools_have_the_original_s_parameters_and_honest_hints() {
    let parameters = |tool: &Value| {
        let properties = tool["inputSchema"]["properties"].as_object();
        let mut names: Vec<String> = properties
            .into_iter()
            .flat_map(|names| names.keys().cloned())
            .collect();
        names.sort();
        names.join(" ")
    };
    let expected = [
        (
            "shell_command",
            "command login timeout_ms workdir",
            [false, true, false, true],
        ),
        (
            "exec_command",
            "cmd login max_output_tokens shell tty workdir yield_time_ms",
            [false, true, false, true],
        ),
        (
            "write_stdin",
            "chars max_output_tokens session_id yield_time_ms",
            [false, true, false, true],
        ),
        (
            "control_session",
            "action columns rows session_id",
            [false, true, false, false],
        ),
        ("list_sessions", "", [true, false, true, false]),
    ];
    let all = [tools(&["--tools", "shell"]), tools(&[])].concat();
    assert_eq!(all.len(), expected.len());
    for (tool, (name, takes, hints)) in all.iter().zip(expected) {
        assert_eq!(
            (tool["name"].as_str().unwrap(), parameters(tool).as_str()),
            (name, takes)
        );
        assert!(tool["description"].as_str().unwrap().len() > 100, "{name}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{name}");
        let text = tool.to_string();
        assert!(!text.contains("null") && !text.contains("\"format\""), "{text}");
        for (property, schema) in tool["inputSchema"]["properties"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let described = schema["description"].as_str().is_some_and(|text| text.len() > 10);
            assert!(described, "{name}: {property} has no description");
            assert!(
                schema["type"].is_string(),
                "{name}: {property} has more than one type"
            );
        }
        let said = [
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        ];
        for (hint, value) in said.iter().zip(hints) {
            assert_eq!(tool["annotations"][hint], value, "{name}: {hint}");
        }
    }
}

#[test]
fn no_argument_switches_policy_or_sandbox_off() {
    let mut client = Client::with_shell_tool(RUN, &json!({}), &["--no-login"]);
    let refused = |result: Value, part: &str| {
        assert_eq!(result["isError"], true, "{result}");
        assert!(text(&result).contains(part), "{result}");
    };
    for (name, value) in [
        ("sandbox_permissions", json!("require_escalated")),
        ("with_escalated_permissions", json!(true)),
        ("sandbox", json!("full-access")),
        ("env", json!({"EXEC_WRAPPER": ""})),
        ("shell", json!("/bin/sh")),
    ] {
        let mut arguments = json!({"command": "echo ran > ran"});
        arguments[name] = value;
        refused(client.call("shell_command", arguments), "Nothing was done");
    }
    refused(
        client.call(
            "shell_command",
            json!({"command": "echo ran > ran", "login": true}),
        ),
        "login shells are switched off",
    );
    refused(
        client.call("shell_command", json!({"command": 1})),
        "expected a string",
    );
    refused(client.call("shell_command", json!({})), "missing field `command`");
    assert!(!client.folder.path().join("ran").exists());
    let unknown = client.request("tools/call", json!({"name": "rm", "arguments": {}}));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn the_sandbox_and_its_limits_are_said_at_the_beginning() {
    let mut client = Client::with_shell_tool(RUN, &json!({}), &[]);
    let again = client.request("initialize", hello("2025-11-25", &json!({})));
    let instructions = again["result"]["instructions"].as_str().unwrap().to_owned();
    let folder = client.folder.path().canonicalize().unwrap();
    assert!(
        instructions.contains(&format!("which can write to {}", folder.display())),
        "{instructions}"
    );
    assert!(instructions.contains("has no network"), "{instructions}");
    // And it is true.
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("outside");
    let command = format!("echo x > inside; echo x > {}", outside.display());
    let result = client.call("shell_command", json!({"command": command}));
    assert!(!outside.exists());
    assert!(client.folder.path().join("inside").exists());
    assert_eq!(result["structuredContent"]["exit_code"], 1);
    // And again, where it may be why something failed.
    let allowed = format!("can write to {}, $TMPDIR, and has no network", folder.display());
    assert_eq!(result["structuredContent"]["sandbox"], allowed);
    let said = format!("If the sandbox refused it something: it {allowed}.\n");
    assert!(text(&result).contains(&said), "{result}");
    let succeeded = client.call("shell_command", json!({"command": "true"}));
    assert!(!text(&succeeded).contains("sandbox"), "{succeeded}");
    assert_eq!(succeeded["structuredContent"]["sandbox"], json!(null));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_client_of_a_later_protocol_is_told_which_ones_there_are() {
    let mut client = Client::with_shell_tool(RUN, &json!({}), &[]);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let answer = client.request("server/discover", json!({"_meta": meta}));
    let supported = answer["error"]["data"]["supported"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    assert!(supported.contains(&json!("2025-11-25")), "{answer}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_version_that_the_server_does_not_know_is_answered_with_the_newest_that_it_does() {
    let mut client = Client::with_shell_tool(RUN, &json!({}), &[]);
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("", "2025-11-25"),
    ] {
        let answer = client.request("initialize", hello(asked, &json!({})));
        assert_eq!(
            answer["result"]["protocolVersion"], answered,
            "{asked:?}: {answer}"
        );
    }
    assert_eq!(client.end(), Some(0));
}

#[test]
fn what_a_schema_rules_out_is_refused() {
    let accepts = [
        (
            "shell_command",
            json!({"command": "true"}),
            &["--tools", "shell"][..],
        ),
        ("exec_command", json!({"cmd": "true"}), &[]),
        ("write_stdin", json!({"session_id": 1}), &[]),
        (
            "control_session",
            json!({"session_id": 1, "action": "resize", "rows": 1, "columns": 1}),
            &[],
        ),
    ];
    let mut tried = Vec::new();
    for (tool, arguments, options) in accepts {
        let mut client = Client::start(RUN, &json!({}), options);
        let tools = client.request("tools/list", json!({}))["result"]["tools"].clone();
        let named = |listed: &&Value| listed["name"] == tool;
        let schema = tools.as_array().unwrap().iter().find(named).unwrap()["inputSchema"].clone();
        for (property, limits) in schema["properties"].as_object().unwrap() {
            let below = limits["minimum"].as_i64().map(|least| least - 1);
            let above = limits["maximum"].as_i64().map(|most| most + 1);
            for outside in below.into_iter().chain(above) {
                let mut arguments = arguments.clone();
                arguments[property] = json!(outside);
                let result = client.call(tool, arguments);
                let said = text(&result);
                assert_eq!(result["isError"], true, "{tool}: {property} {outside}: {said}");
                assert!(
                    !said.contains("there is no session"),
                    "{property} {outside}: {said}"
                );
                tried.push(format!("{property} {outside}"));
            }
        }
        assert_eq!(client.end(), Some(0));
    }
    for limit in ["timeout_ms 0", "rows 0", "columns 0", "yield_time_ms 300001"] {
        assert!(tried.iter().any(|tried| tried == limit), "{limit}: {tried:?}");
    }
}
