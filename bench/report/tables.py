"""tables.py - rows as tables: which columns an experiment shows, for the terminal and the page.

Does not: measure, or know HTML.
"""
from collections.abc import Callable, Sequence
from typing import Any

from report import checks
from results import Result, Row

PAGE_ONLY = True
Key = str | Callable[[Row], Any]  # a field's name, or a function of the row
Column = tuple[Any, ...]          # heading, Key, how it is written, and PAGE_ONLY or nothing


def whole(value: float) -> str:
    return f"{value:,.0f}"


def two(value: float) -> str:
    return f"{value:,.2f}"


def one(value: float) -> str:
    return f"{value:,.1f}"


def percent(value: float) -> str:
    return f"{value * 100:.0f}%"


def milliseconds(us: float) -> str:
    """Of microseconds, with as many digits as mean something."""
    ms = us / 1000
    return f"{ms:.2f}" if ms < 10 else f"{ms:,.0f}"


def seconds(ms: float) -> str:
    return f"{ms / 1000:.2f}"


def three_seconds(ms: float) -> str:
    return f"{ms / 1000:.3f}"


def kib(value: float) -> str:
    return f"{value / 1024:,.1f}"


def listed(values: list[Any]) -> str:
    return " ".join(str(value) for value in values)


def yes(value: object) -> str:
    return "yes" if value else ""


def yes_no(value: object) -> str:
    return "yes" if value else "no"


def word(value: object) -> str:
    return str(value)


def ratio_of(name: str, median: str = "") -> Callable[[Row], str | None]:
    """For a column: a row's ratio to the floor, in brackets if its rounds are further apart than
    it is from 1. None if there is none."""
    def text(row: Row) -> str | None:
        middle, least, most = (row.get(f"{name}{part}") for part in (median, "_min", "_max"))
        if middle is None or least is None or most is None:
            return None
        hidden = row["candidate"] != "floor" and checks.noise(middle, least, most)
        return f"({middle:.2f})" if hidden else two(middle)
    return text


SERVED = [("offered", "offered_clients", whole, PAGE_ONLY),
          ("established", "established_clients", whole, PAGE_ONLY),
          ("served", "served_clients", whole)]
FAILED = [("failed", "failed", whole),
          ("socket errors", "socket_errors", whole, PAGE_ONLY),
          ("not 2xx", "non_2xx", whole, PAGE_ONLY)]
LOAD = [("server", "label", word), ("clients", "clients", whole, PAGE_ONLY), *SERVED,
        ("requests", "requests", whole, PAGE_ONLY), *FAILED,
        ("late", "late", whole, PAGE_ONLY),
        ("req/s", "req_per_s", whole), ("p50 ms", "p50_us", milliseconds),
        ("p99 ms", "p99_us", milliseconds), ("CPU us", "cpu_us_per_request", two),
        ("CPU min", "cpu_us_per_request_min", two, PAGE_ONLY),
        ("CPU max", "cpu_us_per_request_max", two, PAGE_ONLY),
        ("x floor", ratio_of("ratio_to_floor", "_median"), word),
        ("min", "ratio_to_floor_min", two, PAGE_ONLY),
        ("max", "ratio_to_floor_max", two, PAGE_ONLY),
        ("system", "system_share", percent, PAGE_ONLY),
        ("switches", "voluntary_switches_per_request", two, PAGE_ONLY),
        ("preempted", "involuntary_switches_per_request", two, PAGE_ONLY),
        ("rounds", "rounds", whole, PAGE_ONLY),
        ("wrk cpu", "generator_cpu_share", percent),
        ("generator-bound", "generator_bound", yes, PAGE_ONLY),
        ("x stage 3", "ratio_to_stage3_median", two, PAGE_ONLY),
        ("x stage 4", "ratio_to_stage4_median", two, PAGE_ONLY),
        ("checks passed", "blackbox_passed", whole, PAGE_ONLY),
        ("of", "blackbox_checks", whole, PAGE_ONLY)]
