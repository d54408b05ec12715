#!/usr/bin/python3 -ISXutf8
"""A wrapper for shell escalation, with nothing but Python's standard library.

    wrapper.py FILE ARGV0 ARGV1 ...

A shell executes it in place of FILE. It asks the server for a decision on the socket whose number
is in CODEX_ESCALATE_SOCKET, and becomes FILE (Run), lets the server execute FILE (Escalate) or
refuses (Deny). The names in parentheses are requirements of ../SPEC.md, from which alone this file
was written.

The interpreter line names one interpreter by its path instead of by `env`: a command's
PATH may be empty, may lead to another Python, or to a start script that changes the environment.
Where Python lives elsewhere, change the line; `-I` keeps PYTHONPATH and its kind, which are the
command's affair, away from the wrapper, `-S` saves time, and `-Xutf8` decodes arguments and paths
without loss whatever the locale is.

Two things are beyond a script: to find out whether SIGPIPE and SIGXFSZ were ignored when it was
started (the interpreter ignores both before its first line, so here both have their defaults after
Run), and to start in one millisecond.
"""

import errno
import json
import os
import re
import select
import signal
import socket
import stat
import struct
import sys
import time

WRAPPER_VARIABLES = (b"EXEC_WRAPPER", b"BASH_EXEC_WRAPPER", b"CODEX_ESCALATE_SOCKET")
# All that can be caught. (The two that a C library keeps for itself aren't among the valid ones.)
FORWARDED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
# The signals whose default doesn't end a process.
HARMLESS = [
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGURG,
    signal.SIGWINCH,
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
]
MOST_DESCRIPTORS = 16
LONGEST_PAYLOAD = 16 * 1024 * 1024
PR_SET_DUMPABLE = 4


class Refused(Exception):
    """There is no decision, or no result: fail closed with 126 and say why."""


def main():
    # Descriptors that are there now are the command's. Python's own ones are close-on-exec, so they
    # disappear with Run and are told apart by that flag.
    inherited = inherited_descriptors()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if len(sys.argv) < 3:
        complain(inherited, "usage: wrapper.py FILE ARGV0 [ARGUMENT...]")
        os._exit(2)
    file, argv = sys.argv[1], sys.argv[2:]
    try:
        environment = own_environment()
        escalation_socket = find_escalation_socket(environment, inherited)
        stream = shake_hands(escalation_socket)
        send_all(stream, frame(request(file, argv, environment)))
        received = bytearray()
        while (message := take_message(received)) is None:
            read_more(stream, received, "the decision")
        action = decision(message)
        if action == "Run":
            run(file, argv, environment, inherited)
        elif action == "Escalate":
            numbers = [number for number in inherited if number != escalation_socket]
            escalate(stream, received, numbers)
        else:
            deny(inherited, action["Deny"]["reason"])
    except Refused as refusal:
        complain(inherited, f"{file}: not executed: {refusal}")
    except OSError as error:
        complain(inherited, f"{file}: not executed: {error.strerror}")
    os._exit(126)


# What the wrapper was started with


def inherited_descriptors():
    numbers = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                numbers.append(int(name))
        except OSError:
            pass  # The descriptor of the listing itself.
    return sorted(numbers)


