//! What a probe does on account of its arguments, so that a script can say at each place what a command does.

use std::io::{self, Read, Write};

use super::remote;

/// Follows the arguments after argv[0] in their order; gives the status of an `exit:`.
///
/// - `out:TEXT` and `err:TEXT` write TEXT and a newline to standard output or error;
/// - `copy` copies standard input to standard output until its end;
/// - `exit:N` exits, `die:N` dies by signal N.
///
/// # Errors
/// A word that is none of these, and what reading or writing says.
pub fn follow(arguments: &[Vec<u8>]) -> io::Result<Option<i32>> {
    let mut output = io::stdout().lock();
    for argument in arguments.iter().skip(1) {
        let (word, rest) = match argument.iter().position(|byte| *byte == b':') {
            Some(colon) => (&argument[..colon], &argument[colon + 1..]),
            None => (argument.as_slice(), &[][..]),
        };
        match word {
            b"out" => {
                output.write_all(rest)?;
                output.write_all(b"\n")?;
            }
            b"err" => {
                let mut line = rest.to_vec();
                line.push(b'\n');
                io::stderr().write_all(&line)?;
            }
            b"copy" => {
                let mut bytes = [0; 1 << 16];
                loop {
                    let length = io::stdin().lock().read(&mut bytes)?;
                    if length == 0 {
                        break;
                    }
                    output.write_all(&bytes[..length])?;
                }
            }
            b"exit" => {
                output.flush()?;
                return Ok(Some(number(rest)?));
            }
            b"die" => {
                output.flush()?;
                remote::die_by(number(rest)?);
            }
            _ => {
                let word = String::from_utf8_lossy(argument);
                return Err(io::Error::other(format!("no instruction: {word:?}")));
            }
        }
    }
    output.flush()?;
    Ok(None)
}

fn number(text: &[u8]) -> io::Result<i32> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no number: {:?}", String::from_utf8_lossy(text))))
}
