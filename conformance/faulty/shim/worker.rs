//! One request, from its frame to its result.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::poll::PollFlags;
use serde_json::json;

use crate::events::{self, GONE};
use crate::faults::chat;
use crate::keeper::{self, News};
use crate::messages::{self, Request};
use crate::parcel::Parcel;
use crate::program::{self, Program};
use crate::session::{Answer, Session, Ticket, lock};
use crate::stream::{self, Frame, FrameReader, Progress};

/// Variables that load code into whatever starts with them.
const LOADERS: [&[u8]; 7] = [
    b"GLIBC_TUNABLES",
    b"BASH_ENV",
    b"ENV",
    b"SHELLOPTS",
    b"BASHOPTS",
    b"PS4",
    b"ZDOTDIR",
];

/// Serves one request stream.
pub fn serve(session: &Arc<Session>, ticket: &Arc<Ticket>) {
    let mut worker = Worker {
        session,
        ticket,
        reader: FrameReader::new(ticket.stream.clone()),
    };
    if let Err(why) = worker.handle() {
        chat(format_args!("a request of session {} ends: {why}", session.name));
    }
    // Also where the ticket is still known elsewhere, the wrapper sees the end now.
    let _ = ticket.stream.shutdown(std::net::Shutdown::Both);
    session.forget(ticket);
}

struct Worker<'a> {
    session: &'a Arc<Session>,
    ticket: &'a Arc<Ticket>,
    reader: FrameReader,
}

