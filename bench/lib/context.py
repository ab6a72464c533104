"""context.py - what all experiments share: the form of the run, servers, checks, problems.

Does not: know what is measured.
"""
import contextlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, TypedDict

from lib import candidates, measure, processes
from lib.candidates import Candidate
from results import Result, Row

class Form(TypedDict):
    """How much is measured; see FORMS."""
    seconds: float
    rounds: int
    other_rounds: int
    clients: list[int]
    main_clients: int
    contestants: list[str] | None
    cost: list[str] | None
    matrix_rows: list[str] | None
    proxy_cases: list[str] | None
    waiting_clients: int
    upstream_ms: int
    upstream_rounds: int
    many_waiting: int
    patience_seconds: float
    among_seconds: float
    silent: list[int]
    herd: list[int]
    herd_loop: list[int]
    herd_seconds: float
    cliff: int
    cliff_seconds: float
    workers: list[int]
    handler_seconds: float
    balance: int
    traced: tuple[int, int]
    readers: int
    kills: int
    grown_up_seconds: float
    idle: int
    probe_seconds: float
    deadline_seconds: float
    reloads: int
    reload_seconds: float
    reload_sample_ms: int


# The three forms of a run. seconds: of one measured load; rounds: how often candidates take
# turns at `main_clients`; other_rounds: at the other numbers of clients; contestants, cost and
# matrix_rows: the stages that take part (None: all); proxy_cases: of proxy-matrix, likewise.
# reload_seconds: between two reloads. waiting_clients ask an upstream that takes upstream_ms,
# upstream_rounds times each; many_waiting ask it at once; patience_seconds: of generator-timeout;
# among_seconds: of each load of slow-among-fast.
FORMS: dict[str, Form] = {
    "smoke": {
        "seconds": 0.1, "rounds": 1, "other_rounds": 1, "clients": [16], "main_clients": 16,
        "contestants": ["stage1", "stage4", "stage6", "stage7"],
        "silent": [0, 1], "herd": [0, 100], "herd_loop": [200], "herd_seconds": 0.1,
        "cliff": 1100, "cliff_seconds": 0.1, "workers": [1, 2], "handler_seconds": 0.2,
        "balance": 40, "traced": (10, 60), "cost": ["stage1", "stage4", "stage7"], "readers": 6,
        "kills": 2, "grown_up_seconds": 0, "idle": 300, "probe_seconds": 0.05,
        "deadline_seconds": 0.12, "matrix_rows": ["stage4", "stage5"],
        "reloads": 1, "reload_seconds": 0.1, "reload_sample_ms": 20,
        "proxy_cases": ["length", "close-idle", "close-idle-post", "short", "chunk-last",
                        "chunk-cut-old", "never", "refused"],
        "waiting_clients": 40, "upstream_ms": 200, "upstream_rounds": 2,
        "many_waiting": 300, "patience_seconds": 2.3, "among_seconds": 0.5,
    },
    "short": {
        "seconds": 0.5, "rounds": 3, "other_rounds": 1, "clients": [1, 8, 64, 512],
        "main_clients": 64, "contestants": None, "cost": None, "grown_up_seconds": 1.1,
        "silent": [0, 1, 2, 4, 8], "herd": [0, 100, 300, 1000],
        "herd_loop": [10000], "herd_seconds": 0.25, "cliff": 1500, "cliff_seconds": 0.3,
        "workers": [1, 2, 4, 8], "handler_seconds": 1.0, "balance": 200,
        "traced": (100, 400), "readers": 16, "kills": 8,
        "idle": 10000, "probe_seconds": 0.3, "deadline_seconds": 0.4, "matrix_rows": None,
        "reloads": 4, "reload_seconds": 0.8, "reload_sample_ms": 100,
        "proxy_cases": None, "waiting_clients": 800, "upstream_ms": 2000, "upstream_rounds": 2,
        "many_waiting": 9900, "patience_seconds": 4.4, "among_seconds": 3.0,
    },
    "full": {
        "seconds": 1.5, "rounds": 7, "other_rounds": 2,
        "clients": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512], "main_clients": 64,
        "contestants": None, "cost": None, "grown_up_seconds": 1.1,
        "silent": [0, 1, 2, 4, 8, 16], "herd": [0, 30, 100, 200, 300, 500, 700, 1000],
        "herd_loop": [3000, 10000], "herd_seconds": 2.0, "cliff": 1500, "cliff_seconds": 3.0,
        "workers": [1, 2, 4, 8, 16, 32], "handler_seconds": 4.0, "balance": 1000,
        "traced": (200, 1200), "readers": 50, "kills": 40, "idle": 10000, "probe_seconds": 2.0,
        "deadline_seconds": 1.0, "matrix_rows": None,
        "reloads": 20, "reload_seconds": 3.0, "reload_sample_ms": 250,
        "proxy_cases": None, "waiting_clients": 800, "upstream_ms": 2000, "upstream_rounds": 5,
        "many_waiting": 9900, "patience_seconds": 8.6, "among_seconds": 20.0,
    },
}


