"""A server for shell escalation, with nothing but Python's standard library (3.10 or later).

`Session` is one escalation socket. Its policy, a coroutine, is asked about each request. shim.py
beside this file lets the conformance suite use it; names in parentheses are requirements of
../SPEC.md.

Each request has a process of its own, which is connected to the session by a channel: a stream
socket that ends with the session or with the server. That process serves the wrapper and, after
Escalate, starts the child. It is the subreaper of the escalated tree: a process that loses its
parent there becomes its own child. Only own children are ever killed, because no other process can
get their ids before they have been waited for. No process has threads, so a fork never copies a
lock that another thread holds.
"""

import asyncio
import contextlib
import ctypes
import errno
import itertools
import json
import os
import signal
import socket
import sys

SCM_PIDFD = 4
PR_SET_CHILD_SUBREAPER = 36
RT_SIGACTION = 13 if os.uname().machine == "x86_64" else 134
LIBC = ctypes.CDLL(None, use_errno=True)

# Never O_NONBLOCK: other processes may hold the same description, and could take the flag away.
FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC | socket.MSG_NOSIGNAL

LONGEST_PAYLOAD = 2**27
LONGEST_STANDSTILL = 600  # Seconds for which a one-shot's clock stands still, in all.
MOST_DESCRIPTORS = 16

# Variables that an escalated child does not get.
LOADERS = (
    "LD_",
    "BASH_FUNC_",
    "GLIBC_TUNABLES=",
    "BASH_ENV=",
    "ENV=",
    "SHELLOPTS=",
    "BASHOPTS=",
    "PS4=",
    "ZDOTDIR=",
)


def demand(condition, otherwise):
    """Fail closed unless the condition holds: the request's stream is closed and nothing runs."""
    if not condition:
        raise ValueError(otherwise)


# Requests


def check_request(message):
    """The request in a message of the wrapper, with the program that the policy decides on."""
    argv = message.get("argv")
    env = message.get("env")
    umask = message.get("umask")
    demand(isinstance(argv, list), "argv is not a list")
    demand(isinstance(env, dict), "env is not an object")
    if "umask" in message:
        demand(type(umask) is int and 0 <= umask <= 0o777, "umask is not a file mode")
    file = text(message.get("file"))
    workdir = text(message.get("workdir"))
    demand(workdir.startswith("/"), "workdir is not absolute")
    return {
        "program": program_path(workdir, file),
        "file": file,
        "argv": [text(argument) for argument in argv],
        "workdir": workdir,
        "env": {text(name): text(value) for name, value in env.items()},
        "umask": umask,
    }


def text(value):
    """A string of a request. It is decoded first (wire.bytes): equal bytes become equal strings."""
    demand(isinstance(value, str) and "\0" not in value, "not a string, or one with a NUL")
    return os.fsdecode(value.encode("utf-8", "surrogateescape"))


def program_path(workdir, file):
    """The absolute path without `.`; `..` behind a symbolic link is for the kernel to resolve."""
    path = os.path.join(workdir, file)
    parts = [part for part in path.split("/") if part != "."]
    # A trailing `.` demands a directory, and so does the slash.
    return "/".join(parts) + ("/" if path.endswith("/.") else "")


# Descriptors


def close_all(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)


