#!/usr/bin/env python3
"""check.py - is what the documents say still so?

Usage: check.py [--update | --static] [-v] [FILE.md ...]
  --update   pull excerpts, diffs, tables and numbers anew, into the documents
  --static   look at what needs no server: what is pulled, links, pictures
  -v         tell each command
Without FILE all documents are checked. Their commands are run, session.py tells how. The last
lines count as Check's do. Does not: mend what is the author's own.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import argparse  # noqa: E402
import functools  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from typing import Any  # noqa: E402

import book  # noqa: E402
import pictures  # noqa: E402
import predict  # noqa: E402
import saved  # noqa: E402
import session  # noqa: E402

LINK = re.compile(r'(!?)\[[^\]]*\]\(([^)\s]+)(?:\s+"[^"]*")?\)')


# ---- Links -----------------------------------------------------------------------------------

def heading_id(title: str) -> str:
    """The id that forges and pandoc's gfm reader give a heading."""
    title = re.sub(r"[`*]|\]\([^)]*\)", "", title).replace("[", "")
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


@functools.lru_cache(maxsize=None)
def ids_of(path: str) -> set[str]:
    text = book.read(path)
    if path.endswith(".html"):
        return book.Links(text).ids
    return {heading_id(match[1]) for match in re.finditer(r"^#+ (.*)$", without_blocks(text), re.M)}


def dead_links(path: str, text: str) -> Iterator[str]:
    for match in LINK.finditer(without_code(text)):
        target, _, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        if not os.path.exists(file):
            yield f"the link to {match[2]} leads nowhere"
        elif anchor and anchor not in ids_of(file):
            yield f"the link to {match[2]}: there is no such heading"


# ---- Checks ----------------------------------------------------------------------------------

class Report:
    """Counts, and tells what is wrong."""

    def __init__(self, verbose: bool) -> None:
        self.verbose, self.checks, self.failures = verbose, 0, 0

    def check(self, path: str, what: str, wrong: str | None) -> None:
        self.checks += 1
        if wrong:
            self.failures += 1
            print(f"{os.path.relpath(path, book.ROOT)}: {what}: {wrong}", flush=True)

    def last_line(self) -> int:
        good = 100 * (self.checks - self.failures) // max(self.checks, 1)
        print(f"{good}%: Checks: {self.checks}, Failures: {self.failures}, Errors: 0")
        return 1 if self.failures or not self.checks else 0


def check_static(report: Report, path: str, known: book.Anchors, run: dict[str, Any],
                 update: bool) -> None:
    text = book.read(path)
    try:
        new = book.update(text, known, run)
    except book.Wrong as error:
        report.check(path, "what is pulled", str(error))
        return
    if update and new != text:
        with open(path, "w", encoding="utf-8") as file:
            file.write(new)
        print(f"updated {os.path.relpath(path, book.ROOT)}")
        text = new
    pulled = sum(name in book.PULLED for block in book.blocks(text)
                 for name, _ in block.directives)
    for old, fresh in zip(text.split("\n"), new.split("\n")):
        if old != fresh:
            report.check(path, "not as in the source; make docs-update",
                         f"\n  it says  {old}\n  it is    {fresh}")
            break
    else:
        report.check(path, "what is pulled", None if text == new else "lengths differ")
    report.checks += pulled + len(book.MEASURED.findall(text))
    links = list(LINK.finditer(without_code(text)))
    dead = list(dead_links(path, text))
    report.checks += len(links) - len(dead)
    for link in dead:
        report.check(path, "link", link)
    try:
        report.checks += len(predict.questions(path, run))
    except (book.Wrong, saved.Unknown) as error:
        report.check(path, "question", str(error))


def check_pictures(report: Report) -> None:
    report.checks += len(pictures.PICTURES)
    for name in pictures.stale():
        report.check(os.path.join(pictures.FOLDER, name), "not what is drawn", "make pictures")
    for name in pictures.strange():
        report.check(os.path.join(pictures.FOLDER, name), "picture", "no script draws it")


def check_commands(report: Report, path: str) -> None:
    began = time.monotonic()
    name = os.path.relpath(path, book.ROOT)
    say = (lambda text: print(f"{name}: {text}", flush=True)) if report.verbose else lambda _: None
    chapter, wrong = session.Chapter(say), None
    try:
        chapter.run(book.blocks(book.read(path)))
    except book.Wrong as error:
        wrong = str(error)
    finally:
        chapter.end()
    report.checks += chapter.count
    report.check(path, "commands", wrong)
    skipped = f", {chapter.skipped} blocks for reading only" if chapter.skipped else ""
    print(f"note: {name}: {chapter.count} commands{skipped}, "
          f"{time.monotonic() - began:.0f} s", flush=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Is what the documents say still so?")
    parser.add_argument("--update", action="store_true", help="pull anew what is pulled")
    parser.add_argument("--static", action="store_true", help="run no command")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell each command")
    parser.add_argument("files", nargs="*", metavar="FILE.md")
    options = parser.parse_args(argv)
    files = [os.path.abspath(file) for file in options.files] or book.chapters()
    known, run = book.anchors(), saved.load(saved.SAVED_RUN)
    report = Report(options.verbose)
    for path in files:
        check_static(report, path, known, run, options.update)
    if not options.files:
        check_pictures(report)
    if not options.static and not options.update:
        for path in files:
            check_commands(report, path)
    return report.last_line()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
