//! What a terminal's program has, and how it ends.

use shell_escalation::terminal::{Backend, End, Error, ExecRequest, Signal, Size, Streams};

use super::{EVERY_KIND, direct, env, on_terminal, read_number, read_until, sh, text_to_end};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_its_arguments_folder_and_variables_and_no_other_descriptor() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let script = "echo \"$0 $1\"; pwd; env | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD | sort; exec ls -1 /proc/self/fd";
        let request = ExecRequest::new("/bin/sh", ["shell", "-c", script, "name", "a b"], "/usr")
            .with_env(vec![("PATH".into(), "/bin".into()), ("A".into(), "1".into())])
            .on(streams);
        let id = terminals.open(request).await.unwrap();
        let (text, end) = text_to_end(&terminals, id).await;
        assert_eq!(
            text, "name a b\n/usr\nA=1\nPATH=/bin\n0\n1\n2\n3\n",
            "{streams:?}"
        );
        assert_eq!(end, End::Exited(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_statuses_and_signals_come_back() {
    let terminals = direct();
    for streams in EVERY_KIND {
        for (script, expected) in [
            ("exit 0", End::Exited(0)),
            ("exit 7", End::Exited(7)),
            ("exit 255", End::Exited(255)),
            ("kill -TERM $$", End::Killed(libc::SIGTERM)),
            ("kill -KILL $$", End::Killed(libc::SIGKILL)),
        ] {
            let id = terminals.open(sh(script).on(streams)).await.unwrap();
            assert_eq!(
                text_to_end(&terminals, id).await,
                (String::new(), expected),
                "{script}"
            );
            // And again with each later read.
            assert_eq!(text_to_end(&terminals, id).await.1, expected);
            let listed = terminals.list();
            assert_eq!(
                (listed[0].id, listed[0].end, listed[0].backend),
                (id, Some(expected), Backend::Direct)
            );
            assert_eq!(terminals.close(id).await.unwrap(), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_an_error_and_leaves_nothing() {
    let terminals = direct();
    for streams in EVERY_KIND {
        for (program, folder, message) in [
            ("/no/such/program", "/tmp", "No such file"),
            ("/etc/passwd", "/tmp", "Permission denied"),
            ("/bin/sh", "/no/such/folder", "No such file"),
        ] {
            let request = ExecRequest::new(program, ["x"], folder)
                .with_env(env())
                .on(streams);
            let error = terminals.open(request).await.unwrap_err();
            assert!(matches!(error, Error::Start { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("cannot start {program}: ")), "{text}");
            assert!(text.contains(message), "{text}");
        }
    }
    assert_eq!(terminals.list(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_the_controlling_one_with_the_program_in_the_foreground() {
    let terminals = direct();
    let script = "exec 3</dev/tty && test -t 0 && test -t 1 && test -t 2 && echo tty; \
                  ps -o pid=,pgid=,tpgid=,tty= -p $$ | sed 's/^ *//; s/  */ /g'; tty; stty size";
    let size = Size {
        rows: 33,
        columns: 101,
    };
    let id = terminals
        .open(sh(script).on(Streams::Terminal(size)))
        .await
        .unwrap();
    let (text, _) = text_to_end(&terminals, id).await;
    let lines: Vec<&str> = text.lines().collect();
    let [tty, process, name, size] = lines[..] else {
        panic!("{text}");
    };
    assert_eq!((tty, size), ("tty", "33 101"));
    let fields: Vec<&str> = process.split(' ').collect();
    assert_eq!((fields[1], fields[2]), (fields[0], fields[0]), "{process}");
    assert_eq!(name, format!("/dev/{}", fields[3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_foreground_is_told_of_a_new_size() {
    let terminals = direct();
    let script = "trap 'stty size; exit' WINCH; echo ready; sleep 600 & wait";
    let id = terminals.open(sh(script).on(on_terminal())).await.unwrap();
    read_until(&terminals, id, "ready").await;
    let size = Size {
        rows: 50,
        columns: 132,
    };
    terminals.resize(id, size).unwrap();
    read_until(&terminals, id, "50 132").await;
    let pipes = terminals.open(sh("cat")).await.unwrap();
    assert!(matches!(terminals.resize(pipes, size), Err(Error::NoSize(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_is_echoed_and_read() {
    let terminals = direct();
    let id = terminals
        .open(sh("read line; echo \"<$line>\"").on(on_terminal()))
        .await
        .unwrap();
    terminals.write(id, b"typ").await.unwrap();
    read_until(&terminals, id, "typ").await;
    terminals.write(id, b"ed\n").await.unwrap();
    read_until(&terminals, id, "<typed>").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_interrupts_the_foreground_and_nothing_else() {
    let terminals = direct();
    // An interactive shell keeps itself out of the foreground while a command runs.
    let shell = ExecRequest::new("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], "/tmp");
    let env = [env(), vec![("PS1".into(), "ready> ".into())]].concat();
    let id = terminals
        .open(shell.with_env(env).on(on_terminal()))
        .await
        .unwrap();
    let sleep = b"sh -c 'echo $((20 + 22)); exec sleep 600'\n";
    for (signal, status) in [
        (None, "status 130"),
        (Some(Signal::SIGINT), "status 130"),
        (Some(Signal::SIGUSR1), "status 138"),
    ] {
        terminals.write(id, sleep).await.unwrap();
        read_until(&terminals, id, "42").await;
        match signal {
            None => terminals.write(id, b"\x03").await.unwrap(),
            Some(signal) => terminals.signal(id, signal).unwrap(),
        }
        read_until(&terminals, id, "ready> ").await;
        terminals.write(id, b"echo status $?\n").await.unwrap();
        read_until(&terminals, id, &format!("\n{status}")).await;
    }
    // It says itself that it goes on: the shell names the job before it gives it the terminal.
    let job = b"sh -c 'trap \"echo $((40 + 4))\" CONT; echo $((40 + 3)); sleep 600 & wait; wait'\n";
    terminals.write(id, job).await.unwrap();
    read_until(&terminals, id, "43").await;
    terminals.write(id, b"\x1a").await.unwrap();
    read_until(&terminals, id, "Stopped").await;
    terminals.write(id, b"fg\n").await.unwrap();
    read_until(&terminals, id, "44").await;
    terminals.signal(id, Signal::SIGINT).unwrap();
    terminals.write(id, b"exit 5\n").await.unwrap();
    let (_, end) = text_to_end(&terminals, id).await;
    assert_eq!(end, End::Exited(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_process_group_on_pipes() {
    let terminals = direct();
    let id = terminals
        .open(sh("sleep 600 & echo $!; wait; sleep 600"))
        .await
        .unwrap();
    let child = read_number(&terminals, id).await;
    terminals.signal_number(id, libc::SIGRTMIN() + 3).unwrap();
    assert_eq!(
        text_to_end(&terminals, id).await.1,
        End::Killed(libc::SIGRTMIN() + 3)
    );
    assert!(super::super::support::processes::gone_within(
        child,
        super::DEADLINE
    ));
    assert!(matches!(
        terminals.signal(id, Signal::SIGTERM),
        Err(Error::Ended(_))
    ));
    assert!(matches!(terminals.signal_number(id, 0), Err(Error::NoSignal(0))));
    assert!(matches!(
        terminals.signal_number(id, 65),
        Err(Error::NoSignal(65))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_when_it_is_closed() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let id = terminals.open(sh("cat; echo end").on(streams)).await.unwrap();
        terminals.write(id, b"line\n").await.unwrap();
        read_until(&terminals, id, "line").await;
        terminals.close_input(id).await.unwrap();
        let (text, end) = text_to_end(&terminals, id).await;
        assert!(text.ends_with("end\n"), "{text:?}");
        assert_eq!(end, End::Exited(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_to_what_no_longer_reads_is_an_error() {
    let terminals = direct();
    let id = terminals
        .open(sh("exec <&-; echo closed; sleep 600"))
        .await
        .unwrap();
    read_until(&terminals, id, "closed").await;
    assert!(matches!(
        terminals.write(id, b"x").await,
        Err(Error::NotReading(_))
    ));
    terminals.close_input(id).await.unwrap();
    assert!(matches!(
        terminals.write(id, b"x").await,
        Err(Error::NotReading(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn dispositions_are_the_default_ones_and_nothing_is_blocked() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let request =
            ExecRequest::new("/bin/grep", ["grep", "^Sig[BI]", "/proc/self/status"], "/").on(streams);
        let id = terminals.open(request).await.unwrap();
        let (text, _) = text_to_end(&terminals, id).await;
        assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    }
}
