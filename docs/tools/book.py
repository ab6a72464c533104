"""book.py - the Markdown of docs/: its blocks, and the three things that are pulled into it.

  <!-- excerpt NAME -->         the code block below is quoted from the source, by anchor
  <!-- diff FROM TO -->         the block below is the diff between two stages
  <!-- table EXPERIMENT ... --> the table below comes from the saved run (see saved.py)
  [8.2 s](results/index.html#x "EXPERIMENT ...")   so does a number, by the link's title

Does not: run anything but tests/diff.sh.
"""
import glob
import html.parser
import os
import re
import subprocess
from typing import Any

import saved

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = ("common/*.[ch]", "stage*/*.[ch]", "bench/*/*.[ch]", "tests/*.[ch]")
ANCHOR = re.compile(r"^\s*/\* \[([\w.-]+)\] \*/$")
DIRECTIVE = re.compile(r"^<!-- (\w[\w-]*)\b:?\s*(.*?) -->$")
KNOWN = {"excerpt": True, "diff": True, "check": True, "not": True,  # above a fenced block
         "table": False, "ask": False}                              # above a table or a list
MEASURED = re.compile(r'\[([^\[\]\n]*)\]\(((?:docs/)?results/index\.html#[\w-]+) "([^"]*)"\)')
MEASURED_BROKEN = re.compile(r'results/index\.html#[\w-]+\s*\n\s*"[^"]*')
PULLED = ("excerpt", "diff", "table")


Anchors = dict[str, list[tuple[str, str]]]  # by name: file and text of each place


class Wrong(Exception):
    """Something in a document that is not true; the message says what."""


def chapters() -> list[str]:
    """All documents, README.md of the project first."""
    found = sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")))
    return [os.path.join(ROOT, "README.md")] + found


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


class Links(html.parser.HTMLParser):
    """The ids of a page, and what it points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if not value:
                continue
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and not re.match(r"[a-z]+:", value):
                self.targets.add(value)


# ---- Anchors in the source -------------------------------------------------------------------

def excerpt_at(lines: list[str], start: int) -> str:
    """What an anchor in line `start` names: up to the first blank line that is not inside
    braces, or to the brace that closes what the anchor stands in. Anchors inside are left out."""
    depth, taken = 0, []
    for line in lines[start + 1:]:
        code = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'|/\*.*?\*/', "", line)
        depth += code.count("{") - code.count("}")
        if depth < 0 or (depth == 0 and not line.strip()):
            break
        if not ANCHOR.match(line):
            taken.append(line)
    while taken and not taken[-1].strip():
        taken.pop()
    indent = min((len(line) - len(line.lstrip()) for line in taken if line.strip()), default=0)
    return "\n".join(line[indent:] for line in taken)


def anchors() -> Anchors:
    """{name: [(file, text), ...]} of the whole tree."""
    found: Anchors = {}
    for path in sorted(path for pattern in SOURCES
                       for path in glob.glob(os.path.join(ROOT, pattern))):
        lines = read(path).split("\n")
        for i, line in enumerate(lines):
            match = ANCHOR.match(line)
            if match:
                where = os.path.relpath(path, ROOT)
                found.setdefault(match[1], []).append((where, excerpt_at(lines, i)))
    return found


def excerpt(name: str, known: Anchors) -> str:
    places = known.get(name)
    if not places:
        raise Wrong(f"no anchor [{name}] in the sources")
    if not places[0][1]:
        raise Wrong(f"anchor [{name}] in {places[0][0]} names nothing")
    for where, text in places[1:]:
        if text != places[0][1]:
            raise Wrong(f"anchor [{name}] names different code in {places[0][0]} and {where}")
    return places[0][1]


def stage_diff(words: list[str]) -> str:
    done = subprocess.run([os.path.join(ROOT, "tests", "diff.sh"), *words], text=True,
                          capture_output=True)
    if done.returncode != 0 or not done.stdout:
        raise Wrong(f"tests/diff.sh {' '.join(words)} printed nothing")
    # The dates and times of the files are nobody's lesson.
    lines = [re.sub(r"^((?:---|\+\+\+) \S+).*", r"\1", line)
             for line in done.stdout.rstrip("\n").split("\n")]
    return "\n".join(line for line in lines if not line.startswith("diff "))


# ---- Blocks of a document --------------------------------------------------------------------

class Block:
    """A fenced block and the directives just above it; for a table or a list, its lines."""

    def __init__(self, language: str, start: int, directives: list[tuple[str, str]],
                 fenced: bool) -> None:
        self.language, self.start, self.directives = language, start, directives
        self.lines: list[str] = []
        for name, _ in directives:
            if KNOWN[name] != fenced:
                raise Wrong(f"line {start + 1}: '{name}' stands above the wrong kind of block")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def blocks(text: str) -> list[Block]:
    """Fenced blocks, and whatever stands below a directive."""
    found: list[Block] = []
    directives: list[tuple[str, str]] = []
    fence: str | None = None
    plain: Block | None = None
    for number, line in enumerate(text.split("\n")):
        if fence:
            if line.strip() == "```":
                fence = None
            else:
                found[-1].lines.append(line)
        elif line.startswith("```"):
            fence, plain = line, None
            found.append(Block(line[3:].strip(), number, directives, True))
            directives = []
        elif line.startswith("<!--"):
            match = DIRECTIVE.match(line)
            if not match or match[1] not in KNOWN:
                raise Wrong(f"line {number + 1}: no directive: {line}")
            directives, plain = directives + [(match[1], match[2])], None
        elif not line.strip():
            plain = None
        elif directives and plain is None:
            plain = Block("", number - 1, directives, False)
            plain.lines.append(line)
            found.append(plain)
            directives = []
        elif plain:
            plain.lines.append(line)
    if fence:
        raise Wrong(f"line {found[-1].start + 1}: the block has no end")
    if directives:
        raise Wrong(f"below '{directives[0][0]} {directives[0][1]}' stands nothing")
    return found


# ---- What is pulled --------------------------------------------------------------------------

def pulled(block: Block, known: Anchors, run: dict[str, Any]) -> str | None:
    """What the block must contain, or None if it is the author's own."""
    for name, rest in block.directives:
        if name == "excerpt":
            return excerpt(rest, known)
        if name == "diff":
            return stage_diff(rest.split())
        if name == "table":
            if not all(line.startswith("|") for line in block.lines):
                raise Wrong("below it stands no table")
            return saved.table(run, rest)
    return None


def update(text: str, known: Anchors, run: dict[str, Any]) -> str:
    """The document with everything pulled anew."""
    lines = text.split("\n")
    for block in reversed(blocks(text)):
        try:
            new = pulled(block, known, run)
        except (Wrong, saved.Unknown) as error:
            raise Wrong(f"line {block.start + 1}: {error}") from None
        if new is not None:
            first = block.start + 1
            lines[first:first + len(block.lines)] = new.split("\n")

    def measured(match: re.Match[str]) -> str:
        try:
            return f'[{saved.say(run, match[3], match[1])}]({match[2]} "{match[3]}")'
        except saved.Unknown as error:
            raise Wrong(f"{match[0]}: {error}") from None
    for match in MEASURED_BROKEN.finditer(text):
        raise Wrong(f"{match[0]!r}: a measured number and its selector stand on one line")
    return MEASURED.sub(measured, "\n".join(lines))
