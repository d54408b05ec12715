//! A program's name, arguments and environment in the form that execve(2) takes.

use std::ffi::{CStr, NulError, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::parcel::{Reader, Writer};
use super::raw::Strings;

/// What the child passes to execve(2).
#[derive(Debug)]
pub(super) struct ExecStrings<'a> {
    /// The program's name, relative to the working directory.
    pub(super) path: &'a CStr,
    pub(super) argv: Strings<'a>,
    /// Arguments of the shell that executes a text without `#!`, as execvp(3) does it.
    pub(super) shell_argv: Strings<'a>,
    pub(super) environment: Strings<'a>,
}

/// That shell.
pub(super) const SHELL: &CStr = c"/bin/sh";

impl<'a> ExecStrings<'a> {
    /// `text` is the name under which the shell opens a text without `#!`.
    ///
    /// # Errors
    /// When a string contains NUL.
    pub(super) fn pack(
        writer: &mut Writer,
        path: &OsStr,
        text: &OsStr,
        argv: Vec<OsString>,
        environment: &[(OsString, OsString)],
    ) -> Result<(), NulError> {
        writer.text(path.as_bytes().to_vec())?;
        let text = text.as_bytes();
        // What begins like an option would be taken for one.
        let options_end = text.starts_with(b"-") || text.starts_with(b"+");
        let before = [Some(SHELL.to_bytes()), options_end.then_some(b"--"), Some(text)];
        let rest = argv.iter().skip(1).map(|argument| argument.as_bytes());
        let shell_argv = before.into_iter().flatten().chain(rest);
        writer.list(shell_argv.map(<[u8]>::to_vec))?;
        writer.list(argv.into_iter().map(OsString::into_vec))?;
        writer.list(environment.iter().map(|(name, value)| entry(name, value)))
    }

    /// What [`Self::pack`] has packed.
    pub(super) fn unpack(reader: &mut Reader<'a>) -> Option<Self> {
        let (path, shell_argv) = (reader.text()?, reader.list()?);
        Some(Self {
            path,
            shell_argv,
            argv: reader.list()?,
            environment: reader.list()?,
        })
    }
}

fn entry(name: &OsStr, value: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::parcel::tests::{mapped, texts};

    fn packed(path: &OsStr, text: &OsStr, argv: &[&str]) -> Vec<u64> {
        let mut writer = Writer::default();
        let environment = [("A".into(), "1".into()), ("B".into(), "x=y".into())];
        let argv = argv.iter().map(Into::into).collect();
        ExecStrings::pack(&mut writer, path, text, argv, &environment).unwrap();
        mapped(writer.finish())
    }

    fn with_strings(text: &str, argv: &[&str], check: impl FnOnce(ExecStrings<'_>)) {
        let mut parcel = packed(OsStr::new("bin/tool"), OsStr::new(text), argv);
        let mut reader = Reader::new(&mut parcel).unwrap();
        check(ExecStrings::unpack(&mut reader).unwrap());
    }

    #[test]
    fn a_text_without_an_interpreter_is_the_first_argument_of_the_shell() {
        with_strings("bin/tool", &["tool", "one", ""], |strings| {
            assert_eq!(strings.path, c"bin/tool");
            assert_eq!(texts(strings.argv), ["tool", "one", ""]);
            assert_eq!(texts(strings.shell_argv), ["/bin/sh", "bin/tool", "one", ""]);
            assert_eq!(texts(strings.environment), ["A=1", "B=x=y"]);
        });
    }

    #[test]
    fn without_arguments_the_shell_still_gets_the_text() {
        with_strings("/dev/fd/3", &[], |strings| {
            assert_eq!(texts(strings.argv), [""; 0]);
            assert_eq!(texts(strings.shell_argv), ["/bin/sh", "/dev/fd/3"]);
        });
    }

    #[test]
    fn a_text_that_is_called_like_an_option_is_a_text() {
        for name in ["-c", "--", "-", "+x"] {
            with_strings(name, &[name, "echo no"], |strings| {
                assert_eq!(texts(strings.shell_argv), ["/bin/sh", "--", name, "echo no"]);
            });
        }
    }

    #[test]
    fn nul_is_refused_wherever_it_is() {
        let nul = || OsString::from("a\0b");
        let is_refused = |path: &OsStr, argv: Vec<OsString>, environment: (OsString, OsString)| {
            ExecStrings::pack(&mut Writer::default(), path, path, argv, &[environment]).is_err()
        };
        let variable = || ("A".into(), "1".into());
        assert!(!is_refused(OsStr::new("tool"), vec!["tool".into()], variable()));
        assert!(is_refused(&nul(), vec!["tool".into()], variable()));
        assert!(is_refused(OsStr::new("tool"), vec![nul()], variable()));
        assert!(is_refused(
            OsStr::new("tool"),
            vec!["tool".into()],
            (nul(), "1".into())
        ));
        assert!(is_refused(
            OsStr::new("tool"),
            vec!["tool".into()],
            ("A".into(), nul())
        ));
    }
}
