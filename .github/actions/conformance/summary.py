#!/usr/bin/env python3
"""Turns a JSON report into what the runner shows: a summary in Markdown, annotations, and the outputs of the step.

    summary.py REPORT

CONFORMANCE_STATUS is the exit status of the suite. Appends to the files that GITHUB_STEP_SUMMARY and GITHUB_OUTPUT
name, and prints the annotations. An implementation can write anything, so what it wrote is quoted: it must be neither
Markdown nor a command to the runner.
"""

import json
import os
import re
import sys

# The runner shows at most ten annotations per step, and at most one mebibyte of summary.
MOST_ANNOTATIONS = 10
MOST_DETAILS = 50
LONGEST_QUOTE = 4000
UNEXPECTED = {"fail": "failed", "unexpected-pass": "passed, though the baseline lists it",
              "harness-error": "could not be judged"}
LEVELS = ["core", "faithful", "hardened"]
ROLES = ["wrapper", "server", "shell", "e2e"]


def data(text):
    """Escapes a text for the message of a runner command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def named(text):
    """Escapes a text for a property of a runner command."""
    return data(text).replace(":", "%3A").replace(",", "%2C")


def cut(text):
    """Shortens a long text by leaving out its middle."""
    if len(text) <= LONGEST_QUOTE:
        return text
    return text[:LONGEST_QUOTE // 2] + "\n…\n" + text[-LONGEST_QUOTE // 2:]


def quote(text):
    """A code block whose fence is longer than any in the text."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}text\n{text}\n{fence}\n"


def is_unexpected(case):
    """Whether the run fails by it. What is newer than --as-of is reported and doesn't decide."""
    return case["outcome"] in UNEXPECTED and not case.get("newer_than")


def cut_short(report):
    """Why the run ended before all its cases, or an empty text."""
    if interrupted := report.get("interrupted"):
        return f"Interrupted by signal {interrupted['signal']}: {interrupted['not_run']} selected cases were not run."
    if stopped := report.get("stopped"):
        return f"Stopped after {stopped['failures']} failures: {stopped['not_run']} selected cases were not run."
    return ""


def annotations(unexpected):
    left_out = len(unexpected) - MOST_ANNOTATIONS + 1 if len(unexpected) > MOST_ANNOTATIONS else 0
    for case in unexpected[:len(unexpected) - left_out]:
        message = f"{UNEXPECTED[case['outcome']]}\nexpected: {case['expected']}\nobserved: {case['observed']}"
        yield f"::error title={named(case['id'])}::{data(message)}"
    if left_out:
        yield f"::error title=conformance::{left_out} more are in the job's summary"


def table(cases):
    """The share of applicable cases that passed, per role and level."""
    yield "| | " + " | ".join(LEVELS) + " |\n|---|" + "---:|" * len(LEVELS)
    for role in ROLES:
        of_role = [case for case in cases if case["role"] == role and case["outcome"] != "not-applicable"]
        shares = []
        for level in LEVELS:
            at_level = [case["outcome"] for case in of_role if case["level"] == level]
            passed = sum(outcome in ("pass", "unexpected-pass") for outcome in at_level)
            shares.append(f"{passed}/{len(at_level)}" if at_level else "–")
        if of_role:
            yield f"| {role} | " + " | ".join(shares) + " |"


def markdown(report, unexpected, status):
    summary = report["summary"]
    if unexpected:
        verdict = f"{len(unexpected)} not as expected"
    elif cut_short(report):
        verdict = "ended early"
    else:
        verdict = "as expected" if status == 0 else "nothing was judged"
    yield f"## Conformance: {verdict}\n"
    number = len(report["cases"])
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary.items() if count) or "none ran"
    yield (f"{number} case{'s' if number != 1 else ''}, level {report['level']}, shard {report['shard']}, "
           f"seed {report['seed']}: {counts}\n")
    if early := cut_short(report):
        yield f"{early}\n"
    newer = [case for case in report["cases"] if case["outcome"] in UNEXPECTED and case.get("newer_than")]
    if newer:
        ids = ", ".join(f"`{case['id']}`" for case in newer)
        yield f"{len(newer)} of them newer than {newer[0]['newer_than']}, which don't decide: {ids}\n"
    yield from table(report["cases"])
    yield ""
    for case in unexpected[:MOST_DETAILS]:
        yield f"<details><summary><code>{case['id']}</code> {UNEXPECTED[case['outcome']]}</summary>\n"
        parts = [cut(f"expected  {case['expected']}"), cut(f"observed  {case['observed']}"),
                 cut("\n".join(case["transcript"] or [])),
                 cut(f"stderr    {case['stderr_tail']}") if case["stderr_tail"] else "", case["reproduce"]]
        yield quote("\n".join(part for part in parts if part)) + "\n</details>\n"
    if len(unexpected) > MOST_DETAILS:
        yield f"{len(unexpected) - MOST_DETAILS} more are in the report.\n"


def main(path, status):
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        # The suite said why in the step before; its exit status fails the job.
        print(f"::error title=conformance::there is no report to summarize; see the step before ({data(str(error))})")
        lines, counts = ["## Conformance: nothing was judged\n"], ("", "")
    else:
        unexpected = [case for case in report["cases"] if is_unexpected(case)]
        print(*annotations(unexpected), sep="\n", end="\n" if unexpected else "")
        if early := cut_short(report):
            print(f"::error title=conformance::{data(early)}")
        elif status != 0 and not unexpected:
            print("::error title=conformance::nothing was judged; see the step before "
                  "(a narrow selection can leave a shard without a case)")
        lines, counts = list(markdown(report, unexpected, status)), (report["summary"]["pass"], len(unexpected))
    with open(os.environ["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as file:
        file.write(f"passed={counts[0]}\nfailed={counts[1]}\n")


if len(sys.argv) != 2:
    sys.exit("usage: summary.py REPORT")
main(sys.argv[1], int(os.environ["CONFORMANCE_STATUS"]))
