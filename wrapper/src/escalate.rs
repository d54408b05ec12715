//! Escalate: the server executes the command, and the wrapper stands in for it: it hands over the descriptors,
//! forwards signals, stops and continues with the child, and ends as the child ended.

use rustix::fd::RawFd;

use crate::attributes::Attributes;
use crate::descriptors::Inherited;
use crate::failure::{CANNOT_EXECUTE, Detail, Failure};
use crate::forwarding::Forwarding;
use crate::frame;
use crate::output::Full;
use crate::reply::{self, Ending, Progress};
use crate::request::Handover;
use crate::signals::{self, Set};
use crate::stream::Stream;
use crate::sys;

/// Room for the descriptor message: 16 numbers of ten digits, all signals, and 32 limits of 19 digits take less.
const ROOM: usize = 2048;

/// Sends the descriptors and waits for the child's end.
// Never inlined: its memory on the stack would cost a Run a page.
#[inline(never)]
pub fn escalate(stream: &mut Stream, escalation: RawFd) -> Result<Ending, Failure> {
    let inherited = Inherited::collect(escalation)?;
    // Before the child can exist, so that no signal for it is lost.
    let mut forwarding = Forwarding::start();
    let numbers = inherited.numbers();
    let attributes = Attributes::of_this_process();
    let handover = Handover {
        numbers,
        signals: forwarding.is_some(),
        attributes: &attributes,
    };
    let mut space = [0; ROOM];
    let frame = frame::compose(&mut space, |output| handover.write(output))
        .map_err(|Full| Failure::new("the descriptors' numbers do not fit into their message"))?;
    stream.send_with_descriptors(frame, &inherited.borrowed()[..numbers.len()])?;
    inherited.close_all_but_stderr();

    loop {
        while let Some(payload) = stream.next_frame()? {
            match reply::progress(payload).map_err(Failure::malformed("the server's result is malformed"))? {
                Progress::Ended(ending) => return Ok(ending),
                Progress::Stopped(stop) => match &mut forwarding {
                    Some(forwarding) => forwarding.stop(stop, stream),
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
