//! The messages of a wrapper as hostile bytes.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use fuzz::{Bounds, Probe, Target, Tree};

use crate::protocol::attributes::RESOURCES;
use crate::protocol::room::LONGEST_PATH;
use crate::protocol::{
    DescriptorMessage, Request, ResourceLimits, SignalMessage, SignalSet, encode_json_text, parse,
};

const REQUESTS: &[&str] = &[
    r#"{"file":"/bin/echo","argv":["echo","hi"],"workdir":"/tmp","env":{"K":"V","PATH":"/bin"},"umask":18}"#,
    r#" {"env":{},"workdir":"/","argv":["\u0061","\ud83d\ude00"],"file":"./x","more":[{"a":[null,true,-1.5e3]}]} "#,
    r#"{"file":"/x\udcff","argv":["a\udc80b",""],"workdir":"/\udcc3\udca9","env":{"N\udcfe":"\udc81"}}"#,
    r#"{"file":"f","argv":["-c","echo \"$1\"","\n\t\\"],"workdir":"/a b/ü","env":{"A":"","B":"=","_":"x"},"umask":null}"#,
    r#"{"file":"","argv":[],"workdir":"","env":[]}"#,
];

#[rustfmt::skip]
const WORDS: &[&[u8]] = &[
    b"\"file\":", b"\"argv\":", b"\"workdir\":", b"\"env\":", b"\"umask\":", b"\"x\":", b"\"\\u0000\"", b"\\udc80", b"\\udcff",
    b"\\ud83d\\ude00", b"\\ud800", b"\\u0066ile", b"null", b"true", b"511", b"512", b"\"a\",", b"\"A\":\"\",", b"{}", b"[]", b",\"a\"",
    b"\"fds\":", b"\"signals\":true", b"\"signal\":", b"15", b"64", b"65",
];

