"""waiting.py - experiments about who waits for whom: silent-clients, slow-handler, busy-handler,
idle-herd, fd-cliff, slow-readers.

Does not: exhaust the machine; crowds are bounded and the servers' own limits are met first.
"""
import contextlib
import resource
import selectors
import socket
import time
from typing import Any

from lib import candidates, measure, processes
from lib.candidates import Candidate
from lib.context import Context
from report import checks
from results import Check, Figure, Findings, Prediction, Row

BLOCKING_WORKERS = 4     # of stage 2 where clients hold workers
SILENT_SECONDS = 1       # --keepalive: how long a server bears with a silent client
FD_SETSIZE = 1024
CLIFF_ROOM = 2           # clients: who is served just then by a look of the benchmark
SMALL_LIMIT = 256        # descriptors, for the cliff that every server has
FULL_SECONDS = 0.3       # how long servers that are full are watched
SLOW_MS, BUSY_MS = 50, 5
HANDLER_TOLERANCE = 0.1  # of answers per second
SLOPE_TOLERANCE = 0.3    # of ns per idle client, for who looks at all of them
FLAT_NS = 1              # per idle client, for who does not
REPLY_BYTES = 4 << 20
READ_BYTES_PER_S = 64 << 10
# Bytes of the process for one, by model, and room: the connection's struct; with an event of
# libevent's; and the half-sent piece of the answer that a coroutine keeps while it waits.
READER_BYTES = {"loop": (224, 300), "threads": (224, 300), "callbacks": (400, 500),
                "coroutines": (66000, 6000)}


# ---- silent-clients ------------------------------------------------------------------------

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def ask(row: Row, selector: selectors.BaseSelector) -> None:
    """Send the row's request, and remember when."""
    row["asked"] = time.monotonic()
    row["client"].sendall(REQUEST)
    selector.register(row["client"], selectors.EVENT_READ, row)


