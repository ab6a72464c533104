"""measure.py - what is read off: processor time, switches, memory, sockets, answers, wrk, crowd.

Does not: know experiments or stages; it takes process ids and ports, and gives numbers whose
names carry their unit.
"""
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from lib import processes
from results import Row

WRK = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "wrk")
TICKS = os.sysconf("SC_CLK_TCK")
WRK_TIMEOUT_SECONDS = 10  # wrk's own default is 2 s, and answers later than that count as lost
START_SECONDS = 5         # that it may take to begin
REPORT_LUA = os.path.join(WRK, "report.lua")
PIPELINE_LUA = os.path.join(WRK, "pipeline.lua")
GENERATOR_BOUND = 0.95    # a generator that used more than this of its cpu was the bottleneck


class Spread(TypedDict):
    """One number measured in several rounds; None: in none."""
    median: float | None
    min: float | None
    max: float | None
    rounds: int


class Usage(TypedDict):
    """What a server used between two looks at it."""
    cpu_us: float
    system_share: float | None  # None: less than a clock tick in all
    voluntary_switches: int
    involuntary_switches: int


class Sockets(TypedDict):
    """Established connections of a port, by who holds them."""
    accepted: int  # the server
    queued: int    # the kernel: nobody accepted them


# ---- Statistics ----------------------------------------------------------------------------

def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def spread(values: Sequence[float]) -> Spread:
    """{median, min, max, rounds} of one number measured in several rounds."""
    return {"median": median(values), "min": min(values, default=None),
            "max": max(values, default=None), "rounds": len(values)}


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that at least `percent` of them do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def paired_ratios(values: Sequence[float | None], base: Sequence[float | None]) -> list[float]:
    """Round by round: values[i] / base[i]; what disturbs a round disturbs both."""
    return [value / floor for value, floor in zip(values, base) if value and floor]


# ---- Processes, from /proc -----------------------------------------------------------------

def read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    return [int(child) for child in read(f"/proc/{pid}/task/{pid}/children").split()]


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for child in found:
        found += children(child)
    return found


def process_usage(pid: int) -> list[float] | None:
    """Since its start: [cpu_ns, user_s, system_s, voluntary, involuntary switches, cpu_s of
    the children it has waited for]; None if it is gone."""
    tasks = [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]
    stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not stat or not tasks:
        return None
    usage = [0, int(stat[11]) / TICKS, int(stat[12]) / TICKS, 0, 0,
             (int(stat[13]) + int(stat[14])) / TICKS]
    for task in tasks:
        usage[0] += int((read(f"{task}/schedstat").split() or ["0"])[0])
        switches = re.findall(r"ctxt_switches:\s+(\d+)", read(f"{task}/status"))
        for i, n in enumerate(switches):
            usage[3 + i] += int(n)
    return usage


def tree_usage(pid: int) -> dict[int, list[float]]:
    """{pid: process_usage} of a server and all its workers."""
    found = {}
    for process in tree(pid):
        try:
            usage = process_usage(process)
        except (FileNotFoundError, ProcessLookupError):
            usage = None
        if usage:
            found[process] = usage
    return found


def usage_between(before: dict[int, list[float]], after: dict[int, list[float]]) -> Usage:
    """What a server used between two tree_usage(). A worker that died in between is in its
    parent's account of children (in clock ticks: coarser), less what it had used before."""
    delta = [0.0] * 6
    for process, usage in after.items():
        old = before.get(process, [0] * 6)
        delta = [sum_ + new - was for sum_, new, was in zip(delta, usage, old)]
    gone = sum(usage[0] for process, usage in before.items() if process not in after)
    dead_ns = max(0, delta[5] * 1e9 - gone) if delta[5] > 0 else 0
    ticks = delta[1] + delta[2]
    return {"cpu_us": (delta[0] + dead_ns) / 1000,
            "system_share": delta[2] / ticks if ticks > 0 else None,
            "voluntary_switches": int(delta[3]), "involuntary_switches": int(delta[4])}


def private_bytes(pid: int) -> int:
    """Memory of a server and its workers that nobody else uses, from smaps_rollup."""
    return sum(1024 * int(kb) for process in tree(pid)
               for kb in re.findall(r"Private_\w+:\s+(\d+) kB",
                                    read(f"/proc/{process}/smaps_rollup")))


def counts(pid: int) -> dict[str, int]:
    """{processes, threads} of a server."""
    found = tree(pid)
    return {"processes": len(found),
            "threads": sum(len(os.listdir(f"/proc/{process}/task")) for process in found)}


def zombies(pid: int) -> int:
    """How many children of the server have ended and were not waited for."""
    return sum(read(f"/proc/{child}/stat").rpartition(") ")[2][:1] == "Z"
               for child in children(pid))


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# ---- The kernel's network ------------------------------------------------------------------

