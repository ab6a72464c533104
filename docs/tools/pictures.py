#!/usr/bin/env python3
"""pictures.py - draw the pictures of docs/pictures/ anew.

What they show is in the files picture_*.py. check.py asks whether those in the tree are still what
is drawn.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import os  # noqa: E402

import picture_callbacks  # noqa: E402
import picture_coroutines  # noqa: E402
import picture_kernel  # noqa: E402
import picture_stages  # noqa: E402
import picture_threads  # noqa: E402
import picture_time  # noqa: E402

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pictures")
PICTURES = {**picture_callbacks.PICTURES, **picture_coroutines.PICTURES,
            **picture_kernel.PICTURES, **picture_stages.PICTURES,
            **picture_threads.PICTURES, **picture_time.PICTURES}


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def stale() -> dict[str, str]:
    """The files of the pictures that are not in the tree as they are drawn, {name: svg}."""
    files = {name + ".svg": draw().svg() for name, draw in PICTURES.items()}
    return {name: svg for name, svg in files.items() if read(os.path.join(FOLDER, name)) != svg}


def strange() -> list[str]:
    """Files that no script draws."""
    return sorted(set(os.listdir(FOLDER)) - {name + ".svg" for name in PICTURES})


def main() -> int:
    os.makedirs(FOLDER, exist_ok=True)
    new = stale()
    for name, svg in new.items():
        with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
            file.write(svg)
    for name in strange():
        print(f"docs/pictures/{name}: drawn by nothing in docs/tools")
    print(f"pictures: {len(PICTURES)}, {len(new)} drawn anew")
    return 1 if strange() else 0


if __name__ == "__main__":
    sys.exit(main())
