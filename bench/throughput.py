"""throughput.py - the experiments that load all servers with the same work: keep-alive, short,
pipelined.

Does not: break anything on purpose.
"""
import candidates
import measure

DEPTH = 16             # requests of a batch when pipelining
STAGE_KEYS = ("stage1", "stage2", "stage3-select", "stage3-poll", "stage4", "stage4-edge")
KEYS = ("req_per_s", "p50_us", "p99_us", "cpu_us_per_request", "system_share",
        "voluntary_switches_per_request", "involuntary_switches_per_request",
        "generator_cpu_share")


def prefork_workers(ctx):
    """As many as clients at the main point: all of them are served. 64 is the most there is."""
    return min(64, ctx.p["main_clients"])


def contestants(ctx, close=False):
    stages = [ctx.stage(key, prefork_workers(ctx) if key == "stage2" else 1)
              for key in ctx.p["contestants"] or STAGE_KEYS]
    return ctx.peers(close) + [stage for stage in stages if ctx.wanted(stage)]


def take_turns(ctx, servers, points, rounds, **load):
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


def merge(rows):
    """One row for each candidate and number of clients: medians over the rounds, and the spread
    of what it cost; ratios are paired round by round with the floor."""
    merged = []
    groups = {}
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
        one["generator_bound"] = sum(row["generator_bound"] for row in group) * 2 > len(group)
        merged.append(one)
    return merged


def sweep(ctx, close=False, depth=1):
    """All contestants over all numbers of clients; merged rows."""
    p = ctx.p
    others = [clients for clients in p["clients"] if clients != p["main_clients"]]
    load = {"close": close, "depth": depth}
    with ctx.servers(contestants(ctx, close)) as servers:
        rows = take_turns(ctx, servers, [p["main_clients"]], p["rounds"], **load)
        rows += take_turns(ctx, servers, others, p["other_rounds"], **load)
    return sorted(merge(rows), key=lambda row: row["clients"])


def at_main(ctx, rows, key):
    """The row of a candidate at the main number of clients; {} if it took no part."""
    return next((row for row in rows if row["candidate"] == key
                 and row["clients"] == ctx.p["main_clients"]), {})


def figure(rows):
    """Two panels over the number of clients: what a request costs, how many were answered."""
    def series(name, scale):
        found = {}
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


def spread_text(row):
    return (f"{row['ratio_to_floor_median']:.2f} × the floor "
            f"({row['ratio_to_floor_min']:.2f} to {row['ratio_to_floor_max']:.2f})")


def bound_text(ctx, rows):
    bound = [row["label"] for row in rows
             if row["generator_bound"] and row["clients"] == ctx.p["main_clients"]]
    return (f" wrk used up its cpu against {', '.join(bound)}: their requests per second are "
            "wrk's limit, not theirs." if bound else "")


def stage4_text(ctx, rows, limit, agrees):
    """The sentence about stage 4's cost, for and against what was predicted."""
    row = at_main(ctx, rows, "stage4")
    if not row or row.get("ratio_to_floor_median") is None:
        return "Stage 4 took no part."
    verdict = (f"within the {limit:.2f} × that were predicted" if agrees else
               f"against the prediction of at most {limit:.2f} ×")
    return (f"Stage 4 costs {row['cpu_us_per_request']:.2f} µs of CPU a request, "
            f"{spread_text(row)}, {verdict}.")


def stage4_within(ctx, rows, limit):
    """None if stage 4 took no part."""
    ratio = at_main(ctx, rows, "stage4").get("ratio_to_floor_median")
    return None if ratio is None else ratio <= limit


