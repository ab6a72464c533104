"""blackbox.py - the black-box suite of the stages, run against a server of somebody else.

Does not: judge it. The suite asks for routes and limits that only the stages promise; the number
of checks passed tells what a server leaves out, not whether it is good.
"""
import collections
import os
import re
import subprocess

from lib import measure, processes
from lib.context import Context

SUITE_SECONDS = 240   # most of it is the suite's patience with what never comes
REFUSALS = "refuses"  # the test with one check for each malformed request


def parse(text: str) -> dict[str, int]:
    """What Check said with CK_VERBOSITY=verbose: {checks, passed, refusals, refused}."""
    line = re.search(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", text, re.M)
    if not line:
        raise measure.ToolError(f"the black-box suite said {text[-200:]!r}")
    checks, failures, errors = (int(word) for word in line.groups())
    found = collections.Counter(re.findall(r"^[\w/.]+:\d+:([PFE]):\w+:(\w+):\d+:", text, re.M))
    refusals = sum(n for (_, name), n in found.items() if name == REFUSALS)
    return {"checks": checks, "passed": checks - failures - errors, "refusals": refusals,
            "refused": found["P", REFUSALS]}


def suite(ctx: Context) -> str:
    return os.path.join(ctx.build, "tests", "test_blackbox")


def run(ctx: Context, words: list[str]) -> dict[str, int] | None:
    """parse() of the suite with these words as the server's command; None if it was not built."""
    if not os.access(suite(ctx), os.X_OK):
        ctx.notes.append("the black-box suite was not run: build/tests/test_blackbox was not "
                         "built (make programs)")
        return None
    process = processes.launch(
        [suite(ctx)], ctx.all_cpus, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        env={**os.environ, "SERVER_COMMAND": " ".join(words), "CK_VERBOSITY": "verbose"})
    try:
        return parse(processes.read_all(process.stdout, SUITE_SECONDS))
    finally:
        processes.reap(process)
