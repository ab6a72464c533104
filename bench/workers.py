"""workers.py - experiments about several workers: accept-balance and worker-killed.

Does not: kill a process that is not a worker of a server it started itself.
"""
import contextlib
import json
import os
import signal
import socket
import statistics
import time

import measure
import processes
from costs import traced

WORKERS = 4
KILLED_WORKERS = 8      # each lives for 8 x 0.2 s: long enough to be replaced at once
KILL_INTERVAL = 0.2     # seconds
KILL_CLIENTS = 32
BURN_MS = 5
BURN_INTERVAL_MS = 40   # one after the other with this pause: under an eighth of a cpu
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


# ---- accept-balance ------------------------------------------------------------------------

def ask(client, path="/"):
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return measure.read_answer(client, time.monotonic() + 5)[1]


def connections_per_worker(port, n):
    """Open n connections, each after the one before was answered; who holds how many?"""
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            ask(client)
        stats = json.loads(ask(client, "/stats"))
    return [worker["connections"] for worker in stats["workers"]]


def one_after_another(port, n):
    """n clients, one request and one connection each."""
    for _ in range(n):
        status, _ = measure.get(port)
        if status != 200:
            raise ValueError(f"status {status}")


def wakeups(ctx, candidate, n):
    """While n clients come one by one: calls of accept4, those in vain, and sleeps per client.
    The calls are counted by strace, which slows the workers down; the sleeps without it."""
    calls, errors = traced(ctx, candidate, lambda port: one_after_another(port, n),
                           "accept4,epoll_wait")
    with ctx.server(candidate, cpus=ctx.all_cpus) as server:
        one_after_another(server.port, 10)
        before = measure.tree_usage(server.pid)
        one_after_another(server.port, n)
        usage = measure.usage_between(before, measure.tree_usage(server.pid))
    return {"accept_calls_in_vain_per_client": errors["accept4"] / n,
            "epoll_waits_per_client": calls["epoll_wait"] / n,
            "sleeps_per_client": usage["voluntary_switches"] / n}


def uneven_work(ctx, server, seconds):
    """p50 and p99 of fresh clients while a few others make a worker compute."""
    with ctx.crowd(server, 1, "short", path=f"/burn?ms={BURN_MS}", interval=BURN_INTERVAL_MS):
        waits, lost = measure.probe(server.port, seconds, 2, 0.001)
    if lost:
        ctx.problem(f"{server.candidate.label}: {lost} clients were not answered")
    return {"uneven_probes": len(waits), "uneven_p50_us": measure.percentile(waits, 50),
            "uneven_p99_us": measure.percentile(waits, 99),
            "uneven_mean_us": statistics.fmean(waits) if waits else None}


def held_workers(ctx, server, seconds):
    """The same with connections that stay: the worst client's share of waiting. Each of many
    clients keeps its connection; whoever shares a worker with a computing one waits."""
    load = measure.Load(server.port, 32, ctx.generator_cpus)
    with ctx.crowd(server, 1, "keep-alive", path=f"/burn?ms={BURN_MS}",
                   interval=BURN_INTERVAL_MS):
        found = load.finish(seconds)
    return {"kept_p50_us": found["p50_us"], "kept_p99_us": found["p99_us"],
            "kept_req_per_s": found["requests"] * 1e6 / found["duration_us"]}


def expected_top_share(n, workers):
    """Of n clients hashed to workers: what the fullest gets (normal approximation)."""
    extreme = {1: 0.0, 2: 0.56, 3: 0.85, 4: 1.03, 8: 1.42}.get(workers, 1.5)
    return 1 / workers + extreme * (1 / workers * (1 - 1 / workers) / n) ** 0.5


