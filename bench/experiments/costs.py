"""costs.py - what a request and a connection cost, counted: system calls, wake-ups, switches,
memory. The experiments level-edge and cost.

Does not: time anything under strace; counts only are taken from there.
"""
import collections
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from lib import candidates, measure, processes
from lib.candidates import Candidate
from lib.context import Context
from report import checks
from results import Check, Figure, Findings, Row

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_BYTES = 4 << 20  # more than a turn of the loop sends, and than the sockets hold
CALLS_ROOM = 0.1         # system calls a request
IDLE_BYTES = 224         # of a connection that idles: its struct, and places in tables
# The same by what holds it: an event of libevent's, or a coroutine, with a stack of its own or a
# copy of what it had on a shared one.
IDLE = {"loop": IDLE_BYTES, "threads": IDLE_BYTES, "callbacks": 400, "coroutines": 4500,
        "shared": 1100}
THINK_SECONDS = 0.001    # between answer and next request: the server is back at its wait
WAITS = ("select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2")
RECEIVES = ("recvfrom", "read", "readv", "recvmsg")
SENDS = ("sendto", "write", "writev", "sendmsg", "sendfile")


# ---- Exact work for a server under strace --------------------------------------------------

def kept(port: int, requests: int, path: str = "/", batch: int = 1) -> None:
    """`requests` on one connection, `batch` of them in each write, each answer awaited."""
    text = REQUEST.replace(b"GET /", f"GET {path}".encode()) * batch
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.settimeout(10)
        for _ in range(requests // batch):
            client.sendall(text)
            skip_answers(client, batch)
            time.sleep(THINK_SECONDS)


def skip_answers(client: socket.socket, n: int) -> None:
    """Read n answers with Content-Length, whatever their size."""
    pending = bytearray()
    for _ in range(n):
        while (end := pending.find(b"\r\n\r\n")) < 0:
            pending += receive(client)
        if not pending.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"no good answer: {bytes(pending[:60])!r}")
        length = measure.body_length(bytes(pending[:end]))
        if length is None:
            raise ValueError("an answer without Content-Length")
        end += 4 + length
        while len(pending) < end:
            pending += receive(client)
        del pending[:end]


def receive(client: socket.socket) -> bytes:
    piece = client.recv(262144)
    if not piece:
        raise ValueError("the server closed the connection")
    return piece


def fresh(port: int, requests: int) -> None:
    """`requests` on connections of their own."""
    for _ in range(requests):
        if measure.get(port)[0] != 200:
            raise ValueError("no good answer")


def parse_strace(text: str) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """strace -c's table: ({call: count}, {call: errors})."""
    calls: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(\d+)\s+(?:(\d+)\s+)?(\w+)\s*", line)
        if match and match.group(3) != "total":
            calls[match.group(3)] += int(match.group(1))
            errors[match.group(3)] += int(match.group(2) or 0)
    return calls, errors


def traced(ctx: Context, candidate: Candidate, work: Callable[[int], object],
           only: str | None = None) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """System calls of a whole run of a server, its workers too, during which `work(port)` is
    done: (Counter of calls, Counter of those that failed)."""
    with tempfile.NamedTemporaryFile() as out:
        wrapper = ["strace", "-f", "-c", "-U", "calls,errors,name", "-o", out.name]
        if only:
            wrapper += ["-e", f"trace={only}"]
        server = processes.Server(candidate, ctx.all_cpus, wrapper=wrapper)
        try:
            work(server.port)
            for child in measure.children(server.pid):  # strace itself does not take signals
                os.kill(child, signal.SIGTERM)
            if not processes.ended(server.process, 10):
                ctx.problem(f"{candidate.label} did not stop under strace")
        finally:
            server.discard()
        return parse_strace(out.read().decode())