KERNEL_COUNTERS = ("ListenOverflows", "ListenDrops", "TCPSynRetrans")


def kernel_counters(names: Iterable[str] = KERNEL_COUNTERS) -> dict[str, int]:
    """{name: count since boot} of this machine's whole network stack."""
    lines = [line.split() for line in read("/proc/net/netstat").splitlines()
             if line.startswith("TcpExt:")]
    found = dict(zip(lines[0], lines[1])) if len(lines) == 2 else {}
    return {name: int(found.get(name, 0)) for name in names}


def counters_between(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before}


def server_sockets(port: int) -> Sockets:
    """{accepted, queued}: established connections of a port that the server holds, and those
    that still wait in the kernel's queue, which have no inode yet: nobody accepted them."""
    needle = f":{port:04X}"
    accepted: set[str] = set()  # of peers: the kernel may list a socket twice
    queued: set[str] = set()
    for line in read("/proc/net/tcp").splitlines():
        if needle not in line:
            continue
        fields = line.split()
        if fields[1].endswith(needle) and fields[3] == "01":
            (queued if fields[9] == "0" else accepted).add(fields[2])
    return {"accepted": len(accepted), "queued": len(queued - accepted)}


def tcp_memory_bytes() -> int:
    """What the kernel's TCP holds in buffers, of all sockets of the machine."""
    match = re.search(r"^TCP:.* mem (\d+)", read("/proc/net/sockstat"), re.M)
    return int(match.group(1)) * os.sysconf("SC_PAGE_SIZE") if match else 0


# ---- A client of our own -------------------------------------------------------------------

HELLO = b"hello world!"


def body_length(head: bytes) -> int | None:
    """Content-Length of an answer; None: its body ends with the connection."""
    match = re.search(rb"\r\ncontent-length:[ \t]*(\d+)", head, re.I)
    return int(match.group(1)) if match else None


def read_answer(client: socket.socket, deadline: float) -> tuple[int, bytes]:
    """(status, body) of the next answer on a connection, by time.monotonic() `deadline`."""
    text = b""
    while True:
        head, blank, body = text.partition(b"\r\n\r\n")
        length = body_length(head) if blank else None
        if length is not None and len(body) >= length:
            break
        client.settimeout(max(0.001, deadline - time.monotonic()))
        piece = client.recv(65536)
        if not piece:
            if not blank or length is not None:
                raise ValueError(f"the answer ended early: {text[:60]!r}")
            break
        text += piece
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    if not match:
        raise ValueError(f"no answer in HTTP: {head[:60]!r}")
    return int(match.group(1)), body


def get(port: int, path: str = "/", seconds: float = 5.0) -> tuple[int, bytes]:
    """One request on a connection of its own: (status, body). OSError, ValueError."""
    deadline = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), seconds) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                       "Connection: close\r\n\r\n".encode())
        return read_answer(client, deadline)


def complaint(port: int, path: str = "/", body: bytes = HELLO, seconds: float = 5.0) -> str | None:
    """None if the server answers as it should; else what is wrong."""
    try:
        status, got = get(port, path, seconds)
    except (OSError, ValueError) as error:
        return f"no answer ({error})"
    if status != 200:
        return f"status {status}"
    return None if got == body else f"wrong body {got[:40]!r}"


def probe(port: int, seconds: float, deadline_seconds: float,
          interval: float = 0.0) -> tuple[list[float], int]:
    """Fresh clients one after the other, for so long: ([wait_us, ...], how many had none).
    wait: from connect(2) to the end of the answer."""
    waits, lost = [], 0
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if complaint(port, seconds=deadline_seconds):
            lost += 1
        else:
            waits.append((time.monotonic() - began) * 1e6)
        if time.monotonic() >= end:
            return waits, lost
        if interval:
            time.sleep(interval)


# ---- wrk -----------------------------------------------------------------------------------

class ToolError(Exception):
    """A load generator failed or said nothing that could be understood."""


def parse_wrk(text: str) -> dict[str, Any]:
    """The numbers that wrk/report.lua printed: the last line that is a JSON object."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise ToolError(f"wrk said: {' / '.join(text.split(chr(10)))[-200:]}")


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for the signal. proc_pid_status(5)."""
    match = re.search(r"^SigCgt:\s+([0-9a-f]+)", read(f"/proc/{pid}/status"), re.M)
    return bool(match and int(match.group(1), 16) >> (number - 1) & 1)


