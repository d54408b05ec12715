"""Approvals: someone decides about requests for which the policy says "ask".

Section 13 of ../SPEC.md.
"""

import asyncio
import itertools

import server

EXECUTION = "outside of the sandbox, with the rights of the server"


class Approvals:
    """The approvals of one session.

    `ask(question)` awaits the approver's answer, and `withdraw(id)` tells the approver that it need
    not answer any more. While it decides, `clock` stands still.
    """

    ids = itertools.count(1)  # No two approvals of this host have the same.

    def __init__(self, ask, withdraw, clock):
        self.ask = ask
        self.withdraw = withdraw
        self.clock = clock
        self.denial = None  # Of everything that needs an approval, since the approver has aborted.
        self.aborted = asyncio.Event()

    async def decide(self, request, reason):
        """The approver's decision about a request, like a policy's.

        To be cancelled when the request has gone.
        """
        if self.aborted.is_set():
            return self.denial
        approval = next(self.ids)
        question = {
            "approval": approval,
            "program": request["program"],
            "argv": request["argv"],
            "workdir": request["workdir"],
            "env": server.child_environment(request),
            "execution": EXECUTION,
            "reason": reason,
        }
        is_answered = False
        try:
            with self.clock.stopped():
                asking, _ = await server.first(self.ask(question), self.aborted.wait())
            is_answered = not asking.cancelled()
        finally:
            if not is_answered:
                self.withdraw(approval)
        if not is_answered:
            return self.denial
        answer = asking.result()  # Raises if the approver has failed.
        if answer["answer"] == "approve":
            return {"action": "escalate"}
        server.demand(answer["answer"] in ("deny", "abort"), "the approver's answer is unknown")
        denial = {"action": "deny", "reason": answer.get("reason")}
        if answer["answer"] == "abort":
            self.denial = denial
            self.aborted.set()
        return denial
