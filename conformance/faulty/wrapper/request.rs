//! The wrapper's call, and the request that it sends for it.

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::faults::{Fault, Variant, broken, unusual};
use crate::payload::placeholder_text;
use crate::process;
use crate::refusal::fail_closed;

/// The wrapper's call.
pub struct Call {
    /// FILE.
    pub file: CString,
    /// ARGV.
    pub arguments: Vec<CString>,
    /// The escalation socket.
    pub escalation: RawFd,
}

/// getcwd(3).
fn working_directory() -> Vec<u8> {
    let mut buffer = vec![0_u8; 1 << 16];
    // SAFETY: getcwd writes at most as many bytes as it is told.
    if unsafe { libc::getcwd(buffer.as_mut_ptr().cast(), buffer.len()) }.is_null() {
        fail_closed("the working directory has no name");
    }
    buffer.truncate(buffer.iter().position(|byte| *byte == 0).unwrap_or(0));
    buffer
}

/// Whether this path names the working directory.
fn same_directory(path: &Path) -> bool {
    let identity = |path: &Path| {
        std::fs::metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino()))
    };
    path.is_absolute() && identity(path).is_some() && identity(path) == identity(Path::new("."))
}

/// The request of this call.
pub fn request(call: &Call) -> Value {
    let text = |bytes: &[u8]| placeholder_text(bytes);
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut file = if broken(Fault::FileLossy) {
        lossy(call.file.to_bytes())
    } else {
        text(call.file.to_bytes())
    };
    if broken(Fault::FileMadeAbsolute) && !file.starts_with('/') {
        file = format!("/usr/bin/{file}");
    }
    let mut arguments: Vec<String> = call.arguments.iter().map(|word| text(word.to_bytes())).collect();
    match () {
        () if broken(Fault::ArgvWithoutArgv0) => drop(arguments.remove(0)),
        () if broken(Fault::Argv0ReplacedByFile) => arguments[0].clone_from(&file),
        () if broken(Fault::EmptyArgumentsDropped) => arguments.retain(|word| !word.is_empty()),
        () if broken(Fault::ArgvTrimmed) => arguments
            .iter_mut()
            .for_each(|word| *word = word.trim().to_owned()),
        () if broken(Fault::ThousandArgumentsAtMost) => arguments.truncate(1000),
        () => {}
    }
    let mut directory = working_directory();
    let mut directory = if broken(Fault::WorkdirLossy) {
        lossy(&std::mem::take(&mut directory))
    } else {
        text(&directory)
    };
    if broken(Fault::WorkdirFromPwd)
        && let Some(logical) = std::env::var_os("PWD")
    {
        directory = logical.to_string_lossy().into_owned();
    }
    if broken(Fault::WorkdirFromValidPwd)
        && let Some(logical) = std::env::var_os("PWD")
        && same_directory(Path::new(&logical))
    {
        directory = logical.to_string_lossy().into_owned();
    }
    let mut environment = Map::new();
    for entry in process::environment() {
        let Some(equals) = entry.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&entry[..equals], &entry[equals + 1..]);
        if broken(Fault::UndecodableNamesDropped) && std::str::from_utf8(name).is_err() {
            continue;
        }
        if left_out(name) || (broken(Fault::EmptyVariablesDropped) && value.is_empty()) {
            continue;
        }
        let value = if broken(Fault::ValuesEndAtEquals) {
            value.split(|byte| *byte == b'=').next().unwrap_or(value)
        } else {
            value
        };
        environment.insert(text(name), Value::from(text(value)));
    }
    let mut message = Map::new();
    if unusual(Variant::OtherOrder) {
        message.insert("env".into(), environment.clone().into());
        message.insert("workdir".into(), directory.clone().into());
    }
    message.insert("file".into(), file.into());
    message.insert("argv".into(), json!(arguments));
    message.insert("workdir".into(), directory.into());
    message.insert("env".into(), environment.into());
    if broken(Fault::MemberMisnamed) {
        let value = message.remove("workdir").unwrap_or_default();
        message.insert("cwd".into(), value);
    }
    if unusual(Variant::ExtraMember) {
        message.insert("hints".into(), json!({"x": [1, null]}));
    }
    match () {
        () if unusual(Variant::CoreOnly) => {}
        () if broken(Fault::UmaskConstant) => drop(message.insert("umask".into(), 0o022.into())),
        () if broken(Fault::UmaskAsText) => {
            drop(message.insert("umask".into(), format!("{:03o}", process::umask()).into()));
        }
        () => drop(message.insert("umask".into(), process::umask().into())),
    }
    Value::Object(message)
}

fn left_out(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    if broken(Fault::EnvironmentKeepsTheThree) {
        return false;
    }
    if broken(Fault::EnvironmentKeepsTheAlias) && name == "BASH_EXEC_WRAPPER" {
        return false;
    }
    if broken(Fault::SimilarNamesLeftOut) && name.contains("EXEC_WRAPPER") {
        return true;
    }
    matches!(
        &*name,
        "EXEC_WRAPPER" | "BASH_EXEC_WRAPPER" | "CODEX_ESCALATE_SOCKET"
    )
}