def close_all_but(keep):
    bounds = [-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(bounds):
        # In some versions os.closerange(0, 0) closes everything.
        if low + 1 < high:
            os.closerange(low + 1, high)


def receive_first(sock):
    """The first byte and the descriptors that came with it; none if too many came (wire.fds)."""
    # Not by socket.recv_fds, which drops its flags in some versions: a blocking, inheritable
    # receive.
    byte, control, flags, _ = sock.recvmsg(1, socket.CMSG_SPACE(MOST_DESCRIPTORS * 4), FLAGS)
    descriptors = []
    for _, kind, data in control:
        # Where the peer has the kernel add its pidfd, that is one descriptor too many.
        if kind in (socket.SCM_RIGHTS, SCM_PIDFD):
            descriptors.extend(memoryview(data).cast("i"))
    if flags & socket.MSG_CTRUNC:
        close_all(descriptors)
        descriptors = []
    return byte, descriptors


# Waiting


async def readable(descriptor):
    loop = asyncio.get_running_loop()
    event = loop.create_future()
    loop.add_reader(descriptor, set_once, event)
    try:
        await event
    finally:
        loop.remove_reader(descriptor)


async def writable(descriptor):
    loop = asyncio.get_running_loop()
    event = loop.create_future()
    loop.add_writer(descriptor, set_once, event)
    try:
        await event
    finally:
        loop.remove_writer(descriptor)


def set_once(event):
    if not event.done():
        event.set_result(None)


async def first(*works):
    """Run all until one has ended, and cancel the others.

    When this returns the others have ended, too: they watch no descriptor that is closed next.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def start(work, tasks):
    """Run it in the background; `tasks` holds it until it has ended."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def ended(pid):
    """Reap a child of this process when it has ended.

    Returns its exit status, or the number of the signal that killed it as a negative number.
    """
    descriptor = os.pidfd_open(pid)
    await readable(descriptor)
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


# Messages: a length of four bytes, and JSON


async def send_message(stream, message):
    payload = json.dumps(message).encode("ascii")
    data = memoryview(len(payload).to_bytes(4, "little") + payload)
    while data:
        try:
            sent = stream.send(data, FLAGS)
        except BlockingIOError:
            await writable(stream)
            continue
        data = data[sent:]


async def read_message(stream, descriptors=None):
    """The next message. Descriptors that come with its first byte go to the list, or are closed if
    there is none.

    Descriptors that come later are dropped by the kernel, because nobody has room for them.
    """
    data = bytearray()
    wanted = 4
    while len(data) < wanted:
        try:
            if data:
                piece = stream.recv(min(wanted - len(data), 65536), FLAGS)
            else:
                piece, came = receive_first(stream)
                if descriptors is None:
                    close_all(came)
                else:
                    descriptors.extend(came)
        except BlockingIOError:
            await readable(stream)
            continue
        demand(piece, "the peer is gone")
        data += piece
        if len(data) == 4:
            length = int.from_bytes(data, "little")
            demand(length <= LONGEST_PAYLOAD, f"a message of {length} bytes")
            wanted += length
    message = json.loads(data[4:].decode("utf-8"), parse_constant=refuse_constant)
    demand(isinstance(message, dict), "a message that is not an object")
    return message


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


# The session


class Session:
    """One escalation socket.

    `policy(request)` is awaited for each request and returns `{"action": "run"}`, `{"action":
    "escalate"}` or `{"action": "deny", "reason": ...}`. When `parent`, a future, is done or
    cancelled, the session closes.
    """

    def __init__(self, wrapper, policy, parent):
        self.loop = asyncio.get_running_loop()
        self.policy = policy
        self.clock = Clock()
        self.requests = set()
        self.processes = set()
        self.server_end, self.client_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.overlay = {
            "CODEX_ESCALATE_SOCKET": str(self.client_end.fileno()),
            "EXEC_WRAPPER": wrapper,
        }
        self.loop.add_reader(self.server_end, self.receive_handshake)
        parent.add_done_callback(lambda _: self.loop.create_task(self.close()))

    def receive_handshake(self):
        with contextlib.suppress(OSError):
            _, descriptors = receive_first(self.server_end)
            if len(descriptors) == 1:
                self.start(descriptors, lambda ask: serve(descriptors[0], ask))
            close_all(descriptors)

    def start(self, keep, work):
        """Do `work(ask)` in a process that keeps these descriptors.

        `ask(request)` lets the policy of this session decide.
        """
        ours, channel = socket.socketpair()
        pid = fork(lambda: asyncio.run(oversee(channel, work)), {2, channel.fileno(), *keep})
        channel.close()
        request = start(self.attend(ours), self.requests)
        # By callback, because a task that is cancelled early never runs its `finally`.
        request.add_done_callback(lambda _: ours.close())
        start(ended(pid), self.processes)

    async def attend(self, channel):
        """Let the policy answer a request's process, and stay until that process is gone."""
        with contextlib.suppress(OSError, ValueError):
            request = await read_message(channel)
            answer, _ = await first(self.policy(request), readable(channel))
            if not answer.cancelled():
                await send_message(channel, answer.result())
                await readable(channel)

    async def close(self):
        """Serve no request any more. May be called again.

        When this returns, no process of a request or of its tree is left.
        """
        if self.server_end.fileno() >= 0:
            self.loop.remove_reader(self.server_end)
        self.server_end.close()
        self.client_end.close()
        for request in self.requests:
            request.cancel()
        await asyncio.gather(*self.requests, *self.processes, return_exceptions=True)


class Clock:
    """The clock of a timeout. It stands still while an approver decides."""

    def __init__(self):
        self.stops = 0
        self.changed = asyncio.Event()

    @contextlib.contextmanager
    def stopped(self):
        self.stops += 1
        self.changed.set()
        try:
            yield
        finally:
            self.stops -= 1
            self.changed.set()

    async def passes(self, seconds):
        """Return when it has run for so long."""
        loop = asyncio.get_running_loop()
        left = {"runs": seconds, "stands still": LONGEST_STANDSTILL}
        while left["runs"] > 0:
            does = "stands still" if self.stops and left["stands still"] > 0 else "runs"
            begun = loop.time()
            self.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait(), left[does])
            left[does] -= loop.time() - begun


