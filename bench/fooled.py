#!/usr/bin/env python3
"""fooled.py - seven ways to be fooled by a benchmark, each one on purpose.

Usage: fooled.py [--build DIR] [NAME ...]
NAME: generator, backlog, refused, timeout, nagle, one-core, omission; without: all of them.
Each prints what was measured, what a careless reader concludes, and what is true, made from the
numbers. What was not seen is tried again, twice. Ends with 0 if every effect was seen, 1 if one
was not, 2 for a wrong command line.
Does not: talk to anything but loopback. docs/benchmarks.md tells of them.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import argparse  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from typing import Any  # noqa: E402

import run  # noqa: E402
from experiments import fooled_clients  # noqa: E402
from experiments.fooled_clients import Way  # noqa: E402
from lib import candidates, context, measure, processes  # noqa: E402
from lib.context import Context  # noqa: E402
from report import tables  # noqa: E402
from results import Row  # noqa: E402

BUSY = 0.8               # of its time a generator ran or waited for its cpu: it had no more to give
CLIENTS = 64
MANY_CLIENTS = 512       # enough to keep a generator busy while others use the server's cpu
HERD = 1100              # more than select(2) has bits for
REFUSED_CLIENTS = 16
BURN_MS = 5
ASLEEP_MS = 2200         # more than wrk waits by default, less than it is told to
ASLEEP_CLIENTS = 8
PATIENCE_S = 5
TRIES = 3


# ---- wrk -----------------------------------------------------------------------------------

class Wrk(measure.Load):
    """wrk, and how busy it is."""

    def busy_s(self) -> float:
        """How long its busiest thread ran, or was ready to, so far."""
        folder = f"/proc/{self.process.pid}/task"
        times = [measure.read(f"{folder}/{task}/schedstat").split()
                 for task in os.listdir(folder)]
        return max((int(one[0]) + int(one[1]) for one in times if one), default=0) / 1e9


def loaded(server: processes.Server, seconds: float, clients: int, cpus: list[int],
           **options: Any) -> Row:
    """A row of measure.load_row(), and what wrk itself was at."""
    before = measure.tree_usage(server.pid)
    load = Wrk(server.port, clients, cpus, **options)
    processes.ended(load.process, seconds / 3)  # it starts, and connects
    began, busy = time.monotonic(), load.busy_s()
    processes.ended(load.process, seconds * 2 / 3)
    busy = (load.busy_s() - busy) / (time.monotonic() - began)
    found = load.finish()
    usage = measure.usage_between(before, measure.tree_usage(server.pid))
    row = measure.load_row(found, usage, clients)
    row.update(candidate=server.candidate.key, label=server.candidate.label, busy_share=busy,
               answers_per_s=found["requests"] * 1e6 / found["duration_us"],
               non_2xx_share=found["non_2xx"] / max(found["requests"], 1))
    return row


def best(rows: Sequence[Row]) -> Row:
    """Of some rounds the one that was disturbed least."""
    return max(rows, key=lambda row: row["req_per_s"])


# ---- generator -----------------------------------------------------------------------------

# What many a load script does: a token for each request, made digit by digit.
SLOW_LUA = """
request = function()
   local token = ""
   for i = 1, 128 do
      token = token .. string.format("%x", math.random(0, 15))
   end
   return wrk.format("GET", "/", { ["X-Token"] = token })
