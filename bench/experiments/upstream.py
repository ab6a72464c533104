"""upstream.py - many clients wait for an upstream that takes its time: the experiments
slow-upstream, many-waiting and generator-timeout.

Does not: load a cpu; who waits for seconds uses none, so servers that are bound by their places
are measured at the same time.
"""
import contextlib
import resource
import time
from typing import NamedTuple

from experiments.costs import IDLE_BYTES
from experiments.proxy import counts, need_upstream, upstream
from lib import candidates, measure, processes
from lib.candidates import Candidate
from lib.context import Context, Skip
from report import checks
from results import Check, Figure, Findings, Prediction, Row

PROCESSES = 8            # of the source's report
SOURCE_COROUTINES, MANY_COROUTINES = 128, 1024
FEW_THREADS, MANY_THREADS = 4, 128
SOURCE_PER_S = 185       # what the source reached, of 400
PATIENCE_SECONDS = 10    # of clients and of nginx
WRK_SECONDS = 2          # wrk's own patience
RATE_TOLERANCE = 0.02    # of requests per second
GOAL_TOLERANCE = 0.01    # for one process that can hold all clients
SAMPLE_MS = 10
ROOM_FDS = 200           # descriptors that are no client's and no upstream's
STACK_PAGE = 4096


def options(port: int) -> tuple[str, ...]:
    """Of a stage before the upstream on this port."""
    return ("--upstream", f"127.0.0.1:{port}", "--reply-timeout", str(PATIENCE_SECONDS))


class Setting(NamedTuple):
    """A server, and how many may wait in it."""
    key: str
    workers: int
    threads: int | None = None
    coroutines: int | None = None

    def candidate(self, ctx: Context, port: int) -> Candidate:
        """Before the upstream on this port."""
        if self.key == "nginx":
            gateway = candidates.Gateway(f"127.0.0.1:{port}", PATIENCE_SECONDS,
                                         ctx.p["waiting_clients"])
            return candidates.nginx(self.workers, gateway)
        return ctx.stage(self.key, self.workers, more=options(port), threads=self.threads,
                         coroutines=self.coroutines)


def settings(ctx: Context) -> list[Setting]:
    found = [Setting(key, PROCESSES) for key in ("stage2", "stage4")]
    found += [Setting(key, 1, threads) for key in candidates.keys("threads")
              for threads in (FEW_THREADS, MANY_THREADS)]
    found += [Setting(key, workers) for key in candidates.keys("callbacks")
              for workers in (1, PROCESSES)]
    for i, key in enumerate(candidates.keys("coroutines")):
        if i == 0:
            found.append(Setting(key, 1, None, SOURCE_COROUTINES))
        found.append(Setting(key, 1, None, MANY_COROUTINES))
        if i == 0:
            found.append(Setting(key, PROCESSES, None, SOURCE_COROUTINES))
    found = [one for one in found if ctx.wanted(one.candidate(ctx, 1))]
    return found + [Setting("nginx", workers) for _ in ctx.nginx() for workers in (1, PROCESSES)]


def places(candidate: Candidate, clients: int) -> int:
    """How many of the clients may wait at the same time."""
    return min(clients, candidate.places or clients)


def slots(found: list[Setting], ctx: Context) -> list[list[Setting]]:
    """Who is measured at the same time: all that are bound by their places, and then those of
    several processes; the others alone."""
    clients = ctx.p["waiting_clients"]
    bound = [one for one in found if places(one.candidate(ctx, 1), clients) < clients]
    several = [one for one in found if one not in bound and one.workers > 1]
    return [slot for slot in (bound, several) if slot] + \
        [[one] for one in found if one not in bound and one not in several]


# ---- slow-upstream ---------------------------------------------------------------------------

def rounds_of(samples: list[Row], began: float, ms: int, rounds: int) -> list[tuple[int, float]]:
    """(answers, their mean time in s since `began`) of each round: all answers between half an
    `ms` before and half an `ms` after the time at which it was due."""
    found = []
    for i in range(1, rounds + 1):
        low, high = (i - 0.5) * ms, (i + 0.5) * ms
        count, total = 0, 0.0
        for one, next_ in zip(samples, samples[1:]):
            at = next_["monotonic_ms"] - began * 1000
            if low < at <= high:
                came = next_["served"] - one["served"]
                count, total = count + came, total + came * at
        found.append((count, total / count / 1000 if count else 0.0))
    return found


