"""throughput.py - the experiments that load all servers with the same work: keep-alive, short,
pipelined.

Does not: break anything on purpose.
"""
from collections.abc import Sequence
from typing import Any

from lib import blackbox, candidates, measure, processes
from lib.candidates import Candidate
from lib.context import Context, PARTS_DEPTH
from report import checks
from results import Check, Figure, Findings, Prediction, Row

DEPTH = 16             # requests of a batch when pipelining
PHP_BESIDE = "stage3-select"  # the stage that does the same with the same call
RATIO_ROOM, SHORT_RATIO_ROOM = 0.05, 0.1  # of the ratio to the floor
STAGE_KEYS = ("stage1", "stage2", "stage3-select", "stage3-poll", "stage4", "stage4-edge",
              *candidates.usual(*candidates.WAITERS))
# Of what a request costs in stage 4: what a hand-over to a thread, an event of a library's, or a
# switch of stacks may add.
OVER_STAGE4 = {"threads": (0.85, 1.2), "callbacks": (0.9, 1.15), "coroutines": (0.9, 1.08)}
KEYS = ("req_per_s", "p50_us", "p99_us", "cpu_us_per_request", "system_share",
        "voluntary_switches_per_request", "involuntary_switches_per_request",
        "generator_cpu_share")


def prefork_workers(ctx: Context) -> int:
    """As many as clients at the main point: all of them are served. 64 is the most there is."""
    return min(64, ctx.p["main_clients"])


def contestants(ctx: Context, close: bool = False) -> list[Candidate]:
    stages = [ctx.stage(key, prefork_workers(ctx) if key == "stage2" else 1)
              for key in ctx.contestants(*STAGE_KEYS)]
    return ctx.peers(close) + [stage for stage in stages if ctx.wanted(stage)]


def take_turns(ctx: Context, servers: list[processes.Server], points: list[int], rounds: int,
               **load: Any) -> list[Row]:
    """Rows of all rounds: A B C A B C, so that what disturbs the machine disturbs all."""
    rows = []
    for turn in range(rounds):
        for clients in points:
            for server in servers:
                ctx.say(f"{server.candidate.label}, {clients} clients, "
                        f"round {turn + 1} of {rounds}")
                look = turn == 0 and not load["close"]  # short ones all have their turn
                look = look and (ctx.form != "smoke" or load["depth"] == 1)  # it takes long
                row = ctx.loaded(server, clients, look=look, **load)
                rows.append({"clients": clients, "round": turn + 1, **row})
    return rows


def merge(rows: list[Row]) -> list[Row]:
    """One row for each candidate and number of clients: medians over the rounds, and the spread
    of what it cost; ratios are paired round by round with the floor."""
    merged = []
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["clients"], row["candidate"]), []).append(row)
    for (clients, key), group in groups.items():
        floor = [row["cpu_us_per_request"] for row in groups.get((clients, "floor"), [])]
        costs = [row["cpu_us_per_request"] for row in group if row["cpu_us_per_request"]]
        ratios = measure.paired_ratios([row["cpu_us_per_request"] for row in group], floor)
        one = {"candidate": key, "label": group[0]["label"], "clients": clients,
               "rounds": len(group)}
        for name in ("offered_clients", "established_clients", "served_clients"):
            one[name] = group[0][name]
        for name in ("requests", "failed", "socket_errors", "non_2xx", "late"):
            one[name] = sum(row[name] for row in group)
        for name in KEYS:
            one[name] = measure.median([row[name] for row in group if row[name] is not None])
        one["cpu_us_per_request_min"] = min(costs, default=None)
        one["cpu_us_per_request_max"] = max(costs, default=None)
        for name, value in measure.spread(ratios).items():
            if name != "rounds":
                one[f"ratio_to_floor_{name}"] = value
        if key == "php":
            one.update(beside(group, groups.get((clients, PHP_BESIDE), []), "stage3"))
        if key != "floor":
            one.update(beside(group, groups.get((clients, "stage4"), []), "stage4"))
        one["generator_bound"] = sum(row["generator_bound"] for row in group) * 2 > len(group)
        merged.append(one)
    return merged


def beside(group: list[Row], others: list[Row], name: str) -> Row:
    """The ratio of costs, paired round by round, to those of another server."""
    ratios = measure.paired_ratios([row["cpu_us_per_request"] for row in group],
                                   [row["cpu_us_per_request"] for row in others])
    return {f"ratio_to_{name}_{part}": value for part, value in measure.spread(ratios).items()
            if part != "rounds"}


