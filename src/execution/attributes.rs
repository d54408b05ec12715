//! What a child inherits of its wrapper, as far as the host lets it: limits and niceness, and which signals it ignores.

use std::io;

use nix::errno::Errno;

/// What a child is to have that differs from the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(super) limits: Vec<Limit>,
    /// Bit N-1 for signal N.
    pub(super) ignored: u64,
    /// Never below the host's.
    pub(super) nice: Option<i32>,
}

/// A limit of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) resource: u32,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

impl Attributes {
    /// Soft and hard limit of open files, if they differ from the host's; nothing else.
    pub(super) fn with_open_files(limits: Option<(u64, u64)>) -> Self {
        Self {
            limits: limits.map(Limit::of_open_files).into_iter().collect(),
            ..Self::default()
        }
    }

    /// What the wrapper asks for, by the numbers of resources, but no limit above what the child would have without it.
    ///
    /// # Errors
    /// What getrlimit(2) says.
    pub(crate) fn new(
        wanted: impl Iterator<Item = (u32, u64, u64)>,
        ignored: u64,
        nice: Option<i32>,
        open_files: Option<(u64, u64)>,
    ) -> io::Result<Self> {
        let mut attributes = Self::with_open_files(open_files);
        attributes.ignored = ignored;
        attributes.nice = nice;
        for (resource, soft, hard) in wanted {
            let own = of_host(resource)?;
            let known = attributes
                .limits
                .iter_mut()
                .find(|limit| limit.resource == resource);
            let most = known.as_ref().map_or(own.hard, |limit| limit.hard);
            let hard = hard.min(most);
            let limit = Limit {
                resource,
                soft: soft.min(hard),
                hard,
            };
            match known {
                Some(known) => *known = limit,
                None if limit != own => attributes.limits.push(limit),
                None => {}
            }
        }
        Ok(attributes)
    }
}

impl Limit {
    fn of_open_files((soft, hard): (u64, u64)) -> Self {
        let resource = libc::RLIMIT_NOFILE;
        Self { resource, soft, hard }
    }
}

/// The host's limit, which the guardian has, too.
fn of_host(resource: u32) -> Result<Limit, Errno> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one limit.
    Errno::result(unsafe { libc::getrlimit64(resource, &raw mut limit) })?;
    Ok(Limit {
        resource,
        soft: limit.rlim_cur,
        hard: limit.rlim_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_above_what_the_host_allows() {
        let core = of_host(libc::RLIMIT_CORE).unwrap();
        let files = of_host(libc::RLIMIT_NOFILE).unwrap();
        let unlimited = libc::RLIM_INFINITY;
        let wanted = [
            (libc::RLIMIT_CORE, core.soft, core.hard),
            (libc::RLIMIT_NOFILE, unlimited, unlimited),
            (libc::RLIMIT_CPU, 5, 4),
        ];
        let attributes = Attributes::new(wanted.into_iter(), 0, None, None).unwrap();
        let mut expected = Vec::new();
        if files.soft != files.hard {
            expected.push(Limit {
                soft: files.hard,
                ..files
            });
        }
        expected.push(Limit {
            resource: libc::RLIMIT_CPU,
            soft: 4,
            hard: 4,
        });
        assert_eq!(attributes.limits, expected);

        let attributes = Attributes::new(wanted.into_iter(), 0, None, Some((10, 20))).unwrap();
        assert_eq!(attributes.limits[0], Limit::of_open_files((20, 20)));
    }
}