HANDLER = [("server", "label", word), ("workers", "workers", whole),
           ("offered", "offered_clients", whole), ("requests", "requests", whole),
           ("established", "established_clients", whole, PAGE_ONLY), *FAILED,
           ("req/s", "req_per_s", one), ("predicted", "predicted_per_s", one),
           ("ratio", "measured_to_predicted", two), ("p50 ms", "p50_us", milliseconds),
           ("p99 ms", "p99_us", milliseconds, PAGE_ONLY)]
CALLS = [("calls", "calls", two), ("predicted", "predicted_calls", whole),
         ("receive", "receive_calls", two), ("send", "send_calls", two),
         ("wait", "wait_calls", two), ("epoll_ctl", "epoll_ctl_calls", two),
         ("other", "other_calls", two)]

COLUMNS: dict[str, list[Column]] = {
    "keep-alive": LOAD, "short": LOAD, "pipelined": LOAD,
    "silent-clients": [("server", "label", word), ("silent clients", "silent_clients", whole),
                       ("served", "served", whole), ("wait s", "wait_ms", seconds),
                       ("predicted s", "predicted_ms", seconds)],
    "idle-herd": [("server", "label", word), ("idle", "idle_clients", whole),
                  ("requests", "requests", whole), ("failed", "failed", whole),
                  ("req/s", "req_per_s", whole), ("CPU us", "cpu_us_per_request", one),
                  ("min", "cpu_us_per_request_min", one),
                  ("max", "cpu_us_per_request_max", one),
                  ("system us", "system_us_per_request", one),
                  ("ns/idle", "ns_per_idle_client", one),
                  ("p50 ms", "p50_us", milliseconds, PAGE_ONLY),
                  ("rounds", "rounds", whole, PAGE_ONLY)],
    "fd-cliff": [("server", "label", word), ("offered", "offered_clients", whole),
                 ("establ.", "established_clients", whole),
                 ("served", "served_clients", whole), ("refused", "refused_clients", whole),
                 ("waiting", "waiting_clients", whole),
                 ("no connection", "connect_failed", whole, PAGE_ONLY),
                 ("predicted", "predicted_served", whole),
                 ("CPU % full", "cpu_percent_while_full", one),
                 ("descriptors", "descriptor_limit", whole, PAGE_ONLY)],
    "slow-handler": HANDLER, "busy-handler": HANDLER,
    "accept-balance": [("mode", "label", word),
                       ("one by one", "connections_per_worker", listed),
                       ("at once", "hurried_per_worker", listed),
                       ("in vain", "accept_calls_in_vain_per_client", one),
                       ("predicted", "predicted_in_vain", whole, PAGE_ONLY),
                       ("epoll_waits", "epoll_waits_per_client", one, PAGE_ONLY),
                       ("sleeps", "sleeps_per_client", one, PAGE_ONLY),
                       ("deviation", "deviation", one, PAGE_ONLY),
                       ("fresh late", "fresh_late_share", percent),
                       ("alone", "fresh_late_share_alone", percent, PAGE_ONLY),
                       ("p50 ms", "fresh_p50_us", milliseconds, PAGE_ONLY),
                       ("p99 ms", "fresh_p99_us", milliseconds, PAGE_ONLY),
                       ("kept late", "kept_late_share", percent),
                       ("alone", "kept_late_share_alone", percent, PAGE_ONLY),
                       ("p50 ms", "kept_p50_us", milliseconds, PAGE_ONLY),
                       ("p99 ms", "kept_p99_us", milliseconds, PAGE_ONLY)],
    "level-edge": [("mode", "label", word), ("work", "workload", word), *CALLS,
                   ("CPU us", "cpu_us_per_request", two, PAGE_ONLY),
                   ("min", "cpu_us_per_request_min", two, PAGE_ONLY),
                   ("max", "cpu_us_per_request_max", two, PAGE_ONLY)],
    "slow-readers": [("server", "label", word), ("readers", "readers", whole),
                     ("alone ms", "wait_alone_us", milliseconds),
                     ("wait ms", "wait_us", milliseconds),
                     ("p99 ms", "wait_p99_us", milliseconds),
                     ("answered", "probes_answered", whole), ("lost", "probes_lost", whole),
                     ("KiB each", "process_bytes_per_reader", kib),
                     ("kernel KiB", "kernel_bytes_per_reader", kib)],
    "worker-killed": [("server", "label", word), ("kills", "kills", whole),
                      ("requests", "requests", whole), ("failed", "failed", whole),
                      ("per kill", "failed_per_kill", one),
                      ("predicted", "predicted_failed_per_kill", one),
                      ("new after ms", "replacement_ms", two),
                      ("max", "replacement_ms_max", two, PAGE_ONLY),
                      ("zombies", "zombies", whole),
                      ("not connected", "connect_errors", whole, PAGE_ONLY),
                      ("not 2xx", "non_2xx", whole, PAGE_ONLY),
                      ("gone", "stopped", yes, PAGE_ONLY)],
    "reload": [("server", "label", word), ("load", "load", word),
               ("clients", "offered_clients", whole, PAGE_ONLY),
               ("reloads", "reloads", whole, PAGE_ONLY),
               ("requests", "requests", whole), ("failed", "failed", whole),
               ("at most", "predicted_failed_max", whole, PAGE_ONLY),
               ("raced", "failed_raced", whole), ("cut off", "failed_after_close", whole),
               ("reset", "failed_reset", whole, PAGE_ONLY),
               ("closed", "failed_closed", whole, PAGE_ONLY),
               ("otherwise", "failed_otherwise", whole, PAGE_ONLY),
               ("not connected", "not_connected", whole, PAGE_ONLY),
               ("closed idle", "closed_idle", whole, PAGE_ONLY),
               ("announced", "announced_close", whole, PAGE_ONLY),
               ("req/s", "req_per_s", whole), ("rate", "during_share", percent),
               ("lowest", "lowest_share", percent, PAGE_ONLY),
               ("p99 ms", "p99_us", milliseconds, PAGE_ONLY),
               ("longest ms", "max_us", milliseconds, PAGE_ONLY),
               ("new ms", "replaced_ms", whole),
               ("at most", "replaced_ms_max", whole, PAGE_ONLY)],
    "cost": [("server", "label", word), *CALLS[:1], *CALLS[2:5], *CALLS[6:],
             ("predicted", "predicted_calls", whole, PAGE_ONLY),
             ("per connection", "calls_per_connection", one, PAGE_ONLY),
             ("switches 1", "switches_per_request_1", two),
             ("many", "switches_per_request_many", two),
             ("preempted", "involuntary_per_request_many", two, PAGE_ONLY),
             ("idle B", "idle_bytes_per_connection", whole),
             ("idle clients", "idle_clients", whole, PAGE_ONLY),
             ("processes", "processes", whole, PAGE_ONLY),
             ("threads", "threads", whole, PAGE_ONLY)],
    "proxy-cost": [("server", "label", word), ("clients", "clients", whole),
                   ("requests", "requests", whole), ("failed", "failed", whole),
                   ("req/s", "req_per_s", whole, PAGE_ONLY), ("own us", "own_us", two),
                   ("min", "own_us_min", two, PAGE_ONLY),
                   ("max", "own_us_max", two, PAGE_ONLY),
                   ("relayed us", "relayed_us", two),
                   ("min", "relayed_us_min", two), ("max", "relayed_us_max", two),
                   ("x own", ratio_of("ratio"), word),
                   ("x nginx", "ratio_to_nginx_median", two),
                   ("switches", "voluntary_switches_per_request", two, PAGE_ONLY),
                   ("p50 ms", "p50_us", milliseconds, PAGE_ONLY),
                   ("rounds", "rounds", whole, PAGE_ONLY)],
    "slow-upstream": [("server", "label", word),
                      ("processes", "processes", whole, PAGE_ONLY),
                      ("places each", "places_each", whole, PAGE_ONLY),
                      ("clients", "offered_clients", whole, PAGE_ONLY),
                      ("waiting", "waiting", whole),
                      ("offered/s", "offered_per_s", whole, PAGE_ONLY),
                      ("bound/s", "bound_per_s", whole), ("served/s", "req_per_s", one),
                      ("of bound", "share_of_bound", percent),
                      ("answers", "served", whole, PAGE_ONLY),
                      ("failed", "failed", whole, PAGE_ONLY),
                      ("bytes each", "bytes_per_waiting", whole),
                      ("slowest s", "slowest_ms", seconds),
                      ("late", "late_share", percent)],
    "many-waiting": [("server", "label", word), ("waiting", "waiting", whole),
                     ("failed", "failed", whole), ("slowest s", "slowest_ms", three_seconds),
                     ("p50 s", "p50_ms", three_seconds),
                     ("first time s", "cold_slowest_ms", three_seconds),
                     ("late", "late", whole, PAGE_ONLY),
                     ("bytes each", "bytes_per_waiting", whole),
                     ("goal", "goal_bytes", whole),
                     ("at once", "waiting_at_once", whole, PAGE_ONLY)],
    "generator-timeout": [("generator", "label", word), ("server", "server", word),
                          ("clients", "offered_clients", whole),
                          ("answers", "answers", whole),
                          ("status 200", "served", whole), ("time-outs", "late", whole),
                          ("longest s", "slowest_ms", seconds)],
    "slow-among-fast": [("server", "label", word), ("one in ten", "load", word),
                        ("others", "clients", whole),
                        ("slow", "slow_clients", whole, PAGE_ONLY),
                        ("failed", "failed", whole, PAGE_ONLY),
                        ("p50 ms", "p50_ms", two), ("p99 ms", "p99_ms", one),
                        ("predicted", "predicted_p99_ms", one),
                        ("from", "predicted_p99_low_ms", one, PAGE_ONLY),
                        ("to", "predicted_p99_high_ms", one, PAGE_ONLY),
                        ("longest ms", "max_ms", one, PAGE_ONLY),
                        ("held up", "late_share", percent),
                        ("predicted", "predicted_late_share", percent)],
}

