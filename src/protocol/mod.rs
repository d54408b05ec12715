//! The messages on the wire between wrapper and server.
//!
//! Only their form is defined here, not how they travel. Every payload is one JSON object in UTF-8; unknown members are ignored,
//! so that peers may add some (`wire.json`, `wire.json.unknown`).

mod attributes;
mod room;
mod text;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use attributes::{ResourceLimits, SignalSet};
use room::{LONGEST_PATH, MOST_BYTES, Room};
pub use text::encode_json_text;
use text::{Text, WireText};

/// The most descriptors that travel with one message (`wire.fds`).
pub(crate) const MAX_DESCRIPTORS: usize = 16;

/// What a wrapper asks: may I execute this?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The path as the shell resolved it, relative to `workdir` unless absolute. Not empty.
    pub file: OsString,
    /// Arguments, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// Absolute working directory.
    pub workdir: OsString,
    /// The environment in the order of the message; no name occurs twice.
    pub env: Vec<(OsString, OsString)>,
    /// The wrapper's umask, if it was sent (extension *umask*).
    pub umask: Option<u32>,
}

/// The second message of a wrapper, sent only after `Escalate`: its descriptors travel with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct DescriptorMessage {
    /// `fds[i]` is the number that the i-th descriptor of the message must have in the escalated child.
    pub fds: Vec<i64>,
    /// The wrapper sends signal frames and understands `stopped` (extension *signals*).
    #[serde(default)]
    pub signals: bool,
    /// The child may join the wrapper's process group (extension *group*).
    #[serde(default)]
    pub group: bool,
    /// The signals that the child is to ignore (extension *inherited*).
    #[serde(default)]
    pub ignored: SignalSet,
    /// The child's resource limits (extension *inherited*).
    #[serde(default)]
    pub limits: ResourceLimits,
    /// The child's niceness (extension *inherited*).
    #[serde(default)]
    pub nice: Option<i32>,
}

/// A signal to deliver to the escalated child (extension *signals*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SignalMessage {
    /// The signal's number on this system.
    pub signal: i32,
    /// The kernel has sent it to the wrapper's whole process group, for a terminal (extension *group*).
    #[serde(default)]
    pub terminal: bool,
    /// The process that has sent it to the wrapper, if one has (extension *group*).
    #[serde(default)]
    pub sender: Option<i64>,
    /// With SIGCONT: how many stopped messages the wrapper had read when it came (extension *group*).
    #[serde(default)]
    pub stops: Option<u64>,
}

/// The server's answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reply {
    /// What the wrapper is to do.
    pub action: Action,
}

/// What a wrapper is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Execute the program in your own process.
    Run,
    /// Send your descriptors; the server runs the program.
    Escalate,
    /// Execute nothing.
    Deny {
        /// Shown to the user, if given.
        reason: Option<String>,
    },
}

/// How an escalated child ended: the server's last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ResultMessage {
    /// 0 to 255; 128 + N for a child that was killed by signal N.
    pub exit_code: i32,
    /// The signal that killed the child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// The child has stopped; sent only to wrappers that announced `signals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StoppedMessage {
    /// The signal that stopped the child.
    pub stopped: i32,
    /// The rest of the wrapper's process group is to go on (extension *group*).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// How many SIGCONT frames of the wrapper have been read (extension *group*): if it has sent more, it is not to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continued: Option<u64>,
}

/// A payload that is not a valid message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// The payload is not UTF-8.
    #[error("payload is not UTF-8: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// Every message is a JSON object.
    #[error("payload is not a JSON object")]
    NotAnObject,
    /// A string may have control characters only as escapes.
    #[error("a string has a control character that is not escaped")]
    ControlCharacter,
    /// Invalid JSON, a missing member, a wrong type, or trailing data.
    #[error("malformed message: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that is impossible for a process.
    #[error("impossible request: {0}")]
    Impossible(&'static str),
}

/// Parses one payload as a message.
///
/// # Errors
/// When the payload is not exactly one JSON object of that form (`wire.malformed`).
pub(crate) fn parse<'de, T: Deserialize<'de>>(payload: &'de [u8]) -> Result<T, ProtocolError> {
    // serde_json checks UTF-8 only when it makes a `str`; names and values here are read as bytes.
    let text = std::str::from_utf8(payload)?;
    // A derived struct would also be read from an array of its members.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(ProtocolError::NotAnObject);
    }
    if has_control_character(payload) {
        return Err(ProtocolError::ControlCharacter);
    }
    Ok(serde_json::from_str(text)?)
}

