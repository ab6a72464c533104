"""processes.py - start servers and load generators on chosen cpus, and end all of them.

Does not: measure. Every process is started in a process group of its own, dies with this program
(PR_SET_PDEATHSIG, by setpriv) and is in `started` until it was waited for; end_all() leaves
nothing behind.
"""
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any, IO

from lib.candidates import Candidate

STOP_SECONDS = 10    # a server that was told to stop and has not is killed, and has failed
START_SECONDS = 10

started = []         # subprocess.Popen of what runs now


class ServerError(Exception):
    """A server did not start, died, or did not stop."""


def cpu_sets(cpus: list[int]) -> tuple[list[int], list[int]]:
    """(cpus of servers, cpus of generators): the first and the last, where there are two."""
    cpus = sorted(cpus)
    return ([cpus[0]], [cpus[-1]]) if len(cpus) > 1 else (cpus, cpus)


def launch(command: list[str], cpus: list[int], nofile: int | None = None,
           **popen: Any) -> subprocess.Popen[bytes]:
    """Start `command` pinned to `cpus`; nofile: soft and hard limit of its descriptors."""
    words = ["setpriv", "--pdeathsig", "KILL",
             "taskset", "-c", ",".join(str(cpu) for cpu in cpus)]
    if nofile is not None:
        words += ["prlimit", f"--nofile={nofile}:{nofile}"]
    process = subprocess.Popen([*words, *command], start_new_session=True, **popen)
    started.append(process)
    return process


def readable(fd: IO[bytes] | int, seconds: float) -> bool:
    """Whether it is, or becomes, within so long. By poll(2): a benchmark of a thousand clients
    has descriptors that select(2) cannot take."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, seconds) * 1000))


def ended(process: subprocess.Popen[bytes], seconds: float = 0) -> bool:
    """True once it has ended, at most `seconds` from now. It stays unreaped, so that its
    number, which is that of its group too, cannot be given to anybody else."""
    fd = os.pidfd_open(process.pid)
    try:
        return readable(fd, seconds)
    finally:
        os.close(fd)


def reap(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """SIGKILL to what is left of its group; returns (exit code, -signal; cpu seconds)."""
    if process not in started:
        return process.returncode, 0
    os.killpg(process.pid, signal.SIGKILL)
    status, usage = os.wait4(process.pid, 0)[1:]
    process.returncode = os.waitstatus_to_exitcode(status)
    started.remove(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    return process.returncode, usage.ru_utime + usage.ru_stime


def end_all() -> None:
    for process in list(started):
        reap(process)


def line_within(stream: IO[bytes] | None, seconds: float) -> str | None:
    """One line of a pipe; '' at its end; None if none came in time. The pipe is unbuffered."""
    assert stream is not None
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not readable(stream, left):
            return None
        piece = os.read(stream.fileno(), 1)
        if not piece:
            break
        line += piece
    return line.decode(errors="replace")


class Server:
    """A running server: .port, .pid, .candidate; .environment, for words to it. Its pid file
    and scoreboard are in .folder."""

    def __init__(self, candidate: Candidate, cpus: list[int], nofile: int | None = None,
                 extra: Sequence[str] = (), wrapper: Sequence[str] = ()) -> None:
        self.candidate = candidate
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": self.folder.name}
        self.log = tempfile.TemporaryFile()
        try:
            self.process = launch(
                [*wrapper, *candidate.command(self.folder.name), *extra], cpus, nofile,
                stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, bufsize=0,
                env=self.environment)
            self.port = candidate.port(self) if candidate.port else self.announced()
        except OSError as error:
            raise ServerError(f"{candidate.label}: {error}") from error

    def announced(self) -> int:
        line = line_within(self.process.stdout, START_SECONDS)
        match = re.search(r"listening on .*:(\d+) \(pid (\d+)", line or "")
        if not match:
            raise ServerError(f"{self.candidate.label} did not start: {self.last_words()}")
        return int(match.group(1))

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return not ended(self.process)

    def last_words(self) -> str:
        """The end of what it wrote to stderr, as one short line."""
        self.log.seek(0)
        text = self.log.read().decode(errors="replace").strip()
        return " / ".join(text.splitlines()[-3:])[-300:] or "it said nothing"

    def stop(self) -> None:
        """SIGTERM, wait. Raises ServerError if it had died, hung, or failed."""
        had_died = not self.alive()
        words = self.last_words()
        if not had_died:
            os.kill(self.pid, signal.SIGTERM)
        hung = not ended(self.process, STOP_SECONDS)
        status = reap(self.process)[0]
        self.discard()
        if had_died:
            raise ServerError(f"{self.candidate.label} died with status {status}: {words}")
        if hung:
            raise ServerError(f"{self.candidate.label} did not stop in {STOP_SECONDS} s and "
                              "was killed")
        if status not in self.candidate.exit_codes:
            raise ServerError(f"{self.candidate.label} ended with status {status}: {words}")

    def discard(self) -> None:
        reap(self.process)
        self.log.close()
        self.folder.cleanup()


def read_all(stream: IO[bytes] | None, seconds: float) -> str:
    """What comes from a pipe until its end, for at most `seconds`."""
    assert stream is not None
    deadline = time.monotonic() + seconds
    pieces = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not readable(stream, left):
            break
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")


def raise_on_signals() -> None:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: through `finally`."""
    def end(signum: int, frame: object) -> None:
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
