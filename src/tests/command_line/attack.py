# Tries to get out of a sandbox, and prints what came of each attempt: `NAME ok` or `NAME ERRNO`.
# Arguments: the pids of processes outside, the name of an abstract datagram socket, that of an abstract stream socket, and the key
# of a System V shared memory.
import ctypes, errno, fcntl, os, platform, signal, socket, sys, termios

libc = ctypes.CDLL(None, use_errno=True)
outside = [int(pid) for pid in sys.argv[1].split(",")]
datagrams, streams = ("\0" + name for name in sys.argv[2:4])


def attempt(name, action):
    try:
        action()
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, error.errno))


def call(number, *arguments):
    arguments = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


numbers = {
    "x86_64": dict(ptrace=101, process_vm_readv=310, prlimit=302, pidfd_open=434, pidfd_send_signal=424, pidfd_getfd=438,
                   unshare=272, setns=308, clone=56, mount=165, keyctl=250, bpf=321, open_by_handle_at=304, setpriority=141,
                   sched_setscheduler=144),
    "aarch64": dict(ptrace=117, process_vm_readv=270, prlimit=261, pidfd_open=434, pidfd_send_signal=424, pidfd_getfd=438,
                    unshare=97, setns=268, clone=220, mount=40, keyctl=219, bpf=280, open_by_handle_at=265, setpriority=140,
                    sched_setscheduler=119),
}[platform.machine()]

for pid in outside:
    # Harmless to a process that is not stopped.
    attempt("signal", lambda: os.kill(pid, signal.SIGCONT))
    attempt("signal", lambda: os.kill(pid, 0))

    def by_descriptor():
        descriptor = call(numbers["pidfd_open"], pid, 0)
        call(numbers["pidfd_send_signal"], descriptor, signal.SIGCONT, 0, 0)

    attempt("signal-pidfd", by_descriptor)
    attempt("steal-descriptor", lambda: call(numbers["pidfd_getfd"], call(numbers["pidfd_open"], pid, 0), 0, 0))
    # PTRACE_SEIZE does not stop it.
    attempt("trace", lambda: call(numbers["ptrace"], 0x4206, pid, 0, 0))
    memory = ctypes.create_string_buffer(16)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(memory), 16)
    nowhere = (ctypes.c_void_p * 2)(4096, 16)
    attempt("read-memory", lambda: call(numbers["process_vm_readv"], pid, vector, 1, nowhere, 1, 0))
    attempt("limit", lambda: call(numbers["prlimit"], pid, 4, 0, vector))
    attempt("priority", lambda: call(numbers["setpriority"], 0, pid, 0))
    attempt("scheduling", lambda: call(numbers["sched_setscheduler"], pid, 0, ctypes.byref(ctypes.c_int(0))))
    for file in ["environ", "mem", "maps", "auxv"]:
        attempt("proc-" + file, lambda: open(f"/proc/{pid}/{file}", "rb").close())
    attempt("proc-write", lambda: open(f"/proc/{pid}/mem", "wb").close())
    attempt("proc-oom", lambda: open(f"/proc/{pid}/oom_score_adj", "w").close())
    for link in ["cwd", "root", "exe"]:
        attempt("proc-" + link, lambda: os.stat(f"/proc/{pid}/{link}"))
    attempt("proc-fd-numbers", lambda: os.listdir(f"/proc/{pid}/fd"))

    def open_descriptor():
        for number in range(16):
            try:
                return os.stat(f"/proc/{pid}/fd/{number}")
            except FileNotFoundError as error:
                missing = error
        raise missing

    attempt("proc-fd", open_descriptor)
    attempt("proc-root-etc", lambda: os.listdir(f"/proc/{pid}/root/etc"))
    attempt("proc-visible", lambda: os.listdir(f"/proc/{pid}"))
attempt("priority-of-user", lambda: call(numbers["setpriority"], 2, 0, 0))

