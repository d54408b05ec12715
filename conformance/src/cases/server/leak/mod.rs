//! After thousands of requests the server holds what it held before.

pub mod rounds;
pub mod stress;