def accept_balance(ctx):
    """On all cpus, the generator too: workers must be able to run at the same time."""
    ctx.need("strace", "strace")
    ctx.need("wrk", "wrk")
    ctx.need_crowd()
    n, rows = ctx.p["balance"], []
    for key, mode in (("stage4-shared", "shared"), ("stage4-exclusive", "exclusive"),
                      ("stage4", "reuseport")):
        for candidate in ctx.some(key, workers=WORKERS):
            ctx.say(f"{mode}: {n} connections")
            with ctx.server(candidate, cpus=ctx.all_cpus) as server:
                ctx.check(server, "before the load")
                per_worker = sorted(connections_per_worker(server.port, n), reverse=True)
                uneven = uneven_work(ctx, server, 2 * ctx.p["probe_seconds"])
                kept = held_workers(ctx, server, 2 * ctx.p["probe_seconds"])
                ctx.check(server, "after the load")
            if sum(per_worker) != n:
                ctx.problem(f"{mode}: {sum(per_worker)} of {n} connections are in /stats")
            rows.append({"candidate": key, "label": mode, "workers": WORKERS,
                         "offered_clients": n, "served_clients": sum(per_worker),
                         "connections_per_worker": per_worker,
                         "top_share": per_worker[0] / max(1, sum(per_worker)),
                         "deviation": statistics.pstdev(per_worker),
                         **wakeups(ctx, candidate, n // 2), **uneven, **kept})
    if not rows:
        ctx.some_or_skip("stage4")
    return balance_result(ctx, n, rows)


def balance_result(ctx, n, rows):
    share = expected_top_share(n, WORKERS)
    predicted = {"shared": {"in_vain": WORKERS, "share": None},
                 "exclusive": {"in_vain": 1, "share": 1.0},
                 "reuseport": {"in_vain": 1, "share": share}}
    off = []
    for row in rows:
        wanted = predicted[row["label"]]
        row["predicted_top_share"] = wanted["share"]
        row["predicted_in_vain"] = wanted["in_vain"]
        if wanted["share"] and abs(row["top_share"] - wanted["share"]) > 0.15:
            off.append(f"{row['label']}'s share")
        if row["label"] == "shared" and row["accept_calls_in_vain_per_client"] < 1.5:
            off.append("the herd of shared")
        if row["label"] != "shared" and row["accept_calls_in_vain_per_client"] > 1.5:
            off.append(f"wake-ups of {row['label']}")
    told = "; ".join(
        f"{row['label']}: the busiest of {WORKERS} workers holds {row['top_share'] * 100:.0f} %, "
        f"{row['accept_calls_in_vain_per_client']:.1f} calls of accept in vain and "
        f"{row['sleeps_per_client']:.1f} sleeps a client, p99 under uneven work "
        f"{row['uneven_p99_us'] / 1000:.1f} ms for fresh clients, "
        f"{row['kept_p99_us'] / 1000:.1f} ms for kept connections" for row in rows
        if row["uneven_p99_us"])
    return {"prediction": {
                "text": (f"Clients that come one by one find {WORKERS} sleeping workers. shared: "
                         f"all are woken, up to {WORKERS} calls of accept in vain for a client. "
                         "exclusive: one is woken, and always the same: it gets all clients. "
                         f"reuseport: a hash chooses, so of {n} clients the fullest worker gets "
                         f"1/{WORKERS} + 1.03 × √(1/{WORKERS} × {1 - 1 / WORKERS:.2f} / {n}) = "
                         f"{share * 100:.0f} %. Under uneven work a fresh client of reuseport "
                         f"waits up to {BURN_MS} ms when the hash leads it to the worker that "
                         "computes; a shared queue leads it to one that sleeps. For connections "
                         "that are kept it is the other way round when one worker has them "
                         "all."),
                "value": {"shared_in_vain": WORKERS, "exclusive_in_vain": 1,
                          "reuseport_in_vain": 1, "exclusive_top_share": 1.0,
                          "reuseport_top_share": share}},
            "rows": rows, "agrees": not off,
            "finding": told + (". As predicted." if not off
                               else f". Against the prediction: {', '.join(off)}."),
            "figure": {"panels": [
                {"kind": "stack", "x_label": "connections held",
                 "segments": ["fullest worker", *[f"{i}." for i in range(2, WORKERS + 1)]],
                 "bars": [{"label": row["label"], "values": row["connections_per_worker"],
                           "text": f"{row['top_share'] * 100:.0f} % in one"} for row in rows]},
                {"kind": "bars", "x_label": "p99 of fresh clients under uneven work, ms",
                 "bars": [{"key": row["candidate"], "label": row["label"],
                           "value": (row["uneven_p99_us"] or 0) / 1000,
                           "text": f"{(row['uneven_p99_us'] or 0) / 1000:.2f}"}
                          for row in rows]},
                {"kind": "bars", "x_label": "p99 of kept connections under uneven work, ms",
                 "bars": [{"key": row["candidate"], "label": row["label"],
                           "value": row["kept_p99_us"] / 1000,
                           "text": f"{row['kept_p99_us'] / 1000:.2f}"} for row in rows]}]}}


# ---- worker-killed -------------------------------------------------------------------------

def start_ticks(pid):
    fields = measure.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields else 0


def workers_alive(pid):
    return [child for child in measure.children(pid)
            if measure.read(f"/proc/{child}/stat").rpartition(") ")[2][:1] not in ("Z", "X", "")]


def wait_for_workers(pid, n, seconds):
    """Until n live workers are there again: (ms it took, or None; zombies seen at the end)."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if len(workers_alive(pid)) >= n:
            return (time.monotonic() - began) * 1000, measure.zombies(pid)
        time.sleep(0.0005)
    return None, measure.zombies(pid)


def kill_workers(server, kills):
    """SIGKILL the oldest worker, again and again; [ms to its replacement], most zombies."""
    replaced, zombies = [], 0
    n = server.candidate.workers
    for _ in range(kills):
        began = time.monotonic()
        oldest = min(workers_alive(server.pid), key=start_ticks)
        os.kill(oldest, signal.SIGKILL)
        while oldest in workers_alive(server.pid):
            time.sleep(0.0002)
        ms, left = wait_for_workers(server.pid, n, 2)
        replaced.append(ms)
        zombies = max(zombies, left)
        time.sleep(max(0, began + KILL_INTERVAL - time.monotonic()))
    return replaced, zombies


def killed_row(ctx, server):
    """Load, and a kill every KILL_INTERVAL."""
    candidate = server.candidate
    load = measure.Load(server.port, KILL_CLIENTS, ctx.generator_cpus)
    time.sleep(KILL_INTERVAL)
    if candidate.workers == 1:
        os.kill(server.pid, signal.SIGKILL)
        time.sleep(KILL_INTERVAL)
        replaced, zombies, kills = [None], 0, 1
    else:
        kills = ctx.p["kills"]
        replaced, zombies = kill_workers(server, kills)
    found = load.finish()
    times = [ms for ms in replaced if ms is not None]
    errors = found["read_errors"] + found["write_errors"]
    row = {"candidate": candidate.key, "label": candidate.label, "workers": candidate.workers,
           "offered_clients": KILL_CLIENTS, "kills": kills, "requests": found["requests"],
           "failed": errors, "non_2xx": found["non_2xx"], "connect_errors":
           found["connect_errors"], "failed_per_kill": errors / kills,
           "req_per_s": found["requests"] * 1e6 / found["duration_us"],
           "replaced": len(times), "replacement_ms": measure.median(times),
           "replacement_ms_max": max(times, default=None), "zombies": zombies,
           "stopped": candidate.workers == 1}
    if candidate.workers > 1:
        if len(times) < kills:
            ctx.problem(f"{candidate.label}: {kills - len(times)} killed workers were not "
                        "replaced in 2 s")
        if zombies or measure.zombies(server.pid):
            ctx.problem(f"{candidate.label}: {zombies} zombies were left")
        row["predicted_failed_per_kill"] = (1.0 if candidate.model == "blocking"
                                            else KILL_CLIENTS / candidate.workers)
    else:
        row["predicted_failed_per_kill"] = None
    return row


def worker_killed(ctx):
    ctx.need("wrk", "wrk")
    rows = []
    for candidate in ctx.some_or_skip("stage1", "stage2", "stage3-select", "stage4",
                                      "stage4-exclusive", workers=KILLED_WORKERS):
        ctx.say(candidate.label)
        single = candidate.workers == 1
        server = None
        with contextlib.ExitStack() as stack:
            if single:  # it is meant to die: that is no problem of the run
                server = processes.Server(candidate, ctx.all_cpus)
                stack.callback(server.discard)
            else:
                server = stack.enter_context(ctx.server(candidate, cpus=ctx.all_cpus))
            ctx.check(server, "before the first kill")
            rows.append(killed_row(ctx, server))
            if not single:
                ctx.check(server, "after the last kill")
    return killed_result(rows)


def killed_result(rows):
    off = [row for row in rows if row["predicted_failed_per_kill"] is not None
           and not row["failed_per_kill"] <= 2 * row["predicted_failed_per_kill"]]
    told = "; ".join(
        f"{row['label']} is gone with its only process" if row["stopped"] else
        f"{row['label']}: {row['failed_per_kill']:.1f} requests lost a kill (predicted "
        f"{row['predicted_failed_per_kill']:.0f}), a new worker after "
        f"{row['replacement_ms'] or 0:.1f} ms, {row['zombies']} zombies" for row in rows)
    lost = [row for row in rows if not row["stopped"]]
    panels = [{"kind": "bars", "x_label": "requests lost per kill",
               "bars": [{"key": row["candidate"], "label": row["label"],
                         "value": row["failed_per_kill"],
                         "text": "all, for good" if row["stopped"] else
                         f"{row['failed_per_kill']:.1f} (predicted "
                         f"{row['predicted_failed_per_kill']:.0f})"} for row in rows]}]
    if lost:
        panels.append({"kind": "bars", "x_label": "ms to a new worker (median)",
                       "bars": [{"key": row["candidate"], "label": row["label"],
                                 "value": row["replacement_ms"] or 0,
                                 "text": f"{row['replacement_ms'] or 0:.2f}"} for row in lost]})
    return {"prediction": {
                "text": (f"A process that is killed takes with it the connections it holds, no "
                         f"more: of {KILL_CLIENTS} clients one in stage 2, and {KILL_CLIENTS} / "
                         f"{KILLED_WORKERS} workers = {KILL_CLIENTS / KILLED_WORKERS:.0f} in "
                         "stage 4. The queue outlives it, for the parent holds the listener. "
                         "Stages 1 and 3 have one process: they are gone."),
                "value": {"stage2_failed_per_kill": 1,
                          "stage4_failed_per_kill": KILL_CLIENTS / KILLED_WORKERS,
                          "zombies": 0}},
            "rows": rows, "agrees": not off,
            "finding": told + (". As predicted." if not off else ". More were lost than "
                               "predicted by " + ", ".join(row["label"] for row in off) + "."),
            "figure": {"panels": panels}}
