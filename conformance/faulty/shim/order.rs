//! From a request and its descriptors to the order for a keeper.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Mutex;

use crate::events::lock;
use crate::faults::{Fault, Variant, broken, unusual};
use crate::messages::Request;
use crate::parcel::{Kind, Parcel};
use crate::program::{Found, Program};
use crate::stream::Frame;

/// Variables that make a program load code when it starts.
const LOADERS: [&[u8]; 7] = [
    b"GLIBC_TUNABLES",
    b"BASH_ENV",
    b"ENV",
    b"SHELLOPTS",
    b"BASHOPTS",
    b"PS4",
    b"ZDOTDIR",
];

/// The numbers, if each is valid and has its descriptor.
pub fn checked(numbers: &[i128], frame: &mut Frame) -> io::Result<Vec<i32>> {
    let mut limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.0;
    if unusual(Variant::NumbersUnbounded) {
        limit = u64::MAX;
    }
    let mut numbers = numbers.to_vec();
    mend(&mut numbers, frame);
    let mut numbers: Vec<i32> = numbers
        .iter()
        .map(|number| {
            i32::try_from(*number)
                .ok()
                .filter(|number| (0..limit as i128).contains(&(*number).into()))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| io::Error::other("a number that no descriptor can have"))?;
    if broken(Fault::NumbersSorted) {
        numbers.sort_unstable();
    }
    if broken(Fault::PositionForNumber) {
        numbers = (0..numbers.len() as i32).collect();
    }
    if broken(Fault::RoomForEight) && numbers.len() > 8 {
        return Err(io::Error::other("more than eight descriptors"));
    }
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if frame.truncated || numbers.len() != frame.descriptors.len() {
        return Err(io::Error::other("not as many descriptors as numbers"));
    }
    let twice = sorted.len() != numbers.len() && !broken(Fault::LastOfTwoWins);
    if twice || numbers.len() > 16 {
        return Err(io::Error::other("a number twice, or too many"));
    }
    Ok(numbers)
}

/// Makes numbers and descriptors fit that should have been refused.
fn mend(numbers: &mut Vec<i128>, frame: &mut Frame) {
    if broken(Fault::NegativeNumbersSkipped) {
        while let Some(place) = numbers.iter().position(|number| *number < 0) {
            numbers.remove(place);
            if place < frame.descriptors.len() {
                frame.descriptors.remove(place);
            }
        }
    }
    if broken(Fault::NumbersWrapped) {
        numbers
            .iter_mut()
            .for_each(|number| *number = i128::from(*number as i32));
    }
    if broken(Fault::SurplusNumbersDropped) {
        numbers.truncate(frame.descriptors.len());
    }
    if broken(Fault::SurplusDescriptorsDropped) {
        frame.descriptors.truncate(numbers.len());
    }
    if broken(Fault::SixteenOfMore) {
        numbers.truncate(16);
        frame.descriptors.truncate(16);
    }
}

/// Applies the faults of a child's descriptors.
pub fn redirect(numbers: &[i32], descriptors: &mut [OwnedFd]) -> io::Result<()> {
    let place = |number: i32| numbers.iter().position(|known| *known == number);
    if broken(Fault::StreamsMerged)
        && let (Some(output), Some(error)) = (place(1), place(2))
    {
        descriptors[error] = descriptors[output].try_clone()?;
    }
    if broken(Fault::StreamsReopened) {
        for descriptor in descriptors {
            let flags = nix::fcntl::fcntl(&*descriptor, nix::fcntl::FcntlArg::F_GETFL)?;
            let access = flags & libc::O_ACCMODE;
            let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
            let again = std::fs::File::options()
                .read(access != libc::O_WRONLY)
                .write(access != libc::O_RDONLY)
                .open(path)?;
            *descriptor = again.into();
        }
    }
    Ok(())
}

/// What the keeper is told to start.
pub fn parcel(request: &Request, program: &Program, numbers: Vec<i32>) -> Parcel {
    let mut parcel = right_parcel(request, program, numbers);
    if broken(Fault::FileAsFirstArgument) {
        parcel.arguments.splice(..1, [program.path.clone()]);
    }
    if broken(Fault::ArgumentsCut) {
        parcel.arguments.truncate(1_000);
    }
    if broken(Fault::ChildWithoutVariables) {
        parcel.environment.clear();
    }
    if broken(Fault::EmptyVariablesDropped) {
        parcel.environment.retain(|entry| !entry.ends_with(b"="));
    }
    if broken(Fault::LongVariablesCut) {
        parcel
            .environment
            .iter_mut()
            .for_each(|entry| entry.truncate(1_000));
    }
    if broken(Fault::PolicyPathExecuted) || broken(Fault::DotdotLexicalEverywhere) {
        parcel.file = program.path.clone();
    }
    if broken(Fault::LookedUpAgain) {
        parcel.identities.clear();
    }
    if broken(Fault::VariablesOfTheServer) {
        parcel
            .environment
            .extend(std::env::vars_os().filter_map(|(name, value)| {
                let known = request
                    .environment
                    .iter()
                    .any(|(given, _)| given == name.as_bytes());
                (!known).then(|| [name.as_bytes(), b"=", value.as_bytes()].concat())
            }));
    }
    if broken(Fault::PathAdded) && !request.environment.iter().any(|(name, _)| name == b"PATH") {
        parcel.environment.push(b"PATH=/usr/bin:/bin".to_vec());
    }
    if broken(Fault::EmptyEnvironmentFilled) && parcel.environment.is_empty() {
        parcel.environment.push(b"PATH=/usr/bin:/bin".to_vec());
    }
    if broken(Fault::LookalikesDropped) {
        parcel.environment.retain(|entry| {
            let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
            !LOADERS.iter().any(|loader| name.starts_with(loader))
        });
    }
    if broken(Fault::EnvironmentRemembered) {
        remember_environment(&mut parcel.environment);
    }
    if broken(Fault::UmaskRemembered) {
        static LAST: Mutex<Option<u32>> = Mutex::new(None);
        let mut last = lock(&LAST);
        *last = parcel.umask.or(*last);
        parcel.umask = *last;
    }
    if broken(Fault::UmaskDigitsRead)
        && let Some(umask) = parcel.umask
    {
        parcel.umask = u32::from_str_radix(&umask.to_string(), 8).ok();
    }
    if broken(Fault::MissingDirectoryIgnored)
        && parcel.doomed.is_some()
        && !std::path::Path::new(std::ffi::OsStr::from_bytes(&parcel.directory)).is_dir()
    {
        parcel.doomed = None;
        parcel.directory = b"/".to_vec();
    }
    if broken(Fault::MissingLookedUpAgain) && parcel.doomed.take().is_some() {
        parcel.identities.clear();
    }
    if broken(Fault::PwdOfTheWorkdir) {
        let set = |entry: &mut Vec<u8>| entry.starts_with(b"PWD=");
        let value = [b"PWD=", parcel.directory.as_slice()].concat();
        for entry in parcel
            .environment
            .iter_mut()
            .filter_map(|entry| set(entry).then_some(entry))
        {
            entry.clone_from(&value);
        }
    }
    if broken(Fault::EmptyFirstArgumentFilled)
        && let Some(first) = parcel.arguments.first_mut().filter(|first| first.is_empty())
    {
        first.clone_from(&parcel.file);
    }
    if broken(Fault::MarkedByAVariable) {
        parcel.environment.push(b"ESCALATED=1".to_vec());
    }
    if broken(Fault::ChildInServerDirectory) {
        parcel.file = program.path.clone();
        parcel.directory = b".".to_vec();
        parcel.identities.clear();
    }
    if broken(Fault::ChildByPath) && !parcel.file.contains(&b'/') {
        parcel.file = [b"/bin/", parcel.file.as_slice()].concat();
        parcel.identities.clear();
    }
    parcel
}

/// Adds the variables of earlier requests.
fn remember_environment(environment: &mut Vec<Vec<u8>>) {
    static EARLIER: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    let name = |entry: &[u8]| -> Vec<u8> {
        let length = entry.iter().position(|byte| *byte == b'=');
        entry[..length.unwrap_or(entry.len())].to_vec()
    };
    let mut earlier = lock(&EARLIER);
    earlier.retain(|known| !environment.iter().any(|entry| name(entry) == name(known)));
    environment.extend(earlier.iter().cloned());
    *earlier = environment.clone();
}

fn right_parcel(request: &Request, program: &Program, numbers: Vec<i32>) -> Parcel {
    let environment = request
        .environment
        .iter()
        .filter(|(name, _)| !loads_code(name))
        .map(|(name, value)| [name.as_slice(), b"=", value].concat())
        .collect();
    Parcel {
        kind: Kind::Command,
        file: request.file.clone(),
        shown: program.path.clone(),
        directory: match &program.found {
            Ok([directory, _]) if broken(Fault::OwnDirectoryEntered) => kernels_name(directory),
            _ => request.directory.clone(),
        },
        arguments: request.arguments.clone(),
        environment,
        numbers,
        identities: match &program.found {
            Ok(found) => found.iter().map(|(_, identity)| *identity).collect(),
            Err(_) => Vec::new(),
        },
        umask: request.umask,
        doomed: program.found.as_ref().err().map(|errno| *errno as i32),
        ..Parcel::default()
    }
}

/// The path of what is open; what is this process's own in /proc has its number there.
fn kernels_name((open, _): &Found) -> Vec<u8> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd()));
    name.unwrap_or_default().into_os_string().into_vec()
}

fn loads_code(name: &[u8]) -> bool {
    if broken(Fault::LoadersKept) {
        return false;
    }
    if broken(Fault::OnlyPreloadDropped) {
        return name == b"LD_PRELOAD";
    }
    let kept: &[(Fault, &[&[u8]])] = &[
        (Fault::AuditKept, &[b"LD_AUDIT"]),
        (Fault::TunablesKept, &[b"GLIBC_TUNABLES"]),
        (Fault::ShellStartKept, &[b"BASH_ENV", b"ENV"]),
    ];
    if kept
        .iter()
        .any(|(fault, names)| broken(*fault) && names.contains(&name))
    {
        return false;
    }
    if broken(Fault::FunctionsKept) {
        return name.starts_with(b"LD_") || LOADERS.contains(&name);
    }
    name.starts_with(b"LD_") || name.starts_with(b"BASH_FUNC_") || LOADERS.contains(&name)
}
