//! The peers: whom the suite stands for when it judges another role.
//!
//! [`wire`] speaks frames, [`wrapper_call`] and [`fake_server`] are shell and server for a wrapper, [`fake_wrapper`]
//! is the wrapper for a server, which [`harness`] drives through its shim, [`recording_wrapper`] the wrapper for a shell,
//! [`dialect`] the language of that shell, and [`terminal`] its terminal. [`program`] makes the programs that report
//! what they were started with.

pub mod bytes;
pub mod counterpart;
pub mod dialect;
pub mod fake_server;
pub mod fake_wrapper;
pub mod finished;
pub mod harness;
pub mod limits;
pub mod program;
pub mod recording_wrapper;
pub mod signals;
pub mod terminal;
pub mod wire;
pub mod wrapper_call;
