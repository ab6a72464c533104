"""proxy.py - the gateway before an upstream that misbehaves: the experiments proxy-matrix and
proxy-cost.

Does not: load anything in proxy-matrix; one client asks one thing, and what it sees is counted.
"""
import concurrent.futures
import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from lib import answers, candidates, context, measure, processes
from lib.answers import BREAKS_OFF, WHOLE
from report import checks
from results import Check, Findings, Gateway, Row

REPLY_SECONDS = 1        # --reply-timeout, and nginx's proxy_*_timeout
THREADS = 1              # each has connections of its own, and a case is about a certain one
PATIENCE_SECONDS = 2.5   # of the client: longer than the gateway's
SPOILT_SECONDS = 2.0     # for an idle connection to be seen closed or spoken on
COST_BYTES = 12
NGINX_SHARE = (0.45, 0.85)  # of what a request through nginx costs

# What was before a case: so there is no idle connection to the upstream, or one.
COLD, WARM = "n=3&fault=http10", "n=3"
SOME: Any = None         # bytes of a wording, or of a reset that may overtake them


class Case(NamedTuple):
    """What is asked, and what must come of it: exactly."""
    key: str
    what: str                  # the upstream does
    method: str
    query: str
    status: int
    end: str
    body_bytes: int | None  # SOME: not predicted
    again: bool                # the client's connection serves another request
    asked: int | None       # how often the upstream is; None: nobody counts
    before: str = COLD
    minor: int = 1             # of the client's HTTP/1
    spoilt: bool = False       # wait until the idle connection is


def fine(key: str, what: str, query: str, body_bytes: int, method: str = "GET",
         status: int = 200, asked: int = 1, **more: Any) -> Case:
    return Case(key, what, method, query, status, WHOLE, body_bytes, True, asked, **more)


def refused(key: str, what: str, query: str, status: int = 502, method: str = "GET",
            asked: int | None = 1, **more: Any) -> Case:
    """The gateway answers itself, and its client's connection goes on."""
    return Case(key, what, method, query, status, WHOLE, SOME, True, asked, **more)


def broken(key: str, what: str, query: str, body_bytes: int | None, method: str = "GET",
           **more: Any) -> Case:
    """The head is on its way already: the rest can only be missing."""
    return Case(key, what, method, query, 200, BREAKS_OFF, body_bytes, False, 1, **more)


