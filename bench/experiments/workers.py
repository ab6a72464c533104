"""workers.py - experiments about several workers: accept-balance and worker-killed.

Does not: kill a process that is not a worker of a server it started itself.
"""
import contextlib
import itertools
import json
import os
import selectors
import signal
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

from experiments.costs import traced
from lib import measure, processes
from lib.candidates import Candidate
from lib.context import Context
from report import checks
from results import Check, Figure, Findings, Row

WORKERS = 4
KILLED_WORKERS = 8      # each lives for 8 x 0.2 s: long enough to be replaced at once
KILL_INTERVAL = 0.2     # seconds
KILL_CLIENTS = 32
CALM_SECONDS = 0.002    # between two clients that come one by one: all workers sleep again
HELD_MS = 5             # a handler holds a worker; it sleeps, for cpus are not what is tested
HELD_PAUSE_MS = 10      # between two of them: a third of the time a worker is held
KEPT_CLIENTS = 32
PACE_SECONDS = 0.0017   # between two requests of all others; no simple part of that period
LATE_US = 1500          # who waits longer has waited for a handler
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


# ---- accept-balance ------------------------------------------------------------------------

def ask(client: socket.socket, path: str = "/") -> bytes:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return measure.read_answer(client, time.monotonic() + 5)[1]


def connections_per_worker(port: int, n: int, pause: float) -> list[int]:
    """Open n connections, each after the one before was answered and a pause in seconds;
    how many each worker holds then, most first."""
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            ask(client)
            time.sleep(pause)
        stats = json.loads(ask(client, "/stats"))
    return sorted((worker["connections"] for worker in stats["workers"]), reverse=True)


def one_after_another(port: int, n: int) -> None:
    """n clients, one request and one connection each."""
    for _ in range(n):
        status, _ = measure.get(port)
        if status != 200:
            raise ValueError(f"status {status}")


def wakeups(ctx: Context, candidate: Candidate, n: int) -> dict[str, float]:
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


def late_share(waits: list[float]) -> float | None:
    return sum(wait > LATE_US for wait in waits) / len(waits) if waits else None


def described(name: str, alone: list[float], waits: list[float]) -> Row:
    """What a row says of fresh or kept clients, without and with the one who holds a worker."""
    return {f"{name}_requests": len(waits), f"{name}_p50_us": measure.percentile(waits, 50),
            f"{name}_p99_us": measure.percentile(waits, 99),
            f"{name}_p99_us_alone": measure.percentile(alone, 99),
            f"{name}_late_share": late_share(waits),
            f"{name}_late_share_alone": late_share(alone)}


def paced(next_client: Callable[[], socket.socket], seconds: float) -> list[float]:
    """A request every PACE_SECONDS, whether or not the ones before were answered, on the client
    that next_client() gives; waits in us. A wait begins when the request is made, not when it
    was due: selectors sleep whole milliseconds, so this program is up to one late itself, and
    that is no wait for a server."""
    began = time.monotonic()
    waits: list[float] = []
    asked: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as selector:
        while True:
            now = time.monotonic()
            due = began + (len(waits) + len(asked)) * PACE_SECONDS
            sending = due < began + seconds
            if not sending and (not asked or now > began + seconds + 2):
                return waits
            if sending and now >= due:
                client = next_client()
                if client not in asked:
                    client.sendall(REQUEST)
                    selector.register(client, selectors.EVENT_READ, client)
                    asked[client] = now
                    continue
            for key, _ in selector.select(max(0.0002, due - now) if sending else 0.1):
                client = key.data
                if not client.recv(4096).endswith(measure.HELLO):
                    raise ValueError("a wrong answer")
                selector.unregister(client)
                waits.append((time.monotonic() - asked.pop(client)) * 1e6)


def fresh_clients(ctx: Context, server: processes.Server, seconds: float) -> Row:
    """Fresh clients alone, and while another one holds some worker, again and again."""
    with contextlib.ExitStack() as stack:
        def client() -> socket.socket:
            return stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), 5))
        alone = paced(client, seconds)
        stack.enter_context(ctx.crowd(server, 1, "short", path=f"/sleep?ms={HELD_MS}",
                                      interval=HELD_PAUSE_MS))
        waits = paced(client, seconds)
    return described("fresh", alone, waits)


