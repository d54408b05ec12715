//! What careless wrappers and language runtimes do to their own process.

use std::sync::atomic::Ordering;

use crate::faults::{Fault, broken};
use crate::process::{self, escalation_number, exit, has_standard_error};
use crate::signals;

/// What a careless language runtime does to a process before the wrapper's own code begins.
pub fn spoil_process() {
    // SAFETY: plain system calls on integers and a local signal set.
    unsafe {
        if broken(Fault::SigpipeLeftIgnored) {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        if broken(Fault::IgnoredSignalsReset) {
            for signal in 1..=31 {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        if broken(Fault::SigintIgnoredReset) {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
        }
        if broken(Fault::MessagesGoToStandardOutput) && !has_standard_error() {
            process::MESSAGES.store(1, Ordering::Relaxed);
        }
        if broken(Fault::MaskCleared) || broken(Fault::MaskFilled) {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            if broken(Fault::MaskFilled) {
                libc::sigaddset(&raw mut set, libc::SIGCHLD);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        }
        if broken(Fault::NullOnClosedStdio) {
            for number in 0..3 {
                if libc::fcntl(number, libc::F_GETFD) < 0 {
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
                }
            }
        }
        if broken(Fault::StdinMadeNonblocking) {
            let flags = libc::fcntl(0, libc::F_GETFL);
            libc::fcntl(0, libc::F_SETFL, flags | libc::O_NONBLOCK);
        }
        if broken(Fault::RealTimeSignalsReset) {
            (32..=64).for_each(signals::set_default);
        }
        if broken(Fault::SignalsBeforeTheDescriptorsLost) {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals::forwarded() {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        if broken(Fault::LibrarySignalsUnblocked) {
            signals::unblock(0b11 << 31);
        }
        if broken(Fault::InterruptionsEndTheWait) || broken(Fault::CaughtSignalsExit) {
            let caught = if broken(Fault::CaughtSignalsExit) {
                libc::SIGTERM
            } else {
                libc::SIGWINCH
            };
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = if broken(Fault::CaughtSignalsExit) {
                exit_at_once as *const () as usize
            } else {
                nothing as *const () as usize
            };
            libc::sigaction(caught, &raw const action, std::ptr::null_mut());
        }
        if broken(Fault::FlagsChangedWhileItWaits) || broken(Fault::AppendTakenOff) {
            let number = if broken(Fault::AppendTakenOff) { 2 } else { 0 };
            let flags = libc::fcntl(number, libc::F_GETFL);
            libc::fcntl(
                number,
                libc::F_SETFL,
                (flags & !libc::O_APPEND) ^ if number == 0 { libc::O_NONBLOCK } else { 0 },
            );
        }
        if broken(Fault::StandardInputReadAhead) {
            let mut byte = 0_u8;
            let flags = libc::fcntl(0, libc::F_GETFL);
            let mut poll = libc::pollfd {
                fd: 0,
                events: libc::POLLIN,
                revents: 0,
            };
            if flags >= 0 && libc::poll(&raw mut poll, 1, 0) == 1 {
                libc::read(0, (&raw mut byte).cast(), 1);
            }
        }
        if broken(Fault::FilesLookedAt) {
            libc::lseek(escalation_number(), 0, libc::SEEK_END);
        }
        if broken(Fault::UmaskReset) {
            libc::umask(0o022);
        }
        if broken(Fault::NiceReset) {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        if broken(Fault::LimitsRaised) {
            let limit = libc::rlimit {
                rlim_cur: 64,
                rlim_max: 64,
            };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        if broken(Fault::OwnProcessGroup) {
            libc::setpgid(0, 0);
            libc::setsid();
        }
        if broken(Fault::NewPrivilegesRefused) {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
        if broken(Fault::NeedsAThread) && std::thread::Builder::new().spawn(|| {}).is_err() {
            exit(101);
        }
        if broken(Fault::NeedsManyDescriptors) {
            for _ in 0..16 {
                if libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 100) < 0 && libc::fcntl(2, libc::F_GETFD) >= 0 {
                    exit(101);
                }
            }
        }
    }
}

extern "C" fn exit_at_once(_signal: libc::c_int) {
    exit(0)
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// What a careless wrapper does to its process just before it becomes the command.
pub fn spoil_before_run() {
    // SAFETY: plain system calls on integers and a local signal set.
    unsafe {
        if broken(Fault::PendingSignalsTaken) {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            let now = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            while libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now) > 0 {}
        }
        if broken(Fault::HighDescriptorsClosed) {
            libc::syscall(libc::SYS_close_range, 100, libc::c_uint::MAX, 0);
        }
        if broken(Fault::SocketDuplicated) {
            libc::dup(escalation_number());
        }
        if broken(Fault::FlagsChangedWhileItWaits) {
            let flags = libc::fcntl(0, libc::F_GETFL);
            libc::fcntl(0, libc::F_SETFL, flags ^ libc::O_NONBLOCK);
        }
        if broken(Fault::StreamsOpenedAgain) {
            let opened = libc::open(c"/proc/self/fd/0".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            libc::dup2(opened, 0);
            libc::close(opened);
        }
        if broken(Fault::TerminalGivenUp) {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::ioctl(0, libc::TIOCNOTTY);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
        }
        if broken(Fault::StackLimitLowered) {
            let limit = libc::rlimit {
                rlim_cur: 1 << 20,
                rlim_max: 1 << 20,
            };
            libc::setrlimit(libc::RLIMIT_STACK, &raw const limit);
        }
    }
    leave_attributes();
}

/// Attributes that careless wrappers and language runtimes set for themselves and forget.
fn leave_attributes() {
    // SAFETY: plain system calls on integers and on local structures, of which all-zero is valid.
    unsafe {
        if broken(Fault::SoftDescriptorLimitRaised) || broken(Fault::SoftCoreLimitLowered) {
            let raised = broken(Fault::SoftDescriptorLimitRaised);
            let resource = if raised {
                libc::RLIMIT_NOFILE
            } else {
                libc::RLIMIT_CORE
            };
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(resource, &raw mut limit);
            limit.rlim_cur = if raised { limit.rlim_max } else { 0 };
            libc::setrlimit(resource, &raw const limit);
        }
        if broken(Fault::ParentDeathSignalLeft) {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        if broken(Fault::ParentDeathSignalCleared) {
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        }
        if broken(Fault::BoundingSetEmptied) {
            // Without privileges only the owner of a user namespace can.
            if libc::prctl(libc::PR_CAPBSET_DROP, 0, 0, 0, 0) < 0 {
                libc::unshare(libc::CLONE_NEWUSER);
            }
            for capability in 0..64 {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
        }
        if broken(Fault::OneProcessorOnly) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu() as usize, &mut one);
            libc::sched_setaffinity(0, size_of_val(&one), &raw const one);
        }
        if broken(Fault::BatchScheduling) {
            let parameters: libc::sched_param = std::mem::zeroed();
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
        }
        if broken(Fault::TimerSlackRaised) {
            libc::prctl(libc::PR_SET_TIMERSLACK, 50_000_000);
        }
        if broken(Fault::AlarmLeft) {
            libc::alarm(3600);
        }
    }
    if broken(Fault::OutOfMemoryScoreRaised) && std::fs::write("/proc/self/oom_score_adj", "600").is_err() {
        exit(101);
    }
}

/// Starts a process that does nothing but hold the descriptors of this one.
pub fn helper_that_holds_everything() {
    // SAFETY: fork in a process of one thread; the child only waits.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            loop {
                libc::pause();
            }
        }
    }
}
