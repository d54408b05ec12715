//! An interactive shell on a terminal.

use crate::case::context::Context;
use crate::peer::program::Program;
use crate::peer::recording_wrapper::RecordedShell;
use crate::peer::terminal::{PROMPT, Terminal, VARIABLES};
use crate::probe::report::Report;
use crate::stage::shell::obedient;
use crate::verdict::{CaseError, Verdict};

/// Leads a dialogue with an interactive shell and gives the screen and what `tool` (under the stock shell) or
/// the wrapper was started with.
pub fn led(
    context: &Context,
    stock: bool,
    dialogue: impl Fn(&mut Terminal) -> Verdict,
) -> Result<(String, Vec<Report>), CaseError> {
    let program: Program = obedient(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    for (name, value) in VARIABLES {
        shell.set_variable(name, Some(value.as_ref()));
    }
    let mut terminal = Terminal::open(context)?;
    let options = shell.dialect.interactive_options();
    let mut launch = if stock {
        shell.launch_stock(options)?
    } else {
        shell.launch(options)?
    };
    for number in 0..=2 {
        launch = launch.descriptor(number, terminal.other_side()?);
    }
    let mut running = shell.start(launch.on_terminal(0))?;
    terminal.wait_for(PROMPT)?;
    dialogue(&mut terminal)?;
    let screen = terminal.screen();
    terminal.type_text("exit 0\n")?;
    running.finish()?.expect_status(0)?;
    let reports = if stock {
        program.starts()?
    } else {
        shell.some_calls()?.into_iter().map(|call| call.report).collect()
    };
    // The next dialogue has a `tool` of its own.
    std::fs::remove_file(&program.path)?;
    Ok((screen, reports))
}
