//! Escalate: the server executes the command, and the wrapper stands in for it: it hands over the descriptors,
//! forwards signals, stops and continues with the child, and ends as the child ended.

use core::mem::size_of;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::descriptors::Inherited;
use crate::failure::{CANNOT_EXECUTE, Detail, Failure};
use crate::frame;
use crate::output::Full;
use crate::reply::{self, Ending, Progress};
use crate::request;
use crate::signals::{self, FORWARDED, Set};
use crate::stream::Stream;
use crate::sys;

/// Room for a frame of numbers: with 16 of ten digits each it takes some 200 bytes.
const SMALL: usize = 256;

/// Sends the descriptors and waits for the child's end.
// Never inlined: its memory on the stack would cost a Run a page.
#[inline(never)]
pub fn escalate(stream: &mut Stream, escalation: RawFd) -> Result<Ending, Failure> {
    let inherited = Inherited::collect(escalation)?;
    // Before the child can exist, so that no signal for it is lost.
    let mut forwarding = Forwarding::start();
    let numbers = inherited.numbers();
    let mut space = [0; SMALL];
    let frame = frame::compose(&mut space, |output| {
        request::write_descriptors(output, numbers, forwarding.is_some())
    })
    .map_err(|Full| Failure::new("the descriptors' numbers do not fit into their message"))?;
    stream.send_with_descriptors(frame, &inherited.borrowed()[..numbers.len()])?;
    inherited.close_all_but_stderr();

    loop {
        while let Some(payload) = stream.next_frame()? {
            match reply::progress(payload).map_err(Failure::malformed("the server's result is malformed"))? {
                Progress::Ended(ending) => return Ok(ending),
                Progress::Stopped(signal) => match &mut forwarding {
                    Some(forwarding) => forwarding.stop(signal),
                    None => {
                        return Err(Failure::new(
                            "the server reports that the command has stopped, to a wrapper that forwards no signals",
                        ));
                    }
                },
            }
        }
        // Without forwarding only read(2) waits, and signals have their default actions.
        let readable = match &mut forwarding {
            Some(forwarding) => forwarding.wait(stream)?,
            None => true,
        };
        if readable {
            stream.read_more("the command's result")?;
        }
    }
}

/// Ends the process as the child ended (`wrapper.escalate.status`, `wrapper.escalate.killed`).
pub fn end_like_the_child(ending: Ending, file: &[u8]) -> ! {
    if let Some(signal) = ending.signal.and_then(|signal| i32::try_from(signal).ok()) {
        die_by(signal);
    }
    match u8::try_from(ending.exit_code) {
        // A killed child did not succeed, whatever the server says.
        Ok(status) if status != 0 || ending.signal.is_none() => sys::exit(status.into()),
        _ => {
            // Never modulo 256: that would turn 256 into success.
            let what = "the server sent an exit code that is not from 0 to 255";
            Failure {
                what,
                detail: Detail::Number(ending.exit_code),
            }
            .report(file);
            sys::exit(CANNOT_EXECUTE)
        }
    }
}

/// Kills this process by that signal. Returns if that is impossible: for a signal that doesn't kill, or in a process that
/// is immune to it, such as the first of a container.
fn die_by(signal: i32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if !signals::is_deadly(signal) {
        return;
    }
    // The child has left a core file if one was wanted; the wrapper's own would hide it. The limit is for files, the
    // flag for a program that takes core dumps.
    let core = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Core).maximum,
    };
    let _ = setrlimit(Resource::Core, core);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // SIGKILL has no disposition to reset. After any failure here the exit code still reports the death.
    let _ = sys::reset_disposition(signal);
    let _ = sys::kill_self(signal);
    let _ = sys::set_mask(Set::default());
}

/// Signals on their way from their senders to the child (`wrapper.escalate.signal`).
struct Forwarding {
    /// Readable when one of the signals has arrived; they are blocked, so they arrive in no other way.
    arrivals: OwnedFd,
    /// The signals that the process blocks now.
    mask: Set,
    /// Signals that have arrived but are not yet sent.
    pending: Set,
}