class Load:
    """wrk at work on a port. It knows whole seconds only, so SIGINT ends it sooner."""

    def __init__(self, port: int, clients: int, cpus: list[int], path: str = "/", depth: int = 1,
                 close: bool = False, script: str | None = None,
                 timeout_s: int | None = WRK_TIMEOUT_SECONDS) -> None:
        """timeout_s: None is wrk's own."""
        script = script or (PIPELINE_LUA if depth > 1 else REPORT_LUA)
        command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", "600s",
                   "--script", script, *(["--timeout", f"{timeout_s}s"] if timeout_s else []),
                   *(["--header", "Connection: close"] if close else []),
                   f"http://127.0.0.1:{port}{path}", *(["--", str(depth)] if depth > 1 else [])]
        self.began = time.monotonic()
        self.clients = clients
        self.process = processes.launch(command, cpus, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, bufsize=0)

    def finish(self, seconds: float = 0.0) -> dict[str, Any]:
        """End it `seconds` after it began; returns what report.lua counted, and the share of
        one cpu that it used itself."""
        if not processes.ended(self.process, max(0, self.began + seconds - time.monotonic())):
            self.interrupt()
        text = processes.read_all(self.process.stdout, 15)
        processes.ended(self.process, 1)
        cpu_s = processes.reap(self.process)[1]
        found = parse_wrk(text)
        found["generator_cpu_share"] = cpu_s * 1e6 / found["duration_us"]
        return found

    def interrupt(self) -> None:
        """SIGINT, once wrk has a handler for it: where the cpus are busy it may not even have
        begun, and would end without a word."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not catches(self.process.pid, signal.SIGINT):
            if processes.ended(self.process, 0.005):
                return
        os.kill(self.process.pid, signal.SIGINT)


def load_row(wrk_result: dict[str, Any], usage: Usage, clients: int,
             sockets: Sockets | None = None) -> Row:
    """One measured load as a row: who was offered, established, served; what failed; what it
    cost. requests counts answers with status 2xx only. sockets: server_sockets() under load."""
    errors = sum(wrk_result[name] for name in ("connect_errors", "read_errors", "write_errors"))
    served = wrk_result["requests"] - wrk_result["non_2xx"]
    row = {"offered_clients": clients,
           "established_clients": clients - min(clients, wrk_result["connect_errors"]),
           "served_clients": sockets and sockets["accepted"],
           "requests": served,
           "failed": errors + wrk_result["non_2xx"],
           "socket_errors": errors,
           "non_2xx": wrk_result["non_2xx"],
           "late": wrk_result["timeouts"],
           "req_per_s": served * 1e6 / wrk_result["duration_us"],
           "p50_us": wrk_result["p50_us"],
           "p99_us": wrk_result["p99_us"],
           "generator_cpu_share": wrk_result["generator_cpu_share"],
           "generator_bound": wrk_result["generator_cpu_share"] >= GENERATOR_BOUND,
           "system_share": usage["system_share"]}
    for name, value in (("cpu_us_per_request", usage["cpu_us"]),
                        ("voluntary_switches_per_request", usage["voluntary_switches"]),
                        ("involuntary_switches_per_request", usage["involuntary_switches"])):
        row[name] = value / served if served else None
    return row


# ---- crowd ---------------------------------------------------------------------------------

class Crowd:
    """Clients of bench/crowd/ at work; .ready: what it said once all had got where they were
    meant to get. Where they cannot, as behind a server that blocks, `patience` ends the wait
    for that, and .ready is {}."""

    def __init__(self, program: str, port: int, connections: int, behaviour: str, cpus: list[int],
                 **options: Any) -> None:
        command = [program, "--port", str(port), "--connections", str(connections),
                   "--behaviour", behaviour, "--until-eof", "--seconds", "600"]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.ready: Row = {}
        self.text = ""
        self.process = processes.launch(command, cpus, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        bufsize=0)

    def wait(self, patience: float = 20.0) -> None:
        """Until it is ready."""
        line = processes.line_within(self.process.stdout, patience)
        if line and line.startswith("ready "):
            self.ready = json.loads(line[len("ready "):])
        elif line is not None:
            raise ToolError(f"crowd said {line!r} instead of that it is ready")

    def listen(self, seconds: float) -> None:
        """Keep what it says for so long, so that it need not wait for us."""
        self.text += processes.read_all(self.process.stdout, seconds)

    def finish(self, at_once: bool = False) -> Row:
        """End it; returns its report. at_once: without the answers that are under way."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if at_once:
            self.listen(0.02)  # it stops now, and the signal is its second reason to
            os.kill(self.process.pid, signal.SIGTERM)
        self.listen(10)
        processes.ended(self.process, 2)
        processes.reap(self.process)
        for line in reversed(self.text.splitlines()):
            if line.startswith("{"):
                return json.loads(line)
        raise ToolError(f"crowd said {self.text[-200:]!r} instead of its report")

    def samples(self) -> list[Row]:
        """Its account over time, with the option `sample`; after finish()."""
        return [json.loads(line[len("sample "):]) for line in self.text.splitlines()
                if line.startswith("sample ")]
