#!/usr/bin/env python3
"""predict.py - ask what the chapters ask, measure it on this machine, score the answers.

Usage: predict.py [--chapter 1,http] [--build DIR] [--saved]
A question is an item of the list below the lines <!-- ask SELECTOR --> of a chapter, one such line
for each item; saved.py tells what a selector is. Only the experiments that hold an answered
question's number are run, and only the servers they are about. Their report goes to DIR/predict.
Ends with 0 however wrong the answers are; 1 if something could not be measured. Does not: judge.
"""
import sys

sys.dont_write_bytecode = True  # no files next to the sources

import argparse  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import textwrap  # noqa: E402
import time  # noqa: E402
import typing  # noqa: E402
from typing import Any, IO  # noqa: E402

import book  # noqa: E402
import saved  # noqa: E402

BENCH = os.path.join(book.ROOT, "bench")
POINTS = ((1.25, 3), (2, 2), (10, 1))  # within this factor: so many
SCALE = ("Points: 3 within a factor of 1.25 of what was measured, 2 within 2, 1 within 10. "
         "Zero must be met exactly.")
NUMBER = re.compile(r"((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+) *([kKM]?)(?: *([a-zA-Zµ%]+))?")
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "µs": "microseconds",
         "ns": "nanoseconds", "B": "bytes", "%": "percent"}
HEADLINE = (("pipelined", "pipelined"), ("short", "short"), ("idle_bytes", "cost"))
END_SECONDS = 20  # that a benchmark may take to end its servers


# ---- Questions -------------------------------------------------------------------------------

class Question(typing.NamedTuple):
    """One item of a chapter's list, and where its number is."""
    number: int
    text: str
    selector: str
    title: str   # of the chapter
    path: str


def without_marks(text: str) -> str:
    """Markdown as plain text."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"`([^`]*)`", text)  # what stands in code is no mark
    parts[::2] = [re.sub(r"(\*\*?)(?=\S)(.+?)(?<=\S)\1", r"\2", part) for part in parts[::2]]
    return " ".join("".join(parts).split())


def items_of(block: book.Block) -> list[tuple[int, str]]:
    """[(number, text)] of a numbered list."""
    items = []
    for line in block.lines:
        match = re.match(r"(\d+)\. +(.*)", line)
        if match:
            items.append((int(match[1]), [match[2]]))
        elif items:
            items[-1][1].append(line)
        else:
            raise book.Wrong(f"line {block.start + 2}: below ask stands no numbered list")
    return [(number, without_marks(" ".join(lines))) for number, lines in items]


def number_of(run: dict[str, Any], selector: str) -> float:
    """What a selector names, which must be a number."""
    found = saved.value(run, selector)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise saved.Unknown(f"'{selector}' is no number but {found!r}")
    return found


def questions(path: str, run: dict[str, Any]) -> list[Question]:
    """A document's questions; book.Wrong or saved.Unknown if one could not be answered."""
    text = book.read(path)
    title = re.search(r"^# (.*)$", text, re.M)
    found = []
    for block in book.blocks(text):
        selectors = [rest for name, rest in block.directives if name == "ask"]
        items = items_of(block) if selectors else []
        if len(items) != len(selectors):
            raise book.Wrong(f"line {block.start + 1}: {len(selectors)} lines ask, and the list "
                             f"below them has {len(items)} items")
        for selector, (number, item) in zip(selectors, items):
            number_of(run, selector)
            found.append(Question(number, item, selector,
                                  without_marks(title[1]) if title else path, path))
    return found


def chosen(words: str) -> list[str]:
    """Paths of the chapters with these numbers or names; all if there are no words."""
    def fits(path: str, word: str) -> bool:
        stem = os.path.basename(path).removesuffix(".md")
        return word in (stem, stem.partition("-")[0], stem.partition("-")[2])
    wanted = [os.path.basename(word).removesuffix(".md")
              for word in words.replace(",", " ").split()]
    paths = book.chapters()
    for word in wanted:
        if not any(fits(path, word) for path in paths):
            raise LookupError(f"there is no chapter '{word}'")
    return [path for path in paths if not wanted or any(fits(path, word) for word in wanted)]


# ---- Asking ----------------------------------------------------------------------------------

def number_in(line: str, text: str) -> float | None:
    """The number that was typed, in the unit that `text` asks for; None if that cannot be said."""
    match = NUMBER.fullmatch(line)
    if not match:
        return None
    digits, factor, unit = match.groups()
    words = re.findall(r"[^\W\d]+|%", text)
    if unit and not {unit, f"{unit}s", UNITS.get(unit, unit)} & set(words):
        return None
    return float(digits.replace(",", "")) * {"k": 1e3, "K": 1e3, "M": 1e6}.get(factor, 1)