def read_answers(selector: selectors.BaseSelector, awaited: list[Row], seconds: float) -> None:
    """Until all rows in `awaited` have a wait_ms; others that are answered meanwhile get theirs,
    too. Who closes without an answer gets none, and is not awaited any longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any("asked" in row for row in awaited):
        for key, _ in selector.select(max(0, end - time.monotonic())):
            row, now = key.data, time.monotonic()
            selector.unregister(key.fileobj)
            asked = row.pop("asked")
            if row["client"].recv(4096).startswith(b"HTTP/1.1 200 "):
                row["wait_ms"] = (now - asked) * 1000


def ask_all(rows: list[Row]) -> None:
    """First those who will wait for seconds, all at once. Then the others, each when the one
    before was answered: in a burst they would wait for each other, in this program."""
    longest = max(row["predicted_ms"] for row in rows) / 1000 + 3
    with selectors.DefaultSelector() as selector:
        for row in rows:
            if row["predicted_ms"]:
                ask(row, selector)
        for row in rows:
            if not row["predicted_ms"]:
                ask(row, selector)
                read_answers(selector, [row], 3)
        read_answers(selector, rows, longest)


def predicted_wait_ms(candidate: Candidate, silent: int) -> float:
    if candidate.model != "blocking":
        return 0.0
    return silent // candidate.workers * SILENT_SECONDS * 1000.0


def silent_clients(ctx: Context) -> Findings:
    """All servers at the same time: whoever waits uses no cpu."""
    wanted = ctx.some_or_skip("stage1", "stage2", "stage3-select", "stage3-poll", "stage4",
                              *candidates.usual(*candidates.WAITERS), workers=BLOCKING_WORKERS,
                              more=("--keepalive", str(SILENT_SECONDS)))
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        ctx.say("starting all servers")
        for candidate in wanted:
            for silent in ctx.p["silent"]:
                server = stack.enter_context(ctx.server(candidate))
                ctx.check(server, "before the silent clients came")
                rows.append({"candidate": candidate.key, "label": candidate.label,
                             "silent_clients": silent, "port": server.port, "wait_ms": None,
                             "predicted_ms": predicted_wait_ms(candidate, silent)})
        for row in rows:
            for _ in range(row["silent_clients"]):
                stack.enter_context(connect(row["port"]))
            row["client"] = stack.enter_context(connect(row.pop("port")))
        ctx.say("waiting for the answers")
        ask_all(rows)
    for row in rows:
        for name in ("client", "asked"):
            row.pop(name, None)
        row["served"] = int(row["wait_ms"] is not None)
    found = silent_checks(rows)
    return checks.findings(
        found,
        prediction=silent_prediction(ctx.p["silent"][-1]),
        rows=rows,
        finding=silent_finding(rows, found),
        figure=silent_figure(rows))


def silent_prediction(most: int) -> Prediction:
    stage1_s, stage2_s = most * SILENT_SECONDS, most // BLOCKING_WORKERS * SILENT_SECONDS
    return {"text": (f"A silent client is sent away after {SILENT_SECONDS} s. Who blocks is "
                     "held by it all that time: a fresh client behind S silent ones waits "
                     f"⌊S / workers⌋ × {SILENT_SECONDS} s. With S = {most}: stage 1 {stage1_s} s, "
                     f"stage 2 with {BLOCKING_WORKERS} workers {stage2_s} s; the others do "
                     "not notice."),
            "value": {"silent_seconds": SILENT_SECONDS, "stage1_wait_ms": stage1_s * 1000,
                      "stage2_wait_ms": stage2_s * 1000, "stage3_wait_ms": 0,
                      "stage4_wait_ms": 0}}


def silent_checks(rows: list[Row]) -> list[Check]:
    return [checks.within(f"{row['label']} behind {row['silent_clients']}, ms", row["wait_ms"],
                          row["predicted_ms"], 0.05, 20, "ms") for row in rows]


def ms_text(ms: float | None) -> str:
    if ms is None:
        return "for ever"
    return f"{ms / 1000:.2f} s" if ms >= 100 else f"{ms:.1f} ms"


def silent_finding(rows: list[Row], found: list[Check]) -> str:
    most = max(row["silent_clients"] for row in rows)
    told = ", ".join(f"{row['label']} {ms_text(row['wait_ms'])}"
                     for row in rows if row["silent_clients"] == most)
    return f"Behind {most} silent clients a fresh one waits: {told}. {checks.sentence(found)}"


def by_candidate(rows: list[Row], x: str, y: str, scale: float = 1.0,
                 dashed: bool = False) -> list[Row]:
    """Series of a figure: one line for each candidate."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        if row.get(y) is not None:
            found.setdefault((row["candidate"], row["label"]), []).append(
                [row[x], row[y] * scale])
    return [{"key": key, "label": "" if dashed else label, "points": points, "dashed": dashed}
            for (key, label), points in found.items()]


def silent_figure(rows: list[Row]) -> Figure:
    return {"panels": [{
        "kind": "lines", "x_label": "silent clients (dashed: predicted)",
        "y_label": "wait of a fresh client, seconds",
        "series": by_candidate(rows, "silent_clients", "predicted_ms", 0.001, True)
        + by_candidate(rows, "silent_clients", "wait_ms", 0.001)}]}


# ---- slow-handler and busy-handler ---------------------------------------------------------

def by_workers(ctx: Context) -> list[Candidate]:
    """Stages 1 and 3 as they are, 2 and 4 with more and more workers; of the others one
    process."""
    waiters = candidates.usual(*candidates.WAITERS)
    ctx.some_or_skip("stage1", "stage2", "stage3-select", "stage4", *waiters)
    found = ctx.some(*ctx.contestants("stage1", "stage3-select", *waiters))
    for workers in ctx.p["workers"]:
        found += ctx.some(*ctx.contestants("stage2", "stage4"), workers=workers)
    return found