PARTS_DEPTH = 4  # see Context.parts_us()


class Skip(Exception):
    """The experiment cannot be run here; the text says what is missing."""


class Context:
    """One run of the benchmark."""

    def __init__(self, form: str, build: str, stages: list[str] | None = None,
                 quiet: bool = False) -> None:
        self.form = form
        self.p = FORMS[form]
        self.build = build
        self.stages = stages          # names of programs to take part; None: all
        self.quiet = quiet
        self.all_cpus = sorted(os.sched_getaffinity(0))
        self.server_cpus, self.generator_cpus = processes.cpu_sets(self.all_cpus)
        self.problems: list[str] = []  # of the experiment at work; a bad run if there are any
        self.notes: list[str] = []  # worth a line in the report, but no failure
        self.results: dict[str, Result] = {}  # by experiment
        self.known_parts: dict[str, tuple[float, float]] = {}  # see parts_us()
        self.began = time.monotonic()
        self.title, self.part = "", ""  # of the experiment at work; "3/14"

    # ---- Progress ----

    def say(self, text: str) -> None:
        """One line that is overwritten on a terminal; nothing elsewhere."""
        if not self.quiet and sys.stderr.isatty():
            line = f"{time.monotonic() - self.began:4.0f} s  {self.part} {self.title}: {text}"
            print(f"\r\033[K{line[:79]}", end="", file=sys.stderr, flush=True)

    def clear_line(self) -> None:
        if not self.quiet and sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def begin(self, title: str) -> None:
        self.title = title
        self.problems, self.notes = [], []
        if not self.quiet and not sys.stderr.isatty():
            print(f"{time.monotonic() - self.began:4.0f} s  {self.part} {title}",
                  file=sys.stderr, flush=True)

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    # ---- Who takes part ----

    def wanted(self, candidate: Candidate) -> bool:
        return self.stages is None or candidate.program in self.stages

    def stage(self, key: str, workers: int = 1, **options: Any) -> Candidate:
        """options: those of candidates.stage()."""
        return candidates.stage(key, self.build, workers, **options)

    def some(self, *keys: str, workers: int = 1, **options: Any) -> list[Candidate]:
        """Those of the stages with these keys that take part; workers: of those that have them."""
        found = [self.stage(key, workers, **options) for key in keys]
        return [candidate for candidate in found if self.wanted(candidate)]

    def contestants(self, *keys: str) -> list[str]:
        """Those of the keys that this form lets take part, where one is like another."""
        return [key for key in keys if key in (self.p["contestants"] or keys)]

    def some_or_skip(self, *keys: str, **options: Any) -> list[Candidate]:
        found = self.some(*keys, **options)
        if not found:
            raise Skip("none of its stages was chosen")
        return found

    def peers(self, close: bool = False) -> list[Candidate]:
        """The floor always; others if they are there and wanted."""
        found = [candidates.floor(self.build, close)]
        if os.path.exists(os.path.join(self.build, "bench", "evhttp")):
            found.append(candidates.evhttp(self.build))
        else:
            self.notes.append("evhttp: skipped, build/bench/evhttp was not built")
        found += self.nginx()
        return [peer for peer in found if peer.key == "floor" or self.wanted(peer)]

    def nginx(self, workers: int = 1, **options: Any) -> list[Candidate]:
        """nginx, if it is there and wanted."""
        if not candidates.nginx_program():
            self.notes.append("nginx: skipped, it is not installed (package nginx)")
            return []
        return [one for one in [candidates.nginx(workers, **options)] if self.wanted(one)]

    def php(self) -> list[Candidate]:
        """The select server in PHP, if it is there and wanted."""
        if not candidates.php_program():
            self.notes.append("PHP select: skipped, php is not installed (package php-cli)")
            return []
        return [one for one in [candidates.php()] if self.wanted(one)]

    def need(self, tool: str, package: str) -> None:
        if not shutil.which(tool):
            raise Skip(f"{tool} is not installed (package {package})")

    def need_crowd(self) -> None:
        if not os.path.exists(self.crowd_program):
            raise Skip("build/bench/crowd was not built (package libevent-dev)")

    @property
    def crowd_program(self) -> str:
        return os.path.join(self.build, "bench", "crowd")

    # ---- Servers ----

    @contextlib.contextmanager
    def server(self, candidate: Candidate, cpus: list[int] | None = None,
               **options: Any) -> Iterator[processes.Server]:
        """A running server. If it does not end well that is a problem of the experiment."""
        server = processes.Server(candidate, cpus or self.server_cpus, **options)
        try:
            yield server
            try:
                server.stop()
            except processes.ServerError as error:
                self.problem(str(error))
        finally:
            server.discard()

    @contextlib.contextmanager
    def doomed(self, candidate: Candidate) -> Iterator[processes.Server]:
        """A server that the experiment is going to kill: its death is no problem of the run."""
        server = processes.Server(candidate, self.all_cpus)
        try:
            yield server
        finally:
            server.discard()

    @contextlib.contextmanager
    def servers(self, wanted: list[Candidate], **options: Any) -> Iterator[list[processes.Server]]:
        """All of them at the same time; those that are not under load just wait."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.server(candidate, **options)) for candidate in wanted]

    @contextlib.contextmanager
    def crowd(self, server: processes.Server, connections: int, behaviour: str,
              patience: float = 20.0, **options: Any) -> Iterator[measure.Crowd]:
        """Odd clients at work on a server; patience: 0 does not wait until they are there."""
        crowd = measure.Crowd(self.crowd_program, server.port, connections, behaviour,
                              self.generator_cpus, **options)
        try:
            if patience:
                crowd.wait(patience)
            yield crowd
        finally:
            processes.reap(crowd.process)

    def check(self, server: processes.Server, when: str) -> None:
        """A server that is fast and wrong has failed."""
        wrong = measure.complaint(server.port)
        if wrong:
            self.problem(f"{server.candidate.label}: {wrong} {when}")

    def load(self, server: processes.Server, clients: int, seconds: float | None = None,
             look: bool = True, **options: Any) -> Row:
        """Check, load, check: a row of measure.load_row(). look: count who is being served."""
        self.check(server, "before the load")
        before = measure.tree_usage(server.pid)
        load = measure.Load(server.port, clients, self.generator_cpus, **options)
        lasting = seconds or self.p["seconds"]
        sockets = None
        if look and not processes.ended(load.process, lasting * 2 / 3):
            sockets = measure.server_sockets(server.port)
        found = load.finish(lasting)
        usage = measure.usage_between(before, measure.tree_usage(server.pid))
        if not server.alive():
            raise processes.ServerError(
                f"{server.candidate.label} died under load: {server.last_words()}")
        self.check(server, "after the load")
        row = measure.load_row(found, usage, clients, sockets)
        row["candidate"], row["label"] = server.candidate.key, server.candidate.label
        return row

    def loaded(self, server: processes.Server, clients: int, **options: Any) -> Row:
        """load(), and failed answers are a problem: these models promise none."""
        row = self.load(server, clients, **options)
        if row["failed"]:
            self.problem(f"{row['label']}: {row['failed']} failed of "
                         f"{row['requests'] + row['failed']} requests at {clients} clients")
        if not row["requests"]:
            self.problem(f"{row['label']}: nobody was served at {clients} clients")
        return row

    # ---- Numbers of this machine that predictions start from ----

    def parts_us(self) -> dict[str, tuple[float, float]]:
        """{"floor" and "stage4": (shared_us, own_us)}, measured once a run: a request that comes
        in a batch of n costs shared_us / n + own_us of CPU, for the batch shares its system
        calls. From the medians of alternating loads, one by one and in batches of PARTS_DEPTH."""
        if not self.known_parts:
            costs: dict[tuple[str, int], list[float]] = {}
            with self.servers([candidates.floor(self.build), self.stage("stage4")]) as servers:
                for _ in range(self.p["rounds"]):
                    for server in servers:
                        for depth in (1, PARTS_DEPTH):
                            self.say(f"{server.candidate.label}, batches of {depth}")
                            row = self.loaded(server, self.p["main_clients"], look=False,
                                              depth=depth)
                            costs.setdefault((server.candidate.key, depth), []).append(
                                row["cpu_us_per_request"] or 0.0)
            for key in ("floor", "stage4"):
                one, batch = (statistics.median(costs[key, depth]) for depth in (1, PARTS_DEPTH))
                self.known_parts[key] = parts_of(one, batch, PARTS_DEPTH)
        return self.known_parts


def parts_of(one_us: float, batch_us: float, depth: int) -> tuple[float, float]:
    """(shared_us, own_us) of shared + own = one_us and shared / depth + own = batch_us."""
    shared = (one_us - batch_us) * depth / (depth - 1)
    return shared, one_us - shared
