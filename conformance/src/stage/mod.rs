//! What several cases share, by the role that they judge: the stage is set here, and the cases play on it.

pub mod e2e;
pub mod shell;
pub mod wrapper;
