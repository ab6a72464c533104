"""among.py - who waits beside those who make a handler wait, or compute: the experiment
slow-among-fast.

Does not: ask in a closed loop. Clients come by a schedule, whether or not others were answered.
"""
import heapq
import random
import selectors
import socket
import statistics
import time
from typing import NamedTuple

from experiments.proxy import need_upstream, upstream
from experiments.upstream import options
from lib import candidates, measure, processes
from lib.candidates import Candidate
from lib.context import Context
from report import checks
from results import Check, Figure, Findings, Row

WORKERS = 4              # processes, or threads
PER_S = 100              # clients come
SLOW_SHARE = 0.1         # of them
LATE_MS = 5.0            # who waits longer was held up
DEALS = 200              # of clients among the queues of a hash
SEED = 373               # a schedule whose first seconds are like its long run
LATE_ROOM = 0.025        # of the share of late ones
P99_SHARE, P99_ROOM_MS = 0.3, 5.0
SLICE_MS = 3.0           # so long the kernel may let who computes go on when another wakes
DRAIN_SECONDS = 5.0      # that answers may take once all have come


class Load(NamedTuple):
    """What one in ten asks for; the others ask for /."""
    name: str
    path: str
    ms: int


WAITS = Load("waits", "/upstream?ms=100", 100)
COMPUTES = Load("computes", "/burn?ms=10", 10)

Arrival = tuple[float, bool]  # when it is due, in s from the beginning; whether it is slow


def schedule(seconds: float) -> list[Arrival]:
    """The same for all servers, in every run: so the model can be asked what comes of it."""
    dice, due = random.Random(SEED), 0.0
    found: list[Arrival] = []
    while True:
        due += dice.expovariate(PER_S)
        if due >= seconds:
            return found
        found.append((due, dice.random() < SLOW_SHARE))


# ---- The model -------------------------------------------------------------------------------

class Shape(NamedTuple):
    """Queues, and how many handlers are at work for each; None: nobody waits for anybody."""
    queues: int
    handlers: int


def shape(candidate: Candidate, load: Load) -> Shape | None:
    """Processes that accept from one queue, and threads, take whoever is next when they are
    free. Where the kernel deals clients out by a hash, each process has a queue of its own.
    Callbacks and coroutines go on while one waits, but there is only one of them on the cpu
    and nobody takes it away: who computes holds up all of its process. A thread that computes
    has to share: the kernel lets one that was asleep have the cpu."""
    if candidate.model in ("callbacks", "coroutines"):
        return None if load is WAITS else Shape(candidate.workers, 1)
    if candidate.model == "loop":
        return Shape(candidate.workers, 1)
    return Shape(1, candidate.workers * candidate.threads)


def waits_of(arrivals: list[Arrival], ms: int, where: Shape, dice: random.Random) -> list[float]:
    """ms that each of those waits who are not slow, by the order in which they came."""
    free = [[0.0] * where.handlers for _ in range(where.queues)]
    found = []
    for due, slow in arrivals:
        queue = free[dice.randrange(where.queues)]
        begins = max(due, heapq.heappop(queue))
        heapq.heappush(queue, begins + slow * ms / 1000)
        if not slow:
            found.append((begins - due) * 1000)
    return found


def late_share(waits: list[float]) -> float | None:
    return sum(wait > LATE_MS for wait in waits) / len(waits) if waits else None


def predicted(arrivals: list[Arrival], load: Load, where: Shape | None) -> Row:
    """Of the model's late share and p99 the median over all deals, and how far deals differ."""
    if where is None:
        return {"late_share": 0.0, "late_spread": 0.0, "p99_ms": 0.0, "p99_low_ms": 0.0,
                "p99_high_ms": 0.0}
    dice = random.Random(SEED)
    runs = [waits_of(arrivals, load.ms, where, dice)
            for _ in range(DEALS if where.queues > 1 else 1)]
    shares = [late_share(waits) or 0.0 for waits in runs]
    p99s = sorted(measure.percentile(waits, 99) or 0.0 for waits in runs)
    return {"late_share": statistics.median(shares),
            "late_spread": 3 * statistics.pstdev(shares), "p99_ms": statistics.median(p99s),
            "p99_low_ms": p99s[0],
            "p99_high_ms": max(p99s[-1], SLICE_MS if load is COMPUTES else 0.0)}