def keep_alive(ctx):
    ctx.need("wrk", "wrk")
    clients = ctx.p["main_clients"]
    floor_us = ctx.cost_us("floor")
    limit = 1.05
    prediction = {
        "text": (f"On one cpu the floor spends {floor_us:.2f} µs a request, and nearly all of it "
                 "is the kernel's TCP. A server that also parses should stay within "
                 f"{limit:.2f} × that, {limit * floor_us:.2f} µs, and no server can answer more "
                 f"than 1 / {floor_us:.2f} µs = {1e6 / floor_us:,.0f} requests per second. Who "
                 f"blocks serves as many clients as it has processes: of {clients}, stage 1 "
                 f"serves 1, stage 2 {prefork_workers(ctx)}, one a process."),
        "value": {"floor_cpu_us_per_request": floor_us, "stage4_ratio_to_floor": limit,
                  "max_req_per_s": 1e6 / floor_us, "stage1_served_clients": 1,
                  "stage2_served_clients": prefork_workers(ctx)}}
    rows = sweep(ctx)
    agrees = stage4_within(ctx, rows, limit)
    served = ", ".join(
        f"{row['label']} {row['served_clients']}" for row in
        (at_main(ctx, rows, key) for key in ("stage1", "stage2", "stage3-select", "stage4"))
        if row)
    finding = (f"{stage4_text(ctx, rows, limit, agrees)} Of {clients} clients were served: "
               f"{served}.{bound_text(ctx, rows)}")
    return {"prediction": prediction, "rows": rows, "finding": finding, "agrees": agrees,
            "figure": figure(rows)}


def short(ctx):
    """One request per connection."""
    ctx.need("wrk", "wrk")
    limit = 1.05
    parse_us = max(0.0, ctx.cost_us("stage4") - ctx.cost_us("floor"))
    with ctx.server(candidates.floor(ctx.build, close=True)) as server:
        floor_us = ctx.load(server, ctx.p["main_clients"], look=False,
                            close=True)["cpu_us_per_request"]
    prediction = {
        "text": ("The handshake and the closing are the kernel's and dwarf the request: the "
                 f"floor spends {floor_us:.2f} µs, parsing adds the {parse_us:.2f} µs that stage "
                 f"4 pays above the floor on open connections, {floor_us + parse_us:.2f} µs in "
                 f"all, so at most {limit:.2f} × the floor. Nobody holds a connection any more: "
                 "stage 1 serves all clients in turn."),
        "value": {"floor_cpu_us_per_request": floor_us,
                  "stage4_cpu_us_per_request": floor_us + parse_us,
                  "stage4_ratio_to_floor": limit}}
    rows = sweep(ctx, close=True)
    agrees = stage4_within(ctx, rows, limit)
    first = at_main(ctx, rows, "stage1")
    others = (f" Stage 1 needs {first['cpu_us_per_request']:.2f} µs, {spread_text(first)}."
              if first.get("ratio_to_floor_median") else "")
    finding = stage4_text(ctx, rows, limit, agrees) + others + bound_text(ctx, rows)
    return {"prediction": prediction, "rows": rows, "finding": finding, "agrees": agrees,
            "figure": figure(rows)}


def pipelined(ctx):
    ctx.need("wrk", "wrk")
    floor_us, stage4_us = ctx.cost_us("floor"), ctx.cost_us("stage4")
    parse_us = max(0.0, stage4_us - floor_us)
    predicted_us = floor_us / DEPTH + parse_us
    limit = 1.10
    prediction = {
        "text": (f"{DEPTH} requests share one recv and one send, so the floor's {floor_us:.2f} µs "
                 f"are divided by {DEPTH}; parsing is not shared. Stage 4: {floor_us:.2f} / "
                 f"{DEPTH} + ({stage4_us:.2f} - {floor_us:.2f}) = {predicted_us:.2f} µs a "
                 f"request. The aim is {limit:.2f} × the floor."),
        "value": {"depth": DEPTH, "stage4_cpu_us_per_request": predicted_us,
                  "stage4_ratio_to_floor": limit}}
    rows = sweep(ctx, depth=DEPTH)
    for row in rows:
        row["p50_us"] = row["p99_us"] = None  # wrk takes one time a batch, and miscounts them
    row = at_main(ctx, rows, "stage4")
    agrees = None
    finding = "Stage 4 took no part."
    if row.get("cpu_us_per_request"):
        cost = row["cpu_us_per_request"]
        agrees = cost <= 1.25 * predicted_us
        finding = (f"Stage 4 costs {cost:.2f} µs of CPU a request where {predicted_us:.2f} were "
                   f"predicted{'' if agrees else ', so the prediction was too low'}; that is "
                   f"{spread_text(row)}, and {stage4_us / cost:.0f} times less than one at a "
                   "time.")
    finding += bound_text(ctx, rows)
    return {"prediction": prediction, "rows": rows, "finding": finding, "agrees": agrees,
            "figure": figure(rows)}
