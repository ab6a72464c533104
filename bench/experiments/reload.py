"""reload.py - the experiment reload: the program is replaced under load, and every request counts.

Does not: change the program; what runs is replaced by itself, by the same road.
"""
import statistics
import time

from experiments.proxy import need_upstream, upstream
from lib import candidates, measure, processes
from lib.context import Context
from report import checks
from results import Figure, Findings, Row

CLIENTS = 32
PREFORK_WORKERS = 64    # of stage 2: each client holds one, and the old and the new overlap
WORKERS = 4             # of the others
DEPTH = 16              # requests of a batch when pipelining
LOADS = ("keep-alive", "short", "pipelined")
WAITING = "upstream"    # keep-alive, and each request is handed on
UPSTREAM_MS = 50        # to one that takes so long: when workers stop, requests wait in them
RELOAD_SECONDS = 10     # old workers that are there after so long have not been replaced
LOOK_SECONDS = 0.005    # between two looks whether they have
OTHER_REASONS = ("timeout", "wrong_status", "wrong_body")
REASONS = ("raced", "reset", "closed", "after_close", *OTHER_REASONS)


# ---- Reloads -------------------------------------------------------------------------------

def reload_once(ctx: Context, server: processes.Server) -> Row:
    """Tell it to reload. The row of times, in s of time.monotonic(): when it was told, and when
    the last of the old workers was gone (None: it was not)."""
    old = set(measure.children(server.pid))
    told = time.monotonic()
    command = processes.launch(candidates.reload_command(server), ctx.generator_cpus,
                               stdout=server.log, stderr=server.log, env=server.environment)
    replaced = None
    while replaced is None and time.monotonic() < told + RELOAD_SECONDS:
        if processes.ended(command, LOOK_SECONDS) and not old & set(measure.children(server.pid)):
            replaced = time.monotonic()
        else:
            time.sleep(LOOK_SECONDS)
    status = processes.reap(command)[0]
    if status:
        ctx.problem(f"{server.candidate.label}: reload ended with status {status}: "
                    f"{server.last_words()}")
    elif replaced is None:
        ctx.problem(f"{server.candidate.label}: old workers were still there {RELOAD_SECONDS} s "
                    "after a reload")
    return {"told": told, "replaced": replaced}


def reloads_under(ctx: Context, server: processes.Server, crowd: measure.Crowd) -> list[Row]:
    """Reloads at an even pace, and as long as that before the first and after the last."""
    due, found = time.monotonic(), []
    for _ in range(ctx.p["reloads"]):
        due = max(due + ctx.p["reload_seconds"], time.monotonic())
        crowd.listen(due - time.monotonic())
        found.append(reload_once(ctx, server))
    crowd.listen(max(0, due + ctx.p["reload_seconds"] - time.monotonic()))
    return found


def curve(samples: list[Row], reloads: list[Row]) -> Row:
    """Answers per second over time, seconds from the first sample; at each reload a mark, and
    where requests failed a cross with their number."""
    began = samples[0]["monotonic_ms"] / 1000
    # Of two in one millisecond, a regular one and that of the end, the later says more.
    samples = list({one["monotonic_ms"]: one for one in samples}.values())
    points, failed = [], []
    for one, next_ in zip(samples, samples[1:]):
        seconds = (next_["monotonic_ms"] - one["monotonic_ms"]) / 1000
        middle = (next_["monotonic_ms"] + one["monotonic_ms"]) / 2000 - began
        points.append([middle, (next_["served"] - one["served"]) / seconds])
        lost = bad(next_) - bad(one)
        if lost:
            failed.append([*points[-1], lost])
    return {"points": points, "failed": failed,
            "reloads": [one["told"] - began for one in reloads],
            "replaced": [(one["replaced"] or one["told"] + RELOAD_SECONDS) - began
                         for one in reloads]}


def around(line: Row) -> Row:
    """The usual rate while workers are replaced, as a share of the usual rate in between; the
    least there was in one sample."""
    points = line["points"]
    half = (points[1][0] - points[0][0]) / 2 if len(points) > 1 else 0
    during: list[float] = []
    between: list[float] = []
    for x, rate in points:
        busy = any(told - half < x < replaced + half
                   for told, replaced in zip(line["reloads"], line["replaced"]))
        (during if busy else between).append(rate)
    usual, while_busy = measure.median(between), measure.median(during)
    return {"during_share": while_busy / usual if while_busy is not None and usual else None,
            "lowest_share": min(rate for _, rate in points) / usual if usual else None}


