//! What prepares a terminal's process: the wrapped backend, or the direct one.

use serde_json::Value;

use crate::faults::{Fault, broken};

/// What a terminal is opened with.
pub enum Backend {
    /// Executes everything as it is.
    Direct,
    /// Starts a session for calls of its shell.
    Wrapped {
        /// The path of the shell.
        shell: String,
        /// The path of the wrapper.
        wrapper: String,
    },
}

impl Backend {
    /// From the params of `terminal/open`.
    pub fn read(params: &Value) -> Backend {
        match (params["shell"].as_str(), params["wrapper"].as_str()) {
            (Some(shell), Some(wrapper)) => Backend::Wrapped {
                shell: shell.to_owned(),
                wrapper: wrapper.to_owned(),
            },
            _ => Backend::Direct,
        }
    }

    /// The wrapper, where these arguments are a call of the shell with a script.
    pub fn wrapper_for(&self, arguments: &[String]) -> Option<&str> {
        let Backend::Wrapped { shell, wrapper } = self else {
            return None;
        };
        is_call(shell, arguments).then_some(wrapper)
    }
}

/// `SHELL -c SCRIPT` or `SHELL -lc SCRIPT`, behind any arguments of a launcher.
fn is_call(shell: &str, arguments: &[String]) -> bool {
    let [launcher @ .., program, option, _script] = arguments else {
        return false;
    };
    if broken(Fault::LaunchersNotSeenThrough) && !launcher.is_empty() {
        return false;
    }
    let base = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let is_shell = program == shell
        || broken(Fault::ShellKnownByName) && base(program) == base(shell)
        || broken(Fault::EveryProgramWrapped);
    let is_option = option == "-c" && !broken(Fault::LoginShellsOnly)
        || option == "-lc"
        || broken(Fault::OptionsByLetter) && option.starts_with('-') && option.contains('c');
    is_shell && is_option
}
