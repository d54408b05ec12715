//! Cases that judge a server through its shim: the suite plays the shell and the wrapper.

pub mod approval;
pub mod concurrent;
pub mod continued;
pub mod decision;
pub mod disconnect;
pub mod env_loader;
pub mod escalate;
pub mod exec;
pub mod fds_invalid;
pub mod handshake;
pub mod hostile;
pub mod leak;
pub mod own_state;
pub mod policy;
pub mod session;
pub mod signal_frame;
pub mod stopped;
pub mod teardown;
pub mod terminal;
pub mod tools;

use crate::case::Table;

/// The tables of this area.
pub const TABLES: &[Table] = &[
    session::overlay::CASES,
    session::lazy::CASES,
    session::socket::CASES,
    session::socket_no_race::CASES,
    session::independent::CASES,
    policy::input::CASES,
    policy::error::CASES,
    policy::same_file::CASES,
    decision::CASES,
    handshake::CASES,
    concurrent::CASES,
    env_loader::CASES,
    signal_frame::CASES,
    stopped::CASES,
    continued::CASES,
    disconnect::CASES,
    fds_invalid::CASES,
    own_state::CASES,
    escalate::binary::CASES,
    escalate::child::CASES,
    escalate::env::CASES,
    escalate::fd_map::CASES,
    escalate::fds_only::CASES,
    escalate::eof::CASES,
    escalate::signals::CASES,
    escalate::killed::CASES,
    escalate::name::CASES,
    escalate::spawn_error::CASES,
    escalate::group::CASES,
    escalate::inherited::CASES,
    escalate::umask::CASES,
    exec::shell::CASES,
    exec::teardown::CASES,
    exec::timeout::CASES,
    teardown::close_worker::CASES,
    teardown::close_child::CASES,
    teardown::close_listener::CASES,
    teardown::cancel::CASES,
    teardown::tree::endings::CASES,
    teardown::tree::foreign_proc::CASES,
    teardown::tree::supervisor::CASES,
    teardown::tree::model::CASES,
    teardown::server_killed::CASES,
    teardown::shutdown::CASES,
    hostile::toctou::CASES,
    hostile::handshakes::CASES,
    hostile::streams::CASES,
    hostile::shares::CASES,
    hostile::siege::CASES,
    hostile::stuck::CASES,
    leak::rounds::CASES,
    leak::stress::CASES,
    terminal::open::CASES,
    terminal::wrapped::CASES,
    terminal::overlay::CASES,
    terminal::socket::CASES,
    terminal::input::CASES,
    terminal::output::CASES,
    terminal::read::CASES,
    terminal::end::CASES,
    terminal::tty::CASES,
    terminal::resize::CASES,
    terminal::signal::CASES,
    terminal::decision::CASES,
    terminal::background::CASES,
    terminal::close::CASES,
    terminal::teardown::CASES,
    terminal::host_killed::CASES,
    terminal::list::CASES,
    terminal::prune::CASES,
    terminal::leak::CASES,
    approval::ask::CASES,
    approval::answer::CASES,
    approval::withdrawn::CASES,
    approval::abort::CASES,
    approval::clock::CASES,
    tools::select::CASES,
];