def own_environment():
    """The environment of the execve: in the C locale Python adds an LC_CTYPE to its own copy."""
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def own_umask():
    """Read from the kernel's report: umask(2) could only be asked by changing it."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    raise Refused("/proc/self/status doesn't tell the umask")


def find_escalation_socket(environment, inherited):
    variable = "CODEX_ESCALATE_SOCKET"
    value = environment.get(variable.encode())
    if value is None:
        raise Refused(f"{variable} is not set; start the shell in a session")
    if not re.fullmatch(rb"[0-9]{1,10}", value):
        raise Refused(f"{variable} is not the number of a descriptor")
    number = int(value)
    if number not in inherited:
        raise Refused(f"{variable} names a descriptor that is not open")
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise Refused(f"{variable} names a descriptor that is not a socket")
    with_no_owner = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, 0, number)
    try:
        # Another socket's peer could take the handshake for data. A sandbox may refuse the
        # question.
        if with_no_owner.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_DGRAM:
            raise Refused(f"{variable} names a socket that is not a datagram socket")
    except PermissionError:
        pass
    finally:
        with_no_owner.detach()
    return number


# Sending and receiving


def shake_hands(escalation_socket):
    """Send one end of a new stream as the handshake and return the other one (wire.handshake)."""
    stream, servers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", servers_end.fileno()))]
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, 0, escalation_socket)
    pause = 0.001
    while True:
        try:
            sender.sendmsg([b"\0"], rights, socket.MSG_NOSIGNAL)
            break
        except OSError as error:
            # The socket is full. There is room before poll(2) says so (wrapper.handshake.full).
            if error.errno not in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS):
                raise Refused(
                    f"CODEX_ESCALATE_SOCKET: the server can't be reached: {error.strerror}"
                )
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    sender.detach()
    servers_end.close()  # Or the server's death would never be seen.
    return stream


def frame(message):
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    # Python's surrogateescape is the `bytes` extension: a surrogate has no UTF-8 and becomes
    # `\udcNN`.
    payload = text.encode("utf-8", "backslashreplace")
    return struct.pack("<I", len(payload)) + payload


def send_all(stream, data, rights=()):
    """By sendmsg, since sandboxes refuse sendto. Descriptors go with the first byte."""
    view = memoryview(data)
    while view:
        sent = stream.sendmsg([view], rights, socket.MSG_NOSIGNAL)
        view, rights = view[sent:], ()


def read_more(stream, received, what):
    # read(2) has no room for control messages: the kernel closes descriptors that nobody asked for.
    piece = os.read(stream.fileno(), 65536)
    if not piece:
        raise Refused(f"the server closed the stream before {what}")
    received += piece


def take_message(received):
    """Take the first message out of what was received, or None if it isn't all there yet."""
    if len(received) < 4:
        return None
    (length,) = struct.unpack_from("<I", received)
    if length > LONGEST_PAYLOAD:
        raise Refused(f"the server announced a message of {length} bytes")
    if len(received) < 4 + length:
        return None
    payload = received[4 : 4 + length]
    del received[: 4 + length]
    try:
        message = json.loads(payload.decode("utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the server's message is not JSON: {error}")
    if not isinstance(message, dict):
        raise Refused("the server's message is not an object")
    return message


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


def integer(message, name):
    value = message.get(name)
    if type(value) is not int:  # `True` is an int too
        raise Refused(f"the server's message has no integer {name}")
    return value


# The four messages


def request(file, argv, environment):
    sent = {name: value for name, value in environment.items() if name not in WRAPPER_VARIABLES}
    return {
        "file": file,
        "argv": argv,
        "workdir": os.getcwd(),
        "env": {os.fsdecode(name): os.fsdecode(value) for name, value in sent.items()},
        "umask": own_umask(),
    }


def decision(message):
    action = message.get("action")
    if action in ("Run", "Escalate"):
        return action
    deny = action.get("Deny") if isinstance(action, dict) else None
    if not isinstance(deny, dict) or "reason" not in deny:
        raise Refused("the server's decision has an unknown action")
    if not isinstance(deny["reason"], (str, type(None))):
        raise Refused("the server's reason is not a string")
    return action


def deny(inherited, reason):
    text = "Execution denied"
    if reason:
        try:
            text += ": " + visible(reason, "[\0-\x08\x0b-\x1f\x7f-\x9f]")
        except UnicodeEncodeError:
            raise Refused("the server's reason has a surrogate that stands for no byte")
    write_error(inherited, text)
    os._exit(1)


def run(file, argv, environment, inherited):
    # Python ignores these two; its socket disappears with the execve.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    number = execute(file, argv, environment)
    if number == errno.ENOEXEC and is_text(file):
        # As execvp(3) does it; "--" because the name of a script may begin with a dash.
        shell = "/bin/sh"
        options = ["--"] if file.startswith("-") else []
        number = execute(shell, [shell, *options, file, *argv[1:]], environment)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    complain(inherited, f"{file}: {os.strerror(number)}")
    os._exit(127 if number in (errno.ENOENT, errno.ENOTDIR) else 126)


def is_text(file):
    """Whether the file isn't ELF and has no NUL in its first line; bash and zsh look at the same."""
    try:
        with open(file, "rb") as opened:
            start = opened.read(80)
    except OSError:
        return True
    return not start.startswith(b"\x7fELF") and b"\0" not in start.partition(b"\n")[0]


def execute(file, argv, environment):
    """execve(2), returning errno.

    os.execve refuses arguments that the system call accepts, such as an empty argv[0].
    """
    import ctypes  # Imported only where it is needed: it takes time.

    libc = ctypes.CDLL(None, use_errno=True)

    def vector(strings):
        return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)

    arguments = vector([os.fsencode(argument) for argument in argv])
    entries = vector([name + b"=" + value for name, value in environment.items()])
    libc.execve(os.fsencode(file), arguments, entries)
    return ctypes.get_errno()


