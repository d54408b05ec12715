//! What a program inherits of the process that executes it, and the server can't see: the extension *inherited*.

use rustix::process::{Resource, getpriority_process, getrlimit};

use crate::signals::{LAST, Set};
use crate::sys;

/// The resources of getrlimit(2), by their names in the descriptor message.
const RESOURCES: [(&str, Resource); 16] = [
    ("cpu", Resource::Cpu),
    ("fsize", Resource::Fsize),
    ("data", Resource::Data),
    ("stack", Resource::Stack),
    ("core", Resource::Core),
    ("rss", Resource::Rss),
    ("nproc", Resource::Nproc),
    ("nofile", Resource::Nofile),
    ("memlock", Resource::Memlock),
    ("as", Resource::As),
    ("locks", Resource::Locks),
    ("sigpending", Resource::Sigpending),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
];

/// A resource's soft and hard limit; `None` is none.
pub type Limits = (Option<u64>, Option<u64>);

/// What the escalated child is to inherit.
#[derive(Debug)]
pub struct Attributes {
    /// The signals that are ignored.
    pub ignored: Set,
    /// By the names of the protocol.
    pub limits: [(&'static str, Limits); RESOURCES.len()],
    /// Unknown if the system doesn't say.
    pub nice: Option<i32>,
}

impl Attributes {
    /// What this process has.
    pub fn of_this_process() -> Self {
        let ignored = (1..=LAST).filter(|&signal| sys::is_ignored(signal));
        Self {
            ignored: ignored.fold(Set::default(), |set, signal| set.with(Set::only(signal))),
            limits: RESOURCES.map(|(name, resource)| {
                let limit = getrlimit(resource);
                (name, (limit.current, limit.maximum))
            }),
            nice: getpriority_process(None).ok(),
        }
    }
}