CASES = [
    fine("length", "Content-Length", "", 26),
    fine("chunked", "chunks", "frame=chunked", 26),
    fine("until-close", "until the close", "frame=close", 26),
    fine("chunked-old", "chunks; the client speaks HTTP/1.0", "frame=chunked", 26, minor=0)
    ._replace(again=False),
    fine("head", "to HEAD", "", 0, "HEAD"),
    fine("post", "to POST", "", 10, "POST"),
    fine("http10", "HTTP/1.0, then close", "fault=http10&n=3", 3),
    fine("interim", "100 and 103 first", "fault=interim&n=3", 3),
    fine("early", "before the request's body", "fault=early&n=3", 3, "POST"),

    fine("close-idle", "closes the idle connection as it is used", "n=10", 10, asked=2,
         before="fault=close-idle"),
    refused("close-idle-post", "the same, to POST", "n=10", method="POST",
            before="fault=close-idle"),
    fine("reset-idle", "resets the idle connection as it is used", "n=10", 10, asked=2,
         before="fault=reset-idle"),
    refused("reset-idle-post", "the same, to POST", "n=10", method="POST",
            before="fault=reset-idle"),
    fine("close-after", "closed the idle connection", "n=10", 10,
         before="fault=close-after&gap=1", spoilt=True),
    fine("close-after-post", "the same, to POST", "n=10", 10, "POST",
         before="fault=close-after&gap=1", spoilt=True),
    fine("speak", "spoke unasked on the idle connection", "n=10", 10,
         before="fault=speak&gap=1", spoilt=True),

    refused("close", "closes instead of answering", "fault=close"),
    refused("close-warm", "the same, on a used connection", "fault=close", asked=2,
            before=WARM),
    refused("close-warm-post", "the same, to POST", "fault=close", method="POST", before=WARM),
    refused("reset", "resets instead of answering", "fault=reset"),
    refused("reset-warm", "the same, on a used connection", "fault=reset", asked=2,
            before=WARM),
    refused("half-head-close", "half a head, then close", "fault=half-head-close", before=WARM),
    refused("half-head", "half a head, then silence", "fault=half-head", 504),
    refused("drip", "a byte each 100 ms", "fault=drip&gap=100", 504),
    refused("never", "never answers", "fault=never", 504),
    refused("never-post", "never answers POST", "fault=never", 504, "POST", before=WARM),

    broken("short", "half of the body, then close", "fault=short", 13),
    broken("short-chunked", "half of a chunk of 26, then close", "fault=short&frame=chunked",
           13),
    fine("short-until-close", "half of a body until the close", "fault=short&frame=close", 13),
    broken("stall", "half of the body, then silence", "fault=stall", 13),
    broken("reset-body", "half of the body, then reset", "fault=reset-body", 13),
    broken("chunk-size", "a chunk's size is no number", "fault=chunk-size", 5),
    broken("chunk-huge", "a chunk's size of 68 bits", "fault=chunk-huge", 5),
    broken("chunk-end", "a chunk without CRLF behind it", "fault=chunk-end", 5),
    broken("chunk-cut", "half a chunk, then close", "fault=chunk-cut", 7),
    broken("chunk-cut-old", "the same; the client speaks HTTP/1.0", "fault=chunk-cut", SOME,
           minor=0),
    broken("chunk-last", "no last chunk, then close", "fault=chunk-last", 10),

    refused("two-lengths", "two values of Content-Length", "fault=two-lengths"),
    refused("both-frames", "Content-Length and chunks", "fault=both-frames"),
    refused("garbage", "no status line", "fault=garbage"),
    refused("upgrade", "101 that nobody asked for", "fault=upgrade"),
    refused("huge-head", "a head of a megabyte", "fault=huge-head"),
    refused("interim-flood", "103, 10,000 times", "fault=interim-flood"),
    fine("long", "7 bytes behind the body", "fault=long", 26),
    fine("forbidden-body", "a body behind 204", "fault=forbidden-body", 0, status=204),
    fine("forbidden-head", "a body to HEAD", "fault=forbidden-body", 0, "HEAD"),
]
# These have an upstream of their own, or none.
NOBODY = refused("refused", "nobody listens", "", asked=None)
NO_ACCEPT = refused("no-accept", "never accepts", "", 504, asked=None)
ALL_CASES = [*CASES, NOBODY, NO_ACCEPT]


def chosen(ctx: context.Context) -> list[Case]:
    keys = ctx.p["proxy_cases"]
    return [case for case in ALL_CASES if keys is None or case.key in keys]


# ---- Upstreams and gateways ----------------------------------------------------------------

def upstream(ctx: context.Context, *args: str) -> candidates.Candidate:
    return candidates.Candidate("slow-upstream", "slow upstream", "slow_upstream", args,
                                ctx.build)


def need_upstream(ctx: context.Context) -> None:
    if not os.path.exists(os.path.join(ctx.build, "bench", "slow_upstream")):
        raise context.Skip("build/bench/slow_upstream was not built (package libevent-dev)")


@contextlib.contextmanager
def nobody_listens() -> Iterator[int]:
    """A port that is taken, so that nobody else comes to listen on it, and refuses."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def gateways(ctx: context.Context, *keys: str) -> list[str]:
    """Keys of those that take part, nginx among them."""
    found = [candidate.key for candidate in ctx.some(*keys)]
    found += [candidate.key for candidate in ctx.nginx()]
    if not found:
        ctx.some_or_skip(*keys)
    return found


def gateway(ctx: context.Context, key: str, port: int,
            threads: int | None = None) -> candidates.Candidate:
    """With this key, before the upstream on this port."""
    where = f"127.0.0.1:{port}"
    if key == "nginx":
        return candidates.nginx(gateway=candidates.Gateway(where, REPLY_SECONDS))
    return ctx.stage(key, more=("--upstream", where, "--reply-timeout", str(REPLY_SECONDS)),
                     threads=threads)


# ---- One case ------------------------------------------------------------------------------

def counts(port: int) -> dict[str, Any]:
    """What slow_upstream was asked."""
    return json.loads(measure.get(port, "/counts")[1])


def asked_for(port: int, method: str, target: str) -> int:
    return sum(one["requests"] for one in counts(port)["asked"]
               if (one["method"], one["target"]) == (method, target))


def fresh_idle(table: str, port: int) -> bool:
    """Whether /proc/net/tcp has a connection to `port` over which nothing has come."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        established, unread = fields[3] == "01", fields[4].split(":")[1]
        if fields[2].endswith(f":{port:04X}") and established and int(unread, 16) == 0:
            return True
    return False


