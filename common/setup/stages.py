"""stages.py - the stages and their modes, as stageN_name/facts tells; for all of the suite's Python.

Does not: start any.
"""
import glob
import os
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Mode:
    """One way to run one stage."""
    stage: str                # the program: "stage3_select"
    name: str                 # "poll"; "" if the stage has one mode only
    options: tuple[str, ...]  # of this mode; () for the stage's usual one
    model: str                # how it serves: docs/architecture.md, "A stage's facts"
    workers: int              # processes that serve, in tests (option -w); 0: it has no -w

    @property
    def number(self) -> str:
        return self.stage.removeprefix("stage").partition("_")[0]

    @property
    def key(self) -> str:
        """ "stage3-poll"; of a mode without options, "stage4"."""
        return f"stage{self.number}" + (f"-{self.name}" if self.options else "")

    @property
    def label(self) -> str:
        """ "3 poll"; of a mode without options the first word of its program, "4 epoll"."""
        return f"{self.number} {self.name if self.options else self.stage.split('_')[1]}"


def facts(path: str) -> list[tuple[str, str]]:
    """The lines of a file of facts: [(key, value), ...]."""
    with open(path, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return [(key, value) for key, _, value in (line.partition(": ") for line in lines)]


def modes() -> list[Mode]:
    """All modes of all stages, the first stage first."""
    found = []
    for path in sorted(glob.glob(os.path.join(ROOT, "stage*", "facts"))):
        pairs = facts(path)
        one = dict(pairs)
        named = [value.split() for key, value in pairs if key == "mode"] or [[""]]
        found += [Mode(os.path.basename(os.path.dirname(path)), name, tuple(options),
                       one["model"], int(one.get("workers", 0))) for name, *options in named]
    return found
