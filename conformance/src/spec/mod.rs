//! The specification as data: requirements, the faults that prove their cases, and which failure is the likely root of
//! others.

pub mod faults;
pub mod requirements;
pub mod roots;
pub mod version;
