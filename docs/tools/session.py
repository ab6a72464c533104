"""session.py - run the commands of one chapter, and compare what comes out with what it shows.

A block of the language `console` is a session, in as many terminals as there are prompts:

  server$ build/stage1_blocking         a prompt is a word and "$"; the word names the terminal
  stage1_blocking: listening on ...     what must come out; "..." stands for any text, and on a
  client$ curl -m 1 localhost:8080/     line of its own for any lines
  client2$                              without a command: look at that terminal again
  server$ ^C                            Ctrl-C, or ^D: end of input
  hello world!client$                   the last line of what comes out has no newline, and the
                                        next prompt stands behind it; else either will do

A command may go on in lines that begin with "> ", as in a shell.

The next command waits until this one is over, unless its terminal is looked at, or ^C typed
into it, later on. The ports 8080 to 8089 stand for free ones. Process numbers and dates always
vary. Above a block:
  <!-- check: vary -->            all numbers vary; then conditions may follow, on the list n of
                                  them:  <!-- check: vary; n[0] > 10 * n[1] -->
  <!-- check: status 28 -->       the last command must end so, not with 0
  <!-- check: seconds 60 -->      it may take so long
  <!-- not run: WHY -->           it is for reading only
A block of the language `sh` is a script that must end with status 0.
"""
import os
import random
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import terminal
from book import ROOT, Block, Wrong

PROMPT = re.compile(r"^([a-z][a-z0-9]*|)\$(?: (.*))?$")
PORT = re.compile(r"\b808[0-9]\b")
NUMBER = r"\d+(?:,\d{3}(?!\d))*(?:\.\d+)?(?:(?:us|µs|ms|s|[kKM]|KB|MB|GB)\b)?"
SPACE = r"[^\S\n]+"
UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6,
         "KB": 1e3, "MB": 1e6, "GB": 1e9}
ALWAYS_VARY = [
    (re.compile(r'(\bpid[ =:"]*)\d+'), r"\1PID"),
    (re.compile(r"(stage\d_\w+)\[\d+\]"), r"\1[PID]"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "DATE"),
]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
KEYS = {"^C": b"\x03", "^D": b"\x04"}
DEADLINE_S = 30
END_S = 2  # that a process may take to end after what ended it


# ---- What is expected ------------------------------------------------------------------------

