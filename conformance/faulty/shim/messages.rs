//! The messages of the wire; unknown members are ignored.

use serde_json::{Value, json};

use crate::faults::{Fault, Variant, broken, unusual};
use crate::members::{Malformed, Pairings, members};

/// A request, with all strings as the bytes that they stand for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The program, as given to the wrapper.
    pub file: Vec<u8>,
    /// argv.
    pub arguments: Vec<Vec<u8>>,
    /// The working directory.
    pub directory: Vec<u8>,
    /// Names and values.
    pub environment: Pairings,
    /// The umask.
    pub umask: Option<u32>,
}

/// A descriptor message.
#[derive(Debug)]
pub struct Descriptors {
    /// The numbers, in the order of the descriptors.
    pub numbers: Vec<i128>,
    /// Whether the wrapper announced *signals*.
    pub signals: bool,
    /// Whether the wrapper announced *group*.
    pub group: bool,
    /// What the child is to inherit.
    pub inherited: Inherited,
}

/// The extension *inherited*.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    /// Signals to ignore.
    pub ignored: Vec<i32>,
    /// Resource, soft limit, hard limit.
    pub limits: Vec<(u32, u64, u64)>,
    /// The niceness.
    pub nice: Option<i32>,
}

impl Inherited {
    /// From a descriptor message.
    fn of(message: &Value) -> Inherited {
        const NAMES: [&str; 16] = [
            "cpu",
            "fsize",
            "data",
            "stack",
            "core",
            "rss",
            "nproc",
            "nofile",
            "memlock",
            "as",
            "locks",
            "sigpending",
            "msgqueue",
            "nice",
            "rtprio",
            "rttime",
        ];
        let limit = |value: &Value| value.as_u64().unwrap_or(libc::RLIM_INFINITY);
        let understood = |wanted: &str| {
            let known = |name: &&String| NAMES.contains(&name.as_str());
            let mut given = message["limits"]
                .as_object()
                .into_iter()
                .flat_map(|limits| limits.keys());
            !broken(Fault::LimitsEndAtTheUnknown)
                || given.by_ref().take_while(known).any(|name| name == wanted)
        };
        let signals = message["ignored"].as_array().map_or(&[][..], Vec::as_slice);
        Inherited {
            ignored: signals
                .iter()
                .filter_map(Value::as_i64)
                .map(|signal| signal as i32)
                .collect(),
            limits: (0..)
                .zip(NAMES)
                .filter(|(_, name)| message["limits"][name].is_array() && understood(name))
                .map(|(resource, name)| {
                    (
                        resource,
                        limit(&message["limits"][name][0]),
                        limit(&message["limits"][name][1]),
                    )
                })
                .collect(),
            nice: message["nice"].as_i64().map(|nice| nice as i32),
        }
    }
}

/// The order in which a careless server expects the members of a request.
const ORDER: [&[u8]; 4] = [b"file", b"argv", b"workdir", b"env"];

/// Reads a request.
pub fn request(payload: &[u8]) -> Result<Request, Malformed> {
    let mut file = None;
    let mut arguments = None;
    let mut directory = None;
    let mut environment = None;
    let mut umask = None;
    let mut expected = 0;
    members(payload, |name, value| {
        let lower = name.to_ascii_lowercase();
        let name = if broken(Fault::NamesWithoutCase) {
            &*lower
        } else if broken(Fault::NamesEndAtNul) {
            name.split(|byte| *byte == 0).next().unwrap_or_default()
        } else {
            name
        };
        if let Some(place) = ORDER.iter().position(|known| *known == name) {
            if broken(Fault::MemberOrderFixed) && place != expected {
                return Err(Malformed("members in another order".to_owned()));
            }
            expected = place + 1;
        }
        match name {
            _ if broken(Fault::ForeignNamesRefused) && name == b"fds" => return Err(unknown(name)),
            b"file" => file = Some(value.text()?),
            b"argv" => arguments = Some(value.texts()?),
            b"workdir" => directory = Some(value.text()?),
            b"env" => environment = Some(value.pairs()?),
            b"umask" if !unusual(Variant::Plain) => umask = Some(value.integer()?),
            _ if broken(Fault::UnknownMembersRefused) => return Err(unknown(name)),
            _ => value.ignore()?,
        }
        Ok(())
    })?;
    if broken(Fault::MissingFilledIn) {
        let own = arguments.clone().or(file.clone().map(|file| vec![file]));
        arguments = own;
        directory = directory.or(Some(b"/".to_vec()));
        environment = environment.or(Some(Vec::new()));
    }
    let request = Request {
        file: file.ok_or_else(|| missing("file"))?,
        arguments: arguments.ok_or_else(|| missing("argv"))?,
        directory: directory.ok_or_else(|| missing("workdir"))?,
        environment: environment.ok_or_else(|| missing("env"))?,
        umask: umask.map(checked_umask).transpose()?,
    };
    if !request.directory.starts_with(b"/") && !broken(Fault::RelativeDirectoryTaken) {
        return Err(Malformed("workdir is no absolute path".to_owned()));
    }
    Ok(request)
}

fn checked_umask(value: i128) -> Result<u32, Malformed> {
    u32::try_from(value)
        .ok()
        .filter(|value| *value <= 0o777)
        .ok_or_else(|| Malformed(format!("umask {value} is none")))
}

