#!/usr/bin/python3 -BEsSXutf8
"""The shim of the example server: it lets the conformance suite use server.py.

    conformance run --server ./shim.py

It speaks the harness protocol of ../HARNESS.md: JSON-RPC 2.0 on standard input and output, one
message per line. The policy and the approver of its sessions are questions to the suite. A shim for
a server of your own has the same methods.

The interpreter is named by its path, because the suite chooses PATH; where Python lives elsewhere,
change the line. `-E` and `-s` keep variables and folders of the user out, `-S` saves time, `-B`
leaves no compiled server.py behind, and `-Xutf8` decodes arguments and paths without loss in every
locale.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys

import approvals
import server
import terminals

ABOUT = {
    "protocol": 1,
    "implementation": {"name": "python-example", "version": "1"},
    "capabilities": [
        "session",
        "cancel",
        "exec",
        "unrelated",
        "signals",
        "bytes",
        "umask",
        "stopped",
        "terminals",
        "approvals",
        "tools",
    ],
}
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
SERVER_ERROR = -32000


class UnknownMethod(Exception):
    """The suite has called a method that this shim does not have."""


class Shim:
    def __init__(self):
        self.sessions = {}  # By name, each with the future that cancels it.
        self.processes = {}  # By process id: the task that waits for the process.
        self.questions = {}  # By the id of the JSON-RPC request: the future of the policy's answer.
        self.ids = itertools.count(1)
        self.tasks = set()
        self.terminals = terminals.Terminals()

    async def run(self):
        """Serve until `shutdown`, or until the suite closes standard input."""
        async for line in await server.read_pipe(sys.stdin):
            message = json.loads(line)
            if "method" in message:
                # In the background: a method that waits must not hold up the others, or the
                # answers.
                server.start(self.handle(message), self.tasks)
            else:
                self.take_answer(message)
        await self.handle({"method": "shutdown", "id": None})

    async def handle(self, message):
        method = message["method"]
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = await self.perform(method, message.get("params", {}))
        except UnknownMethod as error:
            reply["error"] = {"code": METHOD_NOT_FOUND, "message": f"no method {error}"}
        except KeyError as error:
            reply["error"] = {"code": INVALID_PARAMS, "message": f"missing or unknown: {error}"}
        except Exception as error:
            reply["error"] = {"code": SERVER_ERROR, "message": repr(error)}
        write(reply)
        if method == "shutdown":
            os._exit(0)

    async def perform(self, method, params):
        match method:
            case "initialize":
                return ABOUT
            case "session/start":
                session = self.open_session(params)
                return {"env": session.overlay}
            case "session/spawn":
                session, _ = self.sessions[params["session"]]
                # Only this one process gets the client's end; the copy here is closed.
                with session.client_end as client:
                    return self.spawn(params, session.overlay, [client.fileno()])
            case "session/cancel":
                _, parent = self.sessions[params["session"]]
                parent.cancel()
                return {}
            case "session/close":
                session, _ = self.sessions[params["session"]]
                await session.close()
                return {}
            case "exec":
                return await server.one_shot(
                    self.open_session(params),
                    params["shell"],
                    params["command"],
                    params["workdir"],
                    params["env"],
                    params.get("timeout_ms"),
                    params.get("login", True),
                )
            case "terminal/open":
                return self.open_terminal(params)
            case "terminal/write":
                await self.terminals.use(params["terminal"]).write(
                    base64.b64decode(params["data"], validate=True)
                )
                return {}
            case "terminal/read":
                terminal = self.terminals.use(params["terminal"])
                wait = params["wait_ms"] / 1000
                data, omitted, head, ended = await terminal.read(wait, params.get("limit", 2**63))
                return {
                    "data": base64.b64encode(data).decode("ascii"),
                    "omitted": omitted,
                    "head": head,
                    "ended": ended,
                }
            case "terminal/resize":
                self.terminals.use(params["terminal"]).resize(params["rows"], params["columns"])
                return {}
            case "terminal/signal":
                await self.terminals.use(params["terminal"]).signal(params["signal"])
                return {}
            case "terminal/close":
                self.terminals.close(params["terminal"])
                return {}
            case "terminal/list":
                return {"terminals": list(self.terminals.there)}
            case "tools/select":
                tools, backend = terminals.select_tools(**params)
                return {"tools": tools, "backend": backend}
            case "process/spawn":
                return self.spawn(params, overlay={}, keep=[])
            case "session/wait" | "process/wait":
                return await self.wait(params["pid"])
            case "shutdown":
                await self.close_everything()
                return {}
            case _:
                raise UnknownMethod(method)

    # Sessions and their policy

    def open_session(self, params):
        name = params["session"]
        parent = asyncio.get_running_loop().create_future()

        async def policy(request):
            members = ("program", "argv", "workdir", "env")
            question = {"session": name} | {member: request[member] for member in members}
            decision = await self.ask("policy/decide", question)
            if decision.get("action") == "ask":
                return await approver.decide(request, decision.get("reason"))
            return decision

        session = server.Session(params["wrapper"], policy, parent)
        approver = approvals.Approvals(
            lambda question: self.ask("approval/ask", {"session": name} | question),
            lambda approval: notify("approval/withdrawn", {"session": name, "approval": approval}),
            session.clock,
        )
        self.sessions[name] = (session, parent)
        return session

    def open_terminal(self, params):
        argv = params["argv"]
        wrapped = "wrapper" in params and terminals.is_call_of(params["shell"], argv)
        if wrapped:
            session = self.open_session(params)
            _, parent = self.sessions[params["session"]]
        else:
            session = None
            parent = asyncio.get_running_loop().create_future()
        command = {
            "program": argv[0],
            "file": argv[0],
            "argv": argv,
            "workdir": params["cwd"],
            "env": params["env"] | (session.overlay if wrapped else {}),
            "umask": None,
        }
        tty = params.get("tty")
        size = None if tty is None else (tty["rows"], tty["columns"])
        terminal = self.terminals.open(command, size, session, parent)
        self.sessions[params["session"]] = (self.terminals.there[terminal], parent)
        return {"terminal": terminal, "wrapped": wrapped}

    async def ask(self, method, params):
        """Ask the suite to decide, and wait for its answer."""
        question = next(self.ids)
        answer = asyncio.get_running_loop().create_future()
        self.questions[question] = answer
        write({"jsonrpc": "2.0", "id": question, "method": method, "params": params})
        decision = await answer
        server.demand(isinstance(decision, dict), f"{method} failed")
        return decision

    def take_answer(self, message):
        answer = self.questions.pop(message["id"], None)
        if answer and not answer.done():
            answer.set_result(message.get("result"))

    # Processes that the suite wants started

    def spawn(self, params, overlay, keep):
        with contextlib.ExitStack() as stack:

            def opened(name, mode):
                return stack.enter_context(open(params.get(name) or os.devnull, mode))

            process = subprocess.Popen(
                params["argv"],
                cwd=params["cwd"],
                env=params["env"] | overlay,
                stdin=opened("stdin", "rb"),
                stdout=opened("stdout", "wb"),
                stderr=opened("stderr", "wb"),
                pass_fds=keep,
            )
        process.returncode = 0  # `ended` waits for it, and subprocess must not.
        self.processes[process.pid] = asyncio.create_task(server.ended(process.pid))
        return {"pid": process.pid}

    async def wait(self, pid):
        code = await asyncio.shield(self.processes[pid])
        if code >= 0:
            return {"exit_code": code, "signal": None}
        return {"exit_code": None, "signal": -code}

    async def close_everything(self):
        await self.terminals.close_all()
        for session, _ in self.sessions.values():
            await session.close()
        for pid, process in self.processes.items():
            if not process.done():
                os.kill(pid, signal.SIGKILL)


def notify(method, params):
    write({"jsonrpc": "2.0", "method": method, "params": params})


def write(message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(Shim().run())
