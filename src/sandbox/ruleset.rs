//! Landlock: which files, TCP ports, signals and abstract sockets.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};

use super::failure::Failure;
use super::gap::{self, Gap};
use super::namespace::{Namespace, open_without_links};
use super::plan::Plan;

/// The newest version whose restrictions are meant here; an older kernel holds fewer.
const KNOWN: ABI = ABI::V9;

/// What every process may write to, wherever it is.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// What can be read under every profile, beside the devices.
const ALWAYS_READ: &[&str] = &["/proc"];

/// Confines this process and all that it will start.
pub(super) fn restrict(plan: &Plan, namespace: &Namespace, gaps: &mut Vec<Gap>) -> Result<(), Failure> {
    let version = version();
    if version < 1 {
        return Err(Failure(
            "this kernel has no Landlock (Linux 5.13, and `landlock` among the LSMs that it starts with), so files \
             can't be confined; --sandbox full-access runs without a sandbox"
                .to_owned(),
        ));
    }
    gaps.extend(gap::of_landlock(version));
    let failed = |error: landlock::RulesetError| Failure::new("Landlock", error);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .map_err(failed)?
        .scope(Scope::from_all(KNOWN))
        .map_err(failed)?;
    if !plan.network {
        ruleset = ruleset
            .handle_access(AccessNet::from_all(KNOWN))
            .map_err(failed)?;
    }
    let mut ruleset = ruleset.create().map_err(failed)?;
    let read = AccessFs::from_read(KNOWN);
    // Connecting to what listens outside is not writing to a file.
    let write = AccessFs::from_all(KNOWN) & !BitFlags::from(AccessFs::ResolveUnix);
    for path in &plan.read {
        ruleset = allow(ruleset, path, read)?;
    }
    for path in &plan.write {
        ruleset = allow(ruleset, path, write)?;
    }
    let fixed = ALWAYS_READ.iter().map(|path| (path, read));
    let device = write & !(AccessFs::MakeBlock | AccessFs::MakeChar);
    let mut fixed: Vec<_> = fixed.chain(DEVICES.iter().map(|path| (path, device))).collect();
    if namespace.shared_memory {
        fixed.push((&"/dev/shm", write));
    }
    for (path, access) in fixed {
        // The host's own, symbolic links included (/dev/ptmx is one); a machine may lack any of them.
        if let Ok(path) = std::fs::canonicalize(path) {
            ruleset = allow(ruleset, &path.into(), access)?;
        }
    }
    ruleset.restrict_self().map_err(failed)?;
    Ok(())
}

fn allow(
    ruleset: RulesetCreated,
    path: &OsString,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Failure> {
    let failed = |why: String| Failure::new(path.display(), why);
    let place = open_without_links(OsStr::new(path)).map_err(|error| failed(error.to_string()))?;
    let status = nix::sys::stat::fstat(place.as_fd()).map_err(|errno| failed(errno.desc().to_owned()))?;
    let is_folder = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let access = if is_folder {
        access
    } else {
        access & AccessFs::from_file(KNOWN)
    };
    ruleset
        .add_rule(PathBeneath::new(place, access))
        .map_err(|error| failed(error.to_string()))
}

/// The version of the kernel's Landlock; 0 or less if it has none.
fn version() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel reads nothing and returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    i32::try_from(version).unwrap_or(0)
}
