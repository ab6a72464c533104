"""matrix.py - the failure matrix: what each fault does to a fresh client of each stage.

Does not: average over faults; each cell is measured by itself, on one server, in this run.
"""
import os
import signal
import time
from typing import Any, NamedTuple, cast

from experiments.proxy import need_upstream, upstream
from experiments.waiting import READ_BYTES_PER_S, REPLY_BYTES
from experiments.workers import start_ticks, workers_alive
from lib import candidates, measure, processes
from lib.candidates import Candidate
from lib.context import Context
from report import checks
from results import FaultHead, Matrix, Row

WORKERS = 4           # of stages 2 and 4
ATTACKERS = 8         # more than workers
HANDLER_CLIENTS = 2   # fewer than workers
LOST = 0.01           # a larger share of fresh clients without answer is no accident
DEGRADED = 2.0        # a fresh client that waits so many times longer than without the fault
FD_LIMIT, FD_CLIENTS = 64, 400

# Modes that differ in how they wait, share clients or hold them. Coroutines on a shared stack do
# all of this as those on stacks of their own.
ROWS = ["stage1", "stage2", "stage3-select", "stage3-poll", "stage4", "stage4-shared",
        "stage4-exclusive", "stage4-edge", *candidates.usual(*candidates.WAITERS)]


class Crowd(NamedTuple):
    """Who causes a fault."""
    clients: int
    behaviour: str
    options: dict[str, Any] = {}


class Fault(NamedTuple):
    key: str
    head: str            # of its column
    what: str            # is done
    crowd: Crowd | None  # None: nobody does it; a process is killed


FAULTS = [
    Fault("silent", "silent client", f"{ATTACKERS} clients connect and say nothing",
          Crowd(ATTACKERS, "silent")),
    Fault("half", "half request", f"{ATTACKERS} clients send half a request",
          Crowd(ATTACKERS, "half")),
    Fault("slow-reader", "slow reader",
          f"{ATTACKERS} clients read {REPLY_BYTES >> 20} MiB at {READ_BYTES_PER_S >> 10} KiB/s",
          Crowd(ATTACKERS, "slow-read",
                {"path": f"/bytes?n={REPLY_BYTES}", "rate": READ_BYTES_PER_S})),
    Fault("reset", "reset", f"{ATTACKERS} clients ask and reset, 100 times a second each",
          Crowd(ATTACKERS, "reset", {"interval": 10})),
    Fault("idle-herd", "idle herd", "900 clients ask once and stay", Crowd(900, "idle")),
    Fault("no-descriptors", "no descriptors left",
          f"{FD_CLIENTS} clients stay, {FD_LIMIT} descriptors a process",
          Crowd(FD_CLIENTS, "idle")),
    Fault("slow-handler", "slow handler", f"{HANDLER_CLIENTS} clients make handlers sleep 50 ms",
          Crowd(HANDLER_CLIENTS, "short", {"path": "/sleep?ms=50"})),
    Fault("slow-upstream", "slow upstream",
          f"{HANDLER_CLIENTS} clients are handed on to an upstream of 50 ms",
          Crowd(HANDLER_CLIENTS, "short", {"path": "/upstream?ms=50"})),
    Fault("busy-handler", "busy handler", f"{HANDLER_CLIENTS} clients make handlers compute 5 ms",
          Crowd(HANDLER_CLIENTS, "short", {"path": "/burn?ms=5"})),
    Fault("worker-killed", "worker killed", "a worker is killed every 200 ms", None),
]

Cell = tuple[str, str, Row]  # label of the server, key of the fault, what was found
UNAFFECTED, SLOWER, STOPPED, FASTER = "unaffected", "degraded", "stopped", "faster"