HEADLINE: list[Column] = [
    ("server", "label", word), ("keep us", "keep_alive_us", two),
    ("x", ratio_of("keep_alive_ratio"), word), ("pipe us", "pipelined_us", two),
    ("x", ratio_of("pipelined_ratio"), word), ("short us", "short_us", two),
    ("x", ratio_of("short_ratio"), word), ("req/s", "req_per_s", whole),
    ("served", "served", word), ("idle B", "idle_bytes", whole)]


def cell(value: Any, form: Callable[[Any], str]) -> str:
    return "-" if value is None else form(value)


def grid(columns: Sequence[Column], rows: list[Row],
         page: bool = False) -> tuple[list[str], list[list[str]]]:
    """(heads, [[text, ...], ...]); columns for the page only are left out elsewhere."""
    chosen = [column for column in columns if page or len(column) == 3]
    return ([column[0] for column in chosen],
            [[cell(value_of(row, column[1]), column[2]) for column in chosen] for row in rows])


def value_of(row: Row, key: Key) -> Any:
    """key: a field's name, or a function of the row."""
    return key(row) if callable(key) else row.get(key)


def text_table(columns: Sequence[Column], rows: list[Row]) -> str:
    """Lines of at most 80 columns; the first column is aligned left."""
    heads, cells = grid(columns, rows)
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    lines = []
    for line in [heads, *cells]:
        parts = [line[0].ljust(widths[0])]
        parts += [text.rjust(width) for text, width in zip(line[1:], widths[1:])]
        gap = "  " if sum(widths) + 2 * len(widths) <= 80 else " "
        lines.append(gap.join(parts).rstrip())
    return "\n".join(lines)