def handler_row(ctx: Context, server: processes.Server, load: measure.Load, seconds: float,
                predicted: float) -> Row:
    found = load.finish(seconds)
    row = measure.load_row(found, {"cpu_us": 0, "system_share": None, "voluntary_switches": 0,
                                   "involuntary_switches": 0}, load.clients)
    key = server.candidate.key
    return {"candidate": key, "label": server.candidate.label.split(" (")[0],
            "workers": server.candidate.workers, "predicted_per_s": predicted,
            **{name: row[name] for name in ("offered_clients", "established_clients", "requests",
                                            "failed", "socket_errors", "non_2xx", "req_per_s",
                                            "p50_us", "p99_us")}}


def judge(ctx: Context, rows: list[Row]) -> list[Check]:
    """The checks of all rows."""
    for row in rows:
        row["measured_to_predicted"] = row["req_per_s"] / row["predicted_per_s"]
        if row["failed"]:
            ctx.problem(f"{row['label']}, {row['workers']} workers: {row['failed']} failed")
    return [checks.within(f"{row['label']} with {row['workers']}", row["req_per_s"],
                          row["predicted_per_s"], HANDLER_TOLERANCE) for row in rows]


def handler_result(rows: list[Row], found: list[Check], text: str,
                   value: dict[str, Any]) -> Findings:
    most = max(row["workers"] for row in rows)
    told = "; ".join(f"{row['label']} with {row['workers']} "
                     f"worker{'s' if row['workers'] > 1 else ''}: {row['req_per_s']:.0f}/s, "
                     f"predicted {row['predicted_per_s']:.0f}"
                     for row in rows if row["workers"] in (1, most))
    figure = {"panels": [{
        "kind": "lines", "x_label": "worker processes (dashed: predicted)", "x_log": 2,
        "y_label": "answers per second", "y_log": 10,
        "series": by_candidate([row for row in rows if row["candidate"] in ("stage4",)],
                               "workers", "predicted_per_s", 1, True)
        + by_candidate(rows, "workers", "req_per_s")}]}
    return checks.findings(
        found,
        prediction={"text": text, "value": value},
        rows=rows,
        finding=f"{told}. {checks.sentence(found)}",
        figure=figure)


def clients_for(candidate: Candidate) -> int:
    """So many that each worker of stage 4 nearly surely gets some of its own."""
    return 16 * candidate.workers


def asleep_at_once(candidate: Candidate) -> int:
    """How many handlers may sleep at the same time, while so many clients ask."""
    return min(candidate.places or clients_for(candidate), clients_for(candidate))


def slow_handler(ctx: Context) -> Findings:
    """All at the same time: sleeping uses no cpu."""
    ctx.need("wrk", "wrk")
    wanted = by_workers(ctx)
    rows, loads = [], []
    with ctx.servers(wanted) as servers:
        for server in servers:
            ctx.check(server, "before the load")
            load = measure.Load(server.port, clients_for(server.candidate), ctx.generator_cpus,
                                path=f"/sleep?ms={SLOW_MS}")
            loads.append((server, load))
        ctx.say("all at the same time")
        for server, load in loads:
            rows.append(handler_row(ctx, server, load, ctx.p["handler_seconds"],
                                    asleep_at_once(server.candidate) * 1000 / SLOW_MS))
    return handler_result(
        rows, judge(ctx, rows),
        f"A handler that sleeps {SLOW_MS} ms holds its process, whatever the process waits with: "
        f"answers per second = workers / {SLOW_MS / 1000} s = {1000 // SLOW_MS} for each worker. "
        "epoll multiplexes clients, not handlers. In stage 5 it holds a thread, of which a "
        f"process has {candidates.THREADS}; in stages 6 and 7 nothing, so all {16} clients of a "
        "process may sleep at the same time.",
        {"per_worker_per_s": 1000 / SLOW_MS,
         "by_workers": {str(n): n * 1000 / SLOW_MS for n in ctx.p["workers"]}})