def sweep(ctx: Context, close: bool = False, depth: int = 1,
          more: Sequence[Candidate] = ()) -> list[Row]:
    """All contestants, and `more`, over all numbers of clients; merged rows."""
    p = ctx.p
    others = [clients for clients in p["clients"] if clients != p["main_clients"]]
    load = {"close": close, "depth": depth}
    with ctx.servers([*contestants(ctx, close), *more]) as servers:
        rows = take_turns(ctx, servers, [p["main_clients"]], p["rounds"], **load)
        rows += take_turns(ctx, servers, others, p["other_rounds"], **load)
    return sorted(merge(rows), key=lambda row: row["clients"])


def at_main(ctx: Context, rows: list[Row], key: str) -> Row:
    """The row of a candidate at the main number of clients; {} if it took no part."""
    return next((row for row in rows if row["candidate"] == key
                 and row["clients"] == ctx.p["main_clients"]), {})


def figure(rows: list[Row]) -> Figure:
    """Two panels over the number of clients: what a request costs, how many were answered."""
    def series(name: str, scale: float) -> list[Row]:
        found: dict[tuple[str, str], list[list[float]]] = {}
        for row in rows:
            if row[name]:
                found.setdefault((row["candidate"], row["label"]), []).append(
                    [row["clients"], row[name] * scale])
        return [{"key": key, "label": label, "points": points}
                for (key, label), points in found.items()]
    x_axis = {"x_label": "clients at the same time", "x_log": 2}
    return {"panels": [
        {"kind": "lines", "y_label": "CPU, µs per request", "y_log": 10, **x_axis,
         "series": series("cpu_us_per_request", 1)},
        {"kind": "lines", "y_label": "thousand answers per second", "y_log": 10, **x_axis,
         "series": series("req_per_s", 0.001)}]}


def ratio_parts(row: Row, base: str = "floor") -> tuple[float, float, float]:
    """Median, least and greatest of the rounds."""
    return (row[f"ratio_to_{base}_median"], row[f"ratio_to_{base}_min"],
            row[f"ratio_to_{base}_max"])


def bound_text(ctx: Context, rows: list[Row]) -> str:
    bound = [row["label"] for row in rows
             if row["generator_bound"] and row["clients"] == ctx.p["main_clients"]]
    return (f" wrk used up its cpu against {', '.join(bound)}: their requests per second are "
            "wrk's limit, not theirs." if bound else "")


def cost_told(ctx: Context, rows: list[Row], key: str) -> str:
    """The sentence about what a server's request costs."""
    row = at_main(ctx, rows, key)
    if not row or row.get("ratio_to_floor_median") is None:
        return ""
    return (f"{row['label']} costs {row['cpu_us_per_request']:.2f} µs of CPU a request, "
            f"{checks.ratio_words(*ratio_parts(row), ' the floor')}. ")


def ratio_checks(ctx: Context, rows: list[Row], predicted: float, room: float) -> list[Check]:
    """Stage 4 against the floor; none if stage 4 took no part."""
    row = at_main(ctx, rows, "stage4")
    if row.get("ratio_to_floor_median") is None:
        return []
    return [checks.ratio("4 epoll × the floor", *ratio_parts(row), predicted, room)]


def parsing_us(ctx: Context) -> float:
    """What stage 4 spends on a request of its own, above the floor: seen where batches share
    the system calls, for the kernel's share drowns it elsewhere."""
    parts = ctx.parts_us()
    return parts["stage4"][1] - parts["floor"][1]


def add_blackbox(ctx: Context, rows: list[Row]) -> None:
    """How much of the black-box suite the PHP server passes; not in tiny, for it takes a
    minute."""
    row = at_main(ctx, rows, "php")
    if row and ctx.form != "smoke":
        ctx.say("PHP select, the black-box suite")
        found = blackbox.run(ctx, candidates.php_command()) or {}
        row.update({f"blackbox_{name}": n for name, n in found.items()})


def note_php(ctx: Context, rows: list[Row]) -> None:
    if at_main(ctx, rows, "php").get("ratio_to_stage3_median") is not None:
        ctx.notes.append(
            "What the row of PHP hides: it takes one read for one request, whatever was sent, so a "
            "request in two pieces is answered twice and two in one piece once; it has no deadlines "
            "and no limits; its clients are blocking, so one that does not read its answers stops "
            "all others")


