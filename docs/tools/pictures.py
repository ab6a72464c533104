#!/usr/bin/env python3
"""pictures.py - draw the pictures of docs/pictures/.

Usage: pictures.py [--check]
  --check   change nothing; status 1 if a picture in the tree is another than is drawn now
What they show is in picture_time.py, picture_kernel.py and picture_stages.py.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import argparse  # noqa: E402
import os  # noqa: E402

import picture_kernel  # noqa: E402
import picture_stages  # noqa: E402
import picture_time  # noqa: E402

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pictures")
PICTURES = {**picture_stages.PICTURES, **picture_kernel.PICTURES, **picture_time.PICTURES}


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    os.makedirs(FOLDER, exist_ok=True)
    files = {name + ".svg": draw().svg() for name, draw in PICTURES.items()}
    stale = [name for name, svg in files.items() if read(os.path.join(FOLDER, name)) != svg]
    strange = sorted(set(os.listdir(FOLDER)) - set(files))
    for name in strange:
        print(f"docs/pictures/{name}: drawn by nothing in docs/tools")
    for name in stale:
        if check:
            print(f"docs/pictures/{name}: not what is drawn now; see make pictures")
        else:
            with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
                file.write(files[name])
    print(f"pictures: {len(files)}, {len(stale)} {'stale' if check else 'drawn anew'}")
    return 1 if strange or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