def calls_per_request(ctx: Context, candidate: Candidate, work: Callable[[int, int], object],
                      scale: int = 1) -> dict[str, float]:
    """{call: calls per request}: the difference of two runs, so that start and end cancel out.
    work(port, n) makes n requests; scale: divides n."""
    few, many = (n // scale for n in ctx.p["traced"])
    first = traced(ctx, candidate, lambda port: work(port, few))[0]
    second = traced(ctx, candidate, lambda port: work(port, many))[0]
    per = {name: (second[name] - first[name]) / (many - few) for name in second}
    return {name: round(n, 3) for name, n in per.items() if abs(n) >= 0.01}


def in_groups(calls: dict[str, float]) -> dict[str, float]:
    """receive, send, wait, and what is left, per request."""
    def total(names: tuple[str, ...]) -> float:
        return sum(calls.get(name, 0) for name in names)
    groups = {"receive": total(RECEIVES), "send": total(SENDS), "wait": total(WAITS),
              "epoll_ctl": calls.get("epoll_ctl", 0),
              "accept": total(("accept", "accept4")), "close": total(("close", "shutdown"))}
    return {**groups, "other": max(0.0, sum(calls.values()) - sum(groups.values()))}


CALL_GROUPS = ["receive", "send", "wait", "epoll_ctl", "other"]  # as pictures show them


def call_bar(row: Row) -> Row:
    """A bar of a figure: the system calls of a row, in CALL_GROUPS."""
    return {"label": row["label"], "text": f"{row['calls']:.2f}",
            "values": [row[f"{name}_calls"] for name in CALL_GROUPS[:-1]]
            + [row["other_calls"] + row["accept_calls"] + row["close_calls"]]}


# ---- level-edge ----------------------------------------------------------------------------

class Workload(NamedTuple):
    name: str
    work: Callable[[int, int], None]    # port, n
    predicted: dict[str, int] | None    # calls, by mode


WORKLOADS = [
    Workload("keep-alive", lambda port, n: kept(port, n), {"level": 3, "edge": 4}),
    Workload("pipelined by 16", lambda port, n: kept(port, n * 16, batch=16),
             {"level": 3, "edge": 4}),
    Workload(f"reply of {LARGE_BYTES >> 20} MiB",
             lambda port, n: kept(port, n, f"/bytes?n={LARGE_BYTES}"), None),
]


def level_edge(ctx: Context) -> Findings:
    ctx.need("strace", "strace")
    ctx.need("wrk", "wrk")
    modes = [("level", ctx.some_or_skip("stage4")[0]), ("edge", ctx.some("stage4-edge")[0])]
    rows: list[Row] = []
    for workload, work, predicted in WORKLOADS:
        for mode, candidate in modes:
            ctx.say(f"{mode}, {workload}")
            scale = 10 if workload == WORKLOADS[2].name else 1
            groups = in_groups(calls_per_request(ctx, candidate, work, scale))
            rows.append({"candidate": candidate.key, "label": mode, "workload": workload,
                         **{f"{name}_calls": n for name, n in groups.items()},
                         "calls": round(sum(groups.values()), 3),
                         "predicted_calls": predicted and predicted[mode]})
    costs = trigger_costs(ctx, [candidate for _, candidate in modes])
    for row in rows:
        if row["workload"] == "keep-alive":
            row.update(costs[row["candidate"]])
    return level_edge_result(ctx, rows)


def trigger_costs(ctx: Context, both: list[Candidate]) -> dict[str, Row]:
    """CPU per keep-alive request of the two, taking turns; the ratio is taken turn by turn."""
    found: dict[str, list[float]] = {candidate.key: [] for candidate in both}
    with ctx.servers(both) as servers:
        for _ in range(ctx.p["rounds"]):
            for server in servers:
                row = ctx.loaded(server, ctx.p["main_clients"], look=False)
                found[server.candidate.key].append(row["cpu_us_per_request"])
    ratios = measure.spread(measure.paired_ratios(found.get("stage4-edge", []),
                                                  found["stage4"]))
    return {key: {"cpu_us_per_request": measure.median(costs),
                  "cpu_us_per_request_min": min(costs), "cpu_us_per_request_max": max(costs),
                  **({"edge_to_level_median": ratios["median"], "edge_to_level_min": ratios["min"],
                      "edge_to_level_max": ratios["max"]} if key == "stage4-edge" else {})}
            for key, costs in found.items()}


def level_edge_checks(rows: list[Row]) -> list[Check]:
    found = [checks.near(f"{row['label']}, {row['workload']}, calls", row["calls"],
                         row["predicted_calls"], CALLS_ROOM)
             for row in rows if row["predicted_calls"]]
    return found + [checks.near(f"{row['label']}, {row['workload']}, epoll_ctl",
                                row["epoll_ctl_calls"], 2 if row["label"] == "level" else 0,
                                CALLS_ROOM)
                    for row in rows if row["workload"] == WORKLOADS[2].name]


def level_edge_told(rows: list[Row]) -> str:
    by = {(row["workload"], row["label"]): row for row in rows}
    level = by["keep-alive", "level"]
    edge = by.get(("keep-alive", "edge"))
    told = f"A keep-alive request makes {level['calls']:.2f} system calls level-triggered"
    if not edge:
        return f"{told}."
    large = {mode: by[WORKLOADS[2].name, mode] for mode in ("level", "edge")}
    ratio = checks.ratio_words(*(edge[f"edge_to_level_{part}"] for part in
                                 ("median", "min", "max")))
    return (f"{told} and {edge['calls']:.2f} edge-triggered, and "
            f"{level['cpu_us_per_request']:.2f} against {edge['cpu_us_per_request']:.2f} µs of "
            f"CPU, {ratio}; for a large reply level-triggered calls epoll_ctl "
            f"{large['level']['epoll_ctl_calls']:.2f} times, edge-triggered "
            f"{large['edge']['epoll_ctl_calls']:.2f}.")


def level_edge_result(ctx: Context, rows: list[Row]) -> Findings:
    found = level_edge_checks(rows)
    return checks.findings(
        found,
        prediction={
            "text": ("Level-triggered, a turn is wait + receive + send = 3 calls. "
                     "Edge-triggered this program reads until EAGAIN, one receive more: 4. "
                     "That is its choice, and no must: of a stream, fewer bytes than were "
                     "asked for say as well that there are no more (epoll(7), question 9), "
                     "and nginx takes them for that. An exercise: let a short recv end the "
                     "turn, and see 4 become 3. What must not be lost then? So here edge "
                     "costs more for short requests. It saves the two epoll_ctl that "
                     "level-triggered needs to wait for room in a full socket and to go "
                     "back: that shows with large replies only. (The client waits "
                     f"{THINK_SECONDS * 1000:.0f} ms before it asks again. If the next "
                     "request comes before the turn ends, edge finds it instead of EAGAIN, "
                     "and saves both the wait and the vain receive: 2 calls.)"),
            "value": {"level_calls": 3, "edge_calls": 4, "large_level_epoll_ctl": 2,
                      "large_edge_epoll_ctl": 0}},
        rows=rows,
        finding=f"{level_edge_told(rows)} {checks.sentence(found)}",
        figure={"panels": [
            {"kind": "stack", "x_label": f"system calls per {unit}", "segments": CALL_GROUPS,
             "bars": [call_bar(row) for row in rows if row["workload"] == workload]}
            for workload, unit in ((WORKLOADS[0].name, "keep-alive request"),
                                   (WORKLOADS[1].name, "batch of 16 pipelined requests"),
                                   (WORKLOADS[2].name, WORKLOADS[2].name))]})


# ---- cost ----------------------------------------------------------------------------------

def idle_clients(ctx: Context, candidate: Candidate) -> int:
    """How many idle connections memory is measured with; 0: the model cannot hold any."""
    if candidate.model == "blocking":
        return 0
    limit = 900 if candidate.key == "stage3-select" else ctx.p["idle"]
    return min(limit, ctx.p["idle"])


def idle_bytes(ctx: Context, candidate: Candidate) -> tuple[float | None, int | None]:
    """Memory of the server per connection that was served once and idles: the difference of
    two herds, so that pages which the first connections pay for do not count."""
    n = idle_clients(ctx, candidate)
    if not n or not os.path.exists(ctx.crowd_program):
        return None, None
    first = max(1, n // 10)
    with ctx.server(candidate) as server:
        with ctx.crowd(server, first, "idle"):
            time.sleep(0.05)
            before = measure.private_bytes(server.pid)
            with ctx.crowd(server, n - first, "idle") as rest:
                time.sleep(0.05)
                after = measure.private_bytes(server.pid)
                came = rest.ready["established"]
    if came != n - first:
        ctx.problem(f"{candidate.label}: {came} of {n - first} idle clients got in")
    return (after - before) / max(1, came), n


def switches(ctx: Context, candidate: Candidate) -> Row:
    """Context switches per request with one client and with many; processes and threads."""
    with ctx.server(candidate) as server:
        size = measure.counts(server.pid)
        one = ctx.load(server, 1, ctx.p["seconds"] / 2, look=False)
        many = ctx.load(server, ctx.p["main_clients"], ctx.p["seconds"] / 2, look=False)
    return {**size, "switches_per_request_1": one["voluntary_switches_per_request"],
            "switches_per_request_many": many["voluntary_switches_per_request"],
            "involuntary_per_request_many": many["involuntary_switches_per_request"]}


def cost(ctx: Context) -> Findings:
    ctx.need("strace", "strace")
    ctx.need("wrk", "wrk")
    keys = ("stage1", "stage2", "stage3-select", "stage3-poll", "stage4", "stage4-edge",
            *candidates.keys(*candidates.WAITERS))
    wanted = ctx.some(*[key for key in keys if key in (ctx.p["cost"] or keys)])
    wanted += ctx.peers()[:1] if ctx.p["cost"] else ctx.peers()
    rows = []
    for candidate in wanted:
        ctx.say(candidate.label)
        calls = calls_per_request(ctx, candidate, kept)
        short = calls_per_request(ctx, candidate, fresh) if candidate.key != "floor" else {}
        memory, idle = idle_bytes(ctx, candidate)
        groups = in_groups(calls)
        rows.append({"candidate": candidate.key, "label": candidate.label,
                     "kind": idle_kind(candidate),
                     **{f"{name}_calls": n for name, n in groups.items()},
                     "calls": round(sum(groups.values()), 3),
                     "calls_by_name": calls,
                     "calls_per_connection": round(sum(short.values()), 3) or None,
                     "calls_per_connection_by_name": short,
                     "idle_bytes_per_connection": memory, "idle_clients": idle,
                     **switches(ctx, candidate)})
    return cost_result(rows)


# System calls of a keep-alive request, by candidate. A hand-over to a thread: the reactor wakes
# it, it goes to sleep again, and the queue's lock; then the connection is armed once more.
COST_CALLS = {"stage1": 2, "stage2": 2, "stage3-select": 3, "stage3-poll": 3, "stage4": 3,
              "stage4-edge": 4, "floor": 3,
              **{key: 7 for key in candidates.keys("threads")},
              **{key: 3 for key in candidates.keys("callbacks", "coroutines")}}


def idle_kind(candidate: Candidate) -> str:
    """What holds an idle connection of it; "" of a peer."""
    if not candidate.is_stage:
        return ""
    return "shared" if "--shared-stack" in candidate.args else candidate.model


def held_rows(rows: list[Row]) -> list[Row]:
    """Of those that can hold idle connections."""
    return [row for row in rows if row["idle_bytes_per_connection"] is not None]


def cost_checks(rows: list[Row]) -> list[Check]:
    found = [checks.near(f"{row['label']}, calls", row["calls"], row["predicted_calls"],
                         CALLS_ROOM) for row in rows if row["predicted_calls"]]
    return found + [checks.within(f"{row['label']}, bytes per idle connection",
                                  row["idle_bytes_per_connection"], IDLE[row["kind"]], 0.15)
                    for row in held_rows(rows) if row["kind"] in IDLE]


def cost_told(rows: list[Row]) -> str:
    calls = ", ".join(f"{row['label']} {row['calls']:.2f}" for row in rows)
    idle = ", ".join(f"{row['label']} {row['idle_bytes_per_connection']:,.0f}"
                     for row in held_rows(rows))
    return (f"System calls a request: {calls}. Bytes per idle connection: "
            f"{idle or 'not measured'}.")


def cost_figure(rows: list[Row]) -> Figure:
    panels = [{"kind": "stack", "x_label": "system calls per keep-alive request, one client",
               "segments": CALL_GROUPS, "bars": [call_bar(row) for row in rows]}]
    if held_rows(rows):
        panels.append({"kind": "bars", "x_label": "bytes of the process per idle connection",
                       "bars": [{"key": row["candidate"], "label": row["label"],
                                 "value": max(0, row["idle_bytes_per_connection"]),
                                 "text": f"{row['idle_bytes_per_connection']:,.0f}"}
                                for row in held_rows(rows)]})
    return {"panels": panels}


def cost_result(rows: list[Row]) -> Findings:
    for row in rows:
        row["predicted_calls"] = COST_CALLS.get(row["candidate"])
    found = cost_checks(rows)
    return checks.findings(
        found,
        prediction={
            "text": ("Who blocks needs recv + send = 2 calls a request; a loop waits before: "
                     "3, with one client that no batch can share; edge-triggered 4. So do "
                     "callbacks and coroutines, whose wait is the loop's; a hand-over to a thread "
                     "takes 4 more. An idle "
                     "connection costs its struct and its places in tables: "
                     f"{IDLE_BYTES} bytes, {IDLE['callbacks']} with an event of libevent's, and "
                     f"a coroutine {IDLE['coroutines']:,} with a stack of its own, "
                     f"{IDLE['shared']:,} on a shared one."),
            "value": {**{f"{key}_calls": n for key, n in COST_CALLS.items()},
                      "idle_bytes": IDLE_BYTES, **{f"{kind}_idle_bytes": n
                                                   for kind, n in IDLE.items()}}},
        rows=rows,
        finding=f"{cost_told(rows)} {checks.sentence(found)}",
        figure=cost_figure(rows))