def plain(text: str) -> str:
    """Text without what always varies, colours, and spaces at the ends of lines."""
    text = COLOURS.sub("", text)
    for pattern, instead in ALWAYS_VARY:
        text = pattern.sub(instead, text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def pattern_of_line(line: str, vary: bool) -> str:
    """A regular expression for one line; its groups are the numbers that vary."""
    parts = re.split(rf"(\.\.\.|{NUMBER})" if vary else r"(\.\.\.)", line.lstrip())
    out = r"[^\S\n]*" if line[:1].isspace() else ""  # a column may be as wide as its numbers
    for i, part in enumerate(parts):
        if i % 2 == 0:
            out += SPACE.join(re.escape(word) for word in re.split(r"\s+", part))
        elif part == "...":
            out += ".*?"
        else:
            out += rf"({NUMBER})"
    return out


def pattern_of(lines: list[str], vary: bool) -> str:
    """A regular expression for the output; a line "..." is any number of lines."""
    out, text = "", plain("\n".join(lines))
    for line in text.split("\n") if text else []:
        out += r"(?:.*\n)*?" if line.strip() == "..." else pattern_of_line(line, vary) + r"\n"
    return out


def number(text: str) -> float:
    digits = text.rstrip("".join(UNITS))
    unit = text[len(digits):]
    return float(digits.replace(",", "")) * UNITS.get(unit, 1)


@dataclass
class Rules:
    """What the directives above a block say of its commands."""
    vary: bool = False   # all numbers
    conditions: list[str] = field(default_factory=list)
    status: int = 0      # of the last command
    seconds: int = DEADLINE_S
    skip: bool = False


class Step:
    """One prompt with its command and what must come out."""

    def __init__(self, name: str, command: str, line: int, rules: Rules) -> None:
        self.terminal, self.command, self.line, self.rules = name, command, line, rules
        self.expected: list[str] = []
        self.open_line = False  # what comes out ends without a newline
        self.runs_on = False  # its terminal is looked at again before its next command
        self.last = False     # of its block: what the block says of a status holds for it

    def pattern(self) -> str:
        return pattern_of(self.expected, self.rules.vary)


def rules_of(block: Block) -> Rules:
    rules = Rules()
    for name, rest in block.directives:
        if name == "not":
            rules.skip = True
        if name != "check":
            continue
        for word in (part.strip() for part in rest.split(";")):
            key, _, argument = word.partition(" ")
            if word == "vary":
                rules.vary = True
            elif key in ("status", "seconds") and argument.isdigit():
                setattr(rules, key, int(argument))
            else:
                rules.conditions.append(word)
    return rules


def steps_of(block: Block) -> list[Step]:
    """The steps of a console block."""
    rules, steps = rules_of(block), []
    for i, line in enumerate(block.lines):
        match = PROMPT.match(line)
        if match:
            steps.append(Step(match[1], (match[2] or "").strip(), block.start + 2 + i, rules))
        elif steps and line.startswith("> ") and not steps[-1].expected:
            steps[-1].command += "\n" + line[2:]
        elif steps:
            steps[-1].expected.append(line)
        elif line.strip():
            raise Wrong(f"line {block.start + 2 + i}: a console block begins with a prompt")
    if not steps:
        raise Wrong(f"line {block.start + 1}: a console block without a prompt")
    for step in steps:
        prompt = step.terminal + "$"
        if step.expected and step.expected[-1].endswith(prompt):
            step.expected[-1] = step.expected[-1][:-len(prompt)]
            step.open_line = True
    steps[-1].last = True
    return steps


def is_look(step: Step) -> bool:
    return step.command == "" or step.command in KEYS


def find_those_that_run_on(steps: list[Step]) -> None:
    later: dict[str, Step] = {}
    for step in reversed(steps):
        step.runs_on = step.terminal in later and is_look(later[step.terminal])
        later[step.terminal] = step


# ---- A chapter -------------------------------------------------------------------------------

class Ports:
    """Free ports for those that a chapter names, below those that clients get."""

    def __init__(self) -> None:
        self.free: dict[str, str] = {}
        self.named: dict[str, str] = {}

    def of(self, name: str) -> str:
        while name not in self.free:
            port = random.randrange(20000, 30000)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if str(port) not in self.named:
                self.free[name], self.named[str(port)] = str(port), name
        return self.free[name]

    def to_free(self, text: str) -> str:
        return PORT.sub(lambda match: self.of(match[0]), text)

    def to_named(self, text: str) -> str:
        return re.sub(r"\d+", lambda match: self.named.get(match[0], match[0]), text)


class Chapter:
    """The terminals of one document while its commands run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.count, self.skipped = say, 0, 0
        self.folder = tempfile.mkdtemp(prefix="docs.")
        keep = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TIME_SCALE",
                "TEST_RUN")
        self.mark = f"XDG_RUNTIME_DIR={self.folder}"
        self.environment = {key: os.environ[key] for key in keep if key in os.environ}
        self.environment.update(LC_ALL="C.UTF-8", TERM="xterm", XDG_RUNTIME_DIR=self.folder)
        # As an unprivileged user's PATH on Debian lacks ss(8) and nstat(8).
        self.environment["PATH"] += ":/usr/sbin:/sbin"
        self.ports = Ports()
        self.terminals: dict[str, terminal.Terminal] = {}
        self.numbers: list[float] = []
        # By terminal: the pattern of all that its command is shown to print.
        self.shown: dict[str, str] = {}

    def run(self, blocks: list[Block]) -> None:
        """All sessions and scripts; raises Wrong at the first that is not as shown."""
        sessions = []
        for block in blocks:
            if block.language == "console" or block.language == "sh":
                if rules_of(block).skip:
                    self.skipped += 1
                else:
                    sessions.append(steps_of(block) if block.language == "console"
                                    else [self.script(block)])
        find_those_that_run_on([step for steps in sessions for step in steps])
        for steps in sessions:
            self.numbers = []
            for step in steps:
                self.run_step(step)
                self.count += 1
            self.hold(steps[-1])
        self.nothing_left()

    @staticmethod
    def script(block: Block) -> Step:
        step = Step("sh", "set -e\n" + block.text, block.start + 2, rules_of(block))
        step.expected, step.last = ["..."], True
        return step

    def run_step(self, step: Step) -> None:
        term = self.terminals.setdefault(
            step.terminal, terminal.Terminal(self.environment, ROOT))
        self.say(f"line {step.line}: {step.terminal}$ {step.command}")
        if step.command in KEYS:
            if term.pid is None:
                raise Wrong(self.tell(step, term, "had ended before"))
            term.type(KEYS[step.command])
        elif step.command:
            if term.pid is not None:
                raise Wrong(self.tell(step, term, "cannot be typed: another command runs there"))
            term.start(self.ports.to_free(step.command))
            self.shown[step.terminal] = ""
        elif step.terminal not in self.shown:
            raise Wrong(self.tell(step, term, "shows nothing: no command was typed there"))
        before = self.shown[step.terminal]
        self.shown[step.terminal] = before + step.pattern()
        match = (self.goes_on if step.runs_on else self.ends)(step, term)
        self.numbers += [number(group) for group in match.groups()[re.compile(before).groups:]]

    def compare(self, step: Step, term: terminal.Terminal, whole: bool) -> re.Match[str] | None:
        """The match of what came out since the command was typed, or of its beginning."""
        text = plain(self.ports.to_named(term.output))
        text = text + "\n" if text else ""
        pattern = re.compile(self.shown[step.terminal])
        return pattern.fullmatch(text) if whole else pattern.match(text)

    def goes_on(self, step: Step, term: terminal.Terminal) -> re.Match[str]:
        """What is shown has come out, and the command waits."""
        came = term.until(lambda: self.compare(step, term, False), step.rules.seconds)
        match = self.compare(step, term, False) if came else None
        if not match:
            raise Wrong(self.tell(step, term, "printed something else, or ended"
                                  if term.pid is None else "did not print what is shown"))
        return match

    def ends(self, step: Step, term: terminal.Terminal) -> re.Match[str]:
        """The command is over, and what is shown is all that came out."""
        if not term.wait(step.rules.seconds):
            raise Wrong(self.tell(step, term, f"is not over after {step.rules.seconds} s"))
        match = self.compare(step, term, True)
        if not match:
            raise Wrong(self.tell(step, term, "printed something else"))
        if step.open_line and term.output.endswith("\n"):
            raise Wrong(self.tell(step, term, "ends in a newline, so no prompt stands behind it"))
        status = step.rules.status if step.last else 0
        if term.status != status and step.command not in KEYS:
            raise Wrong(self.tell(step, term, f"ended with status {term.status}"))
        return match

    def hold(self, step: Step) -> None:
        for condition in step.rules.conditions:
            try:
                holds = eval(condition, {"__builtins__": {}}, {"n": self.numbers})
            except Exception as error:  # whatever python says of what the document says
                raise Wrong(f"line {step.line}: condition '{condition}': {error}; "
                            f"n = {self.numbers}") from None
            if not holds:
                raise Wrong(f"line {step.line}: '{condition}' does not hold; n = {self.numbers}")

    def tell(self, step: Step, term: terminal.Terminal, what: str) -> str:
        output = plain(self.ports.to_named(term.output))
        return (f"line {step.line}: {step.terminal}$ {step.command}\n  {what}.\n"
                "--- shown\n" + plain("\n".join(step.expected)) + "\n--- came out\n" + output)

    def nothing_left(self) -> None:
        for name, term in self.terminals.items():
            if term.pid is not None:
                raise Wrong(f"the chapter leaves a command running in terminal {name}")
        left = self.left_after(END_S)
        if left:
            raise Wrong(f"the chapter leaves {len(left)} processes behind")

    def left_after(self, seconds: float) -> list[int]:
        """Processes of the chapter that are still there then."""
        end = time.monotonic() + seconds * terminal.SCALE
        while (left := terminal.marked_pids(self.mark)) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def end(self) -> None:
        """End what is left, which is nothing if all went well."""
        for term in self.terminals.values():
            term.kill()
        for pid in terminal.marked_pids(self.mark):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.left_after(10)  # a killed process ends when the kernel finds time for it
        shutil.rmtree(self.folder, ignore_errors=True)
