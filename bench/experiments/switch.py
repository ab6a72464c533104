"""switch.py - what it costs to let another run: the experiment switch.

Does not: switch; build/bench/switch does, and prints a line for each way: its name, ns, and in
brackets the least and the most of its rounds.
"""
import os
import re
import subprocess

from lib import measure, processes
from lib.context import Context, Skip
from report import checks
from results import Check, Findings, Row

SWITCH_SECONDS = 60  # that the program may take
GOAL_NS = 5.0
# What stands in a name, and between how many ns a switch of that kind is: from the depth of many
# calls, where nothing is predicted; registers saved and loaded, within what the processor expects
# of a return or against it; with a system call for the mask of signals; by the scheduler, to
# another thread and back.
KINDS = [(r"\bdeep\b", None), (r"\bjmp\b", (0.5, GOAL_NS)), (r"\bret\b", (GOAL_NS, 30.0)),
         (r"\bucontext\b", (100.0, 700.0)), (r"\bthreads?\b", (800.0, 8000.0))]
LINE = re.compile(r"^(\S.*?)\s+(\d[\d.]*)(?: ns)?(?:\s+\((\d[\d.]*) to (\d[\d.]*)\))?$", re.M)


def kind(name: str) -> str:
    """ "jmp", "deep-ret" and so on: the words by which its kind is known."""
    words = [word for word in ("deep", "jmp", "ret", "ucontext", "thread")
             if re.search(rf"\b{word}s?\b", name)]
    return "-".join(words) or "other"


def parse(text: str) -> list[Row]:
    """A row for each line."""
    return [{"candidate": kind(name), "label": name, "ns": float(ns),
             "ns_min": float(least) if least else None, "ns_max": float(most) if most else None}
            for name, ns, least, most in LINE.findall(text)]


def bounds(name: str) -> tuple[float, float] | None:
    """Of its kind; None: nothing is predicted."""
    return next((limits for pattern, limits in KINDS if re.search(pattern, name)), None)


def switch(ctx: Context) -> Findings:
    program = os.path.join(ctx.build, "bench", "switch")
    if not os.access(program, os.X_OK):
        raise Skip("build/bench/switch was not built")
    ctx.say("all ways to switch")
    process = processes.launch([program], ctx.server_cpus, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, bufsize=0)
    text = processes.read_all(process.stdout, SWITCH_SECONDS)
    processes.ended(process, 1)
    status, _ = processes.reap(process)
    found = parse(text)
    if status or not found:
        raise measure.ToolError(f"switch ended with status {status}: {text[-200:]!r}")
    return switch_result(found)


def switch_checks(rows: list[Row]) -> list[Check]:
    found = []
    for row in rows:
        limits = bounds(row["label"])
        if limits:
            low, high = limits
            found.append(checks.between(f"{row['label']}, ns", row["ns"], None, low, high,
                                        f"{low:g} to {high:g} ns"))
    return found


def switch_result(rows: list[Row]) -> Findings:
    found = switch_checks(rows)
    told = ", ".join(f"{row['label']} {row['ns']:,.1f}" for row in rows)
    return checks.findings(
        found,
        prediction={
            "text": ("A switch of stacks is some twenty instructions: a few ns. It costs several "
                     "times that if it ends in a return, to another place than the processor "
                     "predicts. ucontext keeps the mask of signals, too, which takes a system "
                     "call. To wake another thread and sleep takes the scheduler: thousands."),
            "value": {"goal_ns": GOAL_NS}},
        rows=rows, finding=f"ns a switch: {told}. {checks.sentence(found)}",
        figure={"panels": [{"kind": "bars", "x_label": "ns a switch", "x_log": 10,
                            "bars": [{"key": "", "label": row["label"], "value": row["ns"],
                                      "text": f"{row['ns']:,.1f}"} for row in rows]}]})