def php_told(ctx: Context, rows: list[Row]) -> str:
    row = at_main(ctx, rows, "php")
    if not row or row.get("ratio_to_stage3_median") is None:
        return ""
    ratio = checks.ratio_words(*ratio_parts(row, "stage3"), " stage 3")
    told = (f"The select server in PHP costs {row['cpu_us_per_request']:.2f} µs, {ratio}: the "
            "kernel's TCP dwarfs language and parser alike. ")
    if row.get("blackbox_checks"):
        told += (f"It passes {row['blackbox_passed']} of {row['blackbox_checks']} checks of the "
                 f"stages' black-box suite, and refuses {row['blackbox_refused']} of "
                 f"{row['blackbox_refusals']} malformed requests. ")
    return told


# ---- keep-alive ----------------------------------------------------------------------------

def keep_alive_prediction(ctx: Context) -> Prediction:
    clients = ctx.p["main_clients"]
    floor_us, parse_us = sum(ctx.parts_us()["floor"]), parsing_us(ctx)
    ratio = 1 + parse_us / floor_us
    return {
        "text": (f"On one cpu the floor spends {floor_us:.2f} µs a request, and nearly all of it "
                 f"is the kernel's TCP. Batches of {PARTS_DEPTH}, which share the system calls, "
                 f"show what stage 4 adds by parsing: {parse_us:.2f} µs. So it costs 1 + "
                 f"{parse_us:.2f} / {floor_us:.2f} = {ratio:.2f} × the floor, and no server can "
                 f"answer more than 1 / {floor_us:.2f} µs = {1e6 / floor_us:,.0f} requests per "
                 f"second. Who blocks serves as many clients as it has processes: of {clients}, "
                 f"stage 1 serves 1, stage 2 {prefork_workers(ctx)}, one a process. Stages 5, 6 and 7 "
                 "do what stage 4 does, and a hand-over to a thread, an event of libevent's, or "
                 "a switch of stacks besides: "
                 + "; ".join(f"{model} {low:g} to {high:g}"
                             for model, (low, high) in OVER_STAGE4.items())
                 + " of what stage 4 spends."),
        "value": {"floor_cpu_us_per_request": floor_us, "stage4_ratio_to_floor": ratio,
                  "max_req_per_s": 1e6 / floor_us, "stage1_served_clients": 1,
                  "stage2_served_clients": prefork_workers(ctx)}}


def served_rows(ctx: Context, rows: list[Row]) -> list[Row]:
    """Of the stages that are told apart by whom they serve."""
    found = [at_main(ctx, rows, key) for key in ("stage1", "stage2", "stage3-select", "stage4",
                                                 *candidates.usual(*candidates.WAITERS))]
    return [row for row in found if row]


def keep_alive_checks(ctx: Context, rows: list[Row], value: Row) -> list[Check]:
    wanted = {"stage1": value["stage1_served_clients"], "stage2": value["stage2_served_clients"]}
    return ratio_checks(ctx, rows, value["stage4_ratio_to_floor"], RATIO_ROOM) + [
        checks.exactly(f"{row['label']}, served clients", row["served_clients"],
                       wanted.get(row["candidate"], ctx.p["main_clients"]))
        for row in served_rows(ctx, rows)] + [
        checks.band(f"{row['label']} × stage 4", *ratio_parts(row, "stage4"),
                    *OVER_STAGE4[candidates.model_of(row["candidate"])])
        for row in over_stage4(ctx, rows)]


def over_stage4(ctx: Context, rows: list[Row]) -> list[Row]:
    """Of those whose cost is compared with stage 4's."""
    found = [at_main(ctx, rows, key) for key in candidates.usual(*OVER_STAGE4)]
    return [row for row in found if row.get("ratio_to_stage4_median") is not None]


def keep_alive_told(ctx: Context, rows: list[Row], found: list[Check]) -> str:
    served = ", ".join(f"{row['label']} {row['served_clients']}"
                       for row in served_rows(ctx, rows))
    beside4 = ", ".join(f"{row['label']} {row['ratio_to_stage4_median']:.2f}"
                        for row in over_stage4(ctx, rows))
    return (f"{cost_told(ctx, rows, 'stage4')}"
            f"{f'Times what stage 4 spends: {beside4}. ' if beside4 else ''}"
            f"Of {ctx.p['main_clients']} clients were served: "
            f"{served}. {php_told(ctx, rows)}{checks.sentence(found)}{bound_text(ctx, rows)}")


