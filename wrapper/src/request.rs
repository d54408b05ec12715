//! What the wrapper sends to the server: the question what to do with this command and, after Escalate, the
//! descriptors and the signals for the child.

use crate::attributes::Attributes;
use crate::json::{write_number, write_string};
use crate::output::{Count, Output};
use crate::signals::Arrival;

/// The path of the wrapper, for the shell that reads it.
pub const WRAPPER_VARIABLE: &[u8] = b"EXEC_WRAPPER";
/// The older name of [`WRAPPER_VARIABLE`].
pub const WRAPPER_VARIABLE_ALIAS: &[u8] = b"BASH_EXEC_WRAPPER";
/// The inherited escalation socket's number, decimal.
pub const SOCKET_VARIABLE: &[u8] = b"CODEX_ESCALATE_SOCKET";

/// Everything that the server is told about one command. `A` and `E` iterate over argv and the environment's entries;
/// each clone begins again.
pub struct Request<'a, A, E> {
    /// The path that the shell resolved.
    pub file: &'a [u8],
    /// Its arguments, `argv[0]` included.
    pub argv: A,
    /// The current directory.
    pub workdir: &'a [u8],
    /// The environment as the process has it: entries of the form `NAME=VALUE`.
    pub environment: E,
    /// The file mode creation mask (the *umask* extension).
    pub umask: u32,
}

impl<'a, A, E> Request<'_, A, E>
where
    A: Iterator<Item = &'a [u8]> + Clone,
    E: Iterator<Item = &'a [u8]> + Clone,
{
    /// Writes the request as JSON.
    pub fn write<O: Output>(&self, output: &mut O) -> Result<(), O::Error> {
        output.put(b"{\"file\":")?;
        write_string(output, self.file)?;
        output.put(b",\"argv\":[")?;
        let mut separator: &[u8] = b"";
        for argument in self.argv.clone() {
            output.put(separator)?;
            write_string(output, argument)?;
            separator = b",";
        }
        output.put(b"],\"workdir\":")?;
        write_string(output, self.workdir)?;
        output.put(b",\"env\":{")?;
        separator = b"";
        for (name, value) in self.environment.clone().filter_map(variable) {
            output.put(separator)?;
            write_string(output, name)?;
            output.put(b":")?;
            write_string(output, value)?;
            separator = b",";
        }
        output.put(b"},\"umask\":")?;
        write_number(output, i64::from(self.umask))?;
        output.put(b"}")
    }

    /// The length of what [`Self::write`] writes, in bytes.
    pub fn length(&self) -> usize {
        let mut count = Count::default();
        let Ok(()) = self.write(&mut count);
        count.0
    }
}

/// The message that goes with descriptors.
#[derive(Debug)]
pub struct Handover<'a> {
    /// The numbers that the descriptors are to have in the child.
    pub numbers: &'a [i32],
    /// Whether the wrapper forwards signals, and the child may join its process group (the *signals* and *group*
    /// extensions).
    pub signals: bool,
    /// What the child is to inherit.
    pub attributes: &'a Attributes,
}

impl Handover<'_> {
    /// Writes the message as JSON.
    pub fn write<O: Output>(&self, output: &mut O) -> Result<(), O::Error> {
        output.put(b"{\"fds\":")?;
        write_list(output, self.numbers.iter().copied())?;
        if self.signals {
            output.put(b",\"signals\":true,\"group\":true")?;
        }
        if !self.attributes.ignored.is_empty() {
            output.put(b",\"ignored\":")?;
            write_list(output, self.attributes.ignored.iter())?;
        }
        output.put(b",\"limits\":{")?;
        let mut separator: &[u8] = b"\"";
        for (name, (soft, hard)) in &self.attributes.limits {
            output.put(separator)?;
            output.put(name.as_bytes())?;
            output.put(b"\":[")?;
            write_limit(output, *soft)?;
            output.put(b",")?;
            write_limit(output, *hard)?;
            output.put(b"]")?;
            separator = b",\"";
        }
        output.put(b"}")?;
        if let Some(nice) = self.attributes.nice {
            output.put(b",\"nice\":")?;
            write_number(output, nice.into())?;
        }
        output.put(b"}")
    }
}

fn write_list<O: Output>(output: &mut O, numbers: impl Iterator<Item = i32>) -> Result<(), O::Error> {
    let mut separator: &[u8] = b"[";
    let mut end: &[u8] = b"[]";
    for number in numbers {
        output.put(separator)?;
        write_number(output, number.into())?;
        separator = b",";
        end = b"]";
    }
    output.put(end)
}

/// Writes a limit, which is null if there is none.
fn write_limit<O: Output>(output: &mut O, limit: Option<u64>) -> Result<(), O::Error> {
    match limit.and_then(|limit| i64::try_from(limit).ok()) {
        Some(limit) => write_number(output, limit),
        None => output.put(b"null"),
    }
}

/// Writes the message that forwards a signal to the child (the *signals* extension).
pub fn write_signal<O: Output>(output: &mut O, arrival: Arrival) -> Result<(), O::Error> {
    output.put(b"{\"signal\":")?;
    write_number(output, arrival.signal.into())?;
    if arrival.of_terminal {
        output.put(b",\"terminal\":true")?;
    }
    if let Some(sender) = arrival.sender {
        output.put(b",\"sender\":")?;
        write_number(output, sender.into())?;
    }
    if let Some(stops) = arrival.stops {
        output.put(b",\"stops\":")?;
        write_number(output, stops)?;
    }
    output.put(b"}")
}