async def one_shot(session, shell, command, workdir, env, timeout_ms=None, login=True):
    """Run one command of a shell in the session, and close the session.

    The shell's tree is overseen as an escalated child's is.
    """
    ours, theirs = socket.socketpair()
    client = session.client_end
    mapping = {0: os.open(os.devnull, os.O_RDONLY), client.fileno(): client.detach()}
    outputs = []
    for number in (1, 2):
        reading, mapping[number] = os.pipe()
        reader = await read_pipe(open(reading, "rb", 0))
        outputs.append(asyncio.create_task(reader.read()))
    shell_call = {
        "program": shell,
        "file": shell,
        "argv": [shell, "-lc" if login else "-c", command],
        "workdir": workdir,
        "env": env | session.overlay,
        "umask": None,
    }
    keep = {theirs.fileno(), *mapping.values()}
    session.start(keep, lambda ask: execute(theirs, shell_call, mapping, signals=False))
    theirs.close()
    close_all(mapping.values())
    result = asyncio.create_task(read_message(ours))
    if timeout_ms is None:
        await asyncio.wait([result])
    else:
        await first(asyncio.wait([result]), session.clock.passes(timeout_ms / 1000))
    timed_out = not result.done()
    # After this no process holds the outputs any more, so they end.
    await session.close()
    stdout, stderr = [(await output).decode("utf-8", "surrogateescape") for output in outputs]
    await asyncio.wait([result])
    ours.close()
    return {
        "exit_code": 124 if timed_out else result.result()["exit_code"],
        "stdout": stdout,
        "stderr": stderr,
        "timed_out": timed_out,
    }


async def read_pipe(file):
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**28)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader


def fork(work, keep, new_session=False):
    """Do the work in a new process that keeps only these descriptors, in a process group of its
    own, or a POSIX session.

    It never returns into the event loop of this process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid == 0:
        try:
            if new_session:
                os.setsid()
            else:
                os.setpgid(0, 0)
            close_all_but(keep)
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return pid


# In the process of a request


async def oversee(channel, work):
    """Work until that is done or the channel ends, and leave nothing behind."""
    answers = asyncio.Queue()

    async def listen():
        while True:
            answers.put_nowait(await read_message(channel))

    async def ask(request):
        await send_message(channel, request)
        return await answers.get()

    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    working, _ = await first(work(ask), listen())
    if not working.cancelled() and working.exception():
        print(f"server: a request has failed: {working.exception()!r}", file=sys.stderr, flush=True)
    kill_children()


def kill_children():
    """Kill until there are none. The children of one that has ended become this process's own."""
    with contextlib.suppress(ChildProcessError):
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = file.read().split()
            for pid in children:
                os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


async def serve(handed_over, ask):
    """Serve the wrapper at the other end of the stream that it has handed over."""
    stream = socket.socket(fileno=handed_over)
    stream.getpeername()  # Raises an OSError unless it is connected.
    kind = (stream.family, stream.type)
    demand(kind == (socket.AF_UNIX, socket.SOCK_STREAM), "not a stream of this system")
    request = check_request(await read_message(stream))
    # A wrapper sends nothing now: what comes is the end of file, or out of turn
    # (server.disconnect).
    deciding, _ = await first(ask(request), readable(stream))
    demand(not deciding.cancelled(), "the wrapper is gone")
    decision = deciding.result()
    action = decision.get("action")
    reason = decision.get("reason")
    demand(action in ("run", "escalate", "deny"), "the policy's action is unknown")
    demand(reason is None or isinstance(reason, str), "the policy's reason is not a string")
    if action == "deny":
        await send_message(stream, {"action": {"Deny": {"reason": reason}}})
    elif action == "run":
        await send_message(stream, {"action": "Run"})
    else:
        await send_message(stream, {"action": "Escalate"})
        await escalate(stream, request)