def answer_to(question: Question, stream: IO[str]) -> float | str:
    """A number, "" or "q"; asks until there is one. What no terminal has shown is shown."""
    while True:
        print("  > ", end="", flush=True)
        line = stream.readline()
        if not stream.isatty():
            print(line.rstrip("\n"))
        answer = line.strip() if line else "q"
        if answer in ("", "q"):
            return answer
        number = number_in(answer, question.text)
        if number is not None:
            return number
        print("    A number, please, in the unit that is asked for.")


def ask(asked: list[Question], stream: IO[str]) -> list[tuple[Question, float]]:
    """[(question, number)] of those that were answered."""
    answers: list[tuple[Question, float]] = []
    title = None
    for question in asked:
        if question.title != title:
            title = question.title
            print(f"\n{title} ({os.path.relpath(question.path, book.ROOT)})")
        print("\n" + textwrap.fill(question.text, 78, initial_indent=f"{question.number:2}. ",
                                   subsequent_indent="    "))
        answer = answer_to(question, stream)
        if answer == "q":
            break
        if not isinstance(answer, str):
            answers.append((question, answer))
    return answers


# ---- Measuring -------------------------------------------------------------------------------

def rows_named(selector: str) -> list[list[str]]:
    """[experiment, candidate or KEY=VALUE..., field] of each row that a selector names."""
    return [part.split() for part in selector.split(" / ") if " " in part]


def experiments_of(selector: str) -> list[str]:
    """Names of the experiments that measure it."""
    found = []
    for name, *_, field in rows_named(selector):
        if name != "headline":
            found.append(name)
        else:  # made of four experiments, of which keep-alive tells who takes part
            found += ["keep-alive"] + [one for start, one in HEADLINE if field.startswith(start)]
    return list(dict.fromkeys(found))


def programs_of(selectors: list[str]) -> list[str]:
    """The servers to measure; none if all are needed."""
    sys.path.insert(0, BENCH)
    from lib import candidates
    program = {key: program for key, _, program, *_ in candidates.STAGES}
    program.update({peer: peer for peer in ("floor", "nginx", "evhttp")})
    found = {next((program[word] for word in words if word in program), "")
             for selector in selectors for words in rows_named(selector)}
    return [] if "" in found else sorted(found)


def watch(child: subprocess.Popen[bytes], log: str) -> int:
    """Until the benchmark is over, its exit status. On a terminal a line tells what it does."""
    began = time.monotonic()
    while True:
        try:
            return child.wait(0.5)
        except subprocess.TimeoutExpired:
            if sys.stdout.isatty():
                parts = re.findall(r"^ *\d+ s +(\d+/\d+ \S+)$", book.read(log), re.M)
                print(f"\r\033[K{time.monotonic() - began:4.0f} s  {' '.join(parts[-1:])}",
                      end="", flush=True)


def measure(names: list[str], programs: list[str], build: str) -> dict[str, Any]:
    """Run the benchmark; what it wrote, or {}."""
    folder = os.path.join(build, "predict")
    log, results = (os.path.join(folder, name) for name in ("log", "results.json"))
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(results):
        os.unlink(results)
    command = ["setpriv", "--pdeathsig", "TERM", sys.executable, os.path.join(BENCH, "run.py"),
               "--build", build, "--report", folder, "--only", *names,
               *(["--stages", *programs] if programs else [])]
    with open(log, "wb") as file:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file,
                                 stderr=subprocess.STDOUT, start_new_session=True)
    try:
        status = watch(child, log)
    finally:
        if child.poll() is None:
            child.terminate()  # it ends its servers
            child.wait(END_SECONDS)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
    if status != 0:
        last = book.read(log).rstrip().rpartition("\n")[2]
        print(f"The benchmark ended with status {status}; see {os.path.relpath(log)}. At last:\n"
              + textwrap.fill(last, 78, initial_indent="  ", subsequent_indent="  "))
    return saved.load(results) if os.path.exists(results) else {}


def measured(run: dict[str, Any], selector: str) -> tuple[float | None, str | None]:
    """(number, None), or (None, why there is none)."""
    for name in experiments_of(selector):
        result = run.get("experiments", {}).get(name)
        if not result:
            return None, f"{name} has no result"
        if result["skipped"] or not result["ok"]:
            return None, f"{name}: {result['skipped'] or '; '.join(result['problems'])}"
    try:
        return number_of(run, selector), None
    except saved.Unknown as error:
        return None, str(error)


