//! What the process was started with: the vectors of arguments and environment, as the kernel laid them out.

use core::ffi::{CStr, c_char};

/// A NULL-terminated vector of C strings that lives as long as the process.
#[derive(Clone, Copy)]
pub struct Strings {
    first: *mut *const c_char,
}

impl Strings {
    /// # Safety
    /// `first` points to a NULL-terminated vector of C strings. It and they live as long as the process, and nothing
    /// else changes them.
    pub unsafe fn new(first: *mut *const c_char) -> Self {
        Self { first }
    }

    /// The vector, for execve(2).
    pub fn as_ptr(self) -> *const *const c_char {
        self.first
    }

    /// The strings without their NUL.
    pub fn iter(self) -> impl Iterator<Item = &'static [u8]> + Clone {
        self.c_strings().map(CStr::to_bytes)
    }

    fn c_strings(self) -> impl Iterator<Item = &'static CStr> + Clone {
        let mut next = self.first;
        core::iter::from_fn(move || {
            // SAFETY: `next` never gets past the vector's NULL, and every pointer before it is a C string.
            unsafe {
                let string = *next;
                if string.is_null() {
                    return None;
                }
                next = next.add(1);
                Some(CStr::from_ptr(string))
            }
        })
    }

    /// The value of the first entry `NAME=VALUE` of that name.
    pub fn variable(self, name: &[u8]) -> Option<&'static [u8]> {
        self.iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }
}

/// The command that the shell wants executed: `wrapper FILE ARGV0 ARGV1 ...`.
pub struct Command {
    /// The wrapper's own argument vector, of at least three strings.
    vector: Strings,
    environment: Strings,
}

impl Command {
    /// The command that the wrapper was called with; `None` when FILE or ARGV0 is missing. No argument is an option.
    pub fn new(vector: Strings, environment: Strings) -> Option<Self> {
        (vector.iter().take(3).count() == 3).then_some(Self { vector, environment })
    }

    /// The path that the shell resolved.
    pub fn file(&self) -> &'static CStr {
        // The constructor has seen three strings.
        self.vector.c_strings().nth(1).unwrap_or_default()
    }

    /// The command's arguments, `argv[0]` included.
    pub fn argv(&self) -> Strings {
        self.tail(2)
    }

    /// The environment, untouched.
    pub fn environment(&self) -> Strings {
        self.environment
    }

    /// The arguments for a shell that is to run the command as a script: `SHELL SCRIPT ARGV1 ...`. They are as many as
    /// FILE and ARGV together, so they take those places in the vector.
    pub fn into_script_arguments(self, shell: &'static CStr, script: &'static CStr) -> Strings {
        // SAFETY: the vector has at least three strings, and this program alone may change it.
        unsafe {
            *self.vector.first.add(1) = shell.as_ptr();
            *self.vector.first.add(2) = script.as_ptr();
        }
        self.tail(1)
    }

    fn tail(&self, skipped: usize) -> Strings {
        // SAFETY: the vector has at least three strings, so what follows the first ones is a vector too.
        unsafe { Strings::new(self.vector.first.add(skipped)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr;

    fn vector(strings: &[&'static CStr]) -> Strings {
        let pointers: Vec<*const c_char> = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        // SAFETY: the vector ends with NULL and is leaked.
        unsafe { Strings::new(pointers.leak().as_mut_ptr()) }
    }

    fn bytes(strings: Strings) -> Vec<&'static [u8]> {
        strings.iter().collect()
    }

    #[test]
    fn file_and_argv_are_told_apart_and_no_argument_is_an_option() {
        let command = Command::new(vector(&[c"w", c"--help", c"-sh", c"", c"x"]), vector(&[])).unwrap();
        assert_eq!(command.file(), c"--help");
        assert_eq!(bytes(command.argv()), [&b"-sh"[..], b"", b"x"]);
    }

    #[test]
    fn a_file_without_argv0_is_no_command() {
        for strings in [&[][..], &[c"w"], &[c"w", c"/bin/true"]] {
            assert!(Command::new(vector(strings), vector(&[])).is_none());
        }
    }

    #[test]
    fn a_script_takes_the_place_of_argv0() {
        let command = Command::new(vector(&[c"w", c"./script", c"argv0", c"1", c"2"]), vector(&[])).unwrap();
        let arguments = command.into_script_arguments(c"/bin/sh", c"./script");
        assert_eq!(bytes(arguments), [&b"/bin/sh"[..], b"./script", b"1", b"2"]);
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = vector(&[c"AB=1", c"A", c"A=2=3", c"A=4"]);
        assert_eq!(environment.variable(b"A"), Some(&b"2=3"[..]));
        assert_eq!(environment.variable(b"B"), None);
    }
}