def bad(account: Row) -> int:
    return account["failed"] + account["not_connected"]


def one_load(ctx: Context, server: processes.Server, behaviour: str) -> tuple[Row, Row]:
    """Reloads under one load: a row, and what its line in the figure needs."""
    candidate = server.candidate
    ctx.say(f"{candidate.label}, {behaviour}")
    ctx.check(server, f"before the reloads ({behaviour})")
    options: Row = {"depth": DEPTH} if behaviour == "pipelined" else {}
    if behaviour == WAITING:
        options = {"path": f"/upstream?ms={UPSTREAM_MS}"}
    does = "keep-alive" if behaviour == WAITING else behaviour
    with ctx.crowd(server, CLIENTS, does, sample=ctx.p["reload_sample_ms"],
                   timeout=measure.WRK_TIMEOUT_SECONDS, **options) as crowd:
        reloads = reloads_under(ctx, server, crowd)
        report = crowd.finish()
    ctx.check(server, f"after the reloads ({behaviour})")
    report["not_connected"] = report["refused_at_connect"] + report["connect_failed"]
    line = curve(crowd.samples(), reloads)
    took = [(one["replaced"] - one["told"]) * 1000 for one in reloads if one["replaced"]]
    row = {"candidate": candidate.key, "label": candidate.label, "load": behaviour,
           "workers": candidate.workers, "offered_clients": CLIENTS, "reloads": len(reloads),
           **{name: report[name] for name in ("requests", "served", "failed", "not_connected",
                                              "unfinished", "closed_idle", "announced_close")},
           **{f"failed_{name}": report["failures"][name] for name in REASONS},
           "failed_otherwise": sum(report["failures"][name] for name in OTHER_REASONS),
           "req_per_s": report["served"] / report["load_seconds"],
           **around(line),
           "replaced_ms": measure.median(took), "replaced_ms_max": max(took, default=None),
           "p99_us": report["total_us"]["p99"], "max_us": report["total_us"]["max"],
           "generator_cpu_share": report["cpu_seconds"] / report["seconds"]}
    return row, {"key": candidate.key, "label": candidate.label, "plain": True, **line}


def waiters(ctx: Context, upstream_port: int, more: tuple[str, ...]) -> list[candidates.Candidate]:
    """In which requests wait while others are served."""
    return ctx.some(*ctx.contestants(*candidates.usual(*candidates.WAITERS)), workers=WORKERS,
                    more=(*more, "--upstream", f"127.0.0.1:{upstream_port}"))


def reload(ctx: Context) -> Findings:
    """All loads in turn, each beside the others' same load. Process control is the same in all
    stages that have workers; so of those whose requests wait, the load is that by which they
    differ, but for the long form."""
    ctx.need_crowd()
    need_upstream(ctx)
    patient = ("--stop-timeout", str(RELOAD_SECONDS))  # nginx has no limit at all
    wanted = (ctx.some(*ctx.contestants("stage2"), workers=PREFORK_WORKERS, more=patient)
              + ctx.some("stage4", workers=WORKERS, more=patient) + ctx.nginx(WORKERS))
    rows: list[Row] = []
    lines: dict[str, list[Row]] = {load: [] for load in (*LOADS, WAITING)}
    with ctx.server(upstream(ctx), ctx.generator_cpus) as slow, \
            ctx.servers(wanted) as usual, \
            ctx.servers(waiters(ctx, slow.port, patient)) as waiting:
        if not usual and not waiting:
            ctx.some_or_skip("stage4")
        for load in lines:
            also = waiting if ctx.form == "full" else []
            for server in waiting if load == WAITING else [*usual, *also]:
                row, line = one_load(ctx, server, load)
                rows.append(row)
                lines[load].append(line)
                if row["candidate"] != "nginx" and bad(row):
                    ctx.problem(f"{row['label']}, {load}: {reasons(row)}")
    return reload_result(rows, lines)


