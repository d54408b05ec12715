"""Terminals that live on between calls, beside the server in server.py; section 13 of ../SPEC.md.

Each terminal has a process of its own, its keeper, which starts the terminal's process and is the
subreaper of its tree, as the process of a request is. On a pseudo-terminal the keeper leads the
POSIX session: when the leader of a session ends, output that has not been read yet may be lost.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import socket
import struct
import termios

import server

ROOM = 64
PROTECTED = 8
KEPT_OF_EACH_END = 2**19
PAUSE = 0.02


def is_call_of(shell, argv):
    """Whether it is SHELL -c SCRIPT or SHELL -lc SCRIPT, behind any launcher (terminal.wrapped)."""
    return len(argv) >= 3 and argv[-3] == shell and argv[-2] in ("-c", "-lc")


class Output:
    """What a terminal's process has written and nobody has read: of too much both ends."""

    def __init__(self):
        self.head = bytearray()
        self.tail = bytearray()
        self.omitted = 0

    def add(self, data):
        self.tail += data
        self.settle()

    def settle(self):
        if not self.omitted:
            room = KEPT_OF_EACH_END - len(self.head)
            self.head += self.tail[:room]
            del self.tail[:room]
        surplus = len(self.tail) - KEPT_OF_EACH_END
        if surplus > 0:
            del self.tail[:surplus]
            self.omitted += surplus

    def take(self, limit):
        """Up to `limit` bytes, how many are left out in them, and where."""
        data = self.head[:limit]
        del self.head[:limit]
        head = len(data)
        if self.head or head == limit and self.tail:
            self.settle()
            return bytes(data), 0, 0
        omitted, self.omitted = self.omitted, 0
        more = limit - head
        data += self.tail[:more]
        del self.tail[:more]
        self.settle()
        return bytes(data), omitted, head

    def __bool__(self):
        return bool(self.head or self.tail or self.omitted)


class Terminal:
    """A process under its keeper. `size` is that of a pseudo-terminal, or None for pipes."""

    def __init__(self, command, size, session, parent):
        self.loop = asyncio.get_running_loop()
        self.session = session
        self.output = Output()
        self.latest = 0
        self.ended = None
        self.closed = asyncio.Event()
        self.changed = asyncio.Event()
        self.tasks = set()
        self.master = None
        mapping = self.make_pipes() if size is None else self.make_pseudo_terminal(size)
        if session is not None:
            client = session.client_end
            number = client.fileno()
            mapping[number] = client.detach()
        self.channel, channel = socket.socketpair()
        work = keep(channel, command, mapping, self.master is not None)
        keeper = server.fork(
            lambda: asyncio.run(work),
            {2, channel.fileno(), *mapping.values()},
            new_session=True,
        )
        work.close()
        channel.close()
        server.close_all(mapping.values())
        for descriptor in self.outputs:
            os.set_blocking(descriptor, False)
            self.loop.add_reader(descriptor, self.take_some, descriptor)
        os.set_blocking(self.input, False)
        self.keeper = server.start(server.ended(keeper), self.tasks)
        server.start(self.attend(), self.tasks)
        parent.add_done_callback(lambda _: self.loop.create_task(self.close()))

    def make_pseudo_terminal(self, size):
        self.master, slave = os.openpty()
        self.resize(*size)
        self.input = self.master
        self.outputs = [self.master]
        return {0: slave, 1: os.dup(slave), 2: os.dup(slave)}

    def make_pipes(self):
        reading, self.input = os.pipe()
        output, writing = os.pipe()
        self.outputs = [output]
        return {0: reading, 1: writing, 2: os.dup(writing)}

    def take_some(self, descriptor):
        """Take a piece of output; false when there is none at the moment, or none will come."""
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:  # No process has the pseudo-terminal open any more.
            data = b""
        if not data:
            self.loop.remove_reader(descriptor)
            self.outputs.remove(descriptor)
            if descriptor != self.master:
                os.close(descriptor)
            return False
        self.output.add(data)
        self.latest = self.loop.time()
        self.changed.set()
        return True

    async def attend(self):
        """Wait for the end of the process; all output before it is taken before it is told."""
        with contextlib.suppress(OSError, ValueError):
            ended = await server.read_message(self.channel)
            for descriptor in list(self.outputs):
                while self.take_some(descriptor):
                    pass
            self.ended = ended
            self.changed.set()

    async def read(self, wait, limit):
        deadline = self.loop.time() + wait
        while True:
            server.demand(not self.closed.is_set(), "the terminal has been closed")
            now = self.loop.time()
            until = min(deadline, self.latest + PAUSE) if self.output else deadline
            if self.ended or now >= until:
                break
            self.changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait(), until - now)
        data, omitted, head = self.output.take(limit)
        ended = None if self.output else self.ended
        return data, omitted, head, ended

    async def write(self, data):
        while data:
            server.demand(not self.closed.is_set(), "the terminal has been closed")
            try:
                data = data[os.write(self.input, data) :]
            except BlockingIOError:
                await server.first(server.writable(self.input), self.closed.wait())

    def resize(self, rows, columns):
        server.demand(self.master is not None, "a terminal on pipes has no size")
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    async def signal(self, number):
        server.demand(0 < number < signal.NSIG, "not a signal")
        if self.ended:
            return
        if self.master is None:
            await server.send_message(self.channel, {"signal": number})
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.tcgetpgrp(self.master), number)

    async def close(self):
        """End everything that was started in it. May be called again."""
        if self.closed.is_set():
            return
        self.closed.set()
        self.changed.set()
        for descriptor in self.outputs:
            self.loop.remove_reader(descriptor)
        self.channel.shutdown(socket.SHUT_RDWR)
        if self.session is not None:
            await self.session.close()
        await self.keeper
        for task in self.tasks:
            task.cancel()
        server.close_all({self.input, *self.outputs})
        self.channel.close()