impl Worker<'_> {
    fn handle(&mut self) -> io::Result<()> {
        let frame = self.next_frame()?;
        // A request has no descriptors: whatever came is closed before anything is done.
        drop(frame.descriptors);
        let request = messages::request(&frame.payload).map_err(refused)?;
        drop(frame.payload);
        let program = program::find(&request);
        let answer = self.ask(&request, &program)?;
        match answer {
            Answer::Run => self.say(&messages::decision(json!("Run"))),
            Answer::Deny(reason) => self.say(&messages::decision(json!({"Deny": {"reason": reason}}))),
            Answer::Escalate => self.escalate(&request, program),
            Answer::Failed(why) => {
                chat(format_args!("the policy failed: {why}"));
                let reason = "the policy failed";
                self.say(&messages::decision(json!({"Deny": {"reason": reason}})))
            }
        }
    }

    fn say(&self, payload: &[u8]) -> io::Result<()> {
        stream::send_message(&self.ticket.stream, payload)
    }

    /// The next whole frame, however long it takes.
    fn next_frame(&mut self) -> io::Result<Frame> {
        loop {
            self.check()?;
            match self.reader.advance()? {
                Progress::Frame(frame) => return Ok(frame),
                Progress::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Progress::TooLong(length) => {
                    return Err(io::Error::other(format!("a frame of {length} bytes")));
                }
                Progress::Pending => {
                    let wanted = [
                        (self.ticket.stream.as_fd(), PollFlags::POLLIN),
                        (self.ticket.bell.as_fd(), PollFlags::POLLIN),
                    ];
                    events::wait(wanted, None)?;
                    self.ticket.bell.silence();
                }
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.ticket.is_cancelled() {
            return Err(io::Error::other("the session has ended"));
        }
        Ok(())
    }

    /// Asks the policy, and waits for the answer, the wrapper's end or the session's.
    fn ask(&self, request: &Request, program: &Program) -> io::Result<Answer> {
        let rpc = &self.session.server.rpc;
        let question = rpc.ask(self.session, self.ticket, request, &program.path)?;
        let answer = self.wait_for_answer();
        if answer.is_err() {
            rpc.withdraw(&self.session.name, question);
        }
        answer
    }

    fn wait_for_answer(&self) -> io::Result<Answer> {
        loop {
            self.check()?;
            if let Some(answer) = lock(&self.ticket.answer).take() {
                return Ok(answer);
            }
            let wanted = [
                (self.ticket.stream.as_fd(), GONE),
                (self.ticket.bell.as_fd(), PollFlags::POLLIN),
            ];
            let [stream, _] = events::wait(wanted, None)?;
            self.ticket.bell.silence();
            if !stream.is_empty() {
                return Err(io::Error::other("the wrapper is gone before the decision"));
            }
        }
    }

    fn escalate(&mut self, request: &Request, program: Program) -> io::Result<()> {
        self.say(&messages::decision(json!("Escalate")))?;
        let frame = self.next_frame()?;
        let message = messages::descriptors(&frame.payload).map_err(refused)?;
        let numbers = checked(&message.numbers, &frame)?;
        let parcel = parcel(request, &program, numbers);
        self.check()?;
        let line = self.session.server.nursery.keep(&parcel, frame.descriptors)?;
        drop(program);
        self.accompany(Arc::new(line), message.signals)
    }

    /// From the start of the child to its result, and on until its tree has ended.
    fn accompany(&mut self, line: Arc<UnixStream>, announced: bool) -> io::Result<()> {
        let mut keeper = FrameReader::new(line.clone());
        let mut running = true;
        loop {
            // Returning drops the line, and with it the tree.
            self.check()?;
            // An answered request's stream is over, and would be reported so again and again.
            let third = if running {
                (self.ticket.stream.as_fd(), PollFlags::POLLIN | GONE)
            } else {
                (self.ticket.bell.as_fd(), PollFlags::empty())
            };
            let wanted = [
                (line.as_fd(), PollFlags::POLLIN),
                (self.ticket.bell.as_fd(), PollFlags::POLLIN),
                third,
            ];
            let [from_keeper, _, stream] = events::wait(wanted, None)?;
            self.ticket.bell.silence();
            if !from_keeper.is_empty() {
                match keeper.advance()? {
                    Progress::Frame(frame) => match keeper::news(&frame.payload)? {
                        News::Stopped(signal) if announced => self.say(&messages::stopped(signal))?,
                        News::Stopped(_) => {}
                        News::Ended { exit_code, signal } => {
                            self.say(&messages::result(exit_code, signal))?;
                            // The request is answered; what the child left lives until the session ends.
                            self.ticket.stream.shutdown(std::net::Shutdown::Both)?;
                            running = false;
                        }
                    },
                    Progress::Pending => {}
                    Progress::End | Progress::TooLong(_) => return Ok(()),
                }
                continue;
            }
            if running && stream.intersects(GONE) {
                return Err(io::Error::other("the wrapper is gone"));
            }
            if running && stream.contains(PollFlags::POLLIN) {
                self.hear(&line)?;
            }
        }
    }

    /// What a wrapper says while its child runs.
    fn hear(&mut self, line: &UnixStream) -> io::Result<()> {
        loop {
            match self.reader.advance()? {
                Progress::Pending => return Ok(()),
                Progress::End => return Err(io::Error::other("the wrapper is gone")),
                Progress::TooLong(length) => {
                    return Err(io::Error::other(format!("a frame of {length} bytes")));
                }
                // Without the extension what comes after the descriptor message is ignored.
                Progress::Frame(_) if crate::faults::unusual(crate::faults::Variant::Plain) => {}
                Progress::Frame(frame) => {
                    drop(frame.descriptors);
                    let signal = messages::signal(&frame.payload).map_err(refused)?;
                    if let Ok(signal) = i64::try_from(signal) {
                        // A keeper that is gone has said before how the child ended.
                        let _ = keeper::order(line, &json!({"signal": signal}));
                    }
                }
            }
        }
    }
}

fn refused(malformed: messages::Malformed) -> io::Error {
    io::Error::other(format!("malformed: {malformed}"))
}

/// The numbers, where each can be a descriptor's and belongs to one that came.
fn checked(numbers: &[i128], frame: &Frame) -> io::Result<Vec<i32>> {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.0;
    let numbers: Vec<i32> = numbers
        .iter()
        .map(|number| {
            i32::try_from(*number)
                .ok()
                .filter(|number| (0..limit as i128).contains(&(*number).into()))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| io::Error::other("a number that no descriptor can have"))?;
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if frame.truncated || numbers.len() != frame.descriptors.len() {
        return Err(io::Error::other("not as many descriptors as numbers"));
    }
    if sorted.len() != numbers.len() || numbers.len() > 16 {
        return Err(io::Error::other("a number twice, or too many"));
    }
    Ok(numbers)
}

fn parcel(request: &Request, program: &Program, numbers: Vec<i32>) -> Parcel {
    let environment = request
        .environment
        .iter()
        .filter(|(name, _)| !loads_code(name))
        .map(|(name, value)| [name.as_slice(), b"=", value].concat())
        .collect();
    Parcel {
        file: request.file.clone(),
        shown: program.path.clone(),
        directory: request.directory.clone(),
        arguments: request.arguments.clone(),
        environment,
        numbers,
        identities: match &program.found {
            Ok(found) => found.iter().map(|(_, identity)| *identity).collect(),
            Err(_) => Vec::new(),
        },
        umask: request.umask,
        doomed: program.found.as_ref().err().map(|errno| *errno as i32),
    }
}

fn loads_code(name: &[u8]) -> bool {
    name.starts_with(b"LD_") || name.starts_with(b"BASH_FUNC_") || LOADERS.contains(&name)
}