def predicted_state(candidate: Candidate, fault: str) -> str:
    """What the model says. A free worker: fewer handlers are at work than there are workers, or
    threads in each process, and whoever is free takes the client. Where those compute they have
    all the cpus, but one that wakes up has had less than its share of them and soon gets one
    from who computes on (docs.kernel.org/scheduler/sched-eevdf.html). So what counts is whether
    a client waits for a handler, which a hash may make it do, not whether the cpus are busy.
    Callbacks and coroutines go on while a handler waits. While one computes nobody takes the
    cpu away from it but for another process, and a hash may lead a client to just this one."""
    free_worker = (candidate.model == "threads" and candidate.threads > HANDLER_CLIENTS) or (
        candidate.workers > HANDLER_CLIENTS and (
            candidate.model == "blocking"
            or candidate.key in ("stage4-shared", "stage4-exclusive")))
    goes_on = candidate.model in ("callbacks", "coroutines")
    if fault == "worker-killed":
        return UNAFFECTED if candidate.workers > 1 else STOPPED
    if fault == "no-descriptors":
        return STOPPED
    if fault in ("slow-handler", "slow-upstream"):
        return UNAFFECTED if free_worker or goes_on else SLOWER
    if fault == "busy-handler":
        return UNAFFECTED if free_worker else SLOWER
    if fault == "reset":
        return UNAFFECTED
    if candidate.model == "blocking":
        return STOPPED
    if fault == "idle-herd" and candidate.key.startswith("stage3"):
        return SLOWER
    return UNAFFECTED