def wait_until_spoilt(port: int) -> None:
    deadline = time.monotonic() + SPOILT_SECONDS
    while fresh_idle(measure.read("/proc/net/tcp"), port):
        if time.monotonic() > deadline:
            raise ValueError("the upstream left its idle connection alone")
        time.sleep(0.001)


numbers = itertools.count(1)


def target(query: str) -> str:
    """One that nobody else asks for."""
    return f"/upstream?{query}{'&' if query else ''}id={next(numbers)}"


def measured(case: Case, gateway_port: int, upstream_port: int | None) -> dict[str, Any]:
    """The cell: what a client of the gateway saw, and how often the upstream was asked."""
    aim = target(case.query)
    with answers.Client(gateway_port, PATIENCE_SECONDS) as client:
        if upstream_port is not None:
            before = client.ask("GET", target(case.before))
            if (before.status, before.end) != (200, WHOLE):
                raise ValueError(f"{case.key}: the request before it got {saw(before)}")
            if case.spoilt:
                wait_until_spoilt(upstream_port)
        seen = client.ask(case.method, aim, case.minor)
        asked = upstream_port and asked_for(upstream_port, case.method, aim)
        again = False
        if seen.end == WHOLE:
            after = client.ask("GET", "/", case.minor)
            again = (after.status, after.end) == (200, WHOLE)
    return {"status": seen.status, "end": seen.end, "body_bytes": seen.body_bytes,
            "asked": asked, "again": again}


def as_predicted(case: Case, cell: dict[str, Any]) -> bool:
    """Exactly: more is as wrong as less."""
    for name in ("status", "end", "body_bytes", "again", "asked"):
        expected = getattr(case, name)
        if expected is not None and cell[name] != expected:
            return False
    return True


def saw(answer: Any) -> str:
    """An Answer or a Case in few words."""
    if answer.end == WHOLE:
        told = "" if answer.body_bytes is None or answer.status >= 400 else \
            f", {answer.body_bytes} B"
        return f"{answer.status}{told}"
    if answer.end == BREAKS_OFF and answer.status:
        at = "" if answer.body_bytes is None else f" {answer.body_bytes}"
        return f"{answer.status}, breaks{at}"
    return "no answer" if answer.end == BREAKS_OFF else str(answer.end)


def words(cell: dict[str, Any]) -> str:
    return saw(answers.Answer(cell["status"], cell["end"], cell["body_bytes"]))


# ---- proxy-matrix --------------------------------------------------------------------------

def ports(ctx: context.Context, case: Case, stack: contextlib.ExitStack) -> int:
    """Of the upstream that this case has alone."""
    if case is NOBODY:
        return stack.enter_context(nobody_listens())
    server = stack.enter_context(ctx.server(upstream(ctx, "--no-accept"), ctx.generator_cpus))
    return int(server.port)


