"""candidates.py - the servers that are compared: the stages in their modes, and the peers.

Does not: start them, or list the stages; their facts do, common/setup/stages.py.
"""
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from lib import processes

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERVERS = os.path.join(BENCH, "servers")
sys.path.append(os.path.join(os.path.dirname(BENCH), "common", "setup"))
import stages  # noqa: E402


@dataclass(frozen=True)
class Candidate:
    """A server, its mode and how it is started."""
    key: str                     # in results.json, stable: "stage3-poll"
    label: str                   # to be read: "3 poll"
    program: str                 # "stage3_select"; a peer's name
    args: tuple[str, ...] = ()
    build: str = "build"
    model: str = "loop"          # as a stage's facts tell it; floor
    workers: int = 1             # processes that serve
    threads: int = 1             # in each of them
    coroutines: int | None = None  # in each; None: as many as there are clients
    exit_codes: tuple[int, ...] = (0,)     # when it is told to stop
    make_command: Callable[["Candidate", str], list[str]] | None = None
    port: Callable[["processes.Server"], int] | None = None

    def command(self, folder: str) -> list[str]:
        """The words to start it; folder: for the files it needs, gone after it."""
        if self.make_command:
            return self.make_command(self, folder)
        where = os.path.join(self.build, "" if self.is_stage else "bench", self.program)
        return [where, *self.args]

    @property
    def is_stage(self) -> bool:
        return self.program.startswith("stage")

    @property
    def places(self) -> int | None:
        """How many handlers may wait at the same time; None: as many as there are clients."""
        if self.model == "coroutines" and self.coroutines:
            return self.workers * self.coroutines
        if self.model in ("callbacks", "coroutines"):
            return None
        return self.workers * self.threads


QUIET = ("--port", "0", "-q", "--keepalive", "600")

# key, label, program, arguments, model
STAGES = [(mode.key, mode.label, mode.stage,
           (*mode.options, *(["--workers"] if mode.workers else [])), mode.model)
          for mode in stages.modes()]


THREADS = 4  # of stage 5, where nobody says how many


def keys(*models: str) -> list[str]:
    """Of the stages' modes that serve in one of these ways, the first stage first."""
    return [key for key, _, _, _, model in STAGES if model in models]


def usual(*models: str) -> list[str]:
    """Of each stage that serves in one of these ways its usual mode."""
    return [key for key, _, program, _, model in STAGES if model in models
            and key == f"stage{program.removeprefix('stage').partition('_')[0]}"]


# Where a handler that waits does not hold up all others: the usual modes.
WAITERS = ("threads", "callbacks", "coroutines")


def model_of(key: str) -> str:
    return next((row[4] for row in STAGES if row[0] == key), "")


def inside(model: str, threads: int | None, coroutines: int | None) -> tuple[str, ...]:
    """The options that say how many may wait in one process."""
    if model == "threads":
        return ("--threads", str(threads or THREADS))
    if model == "coroutines" and coroutines:
        return ("--coroutines", str(coroutines))
    return ()


def stage(key: str, build: str, workers: int = 1, more: tuple[str, ...] = (),
          threads: int | None = None, coroutines: int | None = None) -> Candidate:
    """The stage with that key; what it does not have of workers, threads, coroutines is
    ignored."""
    _, label, program, args, model = next(row for row in STAGES if row[0] == key)
    if "--workers" in args:
        args = (*args, str(workers))
    else:
        workers = 1
    threads = threads if model == "threads" else None
    coroutines = coroutines if model == "coroutines" else None
    if threads or coroutines:
        label = f"{label} ({workers} x {threads or coroutines})"
    elif workers > 1:
        label = f"{label} ({workers})"
    return Candidate(key, label, program,
                     (*QUIET, *args, *inside(model, threads, coroutines), *more), build, model,
                     workers, threads or (THREADS if model == "threads" else 1), coroutines)


def floor(build: str, close: bool = False) -> Candidate:
    return Candidate("floor", "floor", "floor", ("--close",) if close else (), build, "floor",
                     exit_codes=(0, -signal.SIGTERM))


def evhttp(build: str) -> Candidate:
    return Candidate("evhttp", "evhttp", "evhttp", (), build,
                     exit_codes=(0, -signal.SIGTERM))


# ---- PHP -----------------------------------------------------------------------------------

def php_program() -> str | None:
    return shutil.which("php")


def php_command() -> list[str]:
    """What PHP has to complain of goes to stderr: nobody reads its stdout behind the first
    line."""
    return [php_program() or "php", "-d", "display_errors=stderr", "-d", "log_errors=0",
            os.path.join(SERVERS, "select.php")]


def php() -> Candidate:
    return Candidate("php", "PHP select", "php", exit_codes=(0, -signal.SIGTERM),
                     make_command=lambda candidate, folder: php_command())


# ---- nginx ---------------------------------------------------------------------------------

def nginx_program() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


NO_UPSTREAM = "127.0.0.1:1"  # nobody listens there, and nobody asks


class Gateway(NamedTuple):
    """What nginx's /upstream needs to know."""
    upstream: str = NO_UPSTREAM  # ADDRESS:PORT
    patience_seconds: int = 1    # with connecting, sending, and each wait for the answer
    idle: int = 16               # connections to the upstream that a worker keeps; as a stage


def nginx_command(candidate: Candidate, folder: str, gateway: Gateway) -> list[str]:
    """Fill in the template; nginx keeps all its files in `folder`."""
    port = free_port()
    with open(os.path.join(SERVERS, "nginx.conf.in"), encoding="utf-8") as file:
        text = file.read()
    for name, value in (("PORT", port), ("DIR", folder), ("WORKERS", candidate.workers),
                        ("UPSTREAM", gateway.upstream), ("IDLE", gateway.idle),
                        ("PATIENCE", gateway.patience_seconds)):
        text = text.replace(f"@{name}@", str(value))
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(folder, "port"), "w", encoding="ascii") as file:
        file.write(str(port))
    return [nginx_program() or "nginx", "-p", folder,
            "-e", os.path.join(folder, "error.log"), "-c", path]


def nginx(workers: int = 1, gateway: Gateway = Gateway()) -> Candidate:
    return Candidate("nginx", f"nginx ({workers})" if workers > 1 else "nginx", "nginx",
                     model="callbacks", workers=workers, port=wait_for_port,
                     make_command=lambda candidate, folder: nginx_command(candidate, folder,
                                                                          gateway))


def reload_command(server: 'processes.Server') -> list[str]:
    """The words that make a running server replace its workers; a stage, its program too."""
    if server.candidate.is_stage:
        return [os.path.join(server.candidate.build, server.candidate.program),
                "--port", str(server.port), "reload"]
    folder = server.folder.name
    return [nginx_program() or "nginx", "-p", folder,
            "-e", os.path.join(folder, "error.log"), "-c",
            os.path.join(folder, "nginx.conf"), "-s", "reload"]


def wait_for_port(server: 'processes.Server') -> int:
    """nginx announces nothing: wait until it takes a connection."""
    with open(os.path.join(server.folder.name, "port"), encoding="ascii") as file:
        port = int(file.read())
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        except OSError:
            if time.monotonic() > deadline or not server.alive():
                raise
            time.sleep(0.01)
