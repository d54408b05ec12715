//! What a launcher is told on its command line: the program that it executes once it has confined itself.
//!
//! The launcher starts with an empty environment: what the program gets would otherwise decide, through LD_PRELOAD or the
//! like, what the launcher executes while it is not yet confined. So variables are arguments, too.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::executable::Scripts;
use super::raw;
use crate::files::{Identity, STATX_IDENTITY};

/// The first argument of a launcher.
pub(crate) const LAUNCH: &str = "__sandbox";

/// What confines itself and then executes a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launcher {
    /// The launcher's own program.
    pub(crate) program: PathBuf,
    /// How it is to confine itself.
    pub(crate) plan: String,
}

/// The program to execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its name, relative to the working directory.
    pub(crate) file: OsString,
    /// The file itself, if it was opened before.
    pub(crate) opened: Option<Opened>,
    /// The descriptors that the program gets.
    pub(crate) keep: Vec<RawFd>,
}

/// A file that is executed by descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) program: RawFd,
    pub(crate) scripts: Scripts,
    /// As long as this is open, nobody writes to the program.
    pub(crate) lease: Option<RawFd>,
    /// [What was decided on](Identity::to_words).
    identity: [u64; Identity::WORDS],
}

impl Opened {
    pub(crate) fn new(program: RawFd, scripts: Scripts, lease: Option<RawFd>, identity: Identity) -> Self {
        Self {
            program,
            scripts,
            lease,
            identity: identity.to_words(),
        }
    }

    /// Whether what has that name now is what was decided on, unchanged.
    pub(crate) fn is_called(&self, name: &CStr) -> bool {
        raw::statx(name, STATX_IDENTITY)
            .is_ok_and(|found| Identity::of(&found) == Identity::from_words(&self.identity))
    }
}

/// Everything on a launcher's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) plan: String,
    pub(crate) target: Target,
    /// Variables as execve(2) takes them.
    pub(crate) env: Vec<OsString>,
    pub(crate) argv: Vec<OsString>,
}

impl Launcher {
    /// The launcher's arguments, `argv[0]` included.
    pub(crate) fn arguments(
        &self,
        target: &Target,
        env: Vec<(OsString, OsString)>,
        argv: Vec<OsString>,
    ) -> Vec<OsString> {
        let target = serde_json::to_string(target).expect("names and numbers are JSON");
        let mut arguments: Vec<OsString> = vec![
            "shell-escalation".into(),
            LAUNCH.into(),
            self.plan.clone().into(),
            target.into(),
            env.len().to_string().into(),
        ];
        arguments.extend(env.into_iter().map(|(name, value)| variable(name, &value)));
        arguments.extend(argv);
        arguments
    }
}

fn variable(name: OsString, value: &OsStr) -> OsString {
    let mut text = name.into_vec();
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    OsString::from_vec(text)
}

impl Launch {
    /// Reads a launcher's arguments; `None` if they are not a launcher's.
    ///
    /// # Errors
    /// What is missing or unreadable.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<Self, String>> {
        let mut arguments = arguments.into_iter().skip(1);
        (arguments.next()? == LAUNCH).then(|| Self::parse_rest(arguments))
    }

    fn parse_rest(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut text = |what: &str| {
            let argument = arguments.next().ok_or_else(|| format!("no {what}"))?;
            argument
                .into_string()
                .map_err(|_| format!("the {what} is not UTF-8"))
        };
        let plan = text("plan")?;
        let target = serde_json::from_str(&text("program")?).map_err(|error| error.to_string())?;
        let count: usize = text("number of variables")?
            .parse()
            .map_err(|_| "the number of variables is not a number".to_owned())?;
        let env: Vec<OsString> = arguments.by_ref().take(count).collect();
        if env.len() < count {
            return Err("fewer variables than announced".to_owned());
        }
        Ok(Self {
            plan,
            target,
            env,
            argv: arguments.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_reads_what_it_was_told() {
        let launcher = Launcher {
            program: "/proc/self/exe".into(),
            plan: "{}".to_owned(),
        };
        let target = Target {
            file: OsString::from_vec(b"bin/\xff".to_vec()),
            opened: Some(Opened::new(7, Scripts::ByName, None, Identity::default())),
            keep: vec![0, 5],
        };
        let env = vec![("A".into(), "1=2".into()), ("B".into(), OsString::new())];
        let argv = vec!["x".into(), OsString::from_vec(vec![0xfe])];
        let arguments = launcher.arguments(&target, env, argv.clone());
        let launch = Launch::parse(arguments).unwrap().unwrap();
        assert_eq!(launch.target, target);
        assert_eq!(launch.env, ["A=1=2", "B="]);
        assert_eq!(launch.argv, argv);
    }

    #[test]
    fn other_arguments_are_not_a_launchers() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(Launch::parse(words(&["shell-escalation", "run"])).is_none());
        assert!(Launch::parse(words(&[])).is_none());
        for cut in 2..5 {
            let whole = [
                "x",
                LAUNCH,
                "{}",
                "{\"file\":{\"Unix\":[]},\"opened\":null,\"keep\":[]}",
                "1",
            ];
            assert!(Launch::parse(words(&whole[..cut])).unwrap().is_err(), "{cut}");
        }
    }
}