attempt("abstract-stream", lambda: socket.socket(socket.AF_UNIX).connect(streams))
attempt("abstract-datagram", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", datagrams))
if "CODEX_ESCALATE_SOCKET" in os.environ:
    session = socket.socket(fileno=os.dup(int(os.environ["CODEX_ESCALATE_SOCKET"])))
    attempt("session-socket-sendto", lambda: session.sendto(b"x", datagrams))
    attempt("session-socket-sendmsg", lambda: session.sendmsg([b"x"], [], 0, datagrams))
    attempt("session-socket-connect", lambda: session.connect(datagrams))
attempt("datagram-pair", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", datagrams))
one, other = socket.socketpair()
attempt("own-pair", lambda: one.send(b"x"))
for family in ["AF_PACKET", "AF_NETLINK", "AF_VSOCK", "AF_ALG"]:
    if hasattr(socket, family):
        attempt("socket-" + family, lambda: socket.socket(getattr(socket, family), socket.SOCK_RAW))
attempt("socket-raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))

key = int(sys.argv[4])


def shared_memory():
    if libc.shmget(key, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "")


attempt("shared-memory", shared_memory)

CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET = 0x10000000, 0x20000, 0x40000000


def in_child(action):
    """What a fork of this process comes to: its errno."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, "")


for name, flag in [("user", CLONE_NEWUSER), ("mount", CLONE_NEWNS), ("net", CLONE_NEWNET)]:
    attempt("unshare-" + name, lambda: in_child(lambda: call(numbers["unshare"], flag)))


def clone():
    pid = call(numbers["clone"], CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


attempt("clone-user", clone)
attempt("clone3", lambda: call(435, 0, 0))
attempt("setns", lambda: call(numbers["setns"], os.open("/proc/self/ns/mnt", os.O_RDONLY), 0))
attempt("mount", lambda: in_child(lambda: call(numbers["mount"], b"none", b"/mnt", b"tmpfs", 0, 0)))
attempt("io_uring", lambda: call(425, 1, ctypes.create_string_buffer(120)))
attempt("keyctl", lambda: call(numbers["keyctl"], 0, -3, 0))
attempt("bpf", lambda: call(numbers["bpf"], 0, 0, 0))
attempt("open-by-handle", lambda: call(numbers["open_by_handle_at"], -100, 0, 0))
if platform.machine() == "x86_64":
    attempt("x32", lambda: call(0x40000000 + 41, socket.AF_UNIX, socket.SOCK_STREAM, 0))

# A file of this user's, in a folder that is not writable inside.
scene = os.path.dirname(os.path.abspath(__file__))
victim = os.path.join(scene, "victims", "file")
# setns(2) leads to the root directory.
inside = os.path.join(scene, "work", "name-inside")
for change, action in [
    ("mode", lambda: os.chmod(victim, 0o640)),
    ("owner", lambda: os.chown(victim, os.getuid(), -1)),
    ("times", lambda: os.utime(victim, (1, 1))),
    ("xattr", lambda: os.setxattr(victim, "user.tried", b"1")),
    ("size", lambda: os.truncate(victim, 0)),
    ("second-name", lambda: os.link(victim, victim + "-second")),
    ("name-inside", lambda: os.link(victim, inside)),
    ("name", lambda: os.rename(victim, victim + "-other")),
]:
    attempt("outside-" + change, action)

try:
    terminal = os.open("/dev/tty", os.O_RDWR)
except OSError:
    terminal = None
if terminal is not None:
    attempt("tiocsti", lambda: fcntl.ioctl(terminal, termios.TIOCSTI, b"\n"))
    # The kernel looks at the lower half of the command only.
    ioctl = {"x86_64": 16, "aarch64": 29}[platform.machine()]
    attempt("tiocsti-high", lambda: call(ioctl, terminal, 0x100000000 | termios.TIOCSTI, b"\n"))
    attempt("tioclinux", lambda: fcntl.ioctl(terminal, 0x541C, b"\x03"))
print("tried")