def terminal_rows(result: Result, main_clients: int) -> list[Row]:
    """A terminal has no room for all numbers of clients: the main one."""
    rows = result["rows"]
    if result["name"] in ("keep-alive", "short", "pipelined"):
        rows = [row for row in rows if row["clients"] == main_clients]
    return rows


# ---- The headline --------------------------------------------------------------------------

def headline(experiments: dict[str, Result], main_clients: int) -> list[Row]:
    """Stages and peers with what matters most, from the experiments that were run."""
    found: dict[str, Row] = {}

    def rows_of(name: str) -> list[Row]:
        return [row for row in (experiments[name]["rows"] if name in experiments else [])
                if row.get("clients", main_clients) == main_clients]
    for name in ("keep-alive", "pipelined", "short"):
        key = name.replace("-", "_")
        for row in rows_of(name):
            mine = found.setdefault(row["candidate"], {"candidate": row["candidate"],
                                                       "label": row["label"]})
            mine[f"{key}_us"] = row["cpu_us_per_request"]
            for part in ("median", "min", "max"):
                suffix = "" if part == "median" else f"_{part}"
                mine[f"{key}_ratio{suffix}"] = row[f"ratio_to_floor_{part}"]
            if name == "keep-alive":
                mine.update({"req_per_s": row["req_per_s"], "p50_us": row["p50_us"],
                             "p99_us": row["p99_us"],
                             "generator_bound": row["generator_bound"],
                             "served": f"{row['served_clients']}/{row['offered_clients']}"})
    for row in rows_of("cost"):
        if row["candidate"] in found:
            found[row["candidate"]]["idle_bytes"] = row["idle_bytes_per_connection"]
    return list(found.values())


