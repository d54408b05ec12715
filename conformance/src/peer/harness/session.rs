//! Sessions of a shim: overlay, and the shell that is a probe.

use crate::peer::fake_wrapper::EscalationSocket;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::verdict::{CaseError, violation};

/// The variables that a session gives to its shell.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Name and value.
    pub variables: Vec<(String, String)>,
}

impl Overlay {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The number of the escalation socket.
    ///
    /// # Errors
    /// A violation of `session.overlay`.
    pub fn socket_number(&self) -> Result<i32, CaseError> {
        let value = self.get("CODEX_ESCALATE_SOCKET").unwrap_or_default();
        value.parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
            violation(
                "CODEX_ESCALATE_SOCKET is a decimal descriptor number",
                format_args!("{value:?}"),
            )
        })
    }
}

/// A session whose shell is a probe.
pub struct ProbeSession {
    /// Its id.
    pub name: String,
    /// Its overlay.
    pub overlay: Overlay,
    /// The client's end of the escalation socket, in the hands of the suite.
    pub socket: EscalationSocket,
    /// The spawned shell.
    pub probe: Probe,
    /// The program that the shell is, which listens for the probe as long as the session is there.
    pub _shell: ConnectedProgram,
}
