//! A sandbox for shells, and for what a decision escalates into one, by Landlock, seccomp and a mount namespace.
//!
//! It is put on by a *launcher*: this program, executed again in the place of the shell, which confines itself and then executes
//! the shell. So nothing happens between fork and exec of the server, and what is confined can't undo it: everything here is
//! inherited and final.
//!
//! In the order of a start: `executor` (puts the launcher in the shell's place), `plan` (what a profile means on this machine),
//! `launcher` (the order of the steps), `namespace` (read-only places in writable folders), `privileges` (capabilities and
//! limits), `ruleset` (Landlock), `filter` (system calls; `calls` finds them quickly). `gap` names what can't be held.

mod calls;
mod executor;
mod failure;
mod filter;
mod gap;
mod launcher;
mod namespace;
mod plan;
mod privileges;
mod ruleset;

pub use executor::SandboxedExecutor;
pub use launcher::launch_if_asked;
