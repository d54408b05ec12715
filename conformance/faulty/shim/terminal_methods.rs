//! The methods `terminal/…`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::ends::Size;
use crate::events::lock;
use crate::faults::{Fault, broken};
use crate::parcel::Parcel;
use crate::rpc::{Outcome, failed, invalid, text};
use crate::server::Server;
use crate::session::Session;
use crate::spawn;
use crate::terminal::{Started, Terminal};

impl Server {
    /// The methods `terminal/…` but those that wait.
    pub fn call_terminal(&self, method: &str, params: &Value) -> Outcome {
        let terminals = &self.terminals;
        match method {
            "open" => self.open_terminal(params),
            "resize" => {
                let terminal = self.used_terminal(params)?;
                terminal.resize(size(params)?).map_err(failed)?;
                Ok(json!({}))
            }
            "signal" => {
                let terminal = self.used_terminal(params)?;
                let number = params["signal"]
                    .as_i64()
                    .filter(|number| (1..=64).contains(number));
                let number = number.or_else(|| broken(Fault::TerminalNonsenseSent).then_some(0));
                let number = number.ok_or_else(|| invalid("signal is not a signal's number"))?;
                terminal.signal(number as i32).map_err(failed)?;
                Ok(json!({}))
            }
            "close" => {
                let terminal = self.used_terminal(params)?;
                if !broken(Fault::ClosedIdsStayKnown) {
                    lock(&terminals.open).retain(|other| other.id != terminal.id);
                }
                terminal.close();
                Ok(json!({}))
            }
            "list" => {
                let open = lock(&terminals.open);
                let ids: Vec<&str> = open
                    .iter()
                    .filter(|terminal| !(broken(Fault::EndedNotListed) && terminal.has_ended()))
                    .map(|terminal| &*terminal.id)
                    .collect();
                Ok(json!({ "terminals": ids }))
            }
            method => Err((-32601, format!("no method terminal/{method}"))),
        }
    }

    /// The terminal that is meant, which is now the one used last.
    pub fn used_terminal(&self, params: &Value) -> Result<Arc<Terminal>, (i64, String)> {
        // An id that is no text is none of ours.
        let id = params["terminal"].as_str().unwrap_or_default();
        let terminal = self.terminals.used(id);
        terminal.ok_or_else(|| invalid(format_args!("no terminal {id}")))
    }

    fn open_terminal(&self, params: &Value) -> Outcome {
        let name = text(params, "session")?;
        let command = spawn::Command::read(params).map_err(invalid)?;
        let size = if params["tty"].is_null() {
            None
        } else {
            Some(size(&params["tty"])?)
        };
        let backend = Backend::read(params);
        let wrapper = backend.wrapper_for(command.arguments());
        let session = match wrapper {
            Some(wrapper) => Some(self.open(name, wrapper, false).map_err(failed)?),
            None => None,
        };
        let started = started(&command, session.as_deref(), size).map_err(failed)?;
        self.terminals.prune();
        let id = format!("terminal-{}", self.terminals.next.fetch_add(1, Ordering::SeqCst));
        let terminal = Terminal::start(&self.nursery, id.clone(), name, session, started).map_err(failed)?;
        lock(&self.terminals.open).push(terminal);
        let wrapped = wrapper.is_some() || broken(Fault::AlwaysSaidToBeWrapped);
        Ok(json!({"terminal": id, "wrapped": wrapped}))
    }
}

/// `terminal/write`, which may wait for the process to read.
pub fn write(terminal: &Terminal, params: &Value) -> Outcome {
    let bytes = BASE64_STANDARD.decode(text(params, "data")?).map_err(invalid)?;
    terminal.write(&bytes).map_err(failed)?;
    Ok(json!({}))
}

/// `terminal/read`, which may wait for output.
pub fn read(terminal: &Terminal, params: &Value) -> Outcome {
    let wait = params["wait_ms"].as_u64().ok_or_else(|| invalid("no wait_ms"))?;
    let limit = params["limit"]
        .as_u64()
        .filter(|_| !broken(Fault::ReadLimitIgnored))
        .map_or(usize::MAX, |limit| limit as usize);
    terminal.read(Duration::from_millis(wait), limit).map_err(failed)
}

fn size(params: &Value) -> Result<Size, (i64, String)> {
    let number = |name: &str| {
        params[name]
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
    };
    match (number("rows"), number("columns")) {
        (Some(rows), Some(columns)) => Ok(Size { rows, columns }),
        _ => Err(invalid("no rows and columns")),
    }
}

/// The process of a terminal: of a wrapped one, with the overlay and the client's end of the session's socket.
fn started(command: &spawn::Command, session: Option<&Session>, size: Option<Size>) -> io::Result<Started> {
    let mut numbers = vec![0, 1, 2];
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut variables = command.variables().to_vec();
    if broken(Fault::TerminalVariablesAdded) {
        variables.push(("TERM".to_owned(), "dumb".to_owned()));
    }
    if let Some(session) = session {
        let client = session.take_client().ok_or(io::ErrorKind::NotFound)?;
        if !broken(Fault::TerminalWithoutOverlay) {
            spawn::merge(&mut variables, session.overlay());
        }
        let on_pipes = size.is_none();
        let left_out =
            broken(Fault::TerminalWithoutSocket) || broken(Fault::SocketOnPseudoTerminalsOnly) && on_pipes;
        if !left_out {
            numbers.push(client.as_raw_fd());
            descriptors.push(client);
        }
    }
    let mut arguments: Vec<Vec<u8>> = command
        .arguments()
        .iter()
        .map(|word| word.clone().into_bytes())
        .collect();
    if broken(Fault::LauncherLeftOut) && session.is_some() {
        arguments.drain(..arguments.len() - 3);
    }
    if broken(Fault::ScriptTrimmed)
        && let Some(last) = arguments.last_mut()
    {
        *last = last.trim_ascii().to_vec();
    }
    let file = arguments[0].clone();
    let directory = if broken(Fault::TerminalInServerDirectory) {
        "."
    } else {
        command.directory()
    };
    let parcel = Parcel {
        shown: file.clone(),
        file,
        directory: directory.as_bytes().to_vec(),
        arguments,
        environment: variables
            .iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect(),
        numbers,
        ..Parcel::default()
    };
    Ok(Started {
        parcel,
        descriptors,
        size,
    })
}
