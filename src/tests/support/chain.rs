//! A shell and a wrapper to go with the server: enough of a chain to try one-shot commands without a patched shell.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The example `minimal-wrapper`, which is built together with the tests.
pub fn wrapper() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let wrapper = folder.join("examples/minimal-wrapper");
    assert!(
        wrapper.is_file(),
        "{} is built by `cargo test`",
        wrapper.display()
    );
    wrapper
}

/// A shell that hands every line of its command, `FILE ARGV0 ARGUMENT...`, to the wrapper; other lines, those that begin
/// with a colon, it runs itself.
pub fn shell(folder: &Path) -> PathBuf {
    let shell = folder.join("shell");
    let script = "#!/bin/sh\n\
        printf '%s\\n' \"$2\" > \"$0.$$\"\n\
        while IFS= read -r line <&9; do\n\
          case $line in\n\
            '') ;;\n\
            :*) eval \"${line#:}\";;\n\
            *) eval \"set -- $line\"; \"$EXEC_WRAPPER\" \"$@\";;\n\
          esac\n\
        done 9< \"$0.$$\"\n";
    std::fs::write(&shell, script).unwrap();
    std::fs::set_permissions(&shell, PermissionsExt::from_mode(0o755)).unwrap();
    shell
}