fn owned(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// What the specification says about a payload whose JSON this is: the request, or nothing if it may not be accepted.
fn expected(tree: &Tree) -> Option<Request> {
    let possible = |value: &Tree| {
        value
            .text()
            .filter(|text| !text.contains('\0'))
            .map(str::to_owned)
    };
    let text = |name| possible(tree.member(name).ok()??);
    let Some(Tree::Array(argv)) = tree.member("argv").ok()? else {
        return None;
    };
    let argv: Vec<_> = argv
        .iter()
        .map(|argument| possible(argument).map(Into::into))
        .collect::<Option<_>>()?;
    let Some(Tree::Object(variables)) = tree.member("env").ok()? else {
        return None;
    };
    let (mut env, mut names) = (Vec::new(), HashSet::new());
    for (name, value) in variables {
        let value = possible(value)?;
        if name.is_empty() || name.contains(['=', '\0']) || !names.insert(name) {
            return None;
        }
        env.push((name.into(), value.into()));
    }
    let umask = match tree.member("umask").ok()? {
        None | Some(Tree::Null) => None,
        Some(Tree::Integer(umask @ 0..=0o777)) => u32::try_from(*umask).ok(),
        Some(_) => return None,
    };
    let (file, workdir) = (text("file")?, text("workdir")?);
    let fits = !file.is_empty() && file.len() <= LONGEST_PATH && workdir.len() <= LONGEST_PATH;
    let is_request = fits && !argv.is_empty() && workdir.starts_with('/');
    is_request.then(|| Request {
        file: file.into(),
        argv,
        workdir: workdir.into(),
        env,
        umask,
    })
}

/// The request as a wrapper would send it.
fn encoded(request: &Request) -> String {
    let argv: Vec<String> = request.argv.iter().map(|text| encode_json_text(text)).collect();
    let env = request.env.iter();
    let env: Vec<String> = env
        .map(|(name, value)| format!("{}:{}", encode_json_text(name), encode_json_text(value)))
        .collect();
    let umask = request
        .umask
        .map_or(String::new(), |umask| format!(",\"umask\":{umask}"));
    format!(
        "{{\"file\":{},\"argv\":[{}],\"workdir\":{},\"env\":{{{}}}{umask}}}",
        encode_json_text(&request.file),
        argv.join(","),
        encode_json_text(&request.workdir),
        env.join(",")
    )
}

/// Demands that a parser's answer is what the JSON says, as far as serde_json has a place for it.
fn compared<T: PartialEq + std::fmt::Debug>(
    payload: &[u8],
    parsed: Option<&T>,
    expected: impl FnOnce(&Tree) -> Option<T>,
) -> Result<(), String> {
    let wanted = match Tree::of(payload) {
        Ok(tree) => expected(&tree),
        Err(true) => None,
        Err(false) => return Ok(()),
    };
    if parsed == wanted.as_ref() {
        Ok(())
    } else {
        Err(format!("it is read as {parsed:?} instead of {wanted:?}"))
    }
}

#[test]
fn requests() {
    let target = Target {
        name: "request",
        corpus: owned(REQUESTS),
        words: WORDS,
        bounds: Bounds {
            // What the session's memory is charged with meanwhile, and the text of an error.
            memory: |length| Request::highest_cost(length) + 4096,
            time: Bounds::linear_time,
        },
    };
    target.run(|payload: &[u8], probe: &mut Probe| {
        let request = probe.measure(|| Request::parse(payload)).ok();
        compared(payload, request.as_ref(), expected)?;
        let Some(request) = request else {
            return Ok(false);
        };
        let again = encoded(&request);
        match Request::parse(again.as_bytes()) {
            Ok(read) if read == request => {}
            other => return Err(format!("{request:?} is written as {again} and read as {other:?}")),
        }
        let texts = [&request.file, &request.workdir].into_iter().chain(&request.argv);
        let mut texts = texts.chain(request.env.iter().flat_map(|(name, value)| [name, value]));
        if texts.any(|text| text.as_bytes().contains(&0)) {
            return Err("a text has a NUL".to_owned());
        }
        if request.cost() > Request::highest_cost(payload.len()) {
            return Err(format!("{} bytes are charged for it", request.cost()));
        }
        Ok(true)
    });
}

#[test]
fn later_messages() {
    let target = Target {
        name: "later-message",
        corpus: owned(&[
            r#"{"fds":[0,1,2]}"#,
            r#"{"fds":[-1,4294967296,9],"signals":true,"more":{}}"#,
            r#" { "signals" : false , "fds" : [ ] } "#,
            r#"{"signal":15}"#,
            r#"{"signal":-9,"x":[]}"#,
            "[[0,1,2]]",
        ]),
        words: WORDS,
        bounds: Bounds {
            // A number takes two bytes of JSON and eight of memory, which move as it grows.
            memory: |length| 12 * length + 4096,
            time: Bounds::linear_time,
        },
    };
    target.run(|payload: &[u8], probe: &mut Probe| {
        let descriptors: Option<DescriptorMessage> = probe.measure(|| parse(payload)).ok();
        compared(payload, descriptors.as_ref(), |tree| {
            let Some(Tree::Array(numbers)) = tree.member("fds").ok()? else {
                return None;
            };
            let integer = |value: &Tree| match value {
                Tree::Integer(number) => i64::try_from(*number).ok(),
                _ => None,
            };
            let fds = numbers.iter().map(integer).collect::<Option<_>>()?;
            Some(DescriptorMessage {
                fds,
                signals: flag(tree, "signals")?,
                group: flag(tree, "group")?,
                ignored: ignored(tree)?,
                limits: limits(tree)?,
                nice: match tree.member("nice").ok()? {
                    None | Some(Tree::Null) => None,
                    Some(Tree::Integer(number)) => Some(i32::try_from(*number).ok()?),
                    Some(_) => return None,
                },
            })
        })?;
        let signal: Option<SignalMessage> = probe.measure(|| parse(payload)).ok();
        compared(payload, signal.as_ref(), |tree| {
            match tree.member("signal").ok()? {
                Some(Tree::Integer(number)) => Some(SignalMessage {
                    signal: i32::try_from(*number).ok()?,
                    terminal: flag(tree, "terminal")?,
                    sender: match tree.member("sender").ok()? {
                        None | Some(Tree::Null) => None,
                        Some(Tree::Integer(number)) => Some(i64::try_from(*number).ok()?),
                        Some(_) => return None,
                    },
                    stops: match tree.member("stops").ok()? {
                        None | Some(Tree::Null) => None,
                        Some(Tree::Integer(number)) => Some(u64::try_from(*number).ok()?),
                        Some(_) => return None,
                    },
                }),
                _ => None,
            }
        })?;
        Ok(descriptors.is_some() || signal.is_some())
    });
}

/// A member that is true or false, and false where it is missing.
fn flag(tree: &Tree, name: &str) -> Option<bool> {
    match tree.member(name).ok()? {
        None => Some(false),
        Some(Tree::Bool(value)) => Some(*value),
        Some(_) => None,
    }
}

fn ignored(tree: &Tree) -> Option<SignalSet> {
    let Some(signals) = tree.member("ignored").ok()? else {
        return Some(SignalSet::default());
    };
    let Tree::Array(signals) = signals else {
        return None;
    };
    let bit = |signal: &Tree| match signal {
        Tree::Integer(number @ 1..=64) => Some(1 << (number - 1)),
        _ => None,
    };
    let bits = signals.iter().map(bit).collect::<Option<Vec<u64>>>()?;
    Some(SignalSet(bits.into_iter().fold(0, |set, bit| set | bit)))
}

fn limits(tree: &Tree) -> Option<ResourceLimits> {
    let mut limits = ResourceLimits::default();
    let Some(found) = tree.member("limits").ok()? else {
        return Some(limits);
    };
    let Tree::Object(found) = found else { return None };
    let limit = |value: &Tree| match value {
        Tree::Null => Some(None),
        Tree::Integer(number) => u64::try_from(*number).ok().map(Some),
        _ => None,
    };
    for (name, value) in found {
        let Some(place) = RESOURCES.iter().position(|known| known == name) else {
            continue;
        };
        let Tree::Array(pair) = value else { return None };
        let [soft, hard] = pair.as_slice() else {
            return None;
        };
        limits.0[place] = Some([limit(soft)?, limit(hard)?]);
    }
    Some(limits)
}
