//! Stops that a process is about to make.

use crate::execution::raw;

/// Bytes of the name of a line, with its colon.
const NAME: usize = 7;

/// Signals that stop, bit N-1 for signal N.
pub(super) const STOPPING: u64 =
    bit(libc::SIGSTOP) | bit(libc::SIGTSTP) | bit(libc::SIGTTIN) | bit(libc::SIGTTOU);

/// Bit N-1 for signal N.
pub(super) const fn bit(signal: i32) -> u64 {
    1 << (signal.wrapping_sub(1) & 63)
}

/// The signals that stop, wait for that process, and aren't blocked there.
pub(super) fn about_to_stop(process: i32) -> u64 {
    let Ok(status) = raw::open_status(process) else {
        return 0;
    };
    let mut found = Signals::default();
    let mut part = [0; 512];
    while let Ok(bytes @ 1..) = raw::read(status, &mut part) {
        for &byte in part.iter().take(bytes) {
            found.read(byte);
        }
    }
    let _ = raw::close(status);
    found.pending & !found.blocked & STOPPING
}

/// What /proc/PID/status says of signals, see proc_pid_status(5).
#[derive(Debug, Default)]
struct Signals {
    pending: u64,
    blocked: u64,
    /// The start of the line that is being read.
    name: [u8; NAME],
    length: usize,
    /// What stands behind it, in hexadecimal digits.
    value: u64,
}

impl Signals {
    fn read(&mut self, byte: u8) {
        if byte == b'\n' {
            match &self.name {
                b"SigPnd:" | b"ShdPnd:" => self.pending |= self.value,
                b"SigBlk:" => self.blocked = self.value,
                _ => {}
            }
            (self.name, self.length, self.value) = ([0; NAME], 0, 0);
        } else if let Some(place) = self.name.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        } else if let Some(digit) = char::from(byte).to_digit(16) {
            self.value = self.value << 4 | u64::from(digit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(status: &str) -> [u64; 2] {
        let mut signals = Signals::default();
        status.bytes().for_each(|byte| signals.read(byte));
        [signals.pending, signals.blocked]
    }

    #[test]
    fn pending_and_blocked_signals_are_read_from_a_status() {
        let status = "Name:\tabc\nGroups:\t1 2 3 \nSigQ:\t1/2\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000040000\n\
                      SigBlk:\tffffffff7ffbfeff\nSigIgn:\t0000000000001000\n";
        assert_eq!(signals(status), [0x40001, 0xffff_ffff_7ffb_feff]);
        assert_eq!(signals("SigPnd:\t7"), [0, 0]);
    }

    #[test]
    fn a_process_that_is_stopped_has_further_stops_before_it() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(about_to_stop(pid), 0);
        for (signal, pending) in [
            (libc::SIGSTOP, 0),
            (libc::SIGTSTP, bit(libc::SIGTSTP)),
            (libc::SIGCONT, 0),
        ] {
            raw::kill(pid, signal).unwrap();
            if signal == libc::SIGSTOP {
                raw::wait4(pid, libc::WUNTRACED).unwrap();
            }
            assert_eq!(about_to_stop(pid), pending, "{signal}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(about_to_stop(pid), 0);
    }
}
