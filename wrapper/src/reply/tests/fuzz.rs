//! The server's messages as hostile bytes.

use fuzz::{Bounds, Probe, Target, Tree};

use crate::json::{Text, Unit};
use crate::reply::{Decision, Ending, Progress, Stop, decision, progress};

#[rustfmt::skip]
const WORDS: &[&[u8]] = &[
    b"\"action\":", b"\"Run\"", b"\"Escalate\"", b"{\"Deny\":", b"\"reason\":", b"\"exit_code\":", b"\"signal\":", b"\"stopped\":", b"\"alone\":",
    b"\"\\u0052un\"", b"\\udc80", b"\\ud83d\\ude00", b"\\ud800", b"\\u0000", b"null", b"true", b"42", b"64", b"65", b"{}", b"[]",
    b"\"x\":[{}],",
];

/// No memory at all, since the wrapper has no allocator.
const BOUNDS: Bounds = Bounds {
    memory: |_| 0,
    time: Bounds::linear_time,
};

fn owned(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What a decision says, to be compared.
#[derive(Debug, PartialEq)]
enum Said {
    Run,
    Escalate,
    Deny(Option<String>),
}

fn text_of(text: Text<'_>) -> String {
    let units = text.units().map(|unit| match unit {
        Unit::Char(char) => char,
        Unit::Byte(byte) => panic!("a byte {byte} where serde_json has a string"),
    });
    units.collect()
}

/// What the specification says about a decision whose JSON this is.
fn decided(tree: &Tree) -> Option<Said> {
    match tree.member("action").ok()?? {
        Tree::Text(name) if name == "Run" => Some(Said::Run),
        Tree::Text(name) if name == "Escalate" => Some(Said::Escalate),
        action @ Tree::Object(_) => {
            let deny = action.member("Deny").ok()??;
            let Tree::Object(_) = deny else {
                return None;
            };
            match deny.member("reason").ok()? {
                None | Some(Tree::Null) => Some(Said::Deny(None)),
                Some(Tree::Text(reason)) => Some(Said::Deny(Some(reason.clone()))),
                Some(_) => None,
            }
        }
        _ => None,
    }
}

#[test]
fn decisions() {
    let target = Target {
        name: "decision",
        corpus: owned(&[
            r#"{"action":"Run"}"#,
            r#"{"action":"Escalate"}"#,
            r#"{"action":{"Deny":{"reason":"no \"way\"\n\ud83d\ude00"}}}"#,
            r#"{"action":{"Deny":{"reason":null}},"x":[1,[],{"a":-0.5e-3}]}"#,
            r#"{"action":{"Deny":{"reason":"\udcff"}}}"#,
            r#"{"action":"Sudo"}"#,
        ]),
        words: WORDS,
        bounds: BOUNDS,
    };
    target.run(|payload: &[u8], probe: &mut Probe| {
        let read = probe.measure(|| decision(payload));
        let wanted = match Tree::of(payload) {
            Ok(tree) => decided(&tree),
            Err(true) => None,
            Err(false) => return Ok(read.is_ok()),
        };
        let read = read.ok().map(|decision| match decision {
            Decision::Run => Said::Run,
            Decision::Escalate => Said::Escalate,
            Decision::Deny { reason } => Said::Deny(reason.map(text_of)),
        });
        if read == wanted {
            Ok(read.is_some())
        } else {
            Err(format!("it is read as {read:?} instead of {wanted:?}"))
        }
    });
}

/// What the specification says about a result or a stop whose JSON this is.
fn progressed(tree: &Tree) -> Option<Progress> {
    let integer = |value: &Tree| match value {
        Tree::Integer(number) => i64::try_from(*number).ok(),
        _ => None,
    };
    if let Some(exit_code) = tree.member("exit_code").ok()? {
        let signal = match tree.member("signal").ok()? {
            None | Some(Tree::Null) => None,
            Some(signal) => Some(integer(signal)?),
        };
        let exit_code = integer(exit_code)?;
        return Some(Progress::Ended(Ending { exit_code, signal }));
    }
    let stopped = integer(tree.member("stopped").ok()??)?;
    let alone = match tree.member("alone").ok()? {
        None => false,
        Some(Tree::Bool(alone)) => *alone,
        Some(_) => return None,
    };
    let continued = match tree.member("continued").ok()? {
        None => None,
        Some(continued) => Some(integer(continued)?),
    };
    (1..=64).contains(&stopped).then_some(Progress::Stopped(Stop {
        signal: stopped as i32,
        alone,
        continued,
    }))
}

#[test]
fn results() {
    let target = Target {
        name: "result",
        corpus: owned(&[
            r#"{"exit_code":42}"#,
            r#"{"exit_code":143,"signal":15,"more":{}}"#,
            r#" { "stopped" : 20 } "#,
            r#"{"stopped":19,"alone":true}"#,
            r#"{"exit_code":-1,"signal":null}"#,
            r#"{"exit_code":0.0}"#,
        ]),
        words: WORDS,
        bounds: BOUNDS,
    };
    target.run(|payload: &[u8], probe: &mut Probe| {
        let read = probe.measure(|| progress(payload)).ok();
        let wanted = match Tree::of(payload) {
            Ok(tree) => progressed(&tree),
            Err(true) => None,
            Err(false) => return Ok(read.is_some()),
        };
        if read == wanted {
            Ok(read.is_some())
        } else {
            Err(format!("it is read as {read:?} instead of {wanted:?}"))
        }
    });
}