def busy_handler(ctx: Context) -> Findings:
    """One after the other, on all cpus: here it is the cpus that are shared."""
    ctx.need("wrk", "wrk")
    cpus = len(ctx.all_cpus)
    rows = []
    for candidate in by_workers(ctx):
        if candidate.workers > 8 * cpus:
            continue
        ctx.say(f"{candidate.label}, {candidate.workers} workers")
        with ctx.server(candidate, cpus=ctx.all_cpus) as server:
            ctx.check(server, "before the load")
            load = measure.Load(server.port, clients_for(candidate), ctx.generator_cpus,
                                path=f"/burn?ms={BUSY_MS}")
            rows.append(handler_row(ctx, server, load, ctx.p["handler_seconds"],
                                    min(candidate.workers * candidate.threads, cpus)
                                    * 1000 / BUSY_MS))
    return handler_result(
        rows, judge(ctx, rows),
        f"A handler that computes {BUSY_MS} ms needs a cpu: answers per second = min(workers, "
        f"cpus) / {BUSY_MS / 1000} s, with {cpus} cpus at most {cpus * 1000 // BUSY_MS}. More "
        "workers than cpus add nothing. Threads are worth as much as processes here; callbacks "
        "and coroutines as much as one. (Servers may use all cpus here; the little that wrk "
        "needs is taken from them.)",
        {"per_cpu_per_s": 1000 / BUSY_MS, "cpus": cpus,
         "by_workers": {str(n): min(n, cpus) * 1000 / BUSY_MS for n in ctx.p["workers"]}})


# ---- idle-herd -----------------------------------------------------------------------------

def herd_points(ctx: Context, candidate: Candidate) -> list[int]:
    """Numbers of idle clients; the loop that does not look at all of them gets more."""
    if candidate.key.startswith("stage3"):
        return ctx.p["herd"]
    if candidate.model != "loop":  # whose wait is epoll's, too
        return [0, *ctx.p["herd_loop"]]
    return ctx.p["herd"] + ctx.p["herd_loop"]


def idle_herd(ctx: Context) -> Findings:
    """One active client among idle ones. The herd grows by one crowd after the other."""
    ctx.need("wrk", "wrk")
    ctx.need_crowd()
    wanted = ctx.some_or_skip("stage3-select", "stage3-poll", "stage4",
                              *candidates.usual(*candidates.WAITERS))
    rows = []
    points = sorted({n for candidate in wanted for n in herd_points(ctx, candidate)})
    with ctx.servers(wanted) as servers, contextlib.ExitStack() as herds:
        grown = {server: 0 for server in servers}
        for n in points:
            for server in servers:
                if n not in herd_points(ctx, server.candidate):
                    continue
                ctx.say(f"{server.candidate.label}, {n} idle clients")
                if n > grown[server]:
                    crowd = herds.enter_context(ctx.crowd(server, n - grown[server], "idle"))
                    if crowd.ready["established"] != n - grown[server]:
                        ctx.problem(f"{server.candidate.label}: only "
                                    f"{crowd.ready['established']} of {n - grown[server]} more "
                                    "idle clients got in")
                    grown[server] = n
            for turn in range(ctx.p["rounds"]):
                for server in servers:
                    if n in herd_points(ctx, server.candidate):
                        row = ctx.loaded(server, 1, look=False,
                                         seconds=ctx.p["herd_seconds"])
                        rows.append({"idle_clients": n, "round": turn + 1, **row})
    rows = merge_herd(rows)
    return herd_result(ctx, rows)


