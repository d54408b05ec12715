//! What a shim says as hostile bytes.

use std::io::{Seek, Write};
use std::sync::{Arc, Condvar, Mutex, Weak};

use fuzz::{Bounds, Probe, Target};
use serde::de::IgnoredAny;

use crate::peer::harness::policy::{Answer, Policy};
use crate::peer::harness::rpc::{Inbox, Shared, read_messages};
use crate::transcript::Transcript;

#[rustfmt::skip]
const WORDS: &[&[u8]] = &[
    b"\n", b"\"id\":", b"\"method\":", b"\"policy/decide\"", b"\"policy/cancelled\"", b"\"approval/ask\"", b"\"approval/withdrawn\"", b"\"params\":", b"\"result\":", b"\"error\":",
    b"\"code\":", b"\"session\":\"s\"", b"\"argv\":[\"a\"]", b"\"workdir\":\"/\"", b"\"program\":\"/p\"", b"null", b"\\udc80", b"\\ud800",
    b"{}", b"[]",
];

#[rustfmt::skip]
const SAID: &[&str] = &[
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocol\":1,\"capabilities\":[\"session\"]}}\n{\"id\":2,\"error\":{\"code\":-32602,\"message\":\"no\"}}\n",
    "{\"id\":7,\"method\":\"policy/decide\",\"params\":{\"session\":\"s\",\"program\":\"/p\\udcff\",\"argv\":[\"a\",\"b\"],\"workdir\":\"/\",\"env\":{}}}\n",
    "{\"method\":\"policy/cancelled\",\"params\":{\"session\":\"s\",\"id\":7}}\n{\"id\":3,\"method\":\"unknown\"}\n",
    "{\"id\":8,\"method\":\"approval/ask\",\"params\":{\"approval\":\"a\",\"session\":\"s\",\"program\":\"/p\",\"argv\":[\"a\"],\"workdir\":\"/\"}}\n",
    "{\"method\":\"approval/withdrawn\",\"params\":{\"session\":\"s\",\"approval\":\"a\"}}\n",
    "not JSON\n",
    "{\"id\":null}\n",
];

#[test]
fn lines_of_a_shim() {
    let mut file = tempfile::tempfile().expect("a file");
    let target = Target {
        name: "harness",
        corpus: SAID.iter().map(|text| text.as_bytes().to_vec()).collect(),
        words: WORDS,
        bounds: Bounds {
            // A value of JSON takes some hundred bytes, two of a line; and the reader has a buffer.
            memory: |length| 400 * length + 64 * 1024,
            time: |length| 3 * Bounds::linear_time(length),
        },
    };
    target.run(|input: &[u8], probe: &mut Probe| {
        let written = file.set_len(0).and_then(|()| file.rewind());
        let written = written
            .and_then(|()| file.write_all(input))
            .and_then(|()| file.rewind());
        let lines = written.and_then(|()| file.try_clone());
        let lines = lines.map_err(|error| format!("writing: {error}"))?;
        let shared = Shared {
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        };
        let asked = Arc::new(Mutex::new(0_usize));
        let counter = Arc::clone(&asked);
        let policy: Policy = Box::new(move |_| {
            *counter.lock().expect("a count") += 1;
            Answer::Run
        });
        let (policy, nobody) = (Mutex::new(Some(policy)), Weak::new());
        let transcript = Transcript::new(|_| {});
        probe.measure(|| read_messages(lines, &shared, &nobody, &policy, &transcript));
        let inbox = shared.inbox.into_inner().map_err(|_| "the inbox is poisoned")?;
        let Inbox {
            answers,
            decisions,
            approvals,
            withdrawn,
            broken,
            ended,
        } = inbox;
        // Either all lines were read, or one broke the protocol and the reading stopped there.
        if ended == broken.is_some() {
            return Err(format!("ended: {ended}, broken: {broken:?}"));
        }
        let lines = input.split(|byte| *byte == b'\n').count();
        let taken = answers.len()
            + decisions.len()
            + approvals.len()
            + withdrawn.len()
            + *asked.lock().expect("a count");
        if taken > lines {
            return Err(format!("{taken} messages in {lines} lines"));
        }
        // What was read to its end is JSON to any reader, but for bytes that no string has a place for.
        if ended && !input.contains(&b'\\') {
            let mut lines = input.split(|byte| *byte == b'\n').rev();
            // After the last line break there may be nothing.
            let last = lines.next().filter(|line| !line.is_empty());
            let is_json = |line: &&[u8]| serde_json::from_slice::<IgnoredAny>(line).is_ok();
            if let Some(line) = last.into_iter().chain(lines).find(|line| !is_json(line)) {
                return Err(format!("{:?} was taken", String::from_utf8_lossy(line)));
            }
        }
        Ok(ended && taken > 0)
    });
}
