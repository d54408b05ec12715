//! Conformance suite of shell escalation.