def merge_herd(rows: list[Row]) -> list[Row]:
    merged = []
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["candidate"], row["idle_clients"]), []).append(row)
    for (key, n), group in groups.items():
        costs = [row["cpu_us_per_request"] for row in group
                 if row["cpu_us_per_request"] is not None]
        shares = [row["system_share"] for row in group if row["system_share"] is not None]
        cost, share = measure.median(costs), measure.median(shares)
        merged.append({
            "candidate": key, "label": group[0]["label"], "idle_clients": n,
            "connections": n + 1, "rounds": len(group),
            "requests": sum(row["requests"] for row in group),
            "failed": sum(row["failed"] for row in group),
            "req_per_s": measure.median([row["req_per_s"] for row in group]),
            "cpu_us_per_request": cost,
            "cpu_us_per_request_min": min(costs, default=None),
            "cpu_us_per_request_max": max(costs, default=None), "system_share": share,
            "system_us_per_request": None if cost is None or share is None else cost * share,
            "p50_us": measure.median([row["p50_us"] for row in group])})
    return merged


def cost_at(rows: list[Row], key: str, n: int) -> float | None:
    return next((row["cpu_us_per_request"] for row in rows
                 if row["candidate"] == key and row["idle_clients"] == n), None)


def add_slopes(rows: list[Row]) -> None:
    """What an idle client adds to a request of the busy one, in ns of cpu; null where there is
    none, or where nobody was served."""
    for row in rows:
        n, alone = row["idle_clients"], cost_at(rows, row["candidate"], 0)
        among = row["cpu_us_per_request"]
        row["ns_per_idle_client"] = \
            None if not n or None in (among, alone) else (among - alone) * 1000 / n


def unserved_line(what: str, label: str, tolerance: str) -> tuple[Check, str, str]:
    """herd_line() of who did not serve what the line is drawn through: its check is off."""
    return (checks.between(what, None, None, None, None, tolerance),
            f"{label}: no line, for a request was not served", f"{label} not served")


def herd_line(rows: list[Row], key: str, few: int) -> tuple[Check, str, str]:
    """Of one candidate: its check, and what is said of it."""
    mine = [row for row in rows if row["candidate"] == key]
    label, last = mine[0]["label"], max(mine, key=lambda row: row["idle_clients"])
    many, base, found_ns = last["idle_clients"], cost_at(rows, key, 0), last["ns_per_idle_client"]
    near_ns = next((row["ns_per_idle_client"] for row in mine if row["idle_clients"] == few), None)
    what, climbs = f"{label}, ns per idle client", key.startswith("stage3")
    if found_ns is None or (climbs and near_ns is None):
        return unserved_line(what, label, "served at all")
    told = f"{label} {found_ns:.2g} ns" if abs(found_ns) < 10 else f"{label} {found_ns:.0f} ns"
    if climbs and near_ns is not None:
        return (checks.within(what, found_ns, near_ns, SLOPE_TOLERANCE),
                f"{label}: {near_ns:.0f} ns (measured from n = 0 to {few}), also up to n = "
                f"{many:,}, where a request then costs {base:.1f} µs + {many:,} × {near_ns:.0f} "
                f"ns = {base + near_ns * many / 1000:.0f} µs", told)
    return (checks.near(what, found_ns, 0, FLAT_NS, "ns"),
            f"{label}: 0 ns, also up to n = {many:,}", told)


def herd_result(ctx: Context, rows: list[Row]) -> Findings:
    """From the costs with no idle client and with few, a straight line to many."""
    add_slopes(rows)
    few = max(n for n in ctx.p["herd"] if n <= 300)
    lines = {key: herd_line(rows, key, few)
             for key in dict.fromkeys(row["candidate"] for row in rows)}
    found = [check for check, _, _ in lines.values()]
    figure = {"panels": [
        {"kind": "lines", "x_log": 10, "y_log": 10, "y_label": "CPU, µs per request",
         "x_label": "open connections, one of them active",
         "series": by_candidate(rows, "connections", "cpu_us_per_request")}]}
    return checks.findings(
        found,
        prediction={
            "text": "select and poll look at every connection at each wait, so a request "
            "costs base + n × slope; epoll is told of the ready ones only, and its slope is "
            "0. It is the slope, in ns of cpu per idle client, that another machine can be "
            "compared by; how many times the base that makes depends on the base. "
            + "; ".join(text for _, text, _ in lines.values()) + ".",
            "value": {key: {"ns_per_idle_client": check["predicted"]}
                      for key, (check, _, _) in lines.items()}},
        rows=rows,
        figure=figure,
        finding="Each idle client adds to a request of the busy one: "
                + ", ".join(told for _, _, told in lines.values())
                + f". {checks.sentence(found)}")