/// Name and value of an entry that the server is told about. The wrapper's own variables are left out: what the server
/// executes is not intercepted. An entry without `=` has no name, so the request has no place for it.
fn variable(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = entry.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&entry[..equals], &entry[equals + 1..]);
    let own = [WRAPPER_VARIABLE, WRAPPER_VARIABLE_ALIAS, SOCKET_VARIABLE].contains(&name);
    (!own).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Set;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn written(file: &[u8], argv: &[&[u8]], environment: &[&[u8]]) -> Vec<u8> {
        let request = Request {
            file,
            argv: argv.iter().copied(),
            workdir: b"/tmp",
            environment: environment.iter().copied(),
            umask: 0o022,
        };
        let mut output = Vec::new();
        let Ok(()) = request.write(&mut output);
        assert_eq!(request.length(), output.len());
        output
    }

    #[test]
    fn a_request_has_the_members_in_the_order_of_the_specification() {
        assert_eq!(
            String::from_utf8(written(
                b"/bin/echo",
                &[b"echo", b"hi", b""],
                &[b"K=V", b"EMPTY=", b"EQUALS=a=b"]
            ))
            .unwrap(),
            r#"{"file":"/bin/echo","argv":["echo","hi",""],"workdir":"/tmp","env":{"K":"V","EMPTY":"","EQUALS":"a=b"},"umask":18}"#
        );
    }

    #[test]
    fn the_variables_of_the_wrapper_and_entries_without_a_name_are_left_out() {
        let environment: [&[u8]; 6] = [
            b"EXEC_WRAPPER=/w",
            b"BASH_EXEC_WRAPPER=/w",
            b"CODEX_ESCALATE_SOCKET=3",
            b"LOOSE",
            b"EXEC_WRAPPER2=kept",
            b"A=1",
        ];
        assert_eq!(
            String::from_utf8(written(b"f", &[], &environment)).unwrap(),
            r#"{"file":"f","argv":[],"workdir":"/tmp","env":{"EXEC_WRAPPER2":"kept","A":"1"},"umask":18}"#
        );
    }

    fn attributes(ignored: Set, limit: Option<u64>, nice: Option<i32>) -> Attributes {
        let mut attributes = Attributes::of_this_process();
        attributes.ignored = ignored;
        attributes
            .limits
            .iter_mut()
            .for_each(|(_, limits)| *limits = (limit, None));
        attributes.nice = nice;
        attributes
    }

    fn handover(numbers: &[i32], signals: bool, attributes: &Attributes) -> String {
        let mut output = Vec::new();
        let Ok(()) = Handover {
            numbers,
            signals,
            attributes,
        }
        .write(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn the_messages_after_escalate_are_those_of_the_specification() {
        let plain = attributes(Set::default(), Some(7), None);
        assert!(handover(&[0, 1, 2], true, &plain).starts_with(
            r#"{"fds":[0,1,2],"signals":true,"group":true,"limits":{"cpu":[7,null],"fsize":[7,null],"#
        ));
        let ignoring = attributes(Set::only(1).with(Set::only(64)), None, Some(-20));
        let text = handover(&[], false, &ignoring);
        assert!(
            text.starts_with(r#"{"fds":[],"ignored":[1,64],"limits":{"cpu":[null,null],"#),
            "{text}"
        );
        assert!(text.ends_with(r#","rttime":[null,null]},"nice":-20}"#), "{text}");
        let mut output = Vec::new();
        for (of_terminal, sender, stops) in [
            (false, None, None),
            (true, None, Some(0)),
            (false, Some(i32::MAX), Some(i64::MAX)),
        ] {
            let Ok(()) = write_signal(
                &mut output,
                Arrival {
                    signal: 15,
                    of_terminal,
                    sender,
                    stops,
                },
            );
        }
        assert_eq!(
            String::from_utf8(output).unwrap(),
            concat!(
                r#"{"signal":15}{"signal":15,"terminal":true,"stops":0}"#,
                r#"{"signal":15,"sender":2147483647,"stops":9223372036854775807}"#
            )
        );
    }

    #[test]
    fn the_longest_descriptor_message_fits_into_2048_bytes() {
        let longest = attributes(Set(u64::MAX), Some(i64::MAX as u64), Some(-20));
        assert!(handover(&[i32::MAX; 16], true, &longest).len() + 4 <= 2048);
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_was(file: String, argv: Vec<String>, env in prop::collection::btree_map("[^=]*", any::<String>(), 0..8)) {
            let argv_bytes: Vec<&[u8]> = argv.iter().map(|argument| argument.as_bytes()).collect();
            let entries: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let entry_bytes: Vec<&[u8]> = entries.iter().map(|entry| entry.as_bytes()).collect();
            let value: serde_json::Value = serde_json::from_slice(&written(file.as_bytes(), &argv_bytes, &entry_bytes)).unwrap();
            prop_assert_eq!(&value["file"], &serde_json::json!(file));
            prop_assert_eq!(&value["argv"], &serde_json::json!(argv));
            let received: BTreeMap<String, String> = serde_json::from_value(value["env"].clone()).unwrap();
            prop_assert_eq!(received, env);
        }
    }
}