# ---- The clients -----------------------------------------------------------------------------

class Asked(NamedTuple):
    """A client under way. began: when it connected; this program's own delay before that is no
    wait for a server."""
    server: processes.Server
    began: float
    slow: bool


class Clients:
    """Those of several servers at the same time. waits: of each server, ms of those that are not
    slow."""

    def __init__(self, servers: list[processes.Server]) -> None:
        self.waits: dict[processes.Server, list[float]] = {server: [] for server in servers}
        self.slow = dict.fromkeys(servers, 0)
        self.failed = dict.fromkeys(servers, 0)
        self.selector = selectors.DefaultSelector()

    def ask(self, server: processes.Server, slow: bool, load: Load) -> None:
        path = load.path if slow else "/"
        began = time.monotonic()
        client = socket.create_connection(("127.0.0.1", server.port), 5)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                       "Connection: close\r\n\r\n".encode())
        self.selector.register(client, selectors.EVENT_READ, Asked(server, began, slow))

    def read(self, seconds: float) -> None:
        """What has come, or comes within so long."""
        for key, _ in self.selector.select(seconds):
            client, asked = key.fileobj, key.data
            assert isinstance(client, socket.socket)
            try:
                good = client.recv(4096).startswith(b"HTTP/1.1 200 ")
            except ConnectionError:
                good = False
            self.selector.unregister(client)
            client.close()
            if not good:
                self.failed[asked.server] += 1
            elif asked.slow:
                self.slow[asked.server] += 1
            else:
                self.waits[asked.server].append((time.monotonic() - asked.began) * 1000)

    def close(self) -> None:
        """Who still waits has failed."""
        for key in list(self.selector.get_map().values()):
            self.failed[key.data.server] += 1
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self.selector.close()


def serve(servers: list[processes.Server], arrivals: list[Arrival], load: Load) -> Clients:
    """All of the schedule to all of the servers. They are out of step, or this program would be
    late for the last of them."""
    step = 1 / PER_S / len(servers)
    due = sorted((at + i * step, i, slow) for i in range(len(servers)) for at, slow in arrivals)
    clients, began, next_ = Clients(servers), time.monotonic(), 0
    end = began + due[-1][0] + DRAIN_SECONDS
    try:
        while next_ < len(due) or (clients.selector.get_map() and time.monotonic() < end):
            now = time.monotonic() - began
            if next_ < len(due) and due[next_][0] <= now:
                _, i, slow = due[next_]
                clients.ask(servers[i], slow, load)
                next_ += 1
                clients.read(0)
            else:
                clients.read(due[next_][0] - now if next_ < len(due) else 0.1)
    finally:
        clients.close()
    return clients


# ---- slow-among-fast -------------------------------------------------------------------------

def contestants(ctx: Context, load: Load, port: int) -> list[Candidate]:
    """Before the upstream on this port. Who computes is measured alone, so fewer take part."""
    more = options(port)
    found = ctx.some("stage2", "stage3-select", "stage4", *candidates.keys("threads"),
                     workers=WORKERS, more=more)
    found = [ctx.stage(one.key, threads=WORKERS, more=more) if one.model == "threads" else one
             for one in found]
    waiting = candidates.usual("callbacks", "coroutines")
    for workers in (1, WORKERS) if load is WAITS or ctx.form == "full" else (1,):
        found += ctx.some(*waiting, workers=workers, more=more)
    if load is WAITS:
        found += ctx.nginx(gateway=candidates.Gateway(f"127.0.0.1:{port}"))
    return found


