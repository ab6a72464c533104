#!/usr/bin/env python3
"""rooms.py - does each room of common/ include only what the table in docs/architecture.md lets it?

Does not: look at stages and tests, which may include all. The last line: "N passed, M failed".
"""
import pathlib
import re
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| `(\w+)/` \|.*\|([^|]*)\|$", re.M)  # a room; the last column names rooms
INCLUDE = re.compile(r'^#include "([^"]*)"', re.M)


def complaints(may: dict[str, set[str]], path: pathlib.Path) -> Iterator[str | None]:
    """For each include of the file: None, or what is wrong with it."""
    room = path.parent.name
    for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        other = name.rpartition("/")[0]
        if other not in {room, *may.get(room, ())}:
            yield f"{path.relative_to(ROOT)}: {room}/ may not include \"{name}\""
        else:
            yield None


def main() -> int:
    may: dict[str, set[str]] = {}
    found: list[str | None] = []
    for room, others in ROW.findall((ROOT / "docs/architecture.md").read_text(encoding="utf-8")):
        below = set(re.findall(r"`(\w+)/`", others))
        found += [f"{room}/ may include {name}/, which stands below it" for name in below - {*may}]
        may[room] = below
    files = sorted(ROOT.glob("common/**/*.[ch]"))
    found += [wrong for path in files for wrong in complaints(may, path)]
    wrong = [line for line in found if line]
    print(*wrong, f"{len(found) - len(wrong)} passed, {len(wrong)} failed", sep="\n")
    return 1 if wrong or len(found) == len(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
