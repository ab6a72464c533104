"""models.py - the table of models: one handler that waits, and ways to let others run meanwhile,
put together from the experiments that measured them.

Does not: measure. What was not measured is null.
"""
from typing import Any, NamedTuple

from report import tables
from report.tables import Column
from results import Result, Row


class Contestant(NamedTuple):
    """Of the table: a stage's mode, or nginx."""
    key: str
    label: str
    model: str
    own_lines: int | None      # of code in its folder
    changed_lines: int | None  # in its neighbour


HOLDS = {"blocking": "a process", "loop": "a process", "threads": "a thread",
         "callbacks": "a callback", "coroutines": "a coroutine"}


def rows_of(experiments: dict[str, Result], name: str, key: str) -> list[Row]:
    rows = experiments[name]["rows"] if name in experiments else []
    return [row for row in rows if row.get("candidate") == key]


def waiting(experiments: dict[str, Result], key: str) -> Row:
    """Its row of slow-upstream: of one process if there is one, and of the most places."""
    rows = rows_of(experiments, "slow-upstream", key)
    best = sorted(rows, key=lambda row: (row["processes"] > 1, -row["waiting"]))
    if not best:
        return {}
    return {"places": best[0]["waiting"], "processes": best[0]["processes"],
            "req_per_s": best[0]["req_per_s"], "offered_per_s": best[0]["offered_per_s"],
            "bytes_per_waiting": best[0]["bytes_per_waiting"]}


def beside_slow(experiments: dict[str, Result], key: str) -> Row:
    """The p99 of the others, by what one in ten does: with one process where it was measured."""
    found: Row = {}
    for row in rows_of(experiments, "slow-among-fast", key):
        found.setdefault(f"p99_{row['load']}_ms", row["p99_ms"])
    return found


def ratio(experiments: dict[str, Result], name: str, key: str, to: str, clients: int) -> Row:
    """Of proxy-cost or keep-alive: times nginx or stage 4, with its rounds' range."""
    for row in rows_of(experiments, name, key):
        if row["clients"] == clients:
            field = f"ratio_to_{to}"
            return {f"{field}{part}": row.get(f"{field}{suffix}")
                    for part, suffix in (("", "_median"), ("_min", "_min"), ("_max", "_max"))}
    return {}


def models(experiments: dict[str, Result], contestants: list[Contestant],
           clients: int) -> list[Row]:
    """Those of whom at least one of the numbers was measured."""
    found = []
    for one in contestants:
        measured: Row = {**waiting(experiments, one.key), **beside_slow(experiments, one.key),
                         **ratio(experiments, "proxy-cost", one.key, "nginx", clients),
                         **ratio(experiments, "keep-alive", one.key, "stage4", clients)}
        if measured:
            found.append({"candidate": one.key, "label": one.label, "model": one.model,
                          "holds": HOLDS[one.model], **measured, "own_lines": one.own_lines,
                          "changed_lines": one.changed_lines})
    return found


def of_offered(row: Row) -> str | None:
    if row.get("req_per_s") is None:
        return None
    return f"{row['req_per_s']:.0f} of {row['offered_per_s']:.0f}"


def compared(name: str) -> Any:
    """A ratio, in brackets where its rounds are further apart than it is from 1."""
    def text(row: Row) -> str | None:
        if row.get(name) == 1 == row.get(f"{name}_min"):
            return "1"
        return tables.ratio_of(name)(row)
    return text


PAGE: list[Column] = [
    ("server", "label", tables.word), ("who waits holds", "holds", tables.word),
    ("places", "places", tables.whole), ("requests/s", of_offered, tables.word),
    ("bytes for one that waits", "bytes_per_waiting", tables.whole),
    ("CPU of a request handed on, × nginx", compared("ratio_to_nginx"), tables.word),
    ("CPU of an answer of its own, × stage 4", compared("ratio_to_stage4"), tables.word),
    ("others' p99, ms, one in ten waits 100 ms", "p99_waits_ms", tables.one),
    ("the same, one in ten computes 10 ms", "p99_computes_ms", tables.one),
    ("lines of code", "own_lines", tables.whole),
    ("changed in its neighbour", "changed_lines", tables.whole)]

TERMINAL: list[Column] = [
    ("server", "label", tables.word), ("places", "places", tables.whole),
    ("req/s", "req_per_s", tables.whole), ("bytes", "bytes_per_waiting", tables.whole),
    ("x nginx", compared("ratio_to_nginx"), tables.word),
    ("x st. 4", compared("ratio_to_stage4"), tables.word),
    ("p99 waits", "p99_waits_ms", tables.one), ("computes", "p99_computes_ms", tables.one),
    ("lines", "own_lines", tables.whole), ("new", "changed_lines", tables.whole)]
