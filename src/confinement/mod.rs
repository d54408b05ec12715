//! What a sandbox allows, and how an escalated command is executed: data that policies, executors and the sandbox share.

mod profile;

pub use profile::Profile;

/// How the server executes an escalated command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// With all that the server itself may do.
    #[default]
    Unsandboxed,
    /// In a sandbox like the shell's: for what needs no more than the server's supervision.
    SameSandbox,
    /// In the sandbox profile of this name, whatever the shell's allows.
    Profile(String),
}
