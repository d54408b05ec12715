//! The launcher of sandboxes as a program of its own: it has less to load than the whole server, and every shell waits for that.

use std::process::ExitCode;

fn main() -> ExitCode {
    shell_escalation::launch_if_asked();
    eprintln!(
        "shell-escalation-sandbox: this program is executed by shell-escalation, to confine what it starts"
    );
    ExitCode::from(2)
}