# ---- Scoring ---------------------------------------------------------------------------------

def judge(answer: float, number: float) -> tuple[str, int]:
    """(by which factor it is off, in words; points)."""
    if answer == number:
        return "exact", POINTS[0][1]
    if answer <= 0 or number <= 0:
        return "-", 0
    factor = max(answer / number, number / answer)
    points = next((points for limit, points in POINTS if factor <= limit + 1e-9), 0)
    return f"{figure(factor)} times", points


def figure(number: float) -> str:
    if abs(number) >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3g}"


def why(path: str, numbers: list[int]) -> str:
    """Where it is explained."""
    where = os.path.relpath(path, book.ROOT)
    section = ', section "Why"' if re.search(r"^## Why$", book.read(path), re.M) else ""
    plural = "s" if len(numbers) > 1 else ""
    return f"Why: question{plural} {', '.join(map(str, numbers))}: {where}{section}."


def row(*cells: object) -> None:
    print("{:>8} {:>13} {:>14} {:>12} {:>14} {:>7}".format(*cells))


def score(answers: list[tuple[Question, float]], run: dict[str, Any],
          here: dict[str, Any] | None) -> int:
    """Print the table; how many answers could not be scored. here: this machine's run, or None:
    the saved one counts."""
    title, points, failed = None, [], []
    reading: dict[str, list[int]] = {}
    for question, answer in answers:
        if question.title != title:
            title = question.title
            print(f"\n{title}")
            row("question", "your answer", "measured here", "saved run", "off by", "points")
        old = number_of(run, question.selector)
        number, problem = (old, None) if here is None else measured(here, question.selector)
        if number is None:
            row(question.number, figure(answer), "-", figure(old), "-", "-")
            failed.append(f"Question {question.number} of \"{title}\" was not measured: {problem}")
            continue
        off, got = judge(answer, number)
        row(question.number, figure(answer), figure(number) if here else "-", figure(old), off, got)
        points.append(got)
        if got < POINTS[0][1]:
            reading.setdefault(question.path, []).append(question.number)
    print(f"\n{sum(points)} of {len(points) * POINTS[0][1]} points.\n" + textwrap.fill(SCALE, 78))
    for line in [why(*one) for one in reading.items()] + failed:
        print(textwrap.fill(line, 78, subsequent_indent="  "))
    return len(failed)


# ---- All of it -------------------------------------------------------------------------------

def predict(asked: list[Question], run: dict[str, Any], options: argparse.Namespace) -> int:
    print("Answer with a number. An empty line leaves a question out; q ends the asking.")
    answers = ask(asked, sys.stdin)
    if not answers:
        print("\nNo answers, so nothing to measure.")
        return 0
    here = None
    if options.saved:
        print("\nScored against the saved run. Nothing was measured on this machine.")
    else:
        selectors = [question.selector for question, _ in answers]
        names = list(dict.fromkeys(name for one in selectors for name in experiments_of(one)))
        seconds = sum(run["experiments"][name]["seconds"] for name in names)
        print("\n" + textwrap.fill(f"Measuring {', '.join(names)}: {seconds:.0f} s at most, if "
                                   "this machine is like that of the saved run.", 78), flush=True)
        here = measure(names, programs_of(selectors), options.build)
    return 1 if score(answers, run, here) else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Ask what the chapters ask, measure, score.")
    parser.add_argument("--chapter", default="", metavar="LIST",
                        help="numbers or names: 1,http (all)")
    parser.add_argument("--build", default=os.path.join(book.ROOT, "build"), metavar="DIR",
                        help="where the servers are (build)")
    parser.add_argument("--saved", action="store_true",
                        help="score against the saved run, and measure nothing")
    options = parser.parse_args(argv)
    try:
        paths = chosen(options.chapter)
    except LookupError as error:
        parser.error(str(error))
    run = saved.load(saved.SAVED_RUN)
    asked = []
    for path in paths:
        try:
            asked += questions(path, run)
        except (book.Wrong, saved.Unknown) as error:
            print(f"predict.py: {os.path.relpath(path, book.ROOT)}: {error}", file=sys.stderr)
            return 1
    if not asked:
        parser.error("these chapters ask nothing")
    try:
        return predict(asked, run, options)
    except KeyboardInterrupt:
        print("\nstopped; all that was started is ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
