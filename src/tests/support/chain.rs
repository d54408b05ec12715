//! A shell and a wrapper for the server: enough of a chain to test one-shot commands without a patched shell.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes an executable script, in another process: a child that another test forks could inherit a descriptor that is open
/// for writing here, and the script could not be executed ("text file busy") until that child has called exec.
pub fn script(path: &Path, content: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "rm -f \"$0\" && cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer
        .stdin
        .take()
        .unwrap()
        .write_all(content.as_bytes())
        .unwrap();
    assert!(writer.wait().unwrap().success());
}

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

/// A shell that passes every line of its command, `FILE ARGV0 ARGUMENT...`, to the wrapper, except lines that begin with a
/// colon, which it runs itself.
pub fn shell(folder: &Path) -> PathBuf {
    let shell = folder.join("shell");
    script(
        &shell,
        "#!/bin/sh\n\
        printf '%s\\n' \"$2\" > \"$0.$$\"\n\
        while IFS= read -r line <&9; do\n\
          case $line in\n\
            '') ;;\n\
            :*) eval \"${line#:}\";;\n\
            *) eval \"set -- $line\"; \"$EXEC_WRAPPER\" \"$@\";;\n\
          esac\n\
        done 9< \"$0.$$\"\n",
    );
    shell
}
