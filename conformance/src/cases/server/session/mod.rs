//! Sessions: overlay, escalation socket, and that they are independent of each other.

pub mod independent;
pub mod lazy;
pub mod overlay;
pub mod socket;
pub mod socket_no_race;