def matrix_lines(result: Result) -> str:
    """The failure matrix for a terminal: a letter and a factor in each cell."""
    letters = {"unaffected": "ok", "degraded": "x", "stopped": "STOP", "faster": "fast"}
    heads = [fault["key"] for fault in result["faults"]]
    short = {"silent": "mute", "half": "half", "slow-reader": "reads", "reset": "reset",
             "idle-herd": "herd", "no-descriptors": "no fd", "slow-handler": "slow",
             "slow-upstream": "up", "busy-handler": "busy", "worker-killed": "kill"}
    lines = ["".ljust(17) + "".join(short.get(head, head)[:5].rjust(6) for head in heads)]
    for row in result["rows"]:
        line = row["label"][:16].ljust(17)
        for head in heads:
            one_cell = row["cells"][head]
            text = letters[one_cell["state"]]
            if text == "x" and one_cell["factor"]:
                text = f"x{one_cell['factor']:.0f}"
            line += text.rjust(6)
        lines.append(line)
    return "\n".join(lines)


# ---- The failure matrix of the gateway -----------------------------------------------------

def case_columns(servers: list[Row]) -> list[Column]:
    """For each of the servers: what its client saw, how often the upstream was asked, and
    whether the client's connection served another request."""
    columns: list[Column] = [("case", "key", word), ("request", "method", word, PAGE_ONLY),
               ("the upstream", "what", word, PAGE_ONLY),
               ("predicted", "predicted", word, PAGE_ONLY)]
    for row in servers:
        def of(name: str, cells: dict[str, Row] = row["cells"]) -> Callable[[Row], Any]:
            return lambda case: cells[case["key"]][name]
        columns += [(row["label"], of("saw"), word), ("asked", of("asked"), whole),
                    ("again", of("again"), yes_no)]
    return columns


def alike(rows: list[Row], names: Sequence[str] = ("saw", "asked", "again")) -> list[Row]:
    """Servers in which all cases end the same share a row: "4 epoll, 5, 6"."""
    found: dict[str, Row] = {}
    for row in rows:
        told = repr([[cell[name] for name in names] for _, cell in sorted(row["cells"].items())])
        if told in found:
            found[told] = {**found[told],
                           "label": f"{found[told]['label']}, {row['label'].split()[0]}"}
        else:
            found[told] = row
    return list(found.values())


def case_lines(result: Result) -> str:
    """For a terminal: a line a case, two servers side by side."""
    rows = alike(result["rows"])
    return "\n\n".join(text_table(case_columns(rows[i:i + 2]), result["cases"])
                       for i in range(0, len(rows), 2))