def per_second(rounds: list[tuple[int, float]]) -> float:
    """From the middle of the first round to the middle of the last: what came in those after the
    first, by the time they took. So it does not matter where in a round the measuring ends."""
    seconds = rounds[-1][1] - rounds[0][1]
    return sum(count for count, _ in rounds[1:]) / seconds if seconds > 0 else 0.0


def smallest(ctx: Context, setting: Setting, port: int) -> float:
    """Private memory of the same server with one place."""
    one = setting._replace(workers=1, threads=setting.threads and 1)
    with ctx.server(one.candidate(ctx, port)) as server:
        warm(server)
        return measure.private_bytes(server.pid)


def warm(server: processes.Server) -> None:
    """What the first request makes is not counted as memory of one that waits."""
    status, _ = measure.get(server.port, "/upstream?n=3")
    if status != 200:
        raise ValueError(f"{server.candidate.label}: status {status} of a request handed on")


def one_slot(ctx: Context, slot: list[Setting], port: int) -> list[Row]:
    """Servers before the same upstream, at the same time."""
    p, rows = ctx.p, []
    path = f"/upstream?ms={p['upstream_ms']}"
    bases = {one: smallest(ctx, one, port) for one in slot if one.candidate(ctx, 1).places
             and not one.coroutines}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ctx.server(one.candidate(ctx, port))) for one in slot]
        before = []
        for server in servers:
            ctx.check(server, "before the clients came")
            warm(server)
            before.append(measure.private_bytes(server.pid))
        ctx.say(", ".join(server.candidate.label for server in servers))
        began = time.monotonic()
        crowds = [stack.enter_context(ctx.crowd(
            server, p["waiting_clients"], "keep-alive", patience=0, path=path,
            timeout=PATIENCE_SECONDS, late=WRK_SECONDS, sample=SAMPLE_MS)) for server in servers]
        listen(crowds, began + 0.5 * p["upstream_ms"] / 1000)
        held = [measure.private_bytes(server.pid) for server in servers]
        listen(crowds, began + (p["upstream_rounds"] + 0.5) * p["upstream_ms"] / 1000)
        reports = [crowd.finish(at_once=True) for crowd in crowds]
        for one, server, crowd, report, was, is_ in zip(slot, servers, crowds, reports, before,
                                                        held):
            rounds = rounds_of(crowd.samples(), began, p["upstream_ms"], p["upstream_rounds"])
            memory = bytes_each(server.candidate, p["waiting_clients"], was, bases.get(one), is_)
            rows.append(waiting_row(ctx, one, server, report, rounds, memory))
    return rows


def listen(crowds: list[measure.Crowd], until: float) -> None:
    """Let none of them wait for us with what it has to say."""
    while time.monotonic() < until:
        for crowd in crowds:
            crowd.listen(0.01)


def bytes_each(candidate: Candidate, clients: int, before: float, base: float | None,
               held: float) -> float | None:
    """Private memory of the server for each that waits. Where places were made at the start,
    what a place more takes."""
    here = places(candidate, clients)
    if base is None:
        return (held - before) / here
    return (held - base) / (here - 1) if here > 1 else None


def waiting_row(ctx: Context, setting: Setting, server: processes.Server, report: Row,
                rounds: list[tuple[int, float]], memory: float | None) -> Row:
    candidate, clients = server.candidate, ctx.p["waiting_clients"]
    bound = places(candidate, clients) * 1000 / ctx.p["upstream_ms"]
    rate = per_second(rounds)
    if report["failed"]:
        ctx.problem(f"{candidate.label}: {report['failed']} failed of {report['requests']}")
    return {"candidate": candidate.key, "label": candidate.label, "model": candidate.model,
            "processes": candidate.workers,
            "places_each": setting.threads or setting.coroutines
            or (1 if candidate.places else None),
            "offered_clients": clients, "established_clients": report["established"],
            "offered_per_s": clients * 1000 / ctx.p["upstream_ms"],
            "waiting": places(candidate, clients), "bound_per_s": bound, "req_per_s": rate,
            "share_of_bound": rate / bound, "requests": report["requests"],
            "served": report["served"], "failed": report["failed"],
            "bytes_per_waiting": memory,
            "slowest_ms": report["total_us"]["max"] and report["total_us"]["max"] / 1000,
            "late": report["late"],
            "late_share": report["late"] / report["served"] if report["served"] else None}


