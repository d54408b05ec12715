//! What cases begin with: an implementation at work, and the peers around it. Stages know no case.

pub mod approval;
pub mod descriptors;
pub mod e2e;
pub mod ending;
pub mod holdings;
pub mod kernel_state;
pub mod one_shot;
pub mod overlay;
pub mod processes;
pub mod server;
pub mod shell;
pub mod siege;
pub mod signals;
pub mod sockets;
pub mod terminal;
pub mod traced;
pub mod tree;
pub mod wrapper;
