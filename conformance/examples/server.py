#!/usr/bin/python3 -ISXutf8
"""A server for shell escalation and its shim, with nothing but Python's standard library (3.10 or later).

A suite starts it and speaks the harness protocol with it. `class Shim` does that; everything before is the server,
which asks its policy, a coroutine, about each request. Names in parentheses are requirements of ../SPEC.md. Each
request has a process of its own, whose channel to the session ends with the session or the server. It is the
subreaper of the escalated tree: whatever loses its parent there becomes its own child, and only own children, whose
ids nobody else can get, are ever killed. No process has threads: nothing is forked at a wrong moment.
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
import subprocess
import sys

# Never O_NONBLOCK: others may hold the same description, and could take it away.
FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC | socket.MSG_NOSIGNAL
RIGHTS = (socket.SCM_RIGHTS, 4)  # Where a peer has the kernel add its pidfd (SCM_PIDFD), that is one too many.
LOADERS = ("LD_", "BASH_FUNC_", "GLIBC_TUNABLES=", "BASH_ENV=", "ENV=", "SHELLOPTS=", "BASHOPTS=", "PS4=", "ZDOTDIR=")
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER, RT_SIGACTION = 36, {"x86_64": 13}.get(os.uname().machine, 134)
ABOUT = {"protocol": 1, "implementation": {"name": "python-example", "version": "1"}, "capabilities": [
    "session", "cancel", "exec", "unrelated", "signals", "bytes", "umask", "stopped"]}

def demand(condition, otherwise):
    if not condition:
        raise ValueError(otherwise)  # The request fails closed: its stream is closed, and nothing runs.

def text(value):
    """A text of a request. Decoding comes first (wire.bytes): equal bytes become equal texts."""
    demand(isinstance(value, str) and "\0" not in value, "a wrong type or a NUL")
    return os.fsdecode(value.encode("utf-8", "surrogateescape"))

def check_request(message):
    argv, env, umask = message.get("argv"), message.get("env"), message.get("umask", 0)
    demand(isinstance(argv, list) and isinstance(env, dict) and type(umask) is int and 0 <= umask <= 0o777, "a type")
    file, workdir = text(message.get("file")), text(message.get("workdir"))
    demand(workdir.startswith("/"), "a workdir that is not absolute")
    # Only `.` may go by looking at names: `..` behind a symbolic link is the kernel's to resolve.
    path = os.path.join(workdir, file)
    program = "/".join(part for part in path.split("/") if part != ".") + ("/" if path.endswith("/.") else "")
    return {"program": program, "file": file, "argv": list(map(text, argv)), "workdir": workdir,
            "env": {text(name): text(value) for name, value in env.items()}, "umask": message.get("umask")}

def close_all(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)

def close_all_but(keep):
    for low, high in itertools.pairwise([-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]):
        if low + 1 < high:  # In some versions os.closerange(0, 0) closes everything.
            os.closerange(low + 1, high)

def receive_first(sock):
    """A first byte and the descriptors that came with it; none of them if there were too many (wire.fds)."""
    # Not by socket.recv_fds, which drops its flags in some versions: a blocking, inheritable receive.
    byte, control, flags, _ = sock.recvmsg(1, socket.CMSG_SPACE(16 * 4), FLAGS)
    descriptors = [number for _, kind, data in control if kind in RIGHTS for number in memoryview(data).cast("i")]
    if flags & socket.MSG_CTRUNC:
        close_all(descriptors)
        descriptors = []
    return byte, descriptors

def start(work, tasks):
    tasks.add(task := asyncio.create_task(work))
    task.add_done_callback(tasks.discard)
    return task

async def ready(descriptor, kind="reader"):
    loop = asyncio.get_running_loop()
    event = loop.create_future()
    getattr(loop, f"add_{kind}")(descriptor, lambda: event.done() or event.set_result(None))
    try:
        await event
    finally:
        getattr(loop, f"remove_{kind}")(descriptor)

async def send_message(stream, message):
    payload = json.dumps(message).encode("ascii")
    data = memoryview(len(payload).to_bytes(4, "little") + payload)
    while data:
        try:
            data = data[stream.send(data, FLAGS):]
        except BlockingIOError:
            await ready(stream, "writer")

async def read_message(stream, descriptors=None):
    """The next message. Descriptors go to the list or are closed; with later bytes the kernel drops them."""
    data, wanted = bytearray(), 4
    while len(data) < wanted:
        try:
            if data:
                piece = stream.recv(min(wanted - len(data), 65536), FLAGS)
            else:
                piece, came = receive_first(stream)
                close_all(came) if descriptors is None else descriptors.extend(came)
        except BlockingIOError:
            await ready(stream)
            continue
        demand(piece, "the wrapper is gone")
        data += piece
        if len(data) == 4:
            wanted += int.from_bytes(data, "little")
            demand(wanted <= 2**27, f"a message of {wanted - 4} bytes")
    message = json.loads(data[4:].decode("utf-8"), parse_constant=lambda name: demand(False, name))
    demand(isinstance(message, dict), "a message that is no object")
    return message

async def ended(pid):
    """Reap a child of this process when it has ended: its exit status, or a signal's number as a negative one."""
    descriptor = os.pidfd_open(pid)
    await ready(descriptor)
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def first(*works):
    """Run all until one has ended, and cancel the others: nobody watches a descriptor that is closed next."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

class Session:
    """One escalation socket. `policy(request)` is awaited for each request; `parent`, a future, cancels."""
    def __init__(self, wrapper, policy, parent):
        self.loop, self.policy, self.requests, self.processes = asyncio.get_running_loop(), policy, set(), set()
        self.server_end, self.client_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.overlay = {"CODEX_ESCALATE_SOCKET": str(self.client_end.fileno()), "EXEC_WRAPPER": wrapper}
        self.loop.add_reader(self.server_end, self.receive_handshake)
        parent.add_done_callback(lambda _: self.loop.create_task(self.close()))

    def receive_handshake(self):
        with contextlib.suppress(OSError):
            _, descriptors = receive_first(self.server_end)
            if len(descriptors) == 1:
                self.start(descriptors, lambda ask: serve(descriptors[0], ask))
            close_all(descriptors)

    def start(self, keep, work):
        ours, channel = socket.socketpair()
        pid = fork(lambda: asyncio.run(oversee(channel, work)), {2, channel.fileno(), *keep})
        channel.close()
        start(self.attend(ours), self.requests).add_done_callback(lambda _: ours.close())  # Even if it never began.
        start(ended(pid), self.processes)

    async def attend(self, channel):
        with contextlib.suppress(OSError, ValueError):  # The request's process is gone.
            request = await read_message(channel)
            answer, _ = await first(self.policy(request), ready(channel))
            if not answer.cancelled():
                await send_message(channel, answer.result())
                await ready(channel)

    async def close(self):
        """No request is served any more, and nothing of them lives when this returns. It may be called again."""
        if self.server_end.fileno() >= 0:
            self.loop.remove_reader(self.server_end)
        self.server_end.close()
        self.client_end.close()
        for request in self.requests:
            request.cancel()
        await asyncio.gather(*self.requests, *self.processes, return_exceptions=True)

def fork(work, keep):
    """Run it in a process that keeps these descriptors alone, and never returns into this one's event loop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if (pid := os.fork()) == 0:
        try:
            os.setpgid(0, 0)
            close_all_but(keep)
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return pid