def is_goal(row: Row) -> bool:
    """One process, and all clients wait in it."""
    return bool(row["candidate"] != "nginx" and row["processes"] == 1
                and row["waiting"] == row["offered_clients"])


def slow_upstream(ctx: Context) -> Findings:
    ctx.need_crowd()
    need_upstream(ctx)
    found = settings(ctx)
    if not found:
        raise Skip("none of its servers was chosen")
    rows: dict[Setting, Row] = {}
    for slot in slots(found, ctx):
        with ctx.server(upstream(ctx), ctx.generator_cpus) as slow:
            rows.update(zip(slot, one_slot(ctx, slot, slow.port)))
    return slow_result([rows[one] for one in found], ctx.p["upstream_ms"])


def slow_checks(rows: list[Row]) -> list[Check]:
    return [checks.within(f"{row['label']}, requests/s", row["req_per_s"], row["bound_per_s"],
                          GOAL_TOLERANCE if is_goal(row) else RATE_TOLERANCE) for row in rows]


def slow_prediction(rows: list[Row], ms: int) -> Prediction:
    clients = rows[0]["offered_clients"]
    return {
        "text": (f"{clients:,} clients want {clients} / {ms / 1000:g} s = "
                 f"{clients * 1000 / ms:.0f} requests/s. A server answers min({clients:,}, "
                 f"places) / {ms / 1000:g} s, and a place is what sleeps while the upstream "
                 "does: a process in stages 2 and 4, a thread in stage 5, a coroutine in stage "
                 "7; callbacks need none, nor does nginx. The source's report has "
                 f"{PROCESSES} processes of {SOURCE_COROUTINES} coroutines, which are "
                 f"{PROCESSES * SOURCE_COROUTINES:,} places and more than enough, and reached "
                 f"{SOURCE_PER_S} of 400; so something else bound it. Its generator counted 96 % "
                 "of the answers as time-outs: its patience is 2 s, and so long the upstream "
                 "takes by itself."),
        "value": {row["label"]: row["bound_per_s"] for row in rows}}


def slow_told(rows: list[Row]) -> str:
    told = "; ".join(f"{row['label']} {row['req_per_s']:.1f} of {row['bound_per_s']:.0f}"
                     for row in rows)
    late = [row["late_share"] for row in rows if row["late_share"] is not None]
    least = f"{min(late) * 100:.0f} %" if late else "nothing"
    return (f"Requests/s: {told}. Of each server's answers at least {least} took "
            f"{WRK_SECONDS} s or more.")


def slow_figure(rows: list[Row]) -> Figure:
    bars = [{"key": row["candidate"], "label": row["label"], "value": row["req_per_s"],
             "text": f"{row['req_per_s']:.0f} of {row['bound_per_s']:.0f}"} for row in rows]
    memory = [{"key": row["candidate"], "label": row["label"],
               "value": max(1.0, row["bytes_per_waiting"]),
               "text": f"{row['bytes_per_waiting']:,.0f}"} for row in rows
              if row["bytes_per_waiting"] is not None]
    return {"panels": [
        {"kind": "bars", "x_label": f"requests/s of {rows[0]['offered_per_s']:.0f}", "x_log": 10,
         "bars": bars},
        {"kind": "bars", "x_label": "bytes of the server for one that waits", "x_log": 10,
         "bars": memory}]}


def slow_result(rows: list[Row], ms: int) -> Findings:
    found = slow_checks(rows)
    return checks.findings(found, prediction=slow_prediction(rows, ms), rows=rows,
                           finding=f"{slow_told(rows)} {checks.sentence(found)}",
                           figure=slow_figure(rows))


# ---- many-waiting ----------------------------------------------------------------------------

MEMORY_GOALS = {"callbacks": (IDLE_BYTES, 400), "own": (STACK_PAGE, 5 << 10),
                "shared": (IDLE_BYTES, 3 << 10)}  # bytes: the least there can be, and the goal
LATENESS = 0.1           # of the upstream's time: how much later the slowest answer may be