def rows_of(ctx: Context, servers: list[processes.Server], load: Load) -> list[Row]:
    arrivals = schedule(ctx.p["among_seconds"])
    for server in servers:
        ctx.check(server, "before the clients came")
    ctx.say(f"{load.name}: {', '.join(server.candidate.label for server in servers)}")
    clients = serve(servers, arrivals, load)
    rows = []
    for server in servers:
        candidate, waits = server.candidate, clients.waits[server]
        model = predicted(arrivals, load, shape(candidate, load))
        if clients.failed[server]:
            ctx.problem(f"{candidate.label}, {load.name}: {clients.failed[server]} clients were "
                        "not answered")
        rows.append({"candidate": candidate.key, "label": candidate.label, "load": load.name,
                     "model": candidate.model, "offered_per_s": PER_S,
                     "processes": candidate.workers, "threads": candidate.threads,
                     "clients": len(waits), "slow_clients": clients.slow[server],
                     "failed": clients.failed[server],
                     "p50_ms": measure.percentile(waits, 50),
                     "p99_ms": measure.percentile(waits, 99), "max_ms": max(waits, default=None),
                     "late_share": late_share(waits),
                     **{f"predicted_{name}": value for name, value in model.items()}})
    return rows


def slow_among_fast(ctx: Context) -> Findings:
    """Who waits uses no cpu: all at the same time. Who computes does: one after the other."""
    need_upstream(ctx)
    with ctx.server(upstream(ctx), ctx.generator_cpus) as slow:
        with ctx.servers(contestants(ctx, WAITS, slow.port)) as servers:
            if not servers:
                ctx.some_or_skip("stage2")
            rows = rows_of(ctx, servers, WAITS)
        for candidate in contestants(ctx, COMPUTES, slow.port):
            with ctx.server(candidate) as server:
                rows += rows_of(ctx, [server], COMPUTES)
    return among_result(rows)


def among_checks(rows: list[Row]) -> list[Check]:
    found = []
    for row in rows:
        what = f"{row['label']}, one in {1 / SLOW_SHARE:.0f} {row['load']}"
        found.append(checks.near(f"{what}: share of others held up", row["late_share"],
                                 row["predicted_late_share"],
                                 row["predicted_late_spread"] + LATE_ROOM))
        low = row["predicted_p99_low_ms"] * (1 - P99_SHARE) - P99_ROOM_MS
        high = row["predicted_p99_high_ms"] * (1 + P99_SHARE) + P99_ROOM_MS
        found.append(checks.between(
            f"{what}: p99 of others, ms", row["p99_ms"], row["predicted_p99_ms"], low, high,
            f"the model's range ±{P99_SHARE * 100:.0f} % ±{P99_ROOM_MS:.0f} ms"))
    return found


def among_told(rows: list[Row], load: Load) -> str:
    told = ", ".join(f"{row['label']} {row['p99_ms']:.1f}" for row in rows
                     if row["load"] == load.name and row["p99_ms"] is not None)
    return f"Where one in ten {load.name} {load.ms} ms, the others' p99 in ms: {told}."


def among_figure(rows: list[Row]) -> Figure:
    return {"panels": [
        {"kind": "bars", "x_log": 10,
         "x_label": f"p99 of the others, ms; one in ten {load.name} {load.ms} ms",
         "bars": [{"key": row["candidate"], "label": row["label"], "value": row["p99_ms"],
                   "text": f"{row['p99_ms']:.1f} (model {row['predicted_p99_ms']:.0f})"}
                  for row in rows if row["load"] == load.name and row["p99_ms"] is not None]}
        for load in (WAITS, COMPUTES)]}


def among_result(rows: list[Row]) -> Findings:
    found = among_checks(rows)
    return checks.findings(
        found,
        prediction={
            "text": (f"{PER_S} clients a second come by a schedule, one in ten of them slow. Who "
                     f"else waits longer than {LATE_MS:g} ms was held up. The model is a queue: "
                     "a handler that waits 100 ms holds its process, or its thread, and with "
                     f"{WORKERS} of them on one queue the others wait when all {WORKERS} are "
                     "held; with a queue for each process, whenever their own is. Callbacks and "
                     "coroutines go on. A handler that computes 10 ms is another matter: a "
                     "process and a thread must give the cpu to who has had less of it, but a "
                     "callback or a coroutine keeps it to its end, and all of its process wait. "
                     "The same schedule, put to that model, gives the figures beside the "
                     "measured ones."),
            "value": {f"{row['label']}, {row['load']}": row["predicted_p99_ms"]
                      for row in rows}},
        rows=rows,
        finding=f"{among_told(rows, WAITS)} {among_told(rows, COMPUTES)} "
                f"{checks.sentence(found)}",
        figure=among_figure(rows))