async def oversee(channel, work):
    """In the request's process: work until it is done or the channel ends, and leave nothing behind."""
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
    with contextlib.suppress(ChildProcessError):
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                for pid in file.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)  # The children of the one that has ended are now this process's own.

async def serve(handed_over, ask):
    stream, descriptors = socket.socket(fileno=handed_over), []
    stream.getpeername()  # An OSError where nobody is connected.
    demand((stream.family, stream.type) == (socket.AF_UNIX, socket.SOCK_STREAM), "not the stream of a wrapper")
    request = check_request(await read_message(stream))
    # A wrapper has nothing to say now: what comes is the end of file, or out of turn (server.disconnect).
    answer, _ = await first(ask(request), ready(stream))
    demand(not answer.cancelled(), "the wrapper is gone")
    action, reason = answer.result().get("action"), answer.result().get("reason")
    demand(action in ("run", "escalate", "deny") and isinstance(reason, (str, type(None))), "the policy's answer")
    await send_message(stream, {"action": {"Deny": {"reason": reason}} if action == "deny" else action.capitalize()})
    if action == "escalate":
        message = await read_message(stream, descriptors)
        numbers, signals, limit = message.get("fds"), message.get("signals", False), os.sysconf("SC_OPEN_MAX")
        demand(isinstance(numbers, list) and isinstance(signals, bool), "a wrong type")
        demand(all(type(n) is int and 0 <= n < limit for n in numbers), "a number that no descriptor can have")
        demand(len(set(numbers)) == len(numbers) == len(descriptors), "numbers and descriptors that don't match")
        env = {name: value for name, value in request["env"].items() if not f"{name}=".startswith(LOADERS)}
        await execute(stream, request | {"env": env}, dict(zip(numbers, descriptors)), signals)

