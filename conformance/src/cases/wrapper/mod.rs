//! Cases that judge a wrapper: the suite is shell and server.

pub mod closed_stdio;
pub mod deny;
pub mod deny_message;
pub mod escalate;
pub mod fail_closed;
pub mod handshake;
pub mod killed;
pub mod limits;
pub mod request;
pub mod run;
pub mod sandbox;
pub mod usage;
pub mod waits;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    usage::CASES,
    request::CASES,
    run::command::CASES,
    run::signals::CASES,
    run::fds::CASES,
    run::attributes::CASES,
    run::kernel_state::CASES,
    run::missing::CASES,
    run::binary::CASES,
    run::script_bare::CASES,
    deny::CASES,
    deny_message::CASES,
    escalate::fds::CASES,
    escalate::status::CASES,
    escalate::remote::CASES,
    escalate::group::CASES,
    escalate::inherited::CASES,
    escalate::umask::CASES,
    escalate::more_fds::CASES,
    escalate::eof::CASES,
    escalate::interrupted::CASES,
    escalate::killed::CASES,
    escalate::signal::CASES,
    escalate::signal_bursts::CASES,
    escalate::stopped::CASES,
    escalate::continued::CASES,
    closed_stdio::CASES,
    waits::CASES,
    killed::CASES,
    handshake::CASES,
    fail_closed::CASES,
    sandbox::CASES,
    limits::CASES,
];