/// Reads a descriptor message.
pub fn descriptors(payload: &[u8]) -> Result<Descriptors, Malformed> {
    let mut numbers = None;
    let mut signals = false;
    let mut group = false;
    let mut more = false;
    members(payload, |name, value| {
        match name {
            b"fds" => numbers = Some(value.integers()?),
            b"signals" if !unusual(Variant::Plain) => signals = value.boolean()?,
            b"group" if !unusual(Variant::Plain) => group = value.boolean()?,
            b"ignored" | b"limits" | b"nice" if !unusual(Variant::Plain) => {
                more = true;
                value.ignore()?;
            }
            _ if broken(Fault::UnknownInDescriptorsRefused) => return Err(unknown(name)),
            _ => value.ignore()?,
        }
        Ok(())
    })?;
    Ok(Descriptors {
        numbers: numbers.ok_or_else(|| missing("fds"))?,
        signals,
        group,
        inherited: if more {
            serde_json::from_slice(payload)
                .map_or_else(|_| Inherited::default(), |message| Inherited::of(&message))
        } else {
            Inherited::default()
        },
    })
}

/// A signal that a wrapper forwards.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Its number, which may be none of a signal.
    pub number: i128,
    /// The kernel has sent it to the wrapper's group, for a terminal.
    pub terminal: bool,
    /// The process that has sent it.
    pub sender: Option<i128>,
    /// How many stopped messages the wrapper had read.
    pub stops: Option<i128>,
}

/// Reads a signal frame: the number, whether it comes of a terminal, and the process that has sent it.
pub fn signal(payload: &[u8]) -> Result<Signal, Malformed> {
    let mut signal = None;
    let mut terminal = false;
    let mut sender = None;
    let mut stops = None;
    members(payload, |name, value| {
        match name {
            b"signal" => signal = Some(value.integer()?),
            b"terminal" => terminal = value.boolean()?,
            b"sender" => sender = Some(value.integer()?),
            b"stops" => stops = Some(value.integer()?),
            _ => value.ignore()?,
        }
        Ok(())
    })?;
    Ok(Signal {
        number: signal.ok_or_else(|| missing("signal"))?,
        terminal,
        sender,
        stops,
    })
}

fn unknown(name: &[u8]) -> Malformed {
    Malformed(format!("unknown member {}", String::from_utf8_lossy(name)))
}

fn missing(name: &str) -> Malformed {
    Malformed(format!("no member {name}"))
}

/// A decision as a payload.
pub fn decision(mut action: Value) -> Vec<u8> {
    if broken(Fault::NullReasonLeftOut) && action["Deny"]["reason"].is_null() && action.is_object() {
        action = json!({"Deny": {}});
    }
    if broken(Fault::ActionInLowerCase) {
        action = match &action {
            Value::String(name) => json!(name.to_lowercase()),
            denial => json!({"deny": denial["Deny"]}),
        };
    }
    encode(json!({ "action": action }))
}

/// A result as a payload.
pub fn result(exit_code: i32, signal: Option<i32>) -> Vec<u8> {
    let exit_code = match exit_code {
        _ if broken(Fault::ExitCodeSigned) => i32::from(exit_code as i8),
        1.. if broken(Fault::ExitCodeOneForAll) => 1,
        other => other,
    };
    let mut message = json!({ "exit_code": exit_code });
    if broken(Fault::ExitCodeAsText) {
        message["exit_code"] = json!(exit_code.to_string());
    }
    if let Some(signal) = signal
        && !unusual(Variant::Plain)
    {
        message["signal"] = json!(signal);
    }
    encode(message)
}

/// A stopped message as a payload; `continued` says how many continuations of the wrapper have been read.
pub fn stopped(signal: i32, alone: bool, continued: Option<u64>) -> Vec<u8> {
    let mut message = json!({ "stopped": signal });
    if alone && !broken(Fault::AloneNotSaid) {
        message["alone"] = true.into();
    }
    if let Some(continued) = continued {
        let none = broken(Fault::ContinuationsNotCounted);
        message["continued"] = if none { 0 } else { continued }.into();
    }
    encode(message)
}

fn encode(mut message: Value) -> Vec<u8> {
    if unusual(Variant::ExtraMembers)
        && let Some(members) = message.as_object_mut()
    {
        let known = std::mem::take(members);
        members.insert("before".to_owned(), json!([null, {"action": "Run"}]));
        members.extend(known);
        members.insert(
            "after".to_owned(),
            json!({"exit_code": "none", "deep": [[[1e99]]]}),
        );
    }
    let mut text = message.to_string();
    if unusual(Variant::Pretty) {
        text = format!(
            " \t{}\r\n ",
            serde_json::to_string_pretty(&message).unwrap_or(text)
        );
    }
    if unusual(Variant::Escaped) {
        text = escaped(&text);
    }
    text.into_bytes()
}

/// The same JSON with each non-ASCII character of its strings escaped, and the letter `e` too.
fn escaped(text: &str) -> String {
    let mut inside = false;
    let mut after_backslash = false;
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '"' if !after_backslash => inside = !inside,
            'e' if inside && !after_backslash => {
                out.push_str("\\u0065");
                continue;
            }
            character if inside && !character.is_ascii() => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
                continue;
            }
            _ => {}
        }
        after_backslash = character == '\\' && !after_backslash;
        out.push(character);
    }
    out
}

/// Bytes as a JSON string by the *bytes* extension, quotes included: for the policy.
pub fn json_text(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = Value::from(chunk.valid()).to_string();
        text.push_str(&valid[1..valid.len() - 1]);
        for byte in chunk.invalid() {
            if broken(Fault::PolicySeesReplacements) {
                text.push('\u{fffd}');
                continue;
            }
            text.push_str(&format!("\\udc{byte:02x}"));
        }
    }
    text.push('"');
    text
}
