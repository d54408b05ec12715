//! How a wrapper fails closed.

use crate::faults::{Fault, broken};
use crate::process::{exit, has_standard_error, shell_command, write_error};

/// Writes the cause in one line and exits without executing anything.
pub fn fail_closed(cause: &str) -> ! {
    if broken(Fault::RefusalRunsAnyway) {
        shell_command("exit 0");
    }
    if broken(Fault::TraceUnderBacktrace) && std::env::var_os("RUST_BACKTRACE").is_some() {
        write_error(b"   0: std::panicking::begin\n   1: main\n");
    }
    if broken(Fault::PanicsWithoutStandardError) && !has_standard_error() {
        exit(101);
    }
    if !broken(Fault::RefusalWithoutMessage) {
        write_error(format!("faulty-wrapper: {cause}\n").as_bytes());
    }
    if broken(Fault::RefusalInTwoLines) {
        write_error(b"nothing was executed\n");
    }
    exit(match () {
        () if broken(Fault::RefusalWithStatus0) => 0,
        () if broken(Fault::RefusalWithStatus1) => 1,
        () => 126,
    })
}
