"""What an agent does in an afternoon, with the official SDK: agent.py SHELL SERVER [ARGUMENT]..."""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters, types

SHELL, SERVER, *ARGUMENTS = sys.argv[1:]

questions = []
progress = []


async def answer(context, params):
    """Approves what the server asks about."""
    questions.append(params.message)
    return types.ElicitResult(action="accept", content={"decision": "approve"})


async def report(value, total, message):
    progress.append(message)


def expect(condition, what):
    if not condition:
        sys.exit(f"agent.py: not as expected: {what}")


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments, progress_callback=report)
    expect(not result.is_error, f"{tool} {arguments}: {result}")
    return result.structured_content


async def until(client, session, part, chars=""):
    """Types, and reads until a text has come."""
    seen = ""
    while part not in seen:
        result = await call(client, "write_stdin", session_id=session, chars=chars, yield_time_ms=20000)
        chars = ""
        seen += result["output"]
        expect("session_id" in result or part in seen, f"the session has ended: {seen!r}")
    return seen


async def main():
    server = StdioServerParameters(command=SERVER, args=ARGUMENTS)
    async with Client(server, elicitation_callback=answer, read_timeout_seconds=60) as client:
        tools = (await client.list_tools()).tools
        names = [tool.name for tool in tools]
        expect(names == ["exec_command", "write_stdin", "control_session", "list_sessions"], names)
        expect(tools[3].annotations.read_only_hint and not tools[0].annotations.read_only_hint, tools)

        one = await call(client, "exec_command", cmd="echo out; exit 3")
        expect((one["output"], one["exit_code"]) == ("out\n", 3), one)

        command = f"PS1='ready> ' exec {SHELL} --norc --noprofile -i"
        opened = await call(client, "exec_command", cmd=command, tty=True)
        session = opened["session_id"]
        if "ready> " not in opened["output"]:
            await until(client, session, "ready> ")
        await until(client, session, ">>> ", "python3 -q\n")
        await until(client, session, "42", "6 * 7\n")
        await until(client, session, "ready> ", "exit()\n")

        push = "/usr/bin/git push origin HEAD:main; echo \"pushed: $?\"\n"
        await until(client, session, "pushed: 0", push)
        expect(len(questions) == 1 and "git push origin HEAD:main" in questions[0], questions)

        await until(client, session, "begins\r\n", "echo begins; sleep 600\n")
        await call(client, "control_session", session_id=session, action="interrupt")
        await until(client, session, "ready> ")
        await call(client, "control_session", session_id=session, action="resize", rows=40, columns=100)
        await until(client, session, "40 100", "stty size\n")

        await call(client, "exec_command", cmd="sleep 3")
        expect("running after 2 s" in progress, progress)

        # A call that is given up ends with what it started.
        command = f"echo > {os.getcwd()}/begun; sleep 600"
        slow = asyncio.create_task(call(client, "exec_command", cmd=command, yield_time_ms=100000))
        await until(client, session, "begun\r\n", "until [ -e begun ]; do sleep 0.01; done; echo b''egun\n")
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)

        listed = await call(client, "list_sessions")
        expect([entry["session_id"] for entry in listed["sessions"]] == [session], listed)
        await call(client, "control_session", session_id=session, action="close")
        expect((await call(client, "list_sessions"))["sessions"] == [], "a session is left")
    print(f"asked {len(questions)} question{'s' if len(questions) != 1 else ''}")
    print("all done")


asyncio.run(main())
