//! Scripts in place are compared up to their execution, and what is no script runs as it does without that.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use shell_escalation::{
    Decision, EscalateServer, Execution, LocalExecutor, Profile, SandboxedExecutor, StandardStreams,
};

use super::pinned::{ATTACK, Kind, attack, exchanging, rewriting};
use super::support::chain::script;
use super::support::wrapper::{pipe, read_all};
use super::{Always, Fixture, blocking, start, start_with};

const SWAPPED: &str = "the program changed between decision and execution\n";

/// Escalates `./program` of a folder, and does something between decision and execution; its status and its output.
fn escalate(fixture: &Fixture, folder: &Path, between: impl FnOnce()) -> (i64, String) {
    let (reader, writer) = pipe();
    let mut stream = fixture.client.connect();
    stream.send(&json!({"file": "./program", "argv": ["program"], "workdir": folder, "env": {}}));
    assert_eq!(stream.receive(), json!({"action": "Escalate"}));
    between();
    stream.send_descriptors(&[(&writer, 1), (&writer, 2)]);
    drop(writer);
    let status = stream.receive()["exit_code"].as_i64().unwrap();
    (status, read_all(reader))
}

/// What is done to a folder between decision and execution.
type Change = (&'static str, fn(&Path));

const CHANGES: &[Change] = &[
    ("exchanged by renaming", |folder| {
        fs::rename(folder.join("other"), folder.join("program")).unwrap();
    }),
    ("rewritten, with its times set back", |folder| {
        let program = folder.join("program");
        let modified = program.metadata().unwrap().modified().unwrap();
        fs::copy(folder.join("other"), &program).unwrap();
        let file = File::options().append(true).open(&program).unwrap();
        file.set_modified(modified).unwrap();
    }),
    ("replaced by a link", |folder| {
        fs::remove_file(folder.join("program")).unwrap();
        symlink("other", folder.join("program")).unwrap();
    }),
    ("replaced by a binary", |folder| {
        fs::remove_file(folder.join("program")).unwrap();
        symlink("/bin/echo", folder.join("program")).unwrap();
    }),
    ("in another folder of the same name", |folder| {
        let moved = folder.with_extension("moved");
        fs::rename(folder, &moved).unwrap();
        fs::create_dir(folder).unwrap();
        fs::hard_link(moved.join("other"), folder.join("program")).unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_place_that_was_swapped_before_its_execution_does_not_run() {
    let fixture = start(Always::new(Decision::escalate().in_place()));
    blocking(move || {
        for first_line in ["#!/bin/sh\n", ""] {
            for (how, change) in CHANGES {
                let outside = tempfile::tempdir().unwrap();
                let folder = outside.path().join("folder");
                fs::create_dir(&folder).unwrap();
                script(&folder.join("program"), &format!("{first_line}echo $0\n"));
                script(&folder.join("other"), &format!("{first_line}echo no\n"));
                let unchanged = escalate(&fixture, &folder, || {});
                assert_eq!(unchanged, (0, "./program\n".to_owned()));
                let (status, output) = escalate(&fixture, &folder, || change(&folder));
                assert_eq!(status, 126, "{how}: {output}");
                assert!(output.ends_with(SWAPPED), "{how}: {output}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_place_that_is_open_for_writing_does_not_run() {
    let fixture = start(Always::new(Decision::escalate().in_place()));
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        script(&program, "#!/bin/sh\necho $0\n");
        let mut writer = None;
        let (status, output) = escalate(&fixture, folder.path(), || {
            writer = Some(File::options().append(true).open(&program).unwrap());
        });
        assert_eq!(status, 126, "{output}");
        assert!(output.ends_with("Text file busy\n"), "{output}");
        drop(writer);
        assert_eq!(escalate(&fixture, folder.path(), || {}).1, "./program\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_is_held_to_the_decision_where_scripts_are_in_place() {
    let fixture = start(Always::new(Decision::escalate().in_place()));
    blocking(move || {
        attack(&fixture, ATTACK, Kind::Binary, exchanging);
        attack(&fixture, ATTACK, Kind::Binary, rewriting);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_place_that_was_swapped_while_its_sandbox_was_made_does_not_run() {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Between the server's comparison and the launcher's own.
    let launcher = outside.path().join("launcher");
    let here = folder.path().display();
    script(
        &launcher,
        &format!(
            "#!/bin/sh\ntest ! -e '{here}/other' || /bin/mv '{here}/other' '{here}/program'\n\
             test ! -e '{here}/changes' || /bin/chmod 700 '{here}/program'\nexec '{}' \"$@\"\n",
            env!("CARGO_BIN_EXE_shell-escalation")
        ),
    );
    let executor = LocalExecutor::new(StandardStreams::Captured);
    let profile = Profile::read_only();
    let executor = SandboxedExecutor::new(executor, folder.path(), "read-only", &profile).unwrap();
    let decision = Decision::escalate().executed(Execution::SameSandbox).in_place();
    let server = EscalateServer::new("/bin/sh", "/no/wrapper", Always::new(decision));
    let fixture = start_with(server.with_executor(executor.with_launcher(&launcher)));
    blocking(move || {
        for first_line in ["#!/bin/sh\n", ""] {
            script(&folder.path().join("program"), &format!("{first_line}echo $0\n"));
            let unchanged = escalate(&fixture, folder.path(), || {});
            assert_eq!(unchanged, (0, "./program\n".to_owned()));
            script(&folder.path().join("other"), &format!("{first_line}echo no\n"));
            let (status, output) = escalate(&fixture, folder.path(), || {});
            assert_eq!(status, 126, "{output}");
            assert!(output.ends_with(SWAPPED), "{output}");
            // The same file, changed: a writer would have to wait, but only where there are leases.
            script(&folder.path().join("changes"), "");
            let (status, output) = escalate(&fixture, folder.path(), || {});
            assert_eq!(status, 126, "{output}");
            assert!(output.ends_with(SWAPPED), "{output}");
            fs::remove_file(folder.path().join("changes")).unwrap();
        }
    })
    .await;
}