async def execute(stream, command, mapping, signals):
    """Report what happens to the child and pass signals on to it; returns when nothing of it is left."""
    statuses, childless = asyncio.Queue(), asyncio.Event()

    def reap():
        nonlocal child
        try:
            while (change := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                if change[0] == child:
                    child = child if os.WIFSTOPPED(change[1]) else None
                    statuses.put_nowait(change[1])
        except ChildProcessError:
            childless.set()

    async def report():
        while os.WIFSTOPPED(status := await statuses.get()):
            if signals:
                await send_message(stream, {"stopped": os.WSTOPSIG(status)})
        code = os.waitstatus_to_exitcode(status)
        await send_message(stream, {"exit_code": code} if code >= 0 else {"exit_code": 128 - code, "signal": -code})

    async def obey():
        while True:
            number = (await read_message(stream)).get("signal")
            demand(type(number) is int, "not a signal frame")
            if child and 0 < number < signal.NSIG:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, number)

    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
    child = fork(lambda: become(command, mapping), mapping.values())
    with contextlib.suppress(OSError):
        os.setpgid(child, child)  # The child does so too, whoever comes first.
    close_all(mapping.values())  # server.escalate.eof
    _, reporting = await first(obey(), report())
    reporting.result()  # Raises when the wrapper has gone before.
    stream.close()
    await childless.wait()

def become(command, mapping):
    """Turn into the command. All signals are blocked until everything is in place."""
    for number in range(1, signal.NSIG):  # By system call: the C library keeps 32 and 33 to itself.
        LIBC.syscall(RT_SIGACTION, number, bytes(32), None, 8)
    # Two phases (server.escalate.fd-map): away from all wanted numbers, then each to its own.
    spare = (number for number in itertools.count(3) if number not in {*mapping, *mapping.values()})
    moved = {number: os.dup2(source, next(spare)) for number, source in mapping.items()}
    for number, source in moved.items():
        os.dup2(source, number)
    close_all_but(mapping)
    try:
        if command["umask"] is not None:
            os.umask(command["umask"])
        os.chdir(command["workdir"])
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        file, argv, env = command["file"], command["argv"], list(map("=".join, command["env"].items()))
        # Not by os.execve, which refuses what the system call takes, an empty argv[0] for one.
        strings = lambda texts: (ctypes.c_char_p * (len(texts) + 1))(*map(os.fsencode, texts), None)
        LIBC.execve(os.fsencode(file), strings(argv), strings(env))
        if ctypes.get_errno() == errno.ENOEXEC:  # A text without `#!`: as execvp(3) does it.
            LIBC.execve(b"/bin/sh", strings(["/bin/sh", "--", file, *argv[1:]]), strings(env))
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # Its standard error may be closed, or nobody may read it.
            os.write(2, f"server: {command['program']}: {error.strerror}".encode("ascii", "backslashreplace") + b"\n")
        os._exit(127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126)

async def read_pipe(file):
    reader = asyncio.StreamReader(limit=2**28)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return reader

