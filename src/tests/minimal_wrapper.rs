//! The wrapper's side of the protocol in as few lines as possible, for tests and for readers. It forwards no signals, supports
//! only UTF-8, and lets its runtime's changes to the process reach the command; `execve-wrapper` is the real one.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;

use sendfd::SendWithFd;
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments
        .next()
        .expect("usage: minimal-wrapper FILE ARGV0 [ARGUMENT]...");
    let argv: Vec<String> = arguments.collect();
    let number: i32 = std::env::var("CODEX_ESCALATE_SOCKET").unwrap().parse().unwrap();
    let mut env: HashMap<String, String> = std::env::vars().collect();
    for name in ["CODEX_ESCALATE_SOCKET", "EXEC_WRAPPER", "BASH_EXEC_WRAPPER"] {
        env.remove(name);
    }

    let (mut stream, theirs) = UnixStream::pair()?;
    // SAFETY: inherited under this number, and left open: the command may need it.
    let socket = std::mem::ManuallyDrop::new(UnixDatagram::from(unsafe { OwnedFd::from_raw_fd(number) }));
    socket.send_with_fd(&[0], &[theirs.as_raw_fd()])?;
    drop(theirs);
    let request = json!({"file": file, "argv": argv, "workdir": std::env::current_dir()?, "env": env});
    stream.write_all(&frame(&request))?;
    let action = receive(&mut stream)?["action"].take();
    if action == "Run" {
        return Err(std::process::Command::new(file)
            .arg0(&argv[0])
            .args(&argv[1..])
            .exec());
    }
    if action == "Escalate" {
        stream.send_with_fd(&frame(&json!({"fds": [0, 1, 2]})), &[0, 1, 2])?;
        let result = receive(&mut stream)?;
        std::process::exit(i32::try_from(result["exit_code"].as_i64().unwrap()).unwrap());
    }
    match action["Deny"]["reason"].as_str() {
        Some(reason) => eprintln!("Execution denied: {reason}"),
        None => eprintln!("Execution denied"),
    }
    std::process::exit(1);
}

fn frame(message: &Value) -> Vec<u8> {
    let payload = message.to_string();
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_le_bytes()[..], payload.as_bytes()].concat()
}

fn receive(stream: &mut UnixStream) -> std::io::Result<Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut payload = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut payload)?;
    Ok(serde_json::from_slice(&payload)?)
}