def keep_alive(ctx: Context) -> Findings:
    ctx.need("wrk", "wrk")
    prediction = keep_alive_prediction(ctx)
    rows = sweep(ctx, more=ctx.php())
    add_blackbox(ctx, rows)
    note_php(ctx, rows)
    found = keep_alive_checks(ctx, rows, prediction["value"])
    return checks.findings(
        found, prediction=prediction, rows=rows, finding=keep_alive_told(ctx, rows, found),
        figure=figure([row for row in rows if row["candidate"] != "php"]))


# ---- short ---------------------------------------------------------------------------------

def short_prediction(floor_us: float, parse_us: float) -> Prediction:
    ratio = 1 + parse_us / floor_us
    return {
        "text": ("The handshake and the closing are the kernel's and dwarf the request: the "
                 f"floor spends {floor_us:.2f} µs, parsing adds the {parse_us:.2f} µs that stage "
                 f"4 pays above the floor on open connections, {floor_us + parse_us:.2f} µs in "
                 f"all, {ratio:.2f} × the floor. Nobody holds a connection any more: "
                 "stage 1 serves all clients in turn."),
        "value": {"floor_cpu_us_per_request": floor_us,
                  "stage4_cpu_us_per_request": floor_us + parse_us,
                  "stage4_ratio_to_floor": ratio}}


def short(ctx: Context) -> Findings:
    """One request per connection."""
    ctx.need("wrk", "wrk")
    parse_us = parsing_us(ctx)
    with ctx.server(candidates.floor(ctx.build, close=True)) as server:
        floor_us = ctx.load(server, ctx.p["main_clients"], look=False,
                            close=True)["cpu_us_per_request"]
    prediction = short_prediction(floor_us, parse_us)
    rows = sweep(ctx, close=True)
    found = ratio_checks(ctx, rows, prediction["value"]["stage4_ratio_to_floor"],
                         SHORT_RATIO_ROOM)
    return checks.findings(
        found, prediction=prediction, rows=rows, figure=figure(rows),
        finding=(f"{cost_told(ctx, rows, 'stage4')}{cost_told(ctx, rows, 'stage1')}"
                 f"{checks.sentence(found)}{bound_text(ctx, rows)}"))


# ---- pipelined -----------------------------------------------------------------------------

def pipelined_prediction(stage4: tuple[float, float], floor: tuple[float, float]) -> Prediction:
    """From what Context.parts_us() says of the two."""
    (shared_us, own_us), (floor_shared_us, floor_own_us) = stage4, floor
    predicted_us = shared_us / DEPTH + own_us
    ratio = predicted_us / (floor_shared_us / DEPTH + floor_own_us)
    return {
        "text": (f"{DEPTH} requests share their system calls; parsing is not shared. One by one "
                 f"and in batches of {PARTS_DEPTH} stage 4 shows {shared_us:.2f} µs that are "
                 f"shared and {own_us:.2f} µs that are not, so {DEPTH} at a time cost "
                 f"{shared_us:.2f} / {DEPTH} + {own_us:.2f} = {predicted_us:.2f} µs a request, "
                 f"and {ratio:.2f} × the floor, whose parts are {floor_shared_us:.2f} and "
                 f"{floor_own_us:.2f} µs."),
        "value": {"depth": DEPTH, "stage4_cpu_us_per_request": predicted_us,
                  "stage4_ratio_to_floor": ratio}}


def pipelined_checks(ctx: Context, rows: list[Row], value: Row) -> list[Check]:
    found = ratio_checks(ctx, rows, value["stage4_ratio_to_floor"], SHORT_RATIO_ROOM)
    row = at_main(ctx, rows, "stage4")
    if row:
        found.append(checks.within("4 epoll, µs a request", row["cpu_us_per_request"],
                                   value["stage4_cpu_us_per_request"], 0.15))
    return found


def pipelined(ctx: Context) -> Findings:
    ctx.need("wrk", "wrk")
    prediction = pipelined_prediction(ctx.parts_us()["stage4"], ctx.parts_us()["floor"])
    rows = sweep(ctx, depth=DEPTH)
    for row in rows:
        row["p50_us"] = row["p99_us"] = None  # wrk takes one time a batch, and miscounts them
    found = pipelined_checks(ctx, rows, prediction["value"])
    return checks.findings(
        found, prediction=prediction, rows=rows, figure=figure(rows),
        finding=f"{cost_told(ctx, rows, 'stage4')}{checks.sentence(found)}"
                f"{bound_text(ctx, rows)}")
