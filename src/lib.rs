//! Reference server of shell escalation.