def kept_clients(ctx: Context, server: processes.Server, seconds: float) -> Row:
    """Clients that stay, and came before the one who holds a worker again and again."""
    clients = []
    with contextlib.ExitStack() as stack:
        for _ in range(KEPT_CLIENTS):
            clients.append(stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), 5)))
            ask(clients[-1])
            time.sleep(CALM_SECONDS)
        next_client = itertools.cycle(clients).__next__
        alone = paced(next_client, seconds)
        stack.enter_context(ctx.crowd(server, 1, "keep-alive", path=f"/sleep?ms={HELD_MS}",
                                      interval=HELD_PAUSE_MS))
        waits = paced(next_client, seconds)
    return described("kept", alone, waits)


def expected_top_share(n: int, workers: int) -> float:
    """Of n clients hashed to workers: what the fullest gets (normal approximation)."""
    extreme = {1: 0.0, 2: 0.56, 3: 0.85, 4: 1.03, 8: 1.42}.get(workers, 1.5)
    return 1 / workers + extreme * (1 / workers * (1 - 1 / workers) / n) ** 0.5


def accept_balance(ctx: Context) -> Findings:
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
                per_worker = connections_per_worker(server.port, n, CALM_SECONDS)
                time.sleep(0.05)
                hurried = connections_per_worker(server.port, n, 0)
                uneven = {**fresh_clients(ctx, server, 2 * ctx.p["probe_seconds"]),
                          **kept_clients(ctx, server, 2 * ctx.p["probe_seconds"])}
                ctx.check(server, "after the load")
            for held in (per_worker, hurried):
                if sum(held) != n:
                    ctx.problem(f"{mode}: {sum(held)} of {n} connections are in /stats")
            rows.append({"candidate": key, "label": mode, "workers": WORKERS,
                         "offered_clients": n, "served_clients": sum(per_worker),
                         "connections_per_worker": per_worker,
                         "top_share": per_worker[0] / max(1, sum(per_worker)),
                         "hurried_per_worker": hurried,
                         "hurried_top_share": hurried[0] / max(1, sum(hurried)),
                         "deviation": statistics.pstdev(per_worker),
                         **wakeups(ctx, candidate, n // 2), **uneven})
    if not rows:
        ctx.some_or_skip("stage4")
    return balance_result(ctx, n, rows)


def late_while_busy() -> float:
    """The share of requests to that worker that come while more than LATE_US of its
    waiting are left."""
    return (HELD_MS - LATE_US / 1000) / (HELD_MS + HELD_PAUSE_MS)


def predicted_balance(n: int) -> dict[str, dict[str, Any]]:
    """By mode: how many workers wake for a client, calls of accept in vain (of shared: at most,
    for who wakes late is not told of a client that is taken), the fullest worker's share of
    calm clients, and the shares of late fresh and of late kept requests."""
    busy = late_while_busy()
    share = expected_top_share(n, WORKERS)
    return {"shared": {"wakes": WORKERS, "in_vain": WORKERS, "top_share": None, "fresh": 0.0,
                       "kept": None},
            "exclusive": {"wakes": 1, "in_vain": 1, "top_share": 1.0, "fresh": 0.0, "kept": busy},
            "reuseport": {"wakes": 1, "in_vain": 1, "top_share": share, "fresh": busy / WORKERS,
                          "kept": busy / WORKERS}}


def balance_checks(rows: list[Row], predicted: dict[str, dict[str, Any]]) -> list[Check]:
    """Of all modes. Late is what comes on top of those who are late without anybody's handler."""
    found = []
    for row in rows:
        mode, wanted = row["label"], predicted[row["label"]]
        row["predicted_in_vain"] = wanted["in_vain"]
        row["predicted_top_share"] = wanted["top_share"]
        row["predicted_fresh_late_share"] = wanted["fresh"]
        row["predicted_kept_late_share"] = wanted["kept"]
        found.append(checks.near(f"{mode}, workers that wake for a client",
                                 row["sleeps_per_client"], wanted["wakes"], 0.5))
        if wanted["in_vain"] == 1:
            found.append(checks.near(f"{mode}, accepts in vain a client",
                                     row["accept_calls_in_vain_per_client"], 1, 0.5))
        if wanted["top_share"]:
            found.append(checks.near(f"{mode}, share of the fullest", row["top_share"],
                                     wanted["top_share"], 0.05))
        for name in ("fresh", "kept"):
            late = row[f"{name}_late_share"] - row[f"{name}_late_share_alone"]
            if wanted[name] is not None:
                found.append(checks.near(f"{mode}, late {name}", late, wanted[name],
                                         late_room(row[f"{name}_requests"], wanted[name])))
    return found


def late_room(requests: int, share: float) -> float:
    """Three standard deviations of a share of so many requests, and 2 % besides."""
    return round(0.02 + 3 * (share * (1 - share) / max(1, requests)) ** 0.5, 3)


def percent(share: float | None) -> str:
    return "?" if share is None else f"{share * 100:.0f} %"


def balance_result(ctx: Context, n: int, rows: list[Row]) -> Findings:
    predicted = predicted_balance(n)
    found = balance_checks(rows, predicted)
    busy = late_while_busy()
    share = predicted["reuseport"]["top_share"]
    told = "; ".join(
        f"{row['label']}: the fullest of {WORKERS} workers holds {percent(row['top_share'])}, "
        f"{row['accept_calls_in_vain_per_client']:.1f} accepts in vain a client, late are "
        f"{percent(row['fresh_late_share'])} of fresh and {percent(row['kept_late_share'])} of "
        "kept clients' requests" for row in rows)
    text = (f"Clients that come one by one find {WORKERS} sleeping workers. shared: all {WORKERS} "
            f"wake, up to {WORKERS} calls of accept in vain. exclusive: one wakes, always the same, and "
            f"gets all clients. reuseport: a hash chooses; of {n} clients the fullest gets "
            f"1/{WORKERS} + 1.03 × √(1/{WORKERS} × {1 - 1 / WORKERS:.2f} / {n}) = "
            f"{percent(share)}. Then one client holds a worker for {HELD_MS} of every "
            f"{HELD_MS + HELD_PAUSE_MS} ms; late is who waits more than {LATE_US / 1000} ms, so "
            f"({HELD_MS} - {LATE_US / 1000}) / {HELD_MS + HELD_PAUSE_MS} = {percent(busy)} of "
            "those whose worker it is. A fresh client is late with reuseport if the hash "
            f"leads it there, {percent(busy)} / {WORKERS} = {percent(busy / WORKERS)}; from a "
            "shared queue a sleeping worker takes it, 0 %. (Nearly: a worker that took a client "
            "a moment ago may get the long request before that client's own; about one client in "
            "a hundred.) A client that was there before is "
            f"late if it shares the worker: with exclusive all do, {percent(busy)}; with "
            f"reuseport {percent(busy / WORKERS)}. So each side of the published quarrel is "
            "right, about its own kind of clients.")
    return checks.findings(
        found,
        prediction={"text": text, "value": predicted},
        rows=rows,
        finding=f"{told}. {checks.sentence(found)}",
        figure=balance_figure(rows))


def balance_figure(rows: list[Row]) -> Figure:
    order = ["fullest worker", *[f"{i}." for i in range(2, WORKERS + 1)]]
    panels = [{"kind": "stack", "x_label": f"connections held, clients coming {how}",
               "segments": order,
               "bars": [{"label": row["label"], "values": row[name],
                         "text": f"{100 * row[name][0] / max(1, sum(row[name])):.0f} % in one"}
                        for row in rows]}
              for name, how in (("connections_per_worker", "one by one"),
                                ("hurried_per_worker", "without a pause"))]
    for name in ("fresh", "kept"):
        panels.append({
            "kind": "bars",
            "x_label": f"% of {name} clients' requests that waited for somebody's handler",
            "bars": [{"key": row["candidate"], "label": row["label"],
                      "value": 100 * (row[f"{name}_late_share"] or 0),
                      "text": f"{percent(row[f'{name}_late_share'])}, p99 "
                              f"{(row[f'{name}_p99_us'] or 0) / 1000:.1f} ms"} for row in rows]})
    return {"panels": panels}


# ---- worker-killed -------------------------------------------------------------------------

def start_ticks(pid: int) -> int:
    fields = measure.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields else 0


def workers_alive(pid: int) -> list[int]:
    return [child for child in measure.children(pid)
            if measure.read(f"/proc/{child}/stat").rpartition(") ")[2][:1] not in ("Z", "X", "")]


def wait_for_workers(pid: int, n: int, seconds: float) -> tuple[float | None, int]:
    """Until n live workers are there again: (ms it took, or None; zombies seen at the end)."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if len(workers_alive(pid)) >= n:
            return (time.monotonic() - began) * 1000, measure.zombies(pid)
        time.sleep(0.0005)
    return None, measure.zombies(pid)


def kill_workers(server: processes.Server, kills: int) -> tuple[list[float | None], int]:
    """SIGKILL the oldest worker, again and again; [ms to its replacement], most zombies."""
    replaced: list[float | None] = []
    zombies = 0
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


def lost_to_the_oldest(clients: int, workers: int, kills: int) -> float:
    """Connections that a kill of the oldest worker ends, on average over so many kills. A hash
    deals clients out evenly, so a worker gets 1 / workers of those who come. All who lost their
    worker come again at once: each death makes the others fuller, and the oldest has gathered
    most. Its replacement begins with a share of the last deal."""
    held = [clients / workers] * workers    # oldest first
    ended = 0.0
    for _ in range(kills):
        lost = held.pop(0)
        ended += lost
        held = [n + lost / workers for n in [*held, 0.0]]
    return ended / kills


def lost_clients(candidate: Candidate, kills: int) -> float | None:
    """How many of KILL_CLIENTS the oldest worker holds, on average over the kills; None where no
    model says so."""
    if candidate.model == "blocking":
        return 1.0
    if candidate.key == "stage4-exclusive":
        return None
    return lost_to_the_oldest(KILL_CLIENTS, candidate.workers, kills)


def killed_row(ctx: Context, server: processes.Server) -> Row:
    """Load, and a kill every KILL_INTERVAL."""
    candidate = server.candidate
    load = measure.Load(server.port, KILL_CLIENTS, ctx.generator_cpus)
    replaced: list[float | None] = []
    zombies, kills = 0, 1
    time.sleep(KILL_INTERVAL)
    if candidate.workers == 1:
        os.kill(server.pid, signal.SIGKILL)
        time.sleep(KILL_INTERVAL)
    else:
        kills = ctx.p["kills"]
        replaced, zombies = kill_workers(server, kills)
    found = load.finish()
    times = [ms for ms in replaced if ms is not None]
    errors = found["read_errors"] + found["write_errors"]
    if candidate.workers == 1:
        errors = None  # wrk goes on to knock at a port where nobody is
    row = {"candidate": candidate.key, "label": candidate.label, "workers": candidate.workers,
           "offered_clients": KILL_CLIENTS, "kills": kills, "requests": found["requests"],
           "failed": errors, "non_2xx": found["non_2xx"], "connect_errors":
           found["connect_errors"], "failed_per_kill": errors and errors / kills,
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
        row["predicted_failed_per_kill"] = lost_clients(candidate, kills)
    else:
        row["predicted_failed_per_kill"] = None
    return row


def worker_killed(ctx: Context) -> Findings:
    ctx.need("wrk", "wrk")
    wanted = ctx.some_or_skip(
        *ctx.contestants("stage1", "stage2", "stage3-select", "stage4", "stage4-exclusive"),
        workers=KILLED_WORKERS)
    rows = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ctx.doomed(candidate) if candidate.workers == 1 else
                                       ctx.server(candidate, cpus=ctx.all_cpus))
                   for candidate in wanted]
        ctx.say("workers grow up")  # those who die young are replaced after a pause only
        time.sleep(ctx.p["grown_up_seconds"])
        for server in servers:
            ctx.say(server.candidate.label)
            ctx.check(server, "before the first kill")
            rows.append(killed_row(ctx, server))
            if server.candidate.workers > 1:
                ctx.check(server, "after the last kill")
    return killed_result(rows)


def killed_checks(rows: list[Row]) -> list[Check]:
    """The share allowed: how clients happen to be hashed makes a standard deviation of 8 % over
    eight kills; blocking workers leave nothing to chance."""
    return [checks.within(f"{row['label']}, lost per kill", row["failed_per_kill"],
                          row["predicted_failed_per_kill"],
                          0.1 if row["predicted_failed_per_kill"] == 1 else 0.25)
            for row in rows if row["predicted_failed_per_kill"] is not None]


def killed_text(kills: int) -> str:
    first = KILL_CLIENTS / KILLED_WORKERS
    again = 1 + 1 / KILLED_WORKERS
    mean = lost_to_the_oldest(KILL_CLIENTS, KILLED_WORKERS, kills)
    lasting = KILL_CLIENTS * 2 / (KILLED_WORKERS + 1)
    return (f"A process that is killed takes with it the connections it holds, no more. In stage 2 "
            f"that is 1. In stage 4 with reuseport it is {KILL_CLIENTS} / {KILLED_WORKERS} = "
            f"{first:.0f} at the first kill, and then more: it is the oldest worker that is "
            "killed each time, and each death deals its clients out again. A worker that lives "
            f"on gets 1/{KILLED_WORKERS} of them, so the next oldest holds {first:.0f} × "
            f"{again:g} = {first * again:.1f}, the one after {first * again ** 2:.1f}. The "
            f"oldest is the fullest: {mean:.1f} on average over {kills} kills, where \"clients / "
            f"workers\" says {first:.0f}. (It ends at {KILL_CLIENTS} × 2 / "
            f"{KILLED_WORKERS + 1} = {lasting:.1f}, when nobody is left who was there at the "
            "start.) The lesson: who lives long gathers clients that stay, so a crash, or a "
            "limit of requests after which a worker leaves, meets the fullest. With one exclusive "
            "listener no number is predicted. Clients that come one by one all go to the first "
            "in line, the oldest; those who lost their worker come at once, each of them wakes "
            "one more, and who runs first takes all that wait just then. The queue outlives all of "
            "them, for the parent holds the listener. Stages 1 and 3 have one process: they are gone.")


def predicted_words(row: Row) -> str:
    predicted = row["predicted_failed_per_kill"]
    return "" if predicted is None else f" (predicted {predicted:.1f})"


def killed_told(row: Row) -> str:
    if row["stopped"]:
        return f"{row['label']} is gone with its only process"
    return (f"{row['label']}: {row['failed_per_kill']:.1f} requests lost a kill"
            f"{predicted_words(row)}, a new worker after {row['replacement_ms'] or 0:.1f} ms, "
            f"{row['zombies']} zombies")


def killed_figure(rows: list[Row]) -> Figure:
    lost = [row for row in rows if not row["stopped"]]
    panels = [{"kind": "bars", "x_label": "requests lost per kill",
               "bars": [{"key": row["candidate"], "label": row["label"],
                         "value": None if row["stopped"] else row["failed_per_kill"],
                         "text": "the server is gone" if row["stopped"] else
                         f"{row['failed_per_kill']:.1f}{predicted_words(row)}"} for row in rows]}]
    if lost:
        panels.append({"kind": "bars", "x_label": "ms to a new worker (median)",
                       "bars": [{"key": row["candidate"], "label": row["label"],
                                 "value": row["replacement_ms"] or 0,
                                 "text": f"{row['replacement_ms'] or 0:.2f}"} for row in lost]})
    return {"panels": panels}


def killed_result(rows: list[Row]) -> Findings:
    kills = max(row["kills"] for row in rows)
    found = killed_checks(rows)
    return checks.findings(
        found,
        prediction={
            "text": killed_text(kills),
            "value": {"stage2_failed_per_kill": 1,
                      "stage4_failed_per_kill":
                      lost_to_the_oldest(KILL_CLIENTS, KILLED_WORKERS, kills),
                      "zombies": 0}},
        rows=rows,
        finding=f"{'; '.join(killed_told(row) for row in rows)}. "
                f"{checks.sentence(found)}",
        figure=killed_figure(rows))
