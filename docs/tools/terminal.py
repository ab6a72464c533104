"""terminal.py - terminals that a chapter's commands are typed into.

Each is a pseudo-terminal of 80 columns in which one command runs at a time, pty(7): what comes
out is what a reader sees. Does not: know what should come out.
"""
import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator

SCALE = float(os.environ.get("TIME_SCALE", "1"))


class Terminal:
    """One command after another, each by a shell of its own."""

    def __init__(self, environment: dict[str, str], folder: str) -> None:
        self.environment, self.folder = environment, folder
        self.pid: int | None = None
        self.fd = -1           # valid while pid is not None
        self.output = ""
        self.status: int | None = None

    def start(self, command: str) -> None:
        """Type a command, and do not wait."""
        assert self.pid is None
        self.output, self.status = "", None
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                self.become(command)
            finally:
                os._exit(127)

    def become(self, command: str) -> None:
        """In the child: the shell, in a terminal that does not print what is typed."""
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        modes = termios.tcgetattr(0)
        modes[1] &= ~termios.ONLCR
        modes[3] &= ~(termios.ECHO | termios.ECHOCTL)
        termios.tcsetattr(0, termios.TCSANOW, modes)
        # As in a terminal, whatever this program ignores: python does SIGPIPE, what runs in a
        # shell's background does SIGINT.
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(self.folder)
        os.execve("/bin/bash", ["bash", "-c", command], self.environment)

    def read(self, seconds: float) -> bool:
        """What came out until now, waiting a moment for more; false when the command is over."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if ready:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # EIO: nobody has the other side open
                data = b""
            if not data:
                self.reap()
                return False
            self.output += self.decode(data).replace("\r\n", "\n")
        elif self.ended():
            while self.fd != -1 and select.select([self.fd], [], [], 0)[0]:
                if not self.read(0):
                    return False
            self.reap()
            return False
        return True

    def ended(self) -> bool:
        """Whether the shell is over; what it left behind may hold the terminal still."""
        assert self.pid is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self) -> None:
        if self.pid is None:
            return
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.status = status if status >= 0 else 128 - status  # as a shell tells it
        os.close(self.fd)
        self.pid, self.fd = None, -1

    def wait(self, seconds: float) -> bool:
        """Until the command is over; false if it is not."""
        end = time.monotonic() + seconds * SCALE
        while self.pid is not None and time.monotonic() < end:
            self.read(0.05)
        return self.pid is None

    def until(self, satisfied: Callable[[], object], seconds: float) -> object:
        """Until satisfied(), and all of its processes sleep or have had half a second more to
        go on; false if the time is over. What the command prints at its end counts, too."""
        end = time.monotonic() + seconds * SCALE
        good = asleep = 0
        while asleep < 3 and good < 25:
            if not self.read(0.02):
                return satisfied()
            if time.monotonic() > end:
                return False
            good = good + 1 if satisfied() else 0
            asleep = asleep + 1 if good and self.sleeping() else 0
        return True

    def sleeping(self) -> bool:
        assert self.pid is not None
        return all(state == "S" for state in session_states(self.pid))

    def type(self, character: bytes) -> None:
        os.write(self.fd, character)

    def kill(self) -> None:
        """End whatever is left; for chapters that failed."""
        if self.pid is not None:
            for pid in session_pids(self.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.reap()


def processes() -> Iterator[tuple[int, str, int]]:
    """(pid, state, session) of all, proc_pid_stat(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            yield int(name), fields[0], int(fields[3])


def session_pids(session: int) -> list[int]:
    return [pid for pid, _, sid in processes() if sid == session]


def session_states(session: int) -> list[str]:
    return [state for _, state, sid in processes() if sid == session]


def marked_pids(mark: str) -> list[int]:
    """Processes that inherited the environment variable `mark` (NAME=VALUE), daemons too."""
    found = []
    for pid, state, _ in processes():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if state != "Z" and mark.encode() in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            pass
    return found
