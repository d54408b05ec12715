//! A signal that comes while nothing listens, between two phases of the suite. It is for this whole process, so this is
//! the only test in it.

use conformance::inside::Interrupted;
use conformance::inside::interrupts;
use conformance::inside::preflight::leaving_nothing;
use nix::sys::signal::{Signal, raise};

#[test]
fn a_signal_between_two_phases_ends_the_next() {
    leaving_nothing(|| Ok(())).expect("a first phase");
    raise(Signal::SIGTERM).expect("a signal");
    let ended = leaving_nothing(|| -> anyhow::Result<()> { panic!("the next phase began") });
    let interrupted = ended.expect_err("interrupted").downcast::<Interrupted>();
    assert_eq!(interrupted.expect("by the signal").0, Signal::SIGTERM as i32);
    let (_signals, earlier) = interrupts::listen().expect("to be listened to");
    assert_eq!(earlier, Some(Signal::SIGTERM as i32));
}