# ---- fd-cliff ------------------------------------------------------------------------------

def cliff_cases(ctx: Context) -> list[tuple[Candidate, int | None]]:
    """(candidate, limit of descriptors or None)."""
    wide = ctx.some("stage1", "stage2", "stage3-select", "stage3-poll", "stage4",
                    *candidates.usual(*candidates.WAITERS), workers=BLOCKING_WORKERS)
    small = ctx.some("stage3-poll", "stage4")
    return [(one, None) for one in wide] + [(one, SMALL_LIMIT) for one in small]


def cliff_prediction(candidate: Candidate, limit: int | None, opened: int, clients: int,
                     hard_limit: int) -> int:
    """How many clients are served: what the model lets in, or what the descriptors allow."""
    if candidate.model == "blocking":
        return min(clients, candidate.workers)
    room = (limit or hard_limit) - opened
    if candidate.key == "stage3-select":
        room = min(room, FD_SETSIZE - opened)
    return min(clients, room * candidate.workers)


def fd_cliff(ctx: Context) -> Findings:
    """Many clients ask once and stay. Who is served, refused, or left in the queue? All servers
    at the same time: once the crowds are there, nobody does anything."""
    ctx.need_crowd()
    cases = cliff_cases(ctx)
    if not cases:
        ctx.some_or_skip("stage4")
    rows = []
    with contextlib.ExitStack() as stack:
        at_work = []
        for candidate, limit in cases:
            server = stack.enter_context(ctx.server(candidate, nofile=limit))
            ctx.check(server, "before the crowd came")
            worker = (measure.children(server.pid) or [server.pid])[0]
            opened = measure.open_descriptors(worker)
            ctx.say(f"{candidate.label}, {ctx.p['cliff']} clients")
            crowd = stack.enter_context(ctx.crowd(server, ctx.p["cliff"], "idle", patience=0))
            at_work.append((server, limit, opened, crowd))
        for *_, crowd in at_work:
            crowd.wait()
        time.sleep(ctx.p["cliff_seconds"])
        before = [measure.tree_usage(server.pid) for server, *_ in at_work]
        time.sleep(FULL_SECONDS)
        used = [measure.usage_between(old, measure.tree_usage(server.pid))
                for old, (server, *_) in zip(before, at_work)]
        for (server, limit, opened, crowd), usage in zip(at_work, used):
            rows.append(cliff_row(ctx, server, limit, opened, crowd.finish(), usage))
            ctx.check(server, "after the crowd left")
    return cliff_result(ctx.p["cliff"], rows)