def mean_us(waits: list[float]) -> float | None:
    """Mean without the slowest twentieth: what the machine did besides does not count."""
    kept = sorted(waits)[:max(1, len(waits) - len(waits) // 20)]
    return sum(kept) / len(kept) if kept else None


def judge(waits: list[float], lost: int, base_us: float | None) -> Row:
    """A cell: its state and number."""
    mean = mean_us(waits)
    share = lost / (lost + len(waits))
    factor = mean / base_us if mean and base_us else None
    if not waits:
        state = STOPPED
    elif factor is not None and factor <= 1 / DEGRADED:
        state = FASTER  # no model says so: what it is compared with was disturbed
    elif share >= LOST or factor is None or factor >= DEGRADED:
        state = SLOWER
    else:
        state = UNAFFECTED
    return {"state": state, "factor": factor, "wait_us": mean, "base_us": base_us,
            "answered": len(waits), "lost": lost, "lost_share": share}


def probe(ctx: Context, server: processes.Server) -> tuple[list[float], int]:
    return measure.probe(server.port, ctx.p["probe_seconds"], ctx.p["deadline_seconds"], 0.001)


def disturbed(ctx: Context, server: processes.Server, fault: Fault, base_us: float | None) -> Row:
    """The cell of a fault that clients cause; afterwards the server must be well again."""
    assert fault.crowd is not None
    clients, behaviour, options = fault.crowd
    if ctx.form == "smoke" and fault.key == "idle-herd":
        clients = 200
    with ctx.crowd(server, clients, behaviour, patience=0.4, **options) as crowd:
        time.sleep(0.05)
        waits, lost = probe(ctx, server)
        crowd.finish()
    ctx.check(server, f"after the fault: {fault.head}")
    return judge(waits, lost, base_us)


def killed(ctx: Context, server: processes.Server, base_us: float | None) -> Row:
    """The cell of SIGKILL: single processes die once, workers again and again."""
    waits: list[float] = []
    lost = 0
    for _ in range(3):
        if server.candidate.workers > 1:
            os.kill(min(workers_alive(server.pid), key=start_ticks), signal.SIGKILL)
        else:
            os.kill(server.pid, signal.SIGKILL)
            processes.ended(server.process, 2)
        more, none = measure.probe(server.port, 0.2, ctx.p["deadline_seconds"], 0.001)
        waits, lost = waits + more, lost + none
        if server.candidate.workers == 1:
            break
    return judge(waits, lost, base_us)


def row_of(ctx: Context, candidate: Candidate) -> Row:
    cells = {}
    with ctx.server(candidate, cpus=ctx.all_cpus) as server:
        ctx.check(server, "before the faults")
        base_us = mean_us(probe(ctx, server)[0])
        for fault in FAULTS:
            if fault.key == "no-descriptors":
                with ctx.server(candidate, cpus=ctx.all_cpus, nofile=FD_LIMIT) as small:
                    cells[fault.key] = disturbed(ctx, small, fault, base_us)
            elif fault.crowd:
                ctx.say(f"{candidate.label}, {fault.head}")
                cells[fault.key] = disturbed(ctx, server, fault, base_us)
        if candidate.workers > 1:
            cells["worker-killed"] = killed(ctx, server, base_us)
            ctx.check(server, "after workers were killed")
    if candidate.workers == 1:
        with ctx.doomed(candidate) as server:
            cells["worker-killed"] = killed(ctx, server, base_us)
    for key, cell in cells.items():
        cell["predicted"] = predicted_state(candidate, key)
    return {"candidate": candidate.key, "label": candidate.label, "base_us": base_us,
            "cells": {fault.key: cells[fault.key] for fault in FAULTS}}


def failure_matrix(ctx: Context) -> Matrix:
    ctx.need_crowd()
    need_upstream(ctx)
    keys = [key for key in ROWS if key in (ctx.p["matrix_rows"] or ROWS)]
    with ctx.server(upstream(ctx), ctx.generator_cpus) as slow:
        more = ("--upstream", f"127.0.0.1:{slow.port}")
        return matrix_result([row_of(ctx, candidate) for candidate in
                              ctx.some_or_skip(*keys, workers=WORKERS, more=more)])


# ---- What it says --------------------------------------------------------------------------

def prediction_text() -> str:
    return (f"Fresh clients come one after the other; unaffected means that they "
            f"wait less than {DEGRADED:.0f} times as long as without the fault, and "
            f"more than 1/{DEGRADED:.0f}, stopped that nobody was answered. Who "
            "blocks is stopped by any client that keeps its process waiting; loops are not, but "
            f"select and poll slow down among idle clients. {HANDLER_CLIENTS} slow handlers, or "
            f"{HANDLER_CLIENTS} that wait for an upstream, "
            f"stop nobody where {WORKERS} workers share a queue, for a free one takes the "
            "client; where there is one process, or a hash chooses the worker, they "
            "do, unless its threads are more than they, or it goes on meanwhile as callbacks and "
            f"coroutines do. {HANDLER_CLIENTS} busy handlers are no different to processes and "
            "threads: they compute on "
            "all cpus, but a worker that was asleep soon gets one, for it has had "
            "less of them than who computes; who is led to a computing loop, of callbacks or "
            "coroutines as well, waits for its handler. Without descriptors all stop, until some are "
            "free again; only who has a parent and workers survives a kill.")


def told(cells: list[Cell]) -> str:
    """How many cells there are of each state, and which are not as predicted."""
    heads = {fault.key: fault.head for fault in FAULTS}
    counts = {state: sum(cell["state"] == state for _, _, cell in cells)
              for state in (UNAFFECTED, SLOWER, STOPPED)}
    off = unpredicted(cells)
    named = "; ".join(f"{label}, {heads[key]}: {cell['state']}, not {cell['predicted']}"
                      for label, key, cell in off[:6])
    return (f"Of {len(cells)} cells {counts[UNAFFECTED]} are unaffected, "
            f"{counts[SLOWER]} degraded and {counts[STOPPED]} stopped; "
            + (f"{len(off)} differ from the prediction: {named}"
               f"{' and others' if len(off) > 6 else ''}." if off else "all as predicted."))


def unpredicted(cells: list[Cell]) -> list[Cell]:
    return [one for one in cells if one[2]["state"] != one[2]["predicted"]]


def matrix_result(rows: list[Row]) -> Matrix:
    cells = [(row["label"], key, cell) for row in rows for key, cell in row["cells"].items()]
    found = checks.findings(
        [checks.exactly("cells that are not as predicted", len(unpredicted(cells)), 0)],
        prediction={
            "text": prediction_text(),
            "value": {row["label"]: {key: cell["predicted"]
                                     for key, cell in row["cells"].items()}
                      for row in rows}},
        rows=rows,
        finding=told(cells),
        figure=None)
    found["tolerance"] = f"× {DEGRADED:.0f} either way in each cell"
    faults: list[FaultHead] = [{"key": fault.key, "head": fault.head, "what": fault.what}
                               for fault in FAULTS]
    return cast(Matrix, {**found, "faults": faults})
