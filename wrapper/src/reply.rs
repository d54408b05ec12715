//! The server's messages: its decision and, after Escalate, what happens to the child.

use crate::json::{self, Malformed, Object, Text, Value};
use crate::signals;

/// What is to be done with the command.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'a> {
    /// The wrapper executes it in its own place.
    Run,
    /// The server executes it elsewhere.
    Escalate,
    /// It is not executed.
    Deny {
        /// For the user; `None` if the server gave none.
        reason: Option<Text<'a>>,
    },
}

/// What a message after Escalate says about the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It was stopped and is still alive (the *signals* extension).
    Stopped(Stop),
    /// It has ended.
    Ended(Ending),
}

/// How a child was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The signal that stopped it.
    pub signal: i32,
    /// Whether the rest of the wrapper's process group is to go on (the *group* extension).
    pub alone: bool,
    /// How many of this wrapper's SIGCONT frames the server had read, if it says so (the *group* extension).
    pub continued: Option<i64>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// As the server sent it, whatever its size.
    pub exit_code: i64,
    /// The signal that killed it, if the server says so (the *signals* extension); also as the server sent it.
    pub signal: Option<i64>,
}

/// Reads a decision: `{"action":"Run"}`, `{"action":"Escalate"}` or `{"action":{"Deny":{"reason":"text"}}}`.
pub fn decision(payload: &[u8]) -> Result<Decision<'_>, Malformed> {
    match message(payload)?.member("action")? {
        Some(Value::String(name)) if name.is("Run") => Ok(Decision::Run),
        Some(Value::String(name)) if name.is("Escalate") => Ok(Decision::Escalate),
        Some(Value::Object(action)) => deny(action),
        Some(_) => Err(Malformed("its action is unknown")),
        None => Err(Malformed("it has no action")),
    }
}

fn deny(action: Object<'_>) -> Result<Decision<'_>, Malformed> {
    let Some(deny) = action.member("Deny")? else {
        return Err(Malformed("its action is unknown"));
    };
    let deny = deny.as_object().ok_or(Malformed("Deny is not an object"))?;
    match deny.member("reason")? {
        Some(Value::String(reason)) => Ok(Decision::Deny { reason: Some(reason) }),
        Some(Value::Null) | None => Ok(Decision::Deny { reason: None }),
        Some(_) => Err(Malformed("the reason is not a string")),
    }
}

/// Reads a message after Escalate: `{"exit_code":42}`, perhaps with `"signal":N`, or `{"stopped":N}`.
pub fn progress(payload: &[u8]) -> Result<Progress, Malformed> {
    let message = message(payload)?;
    if let Some(exit_code) = message.member("exit_code")? {
        let exit_code = exit_code
            .as_integer()
            .ok_or(Malformed("the exit code is not an integer"))?;
        let signal = match message.member("signal")? {
            Some(Value::Null) | None => None,
            Some(value) => Some(
                value
                    .as_integer()
                    .ok_or(Malformed("the signal is not an integer"))?,
            ),
        };
        return Ok(Progress::Ended(Ending { exit_code, signal }));
    }
    match message.member("stopped")? {
        Some(value) => Ok(Progress::Stopped(Stop {
            signal: stop_signal(value)?,
            alone: match message.member("alone")? {
                Some(Value::Bool(alone)) => alone,
                Some(_) => return Err(Malformed("alone is not true or false")),
                None => false,
            },
            continued: match message.member("continued")? {
                Some(value) => Some(
                    value
                        .as_integer()
                        .ok_or(Malformed("continued is not an integer"))?,
                ),
                None => None,
            },
        })),
        None => Err(Malformed("it has no exit code")),
    }
}

fn message(payload: &[u8]) -> Result<Object<'_>, Malformed> {
    json::parse(payload)?
        .as_object()
        .ok_or(Malformed("it is not an object"))
}

