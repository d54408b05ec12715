//! Tools that a model is offered.

pub mod select;
