//! Why a start failed, in the C library's words.

use nix::errno::Errno;

use super::failure::{Stage, StartFailure};

/// Why there is no child, for the user of the shell.
pub(crate) fn describe(failure: StartFailure) -> &'static str {
    match failure.stage {
        Stage::Swapped => "the program changed between decision and execution",
        _ => describe_errno(failure.errno),
    }
}

/// The C library's words for why a start fails; its own function allocates.
fn describe_errno(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "No such file or directory",
        Errno::EACCES => "Permission denied",
        Errno::ENOEXEC => "Exec format error",
        Errno::E2BIG => "Argument list too long",
        Errno::ENOTDIR => "Not a directory",
        Errno::EISDIR => "Is a directory",
        Errno::ELOOP => "Too many levels of symbolic links",
        Errno::ETXTBSY => "Text file busy",
        Errno::ENAMETOOLONG => "File name too long",
        Errno::ENOMEM => "Cannot allocate memory",
        Errno::EAGAIN => "Resource temporarily unavailable",
        Errno::EPERM => "Operation not permitted",
        _ => UNDESCRIBED,
    }
}

const UNDESCRIBED: &str = "cannot be executed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_described_as_by_the_c_library() {
        let mut described = 0;
        for errno in 1..=133 {
            let words = describe_errno(Errno::from_raw(errno));
            if words != UNDESCRIBED {
                let theirs = std::io::Error::from_raw_os_error(errno).to_string();
                assert_eq!(theirs, format!("{words} (os error {errno})"));
                described += 1;
            }
        }
        assert_eq!(described, 12);
    }
}