# ---- What it says --------------------------------------------------------------------------

def at_stake(row: Row) -> int:
    """Requests that one reload can lose at most: what the clients can have on their way when
    their idle connections are closed. With a fresh connection for each there is none."""
    if row["candidate"] != "nginx" or row["load"] == "short":
        return 0
    return CLIENTS * (DEPTH if row["load"] == "pipelined" else 1)


def reasons(row: Row) -> str:
    """"3 failed of 1,000 (2 raced, 1 reset)"."""
    told = [f"{row[f'failed_{name}']:,} {name.replace('_', ' ')}" for name in REASONS
            if row[f"failed_{name}"]]
    if row["not_connected"]:
        told.append(f"{row['not_connected']:,} not connected")
    return f"{bad(row):,} failed of {row['requests']:,}" + (f" ({', '.join(told)})" if told else "")


def shares(rows: list[Row]) -> str:
    """"95, 87 and 101 %", in the order of the loads."""
    told = [f"{row['during_share'] * 100:.0f}" if row["during_share"] is not None else "?"
            for row in rows]
    return f"{', '.join(told[:-1])} and {told[-1]} %" if len(told) > 1 else f"{told[0]} %"


def reload_result(rows: list[Row], lines: dict[str, list[Row]]) -> Findings:
    for row in rows:
        row["predicted_failed_max"] = at_stake(row) * row["reloads"]
    found = [checks.exactly(f"{row['label']} {row['load']}, failed", bad(row), 0)
             for row in rows if row["predicted_failed_max"] == 0]
    told = []
    for label in dict.fromkeys(row["label"] for row in rows):
        mine = [row for row in rows if row["label"] == label]
        lost = [f"{row['load']} {reasons(row)}" for row in mine if bad(row)]
        told.append(f"{label}: " + ("; ".join(lost) if lost else
                                    f"0 failed of {sum(row['requests'] for row in mine):,}")
                    + f"; rate while reloading {shares(mine)} of the rate between")
    return checks.findings(
        found,
        prediction={
            "text": ("A new worker accepts before an old one stops, the listeners are never "
                     "closed, and an old worker says good-bye in its last answer: stages 2 "
                     "and 4 lose 0 requests, whatever the load, and so do stages 5, 6 and 7 with "
                     f"requests that wait {UPSTREAM_MS} ms for an upstream: an old worker ends "
                     "when all have their answers. nginx's old workers close "
                     "connections that are idle at once; a request that is on its way just "
                     "then is lost, and so is what stands in a batch behind the last answer. "
                     "How many of those depends on who is ahead just then, nginx or its "
                     f"clients: at most {CLIENTS} requests a reload with {CLIENTS} clients "
                     f"that keep their connection, {CLIENTS} × {DEPTH} = {CLIENTS * DEPTH} "
                     "with batches. That is no prediction, and is not checked. With a "
                     "connection of its own for each request it is 0. "
                     "(nginx since 1.27.4 can be told to wait for that request: "
                     "keepalive_min_timeout.)"),
            "value": {"stage2_failed": 0, "stage4_failed": 0, "waiters_failed": 0, "nginx_short_failed": 0,
                      "nginx_keep_alive_failed_max": CLIENTS,
                      "nginx_pipelined_failed_max": CLIENTS * DEPTH}},
        rows=rows,
        finding=f"{rows[0]['reloads']} reloads under each of the loads {', '.join(lines)}. "
                f"{'. '.join(told)}. {checks.sentence(found)}",
        figure=reload_figure(lines))


def reload_figure(lines: dict[str, list[Row]]) -> Figure:
    return {"panels": [
        {"kind": "lines", "x_label": "seconds (upright: a reload, ×: failed requests)",
         "y_label": f"{load}: thousand answers per second", "x_even": True,
         "upright": [round(statistics.median(at), 3)
                     for at in zip(*(one["reloads"] for one in series))],
         "series": [{"key": one["key"], "label": one["label"], "plain": True,
                     "points": [[round(x, 3), round(y / 1000, 3)] for x, y in one["points"]],
                     "crosses": [[round(x, 3), round(y / 1000, 3), n]
                                 for x, y, n in one["failed"]]} for one in series]}
        for load, series in lines.items() if series]}
