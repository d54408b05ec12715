//! The peers: what the suite plays when it judges another role.
//!
//! [`launch`] starts processes with exact descriptors and signal state, [`wire`] speaks frames, [`decider`]
//! plays shell and server against a wrapper, [`shim`] drives a server by the harness protocol, [`requester`]
//! plays the wrapper against a server, [`program`] makes the programs that report what they were started
//! with, [`recorder`] is the recording wrapper for
//! shells, [`dialect`] their language, and [`terminal`] a terminal for interactive ones.

pub mod bytes;
pub mod decider;
pub mod dialect;
pub mod filter;
pub mod launch;
pub mod process;
pub mod program;
pub mod recorder;
pub mod requester;
pub mod shim;
pub mod terminal;
pub mod tiny;
pub mod wire;
