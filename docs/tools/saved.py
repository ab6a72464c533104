"""saved.py - numbers of a run of the benchmark, by a selector.

A selector is  EXPERIMENT [CANDIDATE] [KEY=VALUE ...] FIELD [/ NUMBER | / SELECTOR]
  silent-clients stage1 silent_clients=8 wait_ms / 1000
  idle-herd stage3-select idle_clients=1000 cpu_us_per_request
  failure-matrix stage1 cells.silent.state
It must fit exactly one row; headline and models are experiments here, too. Does not: measure.
"""
import json
import os
import re
from typing import Any

SAVED_RUN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "results",
                         "results.json")

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


class Unknown(Exception):
    """No such experiment, row or field."""


def load(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def rows_of(run: dict[str, Any], name: str) -> list[dict[str, Any]]:
    if name in ("headline", "models"):  # put together from several
        return run[name]
    if name not in run["experiments"]:
        raise Unknown(f"no experiment '{name}'")
    return run["experiments"][name]["rows"]


def rows_that_fit(run: dict[str, Any], name: str, words: list[str]) -> list[dict[str, Any]]:
    """The rows with this candidate and these KEY=VALUE."""
    rows = rows_of(run, name)
    for word in words:
        key, _, value = word.rpartition("=")
        rows = [row for row in rows if str(row.get(key or "candidate")) == value]
    if not rows:
        raise Unknown(f"no row '{' '.join(words)}' in {name}")
    return rows


def field_of(row: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        if not isinstance(row, dict) or row.get(key) is None:
            raise Unknown(f"no {path} was measured there")
        row = row[key]
    return row


def value(run: dict[str, Any], selector: str) -> Any:
    """The number, or word, that a selector names."""
    left, slash, right = selector.partition(" / ")
    words = left.split()
    if len(words) < 2:
        raise Unknown(f"'{selector}' is no selector")
    rows = rows_that_fit(run, words[0], words[1:-1])
    if len(rows) > 1:
        raise Unknown(f"'{left}' fits {len(rows)} rows")
    found = field_of(rows[0], words[-1])
    if slash:
        divisor = float(right) if re.fullmatch(r"[\d.]+", right) else value(run, right)
        try:
            found /= divisor
        except (TypeError, ZeroDivisionError) as error:
            raise Unknown(f"'{selector}': {error}") from None
    return found


def like(number: float, sample: str) -> str:
    """`number` with as many decimals as `sample` has."""
    decimals = len(sample.partition(".")[2])
    return f"{number:,.{decimals}f}"


def rough(number: float) -> float:
    """To two significant digits."""
    digits = len(str(int(abs(number))))
    return round(number, 2 - digits) if abs(number) >= 1 else round(number, 2)


def say(run: dict[str, Any], selector: str, text: str) -> str:
    """`text` with its number, or its only word, made true; "about 5": to two digits."""
    found = value(run, selector)
    if isinstance(found, str):
        return found
    if not isinstance(found, (int, float)):
        raise Unknown(f"'{selector}' is no number")
    sample = NUMBER.search(text)
    if not sample:
        raise Unknown(f"'{text}' has no number")
    if text.startswith("about "):
        found = rough(found)
    return text[:sample.start()] + like(found, sample[0]) + text[sample.end():]


# ---- Tables ----------------------------------------------------------------------------------

def cell(found: float | str) -> str:
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int) or (isinstance(found, float) and found.is_integer()):
        return f"{found:,.0f}"
    if isinstance(found, float):
        return f"{found:,.0f}" if found >= 100 else f"{found:.1f}" if found >= 10 else f"{found:.2f}"
    return str(found)


def table(run: dict[str, Any], words: str) -> str:
    """Markdown: EXPERIMENT [CANDIDATE,CANDIDATE...] [KEY=VALUE ...]: FIELD "heading", ..."""
    chosen, _, rest = words.partition(": ")
    name, *conditions = chosen.split()
    wanted: list[str] = []
    for word in list(conditions):
        if "=" not in word:
            wanted, conditions = word.split(","), [one for one in conditions if one != word]
    rows = [row for row in rows_that_fit(run, name, conditions)
            if not wanted or row["candidate"] in wanted]
    columns = re.findall(r'([\w.]+) "([^"]*)"', rest)
    if not rows or not columns:
        raise Unknown(f"table '{words}' has nothing in it")
    lines = ["| " + " | ".join(heading for _, heading in columns) + " |",
             "|" + "|".join("---" if i == 0 else "---:" for i in range(len(columns))) + "|"]
    for row in rows:
        cells = []
        for path, _ in columns:
            try:
                cells.append(cell(field_of(row, path)))
            except Unknown:
                cells.append("-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