def cliff_row(ctx: Context, server: processes.Server, limit: int | None, opened: int, report: Row,
              usage: measure.Usage) -> Row:
    candidate, clients = server.candidate, ctx.p["cliff"]
    label = candidate.label + (f", limit {limit}" if limit else "")
    if not server.alive():
        raise processes.ServerError(f"{label} died: {server.last_words()}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    gone = report["served"] + report["refused"] + report["connect_failed"]
    return {"candidate": candidate.key, "label": label, "descriptor_limit": limit or hard,
            "offered_clients": clients, "established_clients": report["established"],
            "served_clients": report["served"], "refused_clients": report["refused"],
            "waiting_clients": max(0, clients - gone),
            "connect_failed": report["connect_failed"],
            "predicted_served": cliff_prediction(candidate, limit, opened, clients, hard),
            "cpu_percent_while_full": usage["cpu_us"] / 1e4 / FULL_SECONDS}


def cliff_result(clients: int, rows: list[Row]) -> Findings:
    found = [checks.near(f"{row['label']}, served", row["served_clients"],
                         row["predicted_served"], CLIFF_ROOM) for row in rows]
    told = "; ".join(f"{row['label']}: {row['served_clients']:,}"
                     + (f" ({row['refused_clients']} refused)" if row["refused_clients"] else "")
                     for row in rows)
    spin = [row["label"] for row in rows if row["cpu_percent_while_full"] > 20]
    return checks.findings(
        found,
        prediction={
            "text": ("Who blocks serves one client per process. select(2) has bits for "
                     f"descriptors below {FD_SETSIZE} only, less those that are open already; "
                     "poll and epoll go on to the limit of descriptors (shown: the process's "
                     f"own limit, and one of {SMALL_LIMIT}). Of {clients:,}: "
                     + "; ".join(f"{row['label']}: {row['predicted_served']:,}"
                                 for row in rows) + "."),
            "value": {row["label"]: row["predicted_served"] for row in rows}},
        rows=rows,
        finding=f"Of {clients:,} clients were served: {told}. {checks.sentence(found)} "
                + (f"{', '.join(spin)} spins while full." if spin else
                   "No server spins while it is full."),
        figure={"panels": [{
            "kind": "stack", "x_label": f"of {clients:,} clients",
            "segments": ["served", "refused", "waiting", "no connection"],
            "bars": [{"label": row["label"], "text": f"{row['served_clients']:,} served",
                      "values": [row["served_clients"], row["refused_clients"],
                                 row["waiting_clients"], row["connect_failed"]]}
                     for row in rows]}]})


# ---- slow-readers --------------------------------------------------------------------------

def slow_readers(ctx: Context) -> Findings:
    """Clients that ask for much and read slowly: who else waits, and what is held for them."""
    ctx.need_crowd()
    readers, p = ctx.p["readers"], ctx.p
    rows = []
    for candidate in ctx.some_or_skip(
            *ctx.contestants("stage1", "stage2", "stage3-select", "stage3-poll", "stage4",
                             *candidates.usual(*candidates.WAITERS)),
            workers=BLOCKING_WORKERS):
        if candidate.model != "blocking":
            candidate = ctx.stage(candidate.key)
        ctx.say(f"{candidate.label}, {readers} slow readers")
        with ctx.server(candidate) as server:
            ctx.check(server, "before the readers came")
            alone = measure.probe(server.port, p["probe_seconds"], 2)[0]
            measure.get(server.port, f"/bytes?n={REPLY_BYTES}")  # its pages are no reader's
            memory, kernel = measure.private_bytes(server.pid), measure.tcp_memory_bytes()
            with ctx.crowd(server, readers, "slow-read", path=f"/bytes?n={REPLY_BYTES}",
                           rate=READ_BYTES_PER_S, patience=0.5) as crowd:
                time.sleep(0.1)
                waits, lost = measure.probe(server.port, p["probe_seconds"],
                                            p["deadline_seconds"])
                held = measure.private_bytes(server.pid) - memory
                held_kernel = measure.tcp_memory_bytes() - kernel
                report = crowd.finish()
            ctx.check(server, "after the readers left")
        rows.append({"candidate": candidate.key, "label": candidate.label,
                     "model": candidate.model, "readers": readers,
                     "established_clients": report["established"],
                     "wait_alone_us": measure.median(alone),
                     "wait_us": measure.median(waits), "wait_p99_us":
                     measure.percentile(waits, 99), "probes_answered": len(waits),
                     "probes_lost": lost, "stopped": not waits,
                     "process_bytes_per_reader": held / readers,
                     "kernel_bytes_per_reader": max(0, held_kernel) / readers})
    return readers_result(ctx, rows)


def readers_checks(row: Row) -> list[Check]:
    """Who blocks answers nobody; who does not answers as soon as before (two times either way),
    and holds no more for a reader than for an idle client."""
    label, blocks = row["label"], row["model"] == "blocking"
    found = [checks.exactly(f"{label}, stopped", int(row["stopped"]), int(blocks))]
    if not blocks:
        alone = row["wait_alone_us"]
        found += [checks.between(f"{label}, wait of a fresh client, µs", row["wait_us"], alone,
                                 alone / 2, alone * 2, "× 2 either way"),
                  checks.near(f"{label}, bytes of the process per reader",
                              row["process_bytes_per_reader"], *READER_BYTES[row["model"]],
                              "bytes")]
    return found


def readers_prediction(readers: int) -> Prediction:
    seconds = REPLY_BYTES / READ_BYTES_PER_S
    return {"text": (f"A reply of {REPLY_BYTES >> 20} MiB read at {READ_BYTES_PER_S >> 10} "
                     f"KiB/s takes up to {REPLY_BYTES} / {READ_BYTES_PER_S} = {seconds:.0f} "
                     f"s. Who blocks sleeps in send(2) so long, and {readers} readers hold "
                     f"all of at most {BLOCKING_WORKERS} workers: nobody else is served. A "
                     "loop goes on, and since the body is made on the way out a reader "
                     "costs it its struct, some 200 bytes; the rest is the socket's own, in "
                     "the kernel. A coroutine that waits in send(2) does keep the piece of "
                     f"{READER_BYTES['coroutines'][0] >> 10} KiB that it was about to send."),
            "value": {"blocked_seconds": seconds, "stopped": ["stage1", "stage2"],
                      "process_bytes_per_reader": {model: n for model, (n, _) in
                                                   READER_BYTES.items()}}}


def readers_told(rows: list[Row]) -> str:
    stopped = [row["label"] for row in rows if row["stopped"]]
    going = [row for row in rows if not row["stopped"]]
    told = "; ".join(f"{row['label']} {row['wait_us'] / 1000:.2f} ms (alone "
                     f"{row['wait_alone_us'] / 1000:.2f})" for row in going)
    held = "; ".join(f"{row['label']} {row['process_bytes_per_reader'] / 1024:.1f} KiB"
                     for row in going)
    return ((f"Nobody else was served by {', '.join(stopped)}. " if stopped else "")
            + (f"A fresh client waits: {told}. " if told else "")
            + (f"Held in the process for a reader: {held}. " if held else ""))


def readers_figure(rows: list[Row], deadline_seconds: float) -> Figure:
    bars = [{"key": row["candidate"], "label": row["label"],
             "value": None if row["stopped"] else row["wait_us"] / 1000,
             "endless": row["stopped"],
             "text": f"stopped: no answer in {deadline_seconds:g} s" if row["stopped"]
                     else f"{row['wait_us'] / 1000:.2f} ms"}
            for row in rows]
    memory = [{"label": row["label"],
               "values": [max(0, row["process_bytes_per_reader"]) / 1024,
                          row["kernel_bytes_per_reader"] / 1024],
               "text": f"{row['process_bytes_per_reader'] / 1024:.1f} + "
                       f"{row['kernel_bytes_per_reader'] / 1024:.0f} KiB"} for row in rows]
    return {"panels": [
        {"kind": "bars", "x_label": "wait of a fresh client, ms", "x_log": 10, "bars": bars},
        {"kind": "stack", "x_label": "memory per slow reader, KiB",
         "segments": ["in the process", "in the kernel's sockets (both ends)"],
         "bars": memory}]}


def readers_result(ctx: Context, rows: list[Row]) -> Findings:
    found = [check for row in rows for check in readers_checks(row)]
    return checks.findings(
        found, prediction=readers_prediction(rows[0]["readers"]), rows=rows,
        finding=readers_told(rows) + checks.sentence(found),
        figure=readers_figure(rows, ctx.p["deadline_seconds"]))