/// Whether a string of the payload has a control character that is not escaped (RFC 8259, section 7), which serde_json lets
/// through where it reads a string as bytes.
fn has_control_character(payload: &[u8]) -> bool {
    let (mut in_string, mut is_escaped) = (false, false);
    payload.iter().any(|&byte| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match byte {
            b'"' => in_string ^= !was_escaped,
            b'\\' => is_escaped = in_string && !was_escaped,
            _ => {}
        }
        in_string && byte < 0x20
    })
}

/// What a string costs beyond its bytes: its place in a list, and the smallest allocation.
const STRING_COST: usize = 56;

/// A request may need this many times as much memory as its payload: an empty argument takes three bytes of it.
const COST_OF_A_BYTE: usize = STRING_COST.div_ceil(3);

/// The most that a request may need: all that execve(2) takes, in variables of one byte.
const MOST_COST: usize = 72 * 1024 * 1024;

impl Request {
    /// The memory in bytes that the request in a payload of this many bytes may need.
    pub(crate) fn highest_cost(payload: usize) -> usize {
        payload.saturating_mul(COST_OF_A_BYTE).min(MOST_COST)
    }

    /// The memory in bytes that the request needs, about.
    pub(crate) fn cost(&self) -> usize {
        let argv: usize = self.argv.iter().map(|text| text.len() + STRING_COST).sum();
        let env = self.env.iter();
        let env: usize = env
            .map(|(name, value)| name.len() + value.len() + 2 * STRING_COST)
            .sum();
        self.file.len() + self.workdir.len() + argv + env
    }

    /// Parses and checks the first message of a wrapper.
    ///
    /// # Errors
    /// See [`parse`]; also when the file is empty, `argv[0]` is missing, the working directory is not absolute, the environment
    /// or umask is impossible, or anything is larger than execve(2) takes.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        let raw: RawRequest = parse(payload)?;
        if raw.file.is_empty() {
            return Err(ProtocolError::Impossible("the file is empty"));
        }
        if raw.argv.is_empty() {
            return Err(ProtocolError::Impossible("argv is empty"));
        }
        if !raw.workdir.as_os_str().as_bytes().starts_with(b"/") {
            return Err(ProtocolError::Impossible("the working directory is not absolute"));
        }
        if raw.umask.is_some_and(|umask| umask > 0o777) {
            return Err(ProtocolError::Impossible("the umask has bits outside 0777"));
        }
        Ok(Self {
            file: raw.file.into(),
            argv: raw.argv.into_iter().map(Into::into).collect(),
            workdir: raw.workdir.into(),
            env: raw.env,
            umask: raw.umask,
        })
    }
}

/// The members of a request, each once; what execve(2) could not take is refused as soon as it is read.
struct RawRequest {
    file: WireText,
    argv: Vec<WireText>,
    workdir: WireText,
    env: Vec<(OsString, OsString)>,
    umask: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    File,
    Argv,
    Workdir,
    Env,
    Umask,
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for RawRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawRequest;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a request")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawRequest, A::Error> {
                let room = Room::new();
                let (mut file, mut argv, mut workdir, mut env, mut umask) = (None, None, None, None, None);
                while let Some(member) = map.next_key()? {
                    let again = match member {
                        Member::File => file.replace(map.next_value_seed(Path)?).is_some(),
                        Member::Argv => argv.replace(map.next_value_seed(Arguments(&room))?).is_some(),
                        Member::Workdir => workdir.replace(map.next_value_seed(Path)?).is_some(),
                        Member::Env => env.replace(map.next_value_seed(Environment(&room))?).is_some(),
                        Member::Umask => umask.replace(map.next_value()?).is_some(),
                        Member::Unknown => map.next_value::<IgnoredAny>().map(|_| false)?,
                    };
                    if again {
                        return Err(de::Error::custom("a member occurs twice"));
                    }
                }
                Ok(RawRequest {
                    file: file.ok_or_else(|| de::Error::missing_field("file"))?,
                    argv: argv.ok_or_else(|| de::Error::missing_field("argv"))?,
                    workdir: workdir.ok_or_else(|| de::Error::missing_field("workdir"))?,
                    env: env.ok_or_else(|| de::Error::missing_field("env"))?,
                    umask: umask.flatten(),
                })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Reads a file's or directory's path.
struct Path;

impl<'de> DeserializeSeed<'de> for Path {
    type Value = WireText;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WireText, D::Error> {
        let path = Text {
            longest: LONGEST_PATH,
        }
        .deserialize(deserializer)?;
        Ok(path)
    }
}

/// Reads argv.
#[derive(Clone, Copy)]
struct Arguments<'a>(&'a Room);

impl<'de> DeserializeSeed<'de> for Arguments<'_> {
    type Value = Vec<WireText>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Arguments<'_> {
    type Value = Vec<WireText>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an array of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut arguments = Vec::new();
        while let Some(argument) = items.next_element_seed(Text { longest: MOST_BYTES })? {
            self.0
                .take(argument.as_os_str().len())
                .map_err(de::Error::custom)?;
            arguments.push(argument);
        }
        Ok(arguments)
    }
}

