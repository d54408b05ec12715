//! The shell under test in a terminal of a host, into which commands are typed.

use serde_json::Value;

use super::EndToEnd;
use crate::case::context::Context;
use crate::case::expect;
use crate::peer::harness::Opening;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::stage::terminal::On;
use crate::verdict::{CaseError, Verdict, violation};

/// Executes what is typed, line by line.
const TYPED: &str = "echo shell $$; while read -r line; do eval \"$line\"; done";

/// A terminal in which the shell under test executes what is typed.
pub struct Typed {
    /// The terminal.
    pub terminal: Value,
    session: String,
    /// The shell's process id.
    pub shell: i32,
}

impl Typed {
    /// Opens it.
    pub fn open(all: &mut EndToEnd<'_>, context: &Context, on: On) -> Result<Typed, CaseError> {
        let shell = context.shell()?.display().to_string();
        let wrapper = context.wrapper()?.display().to_string();
        let directory = context.work_directory().display().to_string();
        let session = format!("typed-{}", context.next_number());
        let opening = Opening::new(&session, &[&shell, "-c", TYPED], &directory)
            .environment(all.base_environment())
            .wrapped_by(&shell, &wrapper);
        let opened = all.shim.open_terminal(&on.apply(opening))?;
        expect::equal("wrapped", true, opened.wrapped)?;
        let said = all.shim.read_terminal_until(&opened.id, "\n")?;
        let said = String::from_utf8_lossy(&said);
        let shell = said
            .trim()
            .strip_prefix("shell ")
            .and_then(|pid| pid.parse().ok());
        Ok(Typed {
            terminal: opened.id,
            session,
            shell: shell
                .ok_or_else(|| violation("the shell tells its process id", format_args!("{said:?}")))?,
        })
    }

    /// Its terminal's id and session.
    pub fn names(&self) -> (Value, String) {
        (self.terminal.clone(), self.session.clone())
    }

    /// Types a line.
    pub fn type_line(&self, all: &mut EndToEnd<'_>, line: &str) -> Verdict {
        all.shim
            .write_terminal(&self.terminal, format!("{line}\n").as_bytes())
    }

    /// Types the command, which is executed, and gives it.
    pub fn start(
        &self,
        all: &mut EndToEnd<'_>,
        program: &ConnectedProgram,
        line: &str,
    ) -> Result<Probe, CaseError> {
        self.type_line(all, line)?;
        program.accept("the command that was typed")
    }
}
