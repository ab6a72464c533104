"""results.py - the types of what goes from measuring to judging, to wording, and to results.json.

Does not: do anything. run.py describes the file; what is named here stands in it as it is.
"""
from typing import Any, TypedDict

# One line of an experiment: {candidate, label, ...}. Its other keys are the experiment's own;
# units are in their names, and None is what was not measured.
Row = dict[str, Any]
Figure = dict[str, Any]  # {panels: [...]}: what pictures.py draws


class Check(TypedDict):
    """What was predicted against what was found; see report/checks.py."""
    what: str
    measured: float | None
    predicted: float | None  # None, low and high too: from what was not measured either
    low: float | None
    high: float | None
    tolerance: str     # in words, "±20 %"
    state: str         # checks.HOLDS, checks.OFF, checks.NOT_MEASURED
    why: str | None    # it was not measured


class Prediction(TypedDict):
    text: str
    value: dict[str, Any]  # its numbers by name


class Verdict(TypedDict):
    """What all checks of an experiment come to."""
    checks: list[Check]
    agrees: bool | None        # None: one was not measured, or there is none
    tolerance: str
    not_measured: str | None


class FaultHead(TypedDict):
    """A column of the failure matrix."""
    key: str
    head: str
    what: str


class Findings(Verdict):
    """What an experiment gives."""
    prediction: Prediction
    rows: list[Row]
    finding: str
    figure: Figure | None


class Matrix(Findings):
    """What the failure matrix gives. Its rows have cells: {fault: Row}."""
    faults: list[FaultHead]


class Gateway(Findings):
    """What proxy-matrix gives. Its rows have cells: {case: Row}."""
    cases: list[Row]


class Heads(TypedDict, total=False):
    faults: list[FaultHead]  # of the failure matrix alone
    cases: list[Row]         # of proxy-matrix alone


class Result(Heads):
    """The same as an entry of results.json, whatever became of it."""
    name: str
    title: str
    question: str
    command: str
    prediction: Prediction | None
    rows: list[Row]
    finding: str | None
    agrees: bool | None
    checks: list[Check]
    tolerance: str | None
    not_measured: str | None
    skipped: str | None
    figure: Figure | None
    problems: list[str]
    notes: list[str]
    ok: bool
    seconds: float
    kernel_counters: dict[str, int]


class Look(TypedDict):
    """The machine with nothing of ours at work, and then the floor."""
    idle_share: float
    steal_share: float
    run_queue: int | None
    pressure_share: float | None
    floor_us: list[float]


class Noise(TypedDict):
    """How quiet the machine was."""
    quiet: bool
    why: list[str]
    idle_share: float
    steal_share: float
    run_queue: int
    floor_us_min: float | None
    floor_us_max: float | None
    floor_spread: float | None
    before: Look
    after: Look


class Results(TypedDict):
    """The whole file."""
    format: int
    form: str
    ok: bool
    seconds: float
    main_clients: int
    depth: int
    deadline_seconds: float
    headline: list[Row]
    models: list[Row]
    noise: Noise
    instructions: list[Row] | None
    experiments: dict[str, Result]