fn stop_signal(value: Value<'_>) -> Result<i32, Malformed> {
    value
        .as_integer()
        .and_then(|number| i32::try_from(number).ok())
        .filter(|&number| signals::is_signal(number))
        .ok_or(Malformed("a signal is not a number from 1 to 64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    mod fuzz;

    use crate::json::Unit;

    fn denied(payload: &str) -> Option<String> {
        let Ok(Decision::Deny { reason }) = decision(payload.as_bytes()) else {
            panic!("not a denial: {payload}");
        };
        reason.map(|reason| {
            reason
                .units()
                .map(|unit| match unit {
                    Unit::Char(char) => char,
                    Unit::Byte(byte) => panic!("a byte {byte} in {payload}"),
                })
                .collect()
        })
    }

    #[test]
    fn the_three_decisions_are_understood() {
        assert!(matches!(decision(br#"{"action":"Run"}"#), Ok(Decision::Run)));
        assert!(matches!(
            decision(br#"{"action":"Escalate"}"#),
            Ok(Decision::Escalate)
        ));
        assert_eq!(
            denied(r#"{"action":{"Deny":{"reason":"no \"way\"\n\ud83d\ude00"}}}"#),
            Some("no \"way\"\n😀".into())
        );
        assert_eq!(
            denied(r#"{"action":{"Deny":{"reason":""}}}"#),
            Some(String::new())
        );
        assert_eq!(denied(r#"{"action":{"Deny":{"reason":null}}}"#), None);
    }

    #[test]
    fn unknown_members_blanks_and_escaped_names_are_accepted() {
        let payload = b" {\n\t\"x\" : [ {\"action\":\"Deny\"} , [] , {} ], \"\\u0061ction\" : \"\\u0052un\", \"y\":-1.5e3 } ";
        assert!(matches!(decision(payload), Ok(Decision::Run)));
        assert_eq!(
            denied(r#"{"v":1,"action":{"Deny":{"code":3,"reason":"r","more":[1]}}}"#),
            Some("r".into())
        );
    }

    #[test]
    fn what_is_no_decision_is_malformed() {
        for payload in [
            "",
            " ",
            "null",
            "[]",
            "{}",
            "\"Run\"",
            "{\"action\":\"Run\"",
            "{\"action\":\"Run\"}}",
            "{\"action\":\"Run\"} x",
            "{\"action\":\"run\"}",
            "{\"action\":\"Sudo\"}",
            "{\"action\":\"Deny\"}",
            "{\"action\":null}",
            "{\"action\":true}",
            "{\"action\":[\"Run\"]}",
            "{\"action\":{}}",
            "{\"action\":{\"Run\":null}}",
            "{\"action\":{\"Deny\":null}}",
            "{\"action\":{\"Deny\":\"no\"}}",
            "{\"action\":{\"Deny\":{\"reason\":5}}}",
            "{\"action\":\"Run\",\"action\":\"Run\"}",
            "{\"action\":\"Run\\u0000\"}",
            "{\"Action\":\"Run\"}",
            "{\"exit_code\":0}",
            "{'action':'Run'}",
            "\u{feff}{\"action\":\"Run\"}",
        ] {
            assert!(decision(payload.as_bytes()).is_err(), "accepted {payload}");
        }
        assert!(
            decision(b"{\"action\":\"Run\",\"x\":\"\xff\"}").is_err(),
            "accepted what isn't UTF-8"
        );
    }

    #[test]
    fn a_result_carries_its_exit_code_and_perhaps_a_signal() {
        let ended = |exit_code, signal| Ok(Progress::Ended(Ending { exit_code, signal }));
        assert_eq!(progress(br#"{"exit_code":42}"#), ended(42, None));
        assert_eq!(
            progress(br#"{"exit_code":-256,"signal":null}"#),
            ended(-256, None)
        );
        assert_eq!(
            progress(br#"{"signal":15,"more":{},"exit_code":143}"#),
            ended(143, Some(15))
        );
        for (text, alone, continued) in [
            ("", false, None),
            (r#","alone":false"#, false, None),
            (r#","alone":true,"continued":0"#, true, Some(0)),
            (r#","continued":7"#, false, Some(7)),
        ] {
            let text = format!(r#"{{"stopped":20{text}}}"#);
            assert_eq!(
                progress(text.as_bytes()),
                Ok(Progress::Stopped(Stop {
                    signal: 20,
                    alone,
                    continued
                }))
            );
        }
        assert!(progress(br#"{"stopped":20,"alone":1}"#).is_err());
        assert!(progress(br#"{"stopped":20,"continued":"1"}"#).is_err());
    }

    #[test]
    fn what_is_no_result_is_malformed() {
        for payload in [
            "{}",
            "{\"exit_code\":null}",
            "{\"exit_code\":\"0\"}",
            "{\"exit_code\":0.0}",
            "{\"exit_code\":1e2}",
            "{\"exit_code\":99999999999999999999}",
            "{\"exit_code\":0,\"exit_code\":1}",
            "{\"exit_code\":00}",
            "{\"exit_code\":0,\"signal\":9.5}",
            "{\"exit_code\":0,\"signal\":\"TERM\"}",
            "{\"signal\":15}",
            "{\"stopped\":0}",
            "{\"stopped\":true}",
            "{\"action\":\"Run\"}",
        ] {
            assert!(progress(payload.as_bytes()).is_err(), "accepted {payload}");
        }
    }
}