impl Forwarding {
    /// Blocks the signals that are to be forwarded, from now to the process's end. `None` if that's impossible: then
    /// signals act on the wrapper itself, whose death ends the child.
    fn start() -> Option<Self> {
        let forwarded = FORWARDED
            .iter()
            .map(|signal| signal.as_raw())
            // nohup(1) and a shell's background jobs ignore signals so that the command doesn't get them. SIGCONT
            // continues a process even when it is ignored.
            .filter(|&signal| signal == Signal::CONT.as_raw() || !sys::is_ignored(signal))
            .fold(Set::default(), |set, signal| set.with(Set::only(signal)));
        let before = sys::block(forwarded).ok()?;
        match sys::signal_descriptor(forwarded).and_then(sys::above_standard) {
            Ok(arrivals) => Some(Self {
                arrivals,
                mask: before.with(forwarded),
                pending: Set::default(),
            }),
            Err(_) => {
                // If even that fails, the signals stay blocked, and the server's result still ends the wrapper.
                let _ = sys::set_mask(before);
                None
            }
        }
    }

    /// Waits for the server or for signals, and forwards the signals; whether the server has sent something.
    fn wait(&mut self, stream: &Stream) -> Result<bool, Failure> {
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, !self.pending.is_empty());
        let socket = stream.as_fd();
        let mut polled = [
            PollFd::from_borrowed_fd(socket, wanted),
            PollFd::new(&self.arrivals, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => {
                return Err(Failure {
                    what: "cannot wait for the server",
                    detail: Detail::System(error),
                });
            }
        }
        let [server, signals] = polled.map(|polled| polled.revents());
        if !signals.is_empty() {
            self.collect();
        }
        self.send_pending(stream);
        // The next read reports errors, too.
        Ok(server.intersects(!PollFlags::OUT))
    }

    /// Takes the signals that have arrived.
    fn collect(&mut self) {
        /// signalfd_siginfo of signalfd(2), which begins with the signal's number.
        const RECORD: usize = 128;
        let mut records = [0_u8; 8 * RECORD];
        loop {
            match rustix::io::read(&self.arrivals, &mut records) {
                Ok(0) => return,
                Ok(length) => {
                    for record in records[..length].chunks_exact(RECORD) {
                        if let Some(number) = record.first_chunk::<{ size_of::<u32>() }>() {
                            self.pending = self.pending.with(Set::only(u32::from_ne_bytes(*number) as i32));
                        }
                    }
                }
                Err(Errno::INTR) => {}
                // EAGAIN: there are no more.
                Err(_) => return,
            }
        }
    }

    fn send_pending(&mut self, stream: &Stream) {
        for signal in self.pending.iter() {
            let mut space = [0; SMALL];
            // A frame of 17 bytes always fits.
            let Ok(frame) = frame::compose(&mut space, |output| request::write_signal(output, signal)) else {
                return;
            };
            match stream.try_send(frame) {
                Ok(true) => self.pending = self.pending.without(Set::only(signal)),
                // Full: poll(2) reports when there is room.
                Ok(false) => return,
                // The server reads no more. What it has sent may still be readable; if not, the next read fails.
                Err(_) => self.pending = Set::default(),
            }
        }
    }

    /// Stops the process as the child was stopped (`wrapper.escalate.stopped`). When it is continued SIGCONT arrives
    /// like any other signal, and is sent to the child.
    fn stop(&mut self, signal: i32) {
        self.collect();
        // A SIGCONT from before the child stopped does not mean that this process has been continued since.
        let earlier = self.pending;
        self.pending = self.pending.without(Set::only(Signal::CONT.as_raw()));
        let signal = signals::stopping(signal);
        // After a failure the wrapper keeps running, which is harmless: the child can be continued all the same.
        let _ = sys::kill_self(signal);
        let _ = sys::set_mask(self.mask.without(Set::only(signal)));
        let _ = sys::set_mask(self.mask);
        self.collect();
        if !self.pending.contains(Set::only(Signal::CONT.as_raw())) {
            // A terminal's stop signal stops no process that ignores it or whose process group is orphaned.
            let _ = sys::kill_self(Signal::STOP.as_raw());
        }
        self.pending = self.pending.with(earlier);
    }
}