/// Reads an object of names and values; refuses what an environment block could not represent unambiguously.
#[derive(Clone, Copy)]
struct Environment<'a>(&'a Room);

impl<'de> DeserializeSeed<'de> for Environment<'_> {
    type Value = Vec<(OsString, OsString)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Environment<'_> {
    type Value = Vec<(OsString, OsString)>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object of environment variables")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<(OsString, OsString)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key_seed(Text { longest: MOST_BYTES })? {
            let name = OsString::from(name);
            let value = OsString::from(map.next_value_seed(Text { longest: MOST_BYTES })?);
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(de::Error::custom("a variable's name is empty or contains `=`"));
            }
            let length = name.len() + 1 + value.len();
            self.0.take(length).map_err(de::Error::custom)?;
            // getenv(3) takes the first of two, other readers the last: a policy cannot know which one counts.
            if !names.insert(name.clone()) {
                return Err(de::Error::custom("a variable occurs more than once"));
            }
            entries.push((name, value));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod fuzz;

    fn request(json: &str) -> Result<Request, ProtocolError> {
        Request::parse(json.as_bytes())
    }

    const GOOD: &str = r#"{"file":"/bin/echo","argv":["echo","hi"],"workdir":"/tmp","env":{"K":"V"}}"#;

    #[test]
    fn a_request_is_read_in_the_order_of_the_wire() {
        let request = request(GOOD).unwrap();
        assert_eq!(request.file, "/bin/echo");
        assert_eq!(request.argv, ["echo", "hi"]);
        assert_eq!(request.workdir, "/tmp");
        assert_eq!(request.env, [("K".into(), "V".into())]);
        assert_eq!(request.umask, None);
    }

    #[test]
    fn unknown_members_are_ignored_however_deep() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = format!(
            r#"{{"version":7,"x":{deep},"file":"f","argv":["a"],"workdir":"/","env":{{}},"umask":18}}"#
        );
        assert_eq!(request(&json).unwrap().umask, Some(0o22));
    }

    #[test]
    fn members_come_in_any_order_with_any_space() {
        let json = " \n{ \"env\" : {} ,\t\"workdir\":\"/\", \"argv\":[\"\\u0061\"], \"file\":\"f\" }\r\n ";
        assert_eq!(request(json).unwrap().argv, ["a"]);
    }

    #[test]
    fn bytes_that_are_not_utf8_come_back_as_bytes() {
        let json =
            r#"{"file":"/x\udcff","argv":["a\udc80b"],"workdir":"/\udcc3\udca9","env":{"N\udcfe":"\udc81"}}"#;
        let request = request(json).unwrap();
        assert_eq!(request.file.as_bytes(), b"/x\xff");
        assert_eq!(request.argv[0].as_bytes(), b"a\x80b");
        assert_eq!(request.workdir.as_bytes(), "/é".as_bytes());
        assert_eq!(request.env[0].0.as_bytes(), b"N\xfe");
        assert_eq!(request.env[0].1.as_bytes(), b"\x81");
    }

    #[test]
    fn anything_but_a_valid_request_is_refused() {
        let cases: &[&[u8]] = &[
            b"",
            b" ",
            b"null",
            b"{}",
            b"[\"f\",[],\"/\",{}]",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\"}",
            b"{\"file\":1,\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":\"f\",\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[null],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":[]}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{\"A\":1}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}} x",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}}{}",
            b"{\"file\":\"f\\u0000\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"\\u0000\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{\"A\\u0000\":\"\"}}",
            b"{\"file\":\"f\",\"argv\":[\"a\x1e\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"\\\\\n\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{\"A\t\":\"\"}}",
            b"{\"file\":\"\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"tmp\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"~\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{\"A=B\":\"\"}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{\"A\":\"\",\"A\":\"\"}}",
            b"{\"file\":\"f\xff\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\\ud800\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{}}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{},\"umask\":512}",
            b"{\"file\":\"f\",\"argv\":[\"a\"],\"workdir\":\"/\",\"env\":{},\"umask\":-1}",
        ];
        for case in cases {
            let shown = String::from_utf8_lossy(case);
            assert!(Request::parse(case).is_err(), "accepted {shown}");
        }
    }

    /// A request with these members in place of the ordinary ones.
    fn sized(file: usize, workdir: usize, argv: &[usize], env: &[(usize, usize)]) -> String {
        let text = |length: usize| "x".repeat(length);
        let argv: Vec<String> = argv.iter().map(|&length| text(length)).collect();
        let env: serde_json::Map<String, serde_json::Value> = env
            .iter()
            .map(|&(name, value)| (text(name), text(value).into()))
            .collect();
        let workdir = format!("/{}", text(workdir - 1));
        serde_json::json!({"file": text(file), "workdir": workdir, "argv": argv, "env": env}).to_string()
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        let path = LONGEST_PATH;
        // A single string that is too long for the kernel is a failed start, with a line that says so.
        assert!(request(&sized(path, path, &[1_000_000], &[(1, 1_000_000)])).is_ok());
        for (file, workdir, argv, env) in [
            (path + 1, 1, 1, (1, 1)),
            (1, path + 1, 1, (1, 1)),
            (1, 1, MOST_BYTES, (1, 1)),
            (1, 1, 1, (1, MOST_BYTES)),
            (1, 1, 1, (MOST_BYTES, 0)),
            (1, 1, MOST_BYTES / 2, (1, MOST_BYTES / 2)),
        ] {
            assert!(request(&sized(file, workdir, &[argv], &[env])).is_err());
        }
        assert!(request(&sized(1, 1, &vec![1; 600_000], &[])).is_ok());
        assert!(request(&sized(1, 1, &vec![1; 700_000], &[])).is_err());
    }

    #[test]
    fn a_request_never_costs_more_than_its_payload_makes_likely() {
        for argv in [vec![1; 600_000], vec![0; 600_000], vec![100; 1000], vec![3]] {
            let json = sized(1, 1, &argv, &[(1, 1)]);
            let cost = request(&json).unwrap().cost();
            assert!(
                cost <= Request::highest_cost(json.len()),
                "{cost} of {}",
                json.len()
            );
        }
        let names = (0..400_000).map(|number| format!(r#""{number:x}":"""#));
        let env = names.collect::<Vec<_>>().join(",");
        let json = format!(r#"{{"file":"f","argv":["a"],"workdir":"/","env":{{{env}}}}}"#);
        assert!(request(&json).unwrap().cost() <= Request::highest_cost(json.len()));
    }

    #[test]
    fn a_member_that_occurs_twice_is_refused() {
        for twice in ["file\":\"f", "workdir\":\"/"] {
            let json = format!(r#"{{"{twice}","file":"f","argv":["a"],"workdir":"/","env":{{}}}}"#);
            assert!(request(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn replies_are_spelled_as_on_the_wire() {
        let json = |action| serde_json::to_string(&Reply { action }).unwrap();
        assert_eq!(json(Action::Run), r#"{"action":"Run"}"#);
        assert_eq!(json(Action::Escalate), r#"{"action":"Escalate"}"#);
        assert_eq!(
            json(Action::Deny { reason: None }),
            r#"{"action":{"Deny":{"reason":null}}}"#
        );
        assert_eq!(
            json(Action::Deny {
                reason: Some("no".into())
            }),
            r#"{"action":{"Deny":{"reason":"no"}}}"#
        );
    }

    #[test]
    fn results_name_a_signal_only_if_there_was_one() {
        let exited = ResultMessage {
            exit_code: 42,
            signal: None,
        };
        assert_eq!(serde_json::to_string(&exited).unwrap(), r#"{"exit_code":42}"#);
        let killed = ResultMessage {
            exit_code: 143,
            signal: Some(15),
        };
        assert_eq!(
            serde_json::to_string(&killed).unwrap(),
            r#"{"exit_code":143,"signal":15}"#
        );
        let stopped = StoppedMessage {
            stopped: 20,
            alone: false,
            continued: None,
        };
        assert_eq!(serde_json::to_string(&stopped).unwrap(), r#"{"stopped":20}"#);
        let grouped = StoppedMessage {
            alone: true,
            continued: Some(0),
            ..stopped
        };
        assert_eq!(
            serde_json::to_string(&grouped).unwrap(),
            r#"{"stopped":20,"alone":true,"continued":0}"#
        );
    }

    #[test]
    fn the_descriptor_message_may_announce_signals() {
        let plain: DescriptorMessage = parse(br#"{"fds":[0,1,2]}"#).unwrap();
        assert_eq!(
            plain,
            DescriptorMessage {
                fds: vec![0, 1, 2],
                ..DescriptorMessage::default()
            }
        );
        let announcing: DescriptorMessage = parse(br#"{"fds":[-1],"signals":true,"more":1}"#).unwrap();
        assert_eq!(
            announcing,
            DescriptorMessage {
                fds: vec![-1],
                signals: true,
                ..DescriptorMessage::default()
            }
        );
        assert!(parse::<DescriptorMessage>(br#"{"fds":[1.5]}"#).is_err());
        assert!(parse::<DescriptorMessage>(br#"[[0]]"#).is_err());
    }
}