def cells_of(ctx: context.Context, key: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The label of a gateway, and its cells."""
    cells: dict[str, dict[str, Any]] = {}
    with ctx.server(upstream(ctx), ctx.generator_cpus) as slow, \
            ctx.server(gateway(ctx, key, slow.port, THREADS)) as server:
        label = str(server.candidate.label)
        ctx.check(server, "before the faults")
        for case in chosen(ctx):
            if case in CASES:
                ctx.say(f"{label}, {case.key}")
                cells[case.key] = measured(case, server.port, slow.port)
        ctx.check(server, "after the faults")
    for case in chosen(ctx):
        if case not in CASES:
            ctx.say(f"{label}, {case.key}")
            with contextlib.ExitStack() as stack:
                port = ports(ctx, case, stack)
                server = stack.enter_context(ctx.server(gateway(ctx, key, port, THREADS)))
                cells[case.key] = measured(case, server.port, None)
    return label, cells


def row_of(key: str, label: str, cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """nginx is a peer: what it does is shown, and never predicted."""
    for case in ALL_CASES:
        if case.key in cells:
            cell = cells[case.key]
            cell["saw"] = words(cell)
            cell["as_predicted"] = None if key == "nginx" else as_predicted(case, cell)
    return {"candidate": key, "label": label, "cells": cells}


def proxy_matrix(ctx: context.Context) -> Gateway:
    """All gateways at the same time: what a case takes is time-outs, and no cpu."""
    need_upstream(ctx)
    stages = ("stage4",) if ctx.stages is None else ("stage1", "stage2", "stage3-select",
                                                      "stage4")
    keys = gateways(ctx, *stages, *candidates.usual(*candidates.WAITERS))
    with concurrent.futures.ThreadPoolExecutor(len(keys)) as pool:
        try:
            return matrix_result(list(pool.map(lambda key: row_of(key, *cells_of(ctx, key)),
                                               keys)))
        except BaseException:  # the others shall not go on with all their time-outs
            processes.end_all()
            raise


PREDICTED = (
    "What a client must see follows from what was sent to it before the fault. Nothing yet: "
    "the gateway answers itself, 502 if the upstream's answer is none, 504 if its head is not "
    f"there within {REPLY_SECONDS} s, and the client's connection goes on. The head: the rest "
    "can only be missing, so the answer breaks off, short of its length, without its last "
    "chunk, or, to a client of HTTP/1.0, in a reset. Only a body that ends with the connection "
    "can be cut without anybody noticing. The upstream is asked once; twice only where an idle "
    "connection broke before the first byte of an answer, and POST never "
    "(RFC 9110, section 9.2.2). What the upstream did to an idle connection before it was "
    "wanted costs nothing.")


def predicted_value(case: Case) -> dict[str, Any]:
    return {"saw": saw(case), "again": case.again, "asked": case.asked}


def matrix_result(rows: list[Row]) -> Gateway:
    cases = [case for case in ALL_CASES if rows and case.key in rows[0]["cells"]]
    off = [(row, case) for row in rows for case in cases
           if row["cells"][case.key]["as_predicted"] is False]
    ours = [row for row in rows if row["candidate"] != "nginx"]
    found = checks.findings(
        [checks.exactly(f"{row['label']}: cases that are not as predicted",
                        sum(one is row for one, _ in off), 0) for row in ours],
        {"text": PREDICTED, "value": {case.key: predicted_value(case) for case in cases}}, rows,
        " ".join([*(told(row, cases) for row in rows), missed(ours, off)]), None)
    cast(Gateway, found)["cases"] = [{"key": case.key, "method": case.method, "what": case.what,
                                      "predicted": saw(case)} for case in cases]
    return cast(Gateway, found)


def told(row: dict[str, Any], cases: list[Case]) -> str:
    """What is to be said of one gateway."""
    cells = [(case, row["cells"][case.key]) for case in cases]
    ends = [cell["end"] for _, cell in cells]
    fooled = [case.key for case, cell in cells
              if case.end == BREAKS_OFF and (cell["status"], cell["end"]) == (200, WHOLE)]
    twice = [case for case, cell in cells if (cell["asked"] or 0) > 1]
    posts = sum(case.method == "POST" for case in twice)
    return (f"{row['label']}: of {len(cells)} clients {ends.count(WHOLE)} see a whole answer, "
            f"{len(ends) - ends.count(WHOLE)} see that theirs is not; broken and taken for "
            f"whole, where that can be told: {', '.join(fooled) or 'none'}; asked twice: "
            f"{len(twice)}, {posts} of them POST.")


def missed(ours: list[dict[str, Any]], off: list[tuple[dict[str, Any], Case]]) -> str:
    if not ours:
        return "Peers are not predicted."
    if not off:
        return f"As predicted: all of {', '.join(row['label'] for row in ours)}."
    names = "; ".join(
        f"{row['label']}, {case.key}: {cell['saw']}, asked {cell['asked']}, again "
        f"{cell['again']}, not {saw(case)}, {case.asked}, {case.again}"
        for row, case in off[:6] for cell in [row["cells"][case.key]])
    return f"Against the prediction: {names}{' and others' if len(off) > 6 else ''}."


# ---- proxy-cost ----------------------------------------------------------------------------

LOADS = {"own": "/", "relayed": f"/upstream?n={COST_BYTES}"}


def proxy_cost(ctx: context.Context) -> Findings:
    """Loads take turns: own, relayed; own, relayed; of one gateway, then of the next."""
    ctx.need("wrk", "wrk")
    need_upstream(ctx)
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(ctx.server(upstream(ctx), ctx.generator_cpus))
        servers = [stack.enter_context(ctx.server(gateway(ctx, key, slow.port)))
                   for key in gateways(ctx, "stage4", *candidates.usual(*candidates.WAITERS))]
        rounds: list[dict[str, Any]] = []
        for turn in range(ctx.p["rounds"]):
            for server in servers:
                for load, path in LOADS.items():
                    ctx.say(f"{server.candidate.label}, {load}, round {turn + 1}")
                    row = ctx.loaded(server, ctx.p["main_clients"], look=False, path=path)
                    rounds.append({**row, "load": load, "model": server.candidate.model})
    rows = [merged(rounds, key) for key in dict.fromkeys(row["candidate"] for row in rounds)]
    for row in rows:
        row.update(beside_nginx(rounds, row["candidate"]))
    return cost_result(rows)


def merged(rounds: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """The row of one gateway: medians over its rounds, and their ratios."""
    mine = [row for row in rounds if row["candidate"] == key]
    relayed = [row for row in mine if row["load"] == "relayed"]
    costs = {load: [row["cpu_us_per_request"] for row in mine if row["load"] == load]
             for load in LOADS}
    found = {"candidate": key, "label": mine[0]["label"], "model": mine[0]["model"],
             "clients": mine[0]["offered_clients"], "rounds": len(relayed),
             "requests": sum(row["requests"] for row in relayed),
             "failed": sum(row["failed"] for row in mine)}
    for name in ("req_per_s", "p50_us", "voluntary_switches_per_request"):
        found[name] = measure.median([row[name] for row in relayed if row[name] is not None])
    for load, values in costs.items():
        spread = measure.spread([value for value in values if value is not None])
        found.update({f"{load}_us": spread["median"], f"{load}_us_min": spread["min"],
                      f"{load}_us_max": spread["max"]})
    ratios = measure.spread(measure.paired_ratios(costs["relayed"], costs["own"]))
    found.update({"ratio": ratios["median"], "ratio_min": ratios["min"],
                  "ratio_max": ratios["max"]})
    return found


def relayed_costs(rounds: list[Row], key: str) -> list[float | None]:
    """µs of cpu of a request that is handed on, round by round."""
    return [row["cpu_us_per_request"] for row in rounds
            if (row["candidate"], row["load"]) == (key, "relayed")]


def beside_nginx(rounds: list[Row], key: str) -> Row:
    """Of one gateway: times what nginx's proxy_pass costs, round by round."""
    ratios = measure.spread(measure.paired_ratios(relayed_costs(rounds, key),
                                                  relayed_costs(rounds, "nginx")))
    return {"ratio_to_nginx_median": ratios["median"], "ratio_to_nginx_min": ratios["min"],
            "ratio_to_nginx_max": ratios["max"]}


def cost_told(row: dict[str, Any]) -> str:
    if row["relayed_us"] is None:
        return f"{row['label']}: nobody was served"
    ratio = checks.ratio_words(row["ratio"], row["ratio_min"], row["ratio_max"],
                               " an answer of its own")
    return f"{row['label']} spends {row['relayed_us']:.1f} µs of cpu, {ratio}"


def cost_checks(rows: list[Row]) -> list[Check]:
    """Of those who share their waits as nginx does, and do less besides."""
    return [checks.band(f"{row['label']} × nginx", row["ratio_to_nginx_median"],
                        row["ratio_to_nginx_min"], row["ratio_to_nginx_max"], *NGINX_SHARE)
            for row in rows if row["model"] in ("callbacks", "coroutines")
            and row["candidate"] != "nginx" and row["ratio_to_nginx_median"] is not None]


def cost_result(rows: list[Row]) -> Findings:
    found = cost_checks(rows)
    low, high = NGINX_SHARE
    return checks.findings(
        found,
        {"text": ("A relayed request is two exchanges, one served and one asked for, and what "
                  "a wait costs comes on top: stage 4 sleeps in its handler for each of them, "
                  "and stage 5 in a thread, while nginx, callbacks and coroutines share one "
                  "wait among all whose upstream has answered. nginx does more with a head than "
                  f"the stages, which shall cost {low:g} to {high:g} of it. How much it is for "
                  "the others, is measured, and not predicted."),
         "value": {"nginx_share_low": low, "nginx_share_high": high}},
        rows, f"On a request that it hands on, connections kept on both sides: "
              f"{'; '.join(cost_told(row) for row in rows)}. "
              f"{checks.sentence(found) if found else ''}".rstrip(), None)
