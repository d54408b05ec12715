//! The specification as data: requirements, and the faults that prove their cases.

pub mod faults;
pub mod requirements;
