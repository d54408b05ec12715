//! A program's name, arguments and environment in the form that execve(2) takes, made before the child starts.

use std::ffi::{CStr, CString, NulError, OsStr, OsString, c_char};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use super::raw::Strings;

/// What the child passes to execve(2).
pub(crate) struct ExecStrings {
    path: CString,
    argv: Vec<*const c_char>,
    shell_argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// What the pointers point to, except for `path`.
    _strings: Vec<CString>,
}

// SAFETY: the pointers are to heap memory that the same value owns and that is never written to.
unsafe impl Send for ExecStrings {}
// SAFETY: as above.
unsafe impl Sync for ExecStrings {}

const SHELL: &CStr = c"/bin/sh";

impl ExecStrings {
    /// # Errors
    /// When a string contains NUL.
    pub(crate) fn new(
        path: &OsStr,
        argv: Vec<OsString>,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, NulError> {
        let path = CString::new(path.as_bytes())?;
        let mut strings = Vec::with_capacity(argv.len() + environment.len());
        let argv = pointers(&mut strings, argv.into_iter().map(OsString::into_vec))?;
        let variables = environment.iter().map(|(name, value)| entry(name, value));
        let environment = pointers(&mut strings, variables)?;
        let mut shell_argv = vec![SHELL.as_ptr(), path.as_ptr()];
        shell_argv.extend(argv.iter().skip(1).filter(|argument| !argument.is_null()));
        shell_argv.push(ptr::null());
        Ok(Self {
            path,
            argv,
            shell_argv,
            environment,
            _strings: strings,
        })
    }

    /// The program's name, relative to the working directory.
    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }

    pub(crate) fn argv(&self) -> Strings<'_> {
        // SAFETY: `new` ends each list with a null pointer; all others are to strings of this value, or constants.
        unsafe { Strings::from_pointers(&self.argv) }
    }

    /// The shell that executes a text without `#!`, as execvp(3) does it.
    pub(crate) fn shell(&self) -> &'static CStr {
        SHELL
    }

    /// That shell's arguments.
    pub(crate) fn shell_argv(&self) -> Strings<'_> {
        // SAFETY: as for `argv`.
        unsafe { Strings::from_pointers(&self.shell_argv) }
    }

    pub(crate) fn environment(&self) -> Strings<'_> {
        // SAFETY: as for `argv`.
        unsafe { Strings::from_pointers(&self.environment) }
    }
}

impl fmt::Debug for ExecStrings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecStrings").finish_non_exhaustive()
    }
}

/// Moves the texts to `strings`; the list points to them and ends with a null pointer.
fn pointers(
    strings: &mut Vec<CString>,
    texts: impl ExactSizeIterator<Item = Vec<u8>>,
) -> Result<Vec<*const c_char>, NulError> {
    let mut list = Vec::with_capacity(texts.len() + 1);
    for text in texts {
        let text = CString::new(text)?;
        // The bytes are on the heap: they stay where they are when the CString moves.
        list.push(text.as_ptr());
        strings.push(text);
    }
    list.push(ptr::null());
    Ok(list)
}

fn entry(name: &OsStr, value: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a null-terminated list back.
    fn texts(list: &[*const c_char]) -> Vec<&str> {
        let (last, pointers) = list.split_last().unwrap();
        assert!(last.is_null());
        // SAFETY: every test keeps the strings that the list points to.
        let text = |&pointer| unsafe { CStr::from_ptr(pointer) }.to_str().unwrap();
        pointers.iter().map(text).collect()
    }

    fn strings(argv: &[&str]) -> ExecStrings {
        let environment = [("A".into(), "1".into()), ("B".into(), "x=y".into())];
        ExecStrings::new(
            OsStr::new("bin/tool"),
            argv.iter().map(Into::into).collect(),
            &environment,
        )
        .unwrap()
    }

    #[test]
    fn a_text_without_an_interpreter_is_the_first_argument_of_the_shell() {
        // Moved after the pointers were made.
        let strings = Box::new(strings(&["tool", "one", ""]));
        assert_eq!(strings.path(), c"bin/tool");
        assert_eq!(texts(&strings.argv), ["tool", "one", ""]);
        assert_eq!(texts(&strings.shell_argv), ["/bin/sh", "bin/tool", "one", ""]);
        assert_eq!(texts(&strings.environment), ["A=1", "B=x=y"]);
    }

    #[test]
    fn without_arguments_the_shell_still_gets_the_text() {
        let strings = strings(&[]);
        assert_eq!(texts(&strings.argv), [""; 0]);
        assert_eq!(texts(&strings.shell_argv), ["/bin/sh", "bin/tool"]);
    }

    #[test]
    fn nul_is_refused_wherever_it_is() {
        let nul = || OsString::from("a\0b");
        let new = |path: &OsStr, argv: Vec<OsString>, environment: (OsString, OsString)| {
            ExecStrings::new(path, argv, &[environment]).is_err()
        };
        let variable = || ("A".into(), "1".into());
        assert!(!new(OsStr::new("tool"), vec!["tool".into()], variable()));
        assert!(new(&nul(), vec!["tool".into()], variable()));
        assert!(new(OsStr::new("tool"), vec![nul()], variable()));
        assert!(new(OsStr::new("tool"), vec!["tool".into()], (nul(), "1".into())));
        assert!(new(OsStr::new("tool"), vec!["tool".into()], ("A".into(), nul())));
    }
}