def stack_kind(candidate: Candidate) -> str:
    """Whose goal it has."""
    if candidate.model == "callbacks":
        return "callbacks"
    return "shared" if "--shared-stack" in candidate.args else "own"


def most_clients(wanted: int) -> int:
    """As many as there are descriptors for: one that waits takes two of the server."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return min(wanted, (hard - ROOM_FDS) // 2)


def waiting_herd(ctx: Context, server: processes.Server, clients: int, ms: int) -> \
        contextlib.AbstractContextManager[measure.Crowd]:
    """Clients that ask once, and go when they have their answer."""
    return ctx.crowd(server, clients, "keep-alive", patience=0, path=f"/upstream?ms={ms}",
                     requests=clients, timeout=PATIENCE_SECONDS,
                     late=ms * (1 + LATENESS) / 1000)


def cold_herd(ctx: Context, server: processes.Server, slow: processes.Server, clients: int) -> Row:
    """The server's first herd, in two parts, for memory is taken by their difference."""
    ms, few = ctx.p["upstream_ms"], clients // 10
    with waiting_herd(ctx, server, few, ms * 3 // 2) as first:
        time.sleep(0.15 * ms / 1000)
        before = measure.private_bytes(server.pid)
        with waiting_herd(ctx, server, clients - few, ms) as rest:
            time.sleep(0.9 * ms / 1000)
            held = measure.private_bytes(server.pid)
            at_once = counts(slow.port)["waiting"]
            report, others = rest.finish(), first.finish()
    return {"bytes_per_waiting": (held - before) / (clients - few), "waiting_at_once": at_once,
            "cold_slowest_ms": (report["total_us"]["max"] or 0) / 1000,
            "failed": report["failed"] + others["failed"] + unserved(report, clients - few)
            + unserved(others, few)}


def unserved(report: Row, clients: int) -> int:
    return clients - int(report["served"]) - int(report["failed"])


def many_row(ctx: Context, candidate: Candidate, slow: processes.Server, clients: int) -> Row:
    ms = ctx.p["upstream_ms"]
    with ctx.server(candidate) as server:
        ctx.check(server, "before the clients came")
        warm(server)
        ctx.say(f"{candidate.label}, {clients} clients")
        row = cold_herd(ctx, server, slow, clients)
        with waiting_herd(ctx, server, clients, ms) as herd:
            herd.wait()
            report = herd.finish()
        ctx.check(server, "after the clients left")
    row["failed"] += report["failed"] + unserved(report, clients)
    if row["failed"]:
        ctx.problem(f"{candidate.label}: {row['failed']} of {clients} clients, twice, were not "
                    "answered")
    kind = stack_kind(candidate)
    low, high = MEMORY_GOALS[kind]
    return {"candidate": candidate.key, "label": candidate.label, "model": candidate.model,
            "stack": kind, "waiting": clients, "least_bytes": low, "goal_bytes": high, **row,
            "p50_ms": report["total_us"]["p50"] / 1000 if report["served"] else None,
            "slowest_ms": report["total_us"]["max"] / 1000 if report["served"] else None,
            "late": report["late"]}


def many_waiting(ctx: Context) -> Findings:
    """Each before an upstream of its own: its connections in TIME_WAIT are in nobody's way."""
    ctx.need_crowd()
    need_upstream(ctx)
    clients = most_clients(ctx.p["many_waiting"])
    rows = []
    for key in candidates.keys("callbacks", "coroutines"):
        with ctx.server(upstream(ctx), ctx.generator_cpus) as slow:
            rows += [many_row(ctx, candidate, slow, clients)
                     for candidate in ctx.some(key, more=options(slow.port))]
    if not rows:
        raise Skip("none of its stages was chosen")
    return many_result(rows, ctx.p["upstream_ms"])


def many_checks(rows: list[Row], ms: int) -> list[Check]:
    return [check for row in rows for check in (
        checks.exactly(f"{row['label']}, waiting at once", row["waiting_at_once"],
                       row["waiting"]),
        checks.between(f"{row['label']}, slowest answer, ms", row["slowest_ms"], ms, ms,
                       ms * (1 + LATENESS), f"+{LATENESS * 100:.0f} %"),
        checks.between(f"{row['label']}, bytes for one that waits", row["bytes_per_waiting"],
                       None, row["least_bytes"], row["goal_bytes"],
                       f"{row['least_bytes']:,} to {row['goal_bytes']:,} bytes"))]


def many_result(rows: list[Row], ms: int) -> Findings:
    found, clients = many_checks(rows, ms), rows[0]["waiting"]
    told = "; ".join(
        f"{row['label']} {(row['slowest_ms'] or 0) / 1000:.3f} s (the first time "
        f"{row['cold_slowest_ms'] / 1000:.3f} s), {row['bytes_per_waiting']:,.0f} bytes"
        for row in rows)
    return checks.findings(
        found,
        prediction={
            "text": (f"{clients:,} clients ask within a second, and all wait for an upstream of "
                     f"{ms / 1000:g} s at the same time: as many as there are descriptors for, "
                     "since each takes two of the server's. If waiting costs no cpu, the last "
                     f"is answered within {ms * (1 + LATENESS) / 1000:g} s, once the memory was "
                     "there before. Of memory a callback takes what the handler must remember; "
                     f"a coroutine its stack, and that is a page of {STACK_PAGE:,} bytes at "
                     "least; where the stack is shared, a copy of what was live on it."),
            "value": {**{f"{row['candidate']}_goal_bytes": row["goal_bytes"] for row in rows},
                      "slowest_ms": ms, "waiting": clients}},
        rows=rows,
        finding=f"With {clients:,} waiting at once, slowest answer and bytes for each: {told}. "
                f"{checks.sentence(found)}",
        figure=None)


# ---- generator-timeout -----------------------------------------------------------------------

def generator_timeout(ctx: Context) -> Findings:
    """One server, one kind of load, two generators at the same time."""
    ctx.need("wrk", "wrk")
    need_upstream(ctx)
    clients, rows = ctx.p["waiting_clients"] // 8, []
    keys = candidates.keys("coroutines", "callbacks")[:1]
    with ctx.server(upstream(ctx), ctx.generator_cpus) as slow:
        where = Setting((keys or ["nginx"])[0], PROCESSES, None, SOURCE_COROUTINES)
        with ctx.server(where.candidate(ctx, slow.port)) as server:
            ctx.check(server, "before the load")
            ctx.say(server.candidate.label)
            loads = [(patience, measure.Load(server.port, clients, ctx.generator_cpus,
                                             path=f"/upstream?ms={WRK_SECONDS * 1000}",
                                             timeout_s=patience))
                     for patience in (WRK_SECONDS, PATIENCE_SECONDS)]
            for patience, load in loads:
                found = load.finish(ctx.p["patience_seconds"])
                rows.append(patience_row(ctx, server, clients, patience, found))
    return patience_result(rows)


def patience_row(ctx: Context, server: processes.Server, clients: int, patience: int,
                 found: Row) -> Row:
    served = found["requests"] - found["non_2xx"]
    label = f"wrk --timeout {patience}s"
    if not served or found["non_2xx"]:
        ctx.problem(f"{label}: {served} answers with status 200, {found['non_2xx']} without")
    return {"candidate": server.candidate.key, "label": label,
            "server": server.candidate.label, "patience_seconds": patience,
            "offered_clients": clients, "answers": found["requests"], "served": served,
            "late": found["timeouts"],
            "late_share": found["timeouts"] / found["requests"] if found["requests"] else None,
            "slowest_ms": found["max_us"] / 1000}


def patience_result(rows: list[Row]) -> Findings:
    found = [checks.exactly(f"{row['label']}, share of answers that are counted as time-outs",
                            row["late_share"], int(row["patience_seconds"] <= WRK_SECONDS))
             for row in rows]
    told = "; ".join(f"{row['label']} counts {row['late']} of {row['answers']} answers, "
                     f"{row['served']} of which have status 200" for row in rows)
    return checks.findings(
        found,
        prediction={
            "text": (f"An upstream of {WRK_SECONDS} s answers nobody sooner. wrk's own patience "
                     f"is {WRK_SECONDS} s, so it counts every answer as a time-out, though it "
                     f"came; with {PATIENCE_SECONDS} s it counts none. The same server, the "
                     "same time."),
            "value": {"impatient_share": 1, "patient_share": 0}},
        rows=rows,
        finding=f"As time-outs {told}. {checks.sentence(found)}",
        figure=None)