end
"""


def generator_rounds(ctx: Context, servers: list[processes.Server], folder: str) -> list[Row]:
    """One row for each server, of the best of some rounds. More than two only if wrk was kept
    waiting in those."""
    slow = os.path.join(folder, "slow.lua")
    with open(slow, "w", encoding="ascii") as file:
        file.write(measure.read(measure.REPORT_LUA) + SLOW_LUA)
    cpus = ctx.generator_cpus
    plain = list(zip(*[[loaded(server, 0.3, MANY_CLIENTS, cpus) for server in servers]
                       for _ in range(2)]))
    turns: list[list[Row]] = []
    while len(turns) < 4:
        turns.append([loaded(server, 0.3, MANY_CLIENTS, cpus, script=slow) for server in servers])
        rows = [{**best(rounds), "plain_per_s": best(alone)["req_per_s"],
                 "failed": sum(row["failed"] for row in (*alone, *rounds)),
                 "busy_share": max(row["busy_share"] for row in rounds),
                 "cpu_us_per_request": min(row["cpu_us_per_request"] for row in rounds)}
                for alone, rounds in zip(plain, zip(*turns))]
        if len(turns) >= 2 and all(row["busy_share"] > BUSY for row in rows):
            break
    return rows


def generator(ctx: Context) -> Way:
    ctx.need("wrk", "wrk")
    wanted = [candidates.floor(ctx.build), ctx.stage("stage4"), candidates.evhttp(ctx.build)]
    with ctx.servers(wanted) as servers, tempfile.TemporaryDirectory() as folder:
        for server in servers:
            ctx.check(server, "before the load")
        rows = generator_rounds(ctx, servers, folder)
    columns = [("server", "label", tables.word), ("req/s", "req_per_s", tables.whole),
               ("wrk busy", "busy_share", tables.percent),
               ("server's CPU us per request", "cpu_us_per_request", tables.two),
               ("req/s, plain wrk", "plain_per_s", tables.whole)]
    rates = [row["req_per_s"] for row in rows]
    cheap, dear = rows[0], rows[-1]
    ratio = dear["cpu_us_per_request"] / cheap["cpu_us_per_request"]
    return {"title": f"{MANY_CLIENTS} clients; wrk with a script that makes a token a request",
            "lines": tables.text_table(columns, rows).split("\n"),
            "reader": f"The servers are about equal: {min(rates):,.0f} to {max(rates):,.0f} "
                      "requests/s.",
            "truth": [f"wrk was busy for {min(row['busy_share'] for row in rows) * 100:.0f} % of "
                      "the time, so it is wrk that was measured.",
                      f"{dear['label']} spends {ratio:.1f} times as much CPU on a request as the "
                      "floor."],
            "seen": ratio > 1.2 and all(row["busy_share"] > BUSY for row in rows)
            and not any(row["failed"] for row in rows)}


# ---- refused -------------------------------------------------------------------------------

def refused(ctx: Context) -> Way:
    ctx.need("wrk", "wrk")
    ctx.need_crowd()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < HERD + 200:
        raise context.Skip(f"it takes {HERD + 200} descriptors, and the limit is {limit}")
    rows: list[Row] = []
    for key in ("stage3-select", "stage3-poll"):
        with ctx.server(ctx.stage(key)) as server:
            ctx.check(server, "before the crowd came")
            with ctx.crowd(server, HERD, "idle"):
                row = loaded(server, 0.8, REFUSED_CLIENTS, ctx.generator_cpus,
                             path=f"/burn?ms={BURN_MS}")
        rows.append(row)
    columns = [("server", "label", tables.word), ("answers/s", "answers_per_s", tables.whole),
               ("p50 ms", "p50_us", tables.milliseconds),
               ("of them 503", "non_2xx_share", tables.percent),
               ("served/s", "req_per_s", tables.whole)]
    few, all_ = rows
    ratio = few["answers_per_s"] / all_["answers_per_s"]
    return {"title": f"{HERD} clients hold a connection; {REFUSED_CLIENTS} more ask for "
                     f"{BURN_MS} ms of cpu each",
            "lines": tables.text_table(columns, rows).split("\n"),
            "reader": f"select answers {ratio:.1f} times as many requests per second as poll.",
            "truth": [f"{few['non_2xx_share'] * 100:.0f} % of its answers are 503, for it has no "
                      "descriptor below 1024",
                      f"left. {few['req_per_s']:.0f} requests/s are served by select and "
                      f"{all_['req_per_s']:.0f} by poll."],
            "seen": ratio > 2 and few["non_2xx_share"] > 0.9 and not all_["non_2xx"]}


# ---- timeout -------------------------------------------------------------------------------

def timeout(ctx: Context) -> Way:
    ctx.need("wrk", "wrk")
    rows: list[Row] = []
    with ctx.server(ctx.stage("stage2", 2 * ASLEEP_CLIENTS, more=("--stop-timeout", "0"))) as server:
        loads = [(label, Wrk(server.port, ASLEEP_CLIENTS, ctx.generator_cpus,
                             path=f"/sleep?ms={ASLEEP_MS}", timeout_s=seconds))
                 for label, seconds in (("wrk", None),
                                        (f"wrk --timeout {PATIENCE_S}s", PATIENCE_S))]
        for label, load in loads:
            rows.append({"label": label, **load.finish(ASLEEP_MS / 1000 + 0.8)})
    for row in rows:
        row["served"] = row["requests"] - row["non_2xx"]
    columns = [("generator", "label", tables.word), ("answers", "requests", tables.whole),
               ("with status 200", "served", tables.whole),
               ("counted as timeouts", "timeouts", tables.whole),
               ("longest ms", "max_us", tables.milliseconds)]
    short, patient = rows
    share = 100 * short["timeouts"] / max(short["requests"], 1)
    return {"title": f"{ASLEEP_CLIENTS} clients ask for /sleep?ms={ASLEEP_MS}, with two patiences "
                     "at the same time",
            "lines": tables.text_table(columns, rows).split("\n"),
            "reader": f"The server cannot keep up: {share:.0f} % of the requests time out.",
            "truth": [f"All {short['served']} were answered with status 200, and so were the other "
                      f"{patient['served']}.",
                      f"{short['timeouts']} took longer than 2 s, wrk's own limit; a limit of "
                      f"{PATIENCE_S} s counts {patient['timeouts']}."],
            "seen": 0 < short["served"] == short["timeouts"] and patient["served"] > 0
            and not patient["timeouts"]}


# ---- one-core ------------------------------------------------------------------------------

def one_core(ctx: Context) -> Way:
    ctx.need("wrk", "wrk")
    if ctx.server_cpus == ctx.generator_cpus:
        raise context.Skip("it takes two cpus")
    rows: list[Row] = []
    with ctx.server(ctx.stage("stage4")) as server:
        ctx.check(server, "before the load")
        for clients in (1, CLIENTS):
            rounds = [(loaded(server, 0.3, clients, ctx.generator_cpus),
                       loaded(server, 0.3, clients, ctx.server_cpus)) for _ in range(3)]
            for label, turns in zip(("a cpu each", "one cpu"), zip(*rounds)):
                rows.append({**best(turns), "where": label, "clients": clients})
    columns = [("server and wrk on", "where", tables.word),
               ("clients", "clients", tables.whole), ("req/s", "req_per_s", tables.whole),
               ("p50 ms", "p50_us", tables.milliseconds),
               ("server's CPU us per request", "cpu_us_per_request", tables.two)]
    apart_1, together_1, apart, together = rows
    few = together_1["req_per_s"] / apart_1["req_per_s"]
    many = together["req_per_s"] / apart["req_per_s"]
    return {"title": "the same server and the same load; only the cpu of the generator differs",
            "lines": tables.text_table(columns, rows).split("\n"),
            "reader": f"Stage 4 answers {apart['req_per_s']:,.0f} requests/s; or "
                      f"{together['req_per_s']:,.0f}; or {apart_1['req_per_s']:,.0f}.",
            "truth": ["Each is true of one placement and one load. Sharing a cpu multiplies",
                      f"requests/s by {few:.2f} with one client, who then need not wake another "
                      "cpu,",
                      f"and by {many:.2f} with {CLIENTS}, who have work for two."],
            "seen": any(not 1 / 1.3 < ratio < 1.3 for ratio in (few, many))}


# ---- The program ---------------------------------------------------------------------------

WAYS = {"generator": generator, "backlog": fooled_clients.backlog, "refused": refused,
        "timeout": timeout, "nagle": fooled_clients.nagle, "one-core": one_core,
        "omission": fooled_clients.omission}


def show(ctx: Context, name: str) -> bool:
    """Do it and print it; False if the effect was not seen. What else runs on the machine may
    hide it, so it gets TRIES."""
    for _ in range(TRIES):
        ctx.problems = []
        try:
            found = WAYS[name](ctx)
        except (context.Skip, OSError, ValueError, processes.ServerError,
                measure.ToolError) as error:
            print(f"{name}: not seen on this machine: {error}")
            return False
        if found["seen"] and not ctx.problems:
            break
    print(f"{name}: {found['title']}", *found["lines"], sep="\n")
    if found["seen"] and not ctx.problems:
        print(f"It looks as if: {found['reader']}\nIn fact:", "\n".join(found["truth"]))
        return True
    print(f"not seen on this machine, {TRIES} times", *ctx.problems, sep="; ")
    return False


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Seven ways to be fooled by a benchmark.")
    parser.add_argument("--build", default=os.path.join(run.ROOT, "build"), metavar="DIR",
                        help="where the servers are (build)")
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=f"of {', '.join(WAYS)}; without: all")
    options = parser.parse_args(argv)
    wrong = [name for name in options.names if name not in WAYS]
    if wrong:
        parser.error(f"no way '{wrong[0]}'; there are: {', '.join(WAYS)}")
    return options


def fool(options: argparse.Namespace) -> int:
    ctx = context.Context("short", options.build, quiet=True)
    run.prepare(ctx)
    seen: list[bool] = []
    for name in options.names or WAYS:
        print(end="\n" if seen else "", flush=True)
        seen.append(show(ctx, name))
    return 0 if all(seen) else 1


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    missing = run.missing_programs(options.build)
    if missing:
        print(f"fooled.py: {os.path.relpath(missing[0])} is missing; make fooled builds it",
              file=sys.stderr)
        return 1
    return run.ending_all(fool, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