async def escalate(stream, request):
    """Receive the wrapper's descriptors and execute the request with them."""
    descriptors = []
    message = await read_message(stream, descriptors)
    numbers = message.get("fds")
    signals = message.get("signals", False)
    limit = os.sysconf("SC_OPEN_MAX")
    demand(isinstance(numbers, list), "fds is not a list")
    demand(isinstance(signals, bool), "signals is not a truth value")
    for number in numbers:
        demand(
            type(number) is int and 0 <= number < limit, "fds has what is not a descriptor's number"
        )
    demand(len(set(numbers)) == len(numbers), "fds names a number twice")
    demand(len(numbers) == len(descriptors), "not as many descriptors as numbers")
    command = request | {"env": child_environment(request)}
    await execute(stream, command, dict(zip(numbers, descriptors)), signals)


def child_environment(request):
    """The environment of a request without what makes loaders and shells execute other code."""
    variables = request["env"].items()
    return {name: value for name, value in variables if not f"{name}=".startswith(LOADERS)}


async def execute(stream, command, mapping, signals):
    """Start the child, report what happens to it, and pass signals on to it, until nothing of its
    tree is left.

    `mapping` has the descriptor for each number that the child is to have. Stops are reported if
    `signals` says so.
    """
    statuses = asyncio.Queue()
    childless = asyncio.Event()
    child = None

    def reap():
        nonlocal child
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    return
                if pid == child:
                    statuses.put_nowait(status)
                    if not os.WIFSTOPPED(status):
                        child = None
        except ChildProcessError:
            childless.set()

    async def report():
        status = await statuses.get()
        while os.WIFSTOPPED(status):
            if signals:
                await send_message(stream, {"stopped": os.WSTOPSIG(status)})
            status = await statuses.get()
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            await send_message(stream, {"exit_code": code})
        else:
            await send_message(stream, {"exit_code": 128 - code, "signal": -code})

    async def obey():
        while True:
            message = await read_message(stream)
            number = message.get("signal")
            demand(type(number) is int, "not a signal frame")
            if child and 0 < number < signal.NSIG:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, number)

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
    child = fork(lambda: become(command, mapping), mapping.values())
    with contextlib.suppress(OSError):
        os.setpgid(child, child)  # The child does so too, whichever comes first.
    close_all(mapping.values())  # server.escalate.eof
    _, reporting = await first(obey(), report())
    reporting.result()  # Raises if the wrapper went away before.
    stream.close()
    await childless.wait()


# In the child


def become(command, mapping):
    """Turn into the command. All signals are blocked until everything is in place."""
    reset_signals()
    place_descriptors(mapping)
    try:
        if command["umask"] is not None:
            os.umask(command["umask"])
        os.chdir(command["workdir"])
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        number = execve(command["file"], command["argv"], command["env"])
        raise OSError(number, os.strerror(number))
    except OSError as error:
        message = f"server: {command['program']}: {error.strerror}\n"
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # Standard error may be closed, or have no reader.
            os.write(2, message.encode("ascii", "backslashreplace"))
        os._exit(127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126)


def reset_signals():
    """All to their defaults, by system call: the C library keeps 32 and 33 to itself."""
    for number in range(1, signal.NSIG):
        LIBC.syscall(RT_SIGACTION, number, bytes(32), None, 8)


def place_descriptors(mapping):
    """Give each descriptor its number (server.escalate.fd-map), and close all others."""
    taken = {*mapping, *mapping.values()}
    spare = (number for number in itertools.count(3) if number not in taken)
    # Away from all wanted numbers first, so that no move overwrites what is still to be moved.
    moved = {number: os.dup2(source, next(spare)) for number, source in mapping.items()}
    for number, source in moved.items():
        os.dup2(source, number)
    close_all_but(mapping)


def execve(file, argv, env):
    """execve(2), returning errno.

    os.execve refuses arguments that the system call accepts, such as an empty argv[0].
    """
    entries = c_strings([f"{name}={value}" for name, value in env.items()])
    LIBC.execve(os.fsencode(file), c_strings(argv), entries)
    if ctypes.get_errno() == errno.ENOEXEC and is_text(file):
        # A script without `#!`: as execvp(3) does it.
        LIBC.execve(b"/bin/sh", c_strings(["/bin/sh", "--", file, *argv[1:]]), entries)
    return ctypes.get_errno()


def is_text(file):
    """Whether the file isn't ELF and has no NUL in its first line; bash and zsh look at the same."""
    try:
        with open(file, "rb") as opened:
            start = opened.read(80)
    except OSError:
        return True
    return not start.startswith(b"\x7fELF") and b"\0" not in start.partition(b"\n")[0]


def c_strings(strings):
    array = ctypes.c_char_p * (len(strings) + 1)
    return array(*map(os.fsencode, strings), None)
