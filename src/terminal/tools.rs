//! Which tools a model is shown, and which backend they use.

use super::backend::Backend;

/// The switches that select a model's tools for executing commands.
///
/// | shell tool | unified exec | wrapped shell | composition | tools | backend |
/// |---|---|---|---|---|---|
/// | off | any | any | any | none | |
/// | on | off | off | any | `shell_command` | direct |
/// | on | off | on | any | `shell_command` | wrapped |
/// | on | on | off | any | `exec_command`, `write_stdin` | direct |
/// | on | on | on | off | `shell_command` | wrapped |
/// | on | on | on | on | `exec_command`, `write_stdin` | wrapped |
///
/// So the composition switch alone enables nothing. Where the table says wrapped, it is direct if the commands are executed
/// elsewhere, or no patched shell or no wrapper is configured (see [`Environment`]); the tools are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolsConfig {
    /// Whether there is a tool for commands at all.
    pub shell_tool: bool,
    /// Long-lived terminals (`exec_command`) in place of one-shot commands (`shell_command`).
    pub unified_exec: bool,
    /// Commands in the patched shell, which are decided one by one.
    pub wrapped_shell: bool,
    /// The composition of the last two: terminals with the patched shell.
    pub unified_exec_wrapped_shell: bool,
}

/// Where commands are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// On this machine, and both a patched shell and a wrapper are configured.
    Configured,
    /// On this machine, without a patched shell or without a wrapper.
    Unconfigured,
    /// On another machine.
    Remote,
}

/// The tools that a model is shown, and how they execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Their names; none if commands are switched off.
    pub tools: &'static [&'static str],
    /// The backend of all of them; `None` if there are none.
    pub backend: Option<Backend>,
}

impl ToolsConfig {
    /// Selects the tools for an environment.
    #[must_use]
    pub fn select(self, environment: Environment) -> Selection {
        if !self.shell_tool {
            return Selection {
                tools: &[],
                backend: None,
            };
        }
        let terminals = self.unified_exec && (!self.wrapped_shell || self.unified_exec_wrapped_shell);
        let wrapped = self.wrapped_shell && environment == Environment::Configured;
        Selection {
            tools: if terminals {
                &["exec_command", "write_stdin"]
            } else {
                &["shell_command"]
            },
            backend: Some(if wrapped {
                Backend::Wrapped
            } else {
                Backend::Direct
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the documentation, row by row: the four switches (`None` is any), tools and backend.
    fn table() -> Vec<([Option<bool>; 4], Selection)> {
        let rows = include_str!("tools.rs").lines().filter_map(|line| {
            let cells = line.strip_prefix("/// |")?.strip_suffix('|')?;
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            let switch = |cell: &str| match cell {
                "on" => Some(Some(true)),
                "off" => Some(Some(false)),
                "any" => Some(None),
                _ => None,
            };
            let switches: Vec<Option<bool>> = cells[..4].iter().map_while(|cell| switch(cell)).collect();
            let tools: &[&str] = match cells[4] {
                "none" => &[],
                "`shell_command`" => &["shell_command"],
                "`exec_command`, `write_stdin`" => &["exec_command", "write_stdin"],
                _ => return None,
            };
            let backend = match cells[5] {
                "direct" => Some(Backend::Direct),
                "wrapped" => Some(Backend::Wrapped),
                _ => None,
            };
            Some((switches.try_into().ok()?, Selection { tools, backend }))
        });
        rows.collect()
    }

    #[test]
    fn every_combination_of_switches_is_selected_as_the_table_says() {
        let table = table();
        assert_eq!(table.len(), 6);
        for bits in 0..16_u8 {
            let switches = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let rows: Vec<_> = table
                .iter()
                .filter(|(row, _)| {
                    row.iter()
                        .zip(switches)
                        .all(|(cell, on)| cell.is_none_or(|cell| cell == on))
                })
                .collect();
            let [(_, expected)] = rows[..] else {
                panic!("{switches:?} has {} rows", rows.len());
            };
            let [
                shell_tool,
                unified_exec,
                wrapped_shell,
                unified_exec_wrapped_shell,
            ] = switches;
            let config = ToolsConfig {
                shell_tool,
                unified_exec,
                wrapped_shell,
                unified_exec_wrapped_shell,
            };
            assert_eq!(config.select(Environment::Configured), *expected, "{config:?}");
            for elsewhere in [Environment::Unconfigured, Environment::Remote] {
                let direct = expected.backend.map(|_| Backend::Direct);
                let selected = config.select(elsewhere);
                assert_eq!(
                    (selected.tools, selected.backend),
                    (expected.tools, direct),
                    "{config:?}"
                );
            }
        }
    }
}