class Terminals:
    """All terminals of this host, the one used least recently first."""

    def __init__(self):
        self.there = {}
        self.ids = itertools.count(1)
        self.closing = set()

    def open(self, command, size, session, parent):
        if len(self.there) >= ROOM:
            self.prune()
        terminal = Terminal(command, size, session, parent)
        name = next(self.ids)
        self.there[name] = terminal
        parent.add_done_callback(lambda _: self.there.pop(name, None))
        return name

    def prune(self):
        candidates = list(self.there)[:-PROTECTED]
        ended = [name for name in candidates if self.there[name].ended]
        self.close((ended or candidates)[0])

    def close(self, name):
        server.start(self.there.pop(name).close(), self.closing)

    def use(self, name):
        """The terminal of that name, which thereby becomes the one used last."""
        terminal = self.there.pop(name)
        self.there[name] = terminal
        return terminal

    async def close_all(self):
        for name in list(self.there):
            self.close(name)
        await asyncio.gather(*self.closing)


# In the keeper


async def keep(channel, command, mapping, on_pseudo_terminal):
    """Run the command, tell of its end, and end its tree when the channel ends."""
    child = None

    def reap():
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == child:
                    code = os.waitstatus_to_exitcode(status)
                    ended = {"exit_code": code, "signal": None}
                    if code < 0:
                        ended = {"exit_code": None, "signal": -code}
                    server.start(server.send_message(channel, ended), telling)

    telling = set()
    server.LIBC.prctl(server.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if on_pseudo_terminal:
        fcntl.ioctl(mapping[0], termios.TIOCSCTTY, 0)
        os.dup(mapping[0])  # So that it is open as long as the keeper lives.
        # When the host lets go of the other end, the end of the channel follows.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
    child = server.fork(lambda: become(command, mapping, on_pseudo_terminal), mapping.values())
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    server.close_all(mapping.values())
    with contextlib.suppress(OSError, ValueError):
        while True:
            order = await server.read_message(channel)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, order["signal"])
    server.kill_children()


def become(command, mapping, on_pseudo_terminal):
    """Turn into the command, in the foreground. SIGTTOU is blocked until then, as all signals."""
    if on_pseudo_terminal:
        os.tcsetpgrp(mapping[0], os.getpid())
    server.become(command, mapping)


# Tools


def select_tools(shell_tool, wrapped_shell, unified_exec, composition, environment):
    """The tools that a model is offered, and the backend that serves them (tools.select)."""
    if not shell_tool:
        return [], "direct"
    backend = "wrapped" if wrapped_shell and environment == "local" else "direct"
    if unified_exec and (composition or not wrapped_shell):
        return ["exec_command", "write_stdin"], backend
    return ["shell_command"], backend
