//! What a line about a failed start says.

/// The C library's words for why a start fails; its own function allocates.
pub(super) fn describe(errno: i32) -> &'static str {
    match errno {
        libc::ENOENT => "No such file or directory",
        libc::EACCES => "Permission denied",
        libc::ENOEXEC => "Exec format error",
        libc::E2BIG => "Argument list too long",
        libc::ENOTDIR => "Not a directory",
        libc::EISDIR => "Is a directory",
        libc::ELOOP => "Too many levels of symbolic links",
        libc::ETXTBSY => "Text file busy",
        libc::ENAMETOOLONG => "File name too long",
        libc::ENOMEM => "Cannot allocate memory",
        libc::EAGAIN => "Resource temporarily unavailable",
        libc::EPERM => "Operation not permitted",
        _ => UNDESCRIBED,
    }
}

const UNDESCRIBED: &str = "cannot be executed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_are_told_in_the_words_of_the_c_library() {
        let mut described = 0;
        for errno in 1..=133 {
            let words = describe(errno);
            if words != UNDESCRIBED {
                let theirs = std::io::Error::from_raw_os_error(errno).to_string();
                assert_eq!(theirs, format!("{words} (os error {errno})"));
                described += 1;
            }
        }
        assert_eq!(described, 12);
    }
}