# While the server executes the command


def escalate(stream, received, numbers):
    if len(numbers) > MOST_DESCRIPTORS:
        raise Refused(
            f"{len(numbers)} descriptors are open, at most {MOST_DESCRIPTORS} can go to the server"
        )
    wakeup, signalled = os.pipe()
    os.set_blocking(signalled, False)
    # The pipe can have taken the number of a closed standard stream, which must not become the
    # message's 2.
    signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
    for number in FORWARDED:
        # The program may handle what this process was started with ignored.
        signal.signal(number, lambda *_: None)  # The number goes into the pipe.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(numbers)}i", *numbers))]
    try:
        send_all(stream, frame({"fds": numbers, "signals": True}), rights if numbers else ())
    except (BrokenPipeError, ConnectionResetError):
        pass  # The server has closed: its result, or the end, is still to be read.
    for number in numbers:
        if number != 2:  # Kept for messages. All others must not hold an end of file back.
            os.close(number)
    outgoing = bytearray()
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    while True:
        while (message := take_message(received)) is not None:
            if "exit_code" in message:
                finish(message)
            integer(message, "stopped")
            # SIGSTOP and not the signal itself, which the kernel ignores in an orphaned process
            # group. When the wrapper is continued, SIGCONT is forwarded like any signal. If it
            # hasn't come, a stop signal right behind it has discarded it.
            os.kill(os.getpid(), signal.SIGSTOP)
            arrived = os.read(wakeup, 4096) if select.select([wakeup], [], [], 0)[0] else b""
            if signal.SIGCONT not in arrived:
                outgoing += frame({"signal": signal.SIGCONT})
            for number in arrived:
                outgoing += frame({"signal": number})
        poll.register(stream, select.POLLIN | (select.POLLOUT if outgoing else 0))
        ready = dict(poll.poll())
        if wakeup in ready:
            for number in os.read(wakeup, 4096):
                outgoing += frame({"signal": number})
        if outgoing:
            send_what_fits(stream, outgoing)
        if ready.get(stream.fileno(), 0) & ~select.POLLOUT:
            read_more(stream, received, "the result")


def send_what_fits(stream, outgoing):
    """Send without waiting.

    A server that does not know the extension may not read, and still has a result to send.
    """
    try:
        flags = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        sent = stream.sendmsg([outgoing], [], flags)
        del outgoing[:sent]
    except BlockingIOError:
        pass
    except OSError:
        outgoing.clear()  # The server has closed: what it said before is still to be read.


def finish(message):
    code = integer(message, "exit_code")
    if not 0 <= code <= 255:
        raise Refused(f"the server's exit_code {code} is not an exit status")
    if "signal" in message:
        number = integer(message, "signal")
        if 0 < number < signal.NSIG and number not in HARMLESS:
            die_by(number)
        code = code or 126
    os._exit(code)


def die_by(number):
    import ctypes

    # No core dump: nothing is wrong with the wrapper.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if number not in (signal.SIGKILL, 32, 33):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


# Standard error


def complain(inherited, text):
    write_error(inherited, "wrapper: " + visible(text, "[\0-\x1f\x7f-\x9f]"))


def visible(text, controls):
    """Escape bytes that are not UTF-8 and control characters: no terminal should act on them."""
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return re.sub(controls, lambda found: f"\\x{ord(found[0]):02x}", whole)


def write_error(inherited, text):
    """Write to standard error, if the wrapper was started with one.

    If it was not, another file may have its number by now.
    """
    data = memoryview((text + "\n").encode("utf-8"))
    try:
        while data and 2 in inherited:
            try:
                written = os.write(2, data)
                data = data[written:]
            except BlockingIOError:
                select.select([], [2], [])
    except OSError:
        pass  # Standard error has no reader; the exit status tells, too.


if __name__ == "__main__":
    main()
