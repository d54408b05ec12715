//! What a sandbox is to hold and can't, on this machine.

use std::ffi::OsString;
use std::fmt;

/// One thing that is not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// A file in a writable folder was to be read-only.
    Protected(OsString, String),
    /// Landlock of an earlier version than the one that brought this.
    Landlock {
        confined: &'static str,
        since: &'static str,
    },
    /// Others' processes are visible in /proc.
    Proc(String),
    /// System V's objects of other processes can be used.
    SharedMemory(String),
    /// What belongs to the user can be given other modes and times.
    Attributes(String),
    /// There is no limit on processes.
    Processes,
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protected(path, why) => {
                write!(formatter, "{} can be written to ({why})", path.display())
            }
            Self::Landlock { confined, since } => write!(formatter, "{confined} (needs Linux {since})"),
            Self::Proc(why) => write!(formatter, "processes outside can be seen in /proc ({why})"),
            Self::SharedMemory(why) => {
                write!(
                    formatter,
                    "System V shared memory of processes outside can be used ({why})"
                )
            }
            Self::Attributes(why) => {
                write!(
                    formatter,
                    "owners, modes and times of files outside can be changed ({why})"
                )
            }
            Self::Processes => {
                formatter.write_str("no limit on processes (needs user namespaces for ordinary users)")
            }
        }
    }
}

/// What Landlock of version `abi` doesn't confine.
pub(super) fn of_landlock(abi: i32) -> impl Iterator<Item = Gap> {
    const BROUGHT: &[(i32, &str, &str)] = &[
        (3, "files that can only be read can be truncated", "6.2"),
        (5, "devices can be controlled", "6.10"),
        (6, "processes outside can be signalled", "6.12"),
        // By the session's socket: a filter of calls sees neither where sendmsg(2) sends to, nor where connect(2) leads.
        (6, "datagrams can be sent to abstract sockets outside", "6.12"),
    ];
    BROUGHT
        .iter()
        .filter(move |&&(version, ..)| abi < version)
        .map(|&(_, confined, since)| Gap::Landlock { confined, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_landlock_leaves_less() {
        let left = |abi| of_landlock(abi).map(|gap| gap.to_string()).collect::<Vec<_>>();
        assert_eq!(left(6), [""; 0]);
        assert_eq!(
            left(5),
            [
                "processes outside can be signalled (needs Linux 6.12)",
                "datagrams can be sent to abstract sockets outside (needs Linux 6.12)"
            ]
        );
        assert_eq!(left(3).len(), 3);
        assert_eq!(left(1).len(), 4);
        assert!(left(2)[0].contains("truncated"));
    }
}
