//! Terminals that a host keeps open.

pub mod background;
pub mod close;
pub mod decision;
pub mod end;
pub mod host_killed;
pub mod input;
pub mod leak;
pub mod list;
pub mod open;
pub mod output;
pub mod overlay;
pub mod prune;
pub mod read;
pub mod resize;
pub mod signal;
pub mod socket;
pub mod teardown;
pub mod tty;
pub mod wrapped;