async def one_shot(session, shell, command, workdir, env, timeout_ms=None, login=True, **_):
    """Run one command of a shell, whose tree is overseen like an escalated child's."""
    (ours, theirs), outputs, client = socket.socketpair(), [], session.client_end
    mapping = {0: os.open(os.devnull, os.O_RDONLY), client.fileno(): client.detach()}
    for number in (1, 2):
        reading, mapping[number] = os.pipe()
        outputs.append(asyncio.create_task((await read_pipe(open(reading, "rb", 0))).read()))
    run = {"program": shell, "file": shell, "argv": [shell, "-lc" if login else "-c", command], "umask": None,
           "workdir": workdir, "env": env | session.overlay}
    session.start({theirs.fileno(), *mapping.values()}, lambda ask: execute(theirs, run, mapping, False))
    theirs.close()
    close_all(mapping.values())
    result = asyncio.create_task(read_message(ours))
    timed_out = not (await asyncio.wait([result], timeout=timeout_ms and timeout_ms / 1000))[0]
    await session.close()  # After it nobody holds the outputs any more, so they end.
    stdout, stderr = [(await output).decode("utf-8", "replace") for output in outputs]
    await asyncio.wait([result])
    ours.close()
    return {"exit_code": 124 if timed_out else result.result()["exit_code"], "stdout": stdout, "stderr": stderr,
            "timed_out": timed_out}

class Shim:
    sessions, processes, ids, questions, tasks = {}, {}, itertools.count(1), {}, set()

    async def run(self):
        async for line in await read_pipe(sys.stdin):
            message = json.loads(line)
            if "method" in message:
                start(self.handle(message), self.tasks)
            elif (question := self.questions.pop(message["id"], None)) and not question.done():
                question.set_result(message.get("result"))
        await self.handle({"method": "shutdown", "id": None})

    async def handle(self, message):
        try:
            answer = {"result": await self.perform(message["method"], message.get("params", {}))}
        except Exception as error:
            code = {NotImplementedError: -32601, KeyError: -32602}.get(type(error), -32000)
            answer = {"error": {"code": code, "message": repr(error)}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"]} | answer), flush=True)
        if message["method"] == "shutdown":
            os._exit(0)

    async def decide(self, session, request):
        number = next(self.ids)
        self.questions[number] = question = asyncio.get_running_loop().create_future()
        params = {"session": session} | {name: request[name] for name in ("program", "argv", "workdir", "env")}
        print(json.dumps({"jsonrpc": "2.0", "id": number, "method": "policy/decide", "params": params}), flush=True)
        demand(isinstance(answer := await question, dict), "the policy failed")
        return answer

    def spawn(self, params, overlay={}, keep=()):
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(open(params.get(name) or os.devnull, mode))
                     for name, mode in (("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb"))}
            process = subprocess.Popen(params["argv"], cwd=params["cwd"], env=params["env"] | overlay, pass_fds=keep,
                                       **files)
        process.returncode = 0  # It is waited for elsewhere.
        self.processes[process.pid] = asyncio.create_task(ended(process.pid))
        return {"pid": process.pid}

    async def perform(self, method, params):
        name, parent = params.get("session"), asyncio.get_running_loop().create_future()
        if method in ("session/start", "exec"):
            session = Session(params["wrapper"], lambda request: self.decide(name, request), parent)
            self.sessions[name] = session, parent
        elif method.startswith("session/"):
            session, parent = self.sessions[name]
        match method:
            case "initialize":
                return ABOUT
            case "session/start":
                return {"env": session.overlay}
            case "session/spawn":
                with session.client_end as client:
                    return self.spawn(params, session.overlay, [client.fileno()])
            case "session/cancel":
                parent.cancel()
            case "session/close":
                await session.close()
            case "exec":
                return await one_shot(**params | {"session": session})
            case "process/spawn":
                return self.spawn(params)
            case "session/wait" | "process/wait":
                code = await asyncio.shield(self.processes[params["pid"]])
                return {"exit_code": code, "signal": None} if code >= 0 else {"exit_code": None, "signal": -code}
            case "shutdown":
                for session, _ in self.sessions.values():
                    await session.close()
                for pid in [pid for pid, process in self.processes.items() if not process.done()]:
                    os.kill(pid, signal.SIGKILL)
            case _:
                raise NotImplementedError(method)
        return {}

asyncio.run(Shim().run())
