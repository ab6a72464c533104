"""fooled_clients.py - ways to be fooled that clients of our own show: backlog, nagle, omission.

Does not: print; each function takes a Context and gives what fooled.py prints.
"""
import contextlib
import itertools
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import TypedDict

from experiments import workers
from experiments.waiting import REQUEST
from lib import measure
from lib.context import Context
from report import tables
from results import Row

BACKLOG = 4
HELD_MS = 1500           # the first client holds the only process so long
FIRST_CLIENTS = 9        # come while it does: more than fit, and their second SYN comes too soon
LATER_CLIENTS = 5        # come LATER_SECONDS after those: their second SYN finds room
LATER_SECONDS = 0.7
QUEUE_SECONDS = 4.0
POSTS = 25
OPEN_CLIENTS = 64        # of the schedule; more than needed at any time but the stall
STALL_FROM, STALL_UNTIL, STALL_SECONDS = 1.0, 2.0, 3.0
STALL_INTERVAL_MS = 2    # between answer and next request of the closed loop
LATE_MS = 100


class Way(TypedDict):
    """One way to be fooled, as fooled.py prints it."""
    title: str
    lines: list[str]
    reader: str       # what a careless one concludes
    truth: list[str]  # in lines
    seen: bool        # the effect was there


# ---- backlog -------------------------------------------------------------------------------

class Client:
    """One that connects without waiting, and asks once it is connected."""

    def __init__(self, port: int, request: bytes = REQUEST) -> None:
        self.request = request
        self.began = time.monotonic()
        self.connected: float | None = None
        self.answered: float | None = None
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def connect_s(self) -> float:
        assert self.connected is not None
        return self.connected - self.began

    def answer_s(self) -> float:
        assert self.connected is not None and self.answered is not None
        return self.answered - self.connected

    def go_on(self) -> bool:
        """What is ready was the connection, then the answer; True when all is over."""
        if self.connected is None:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            self.connected = time.monotonic()
            self.socket.sendall(self.request)
            return False
        if b" 200 " not in self.socket.recv(4096):
            raise ValueError("a wrong answer")
        self.answered = time.monotonic()
        return True


def serve(selector: selectors.BaseSelector, clients: list[Client],
          seconds: float) -> None:
    """Let clients go on for so long, or until all are answered."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(client.answered for client in clients):
        for key, _ in selector.select(max(0, end - time.monotonic())):
            if key.data.go_on():
                selector.unregister(key.fileobj)
            else:
                selector.modify(key.fileobj, selectors.EVENT_READ, key.data)


def crowd_of(port: int) -> list[Client]:
    """One that holds the server, some just after it, some later; those that were answered."""
    clients = []
    held = REQUEST.replace(b"/ ", b"/sleep?ms=%d " % HELD_MS, 1)
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for n, request, seconds in ((1, held, 0.05), (FIRST_CLIENTS, REQUEST, LATER_SECONDS),
                                    (LATER_CLIENTS, REQUEST, QUEUE_SECONDS)):
            for _ in range(n):
                clients.append(Client(port, request))
                stack.enter_context(clients[-1].socket)
                selector.register(clients[-1].socket, selectors.EVENT_WRITE, clients[-1])
            serve(selector, clients, seconds)
    return [client for client in clients if client.answered]


def by_step(clients: list[Client]) -> list[Row]:
    """Rows: those that were connected after about 0, 1, 2 ... seconds."""
    groups: dict[int, list[Client]] = {}
    for client in clients:
        groups.setdefault(round(client.connect_s()), []).append(client)
    return [{"step": step, "clients": len(group),
             "connect_ms": max(client.connect_s() for client in group) * 1000,
             "answer_ms": max(client.answer_s() for client in group) * 1000}
            for step, group in sorted(groups.items())]


def backlog(ctx: Context) -> Way:
    candidate = ctx.stage("stage1", more=("--backlog", str(BACKLOG)))
    with ctx.server(candidate) as server:
        ctx.check(server, "before the clients came")
        before = measure.kernel_counters()
        clients = crowd_of(server.port)
        counted = measure.counters_between(before, measure.kernel_counters())
    rows = by_step(clients)
    columns = [("connected after s", "step", tables.whole), ("clients", "clients", tables.whole),
               ("connect ms, at most", "connect_ms", tables.one),
               ("then answered within ms", "answer_ms", tables.one)]
    slept = [client for client in clients if client.connect_s() > 0.7]
    off = [client for client in slept
           if abs(client.connect_s() - round(client.connect_s())) > 0.3]
    lines = tables.text_table(columns, rows).split("\n")
    lines.append(f"the kernel: {counted['ListenOverflows']} overflows, {counted['ListenDrops']} "
                 f"drops, {counted['TCPSynRetrans']} SYNs sent again")
    return {"title": f"stage 1, --backlog {BACKLOG}, is held for {HELD_MS} ms; "
                     f"{FIRST_CLIENTS + LATER_CLIENTS} clients come meanwhile",
            "lines": lines,
            "reader": f"The server takes up to {rows[-1]['connect_ms'] / 1000:.1f} s to accept a "
                      "client.",
            "truth": [f"The queue was full, and the SYNs of {len(slept)} clients were dropped. "
                      "Their",
                      "kernel tries again after whole seconds, whenever the server is free. Once",
                      f"connected, they were answered within {rows[-1]['answer_ms']:.1f} ms."],
            "seen": len(clients) == 1 + FIRST_CLIENTS + LATER_CLIENTS and len(rows) > 1
            and not off and counted["ListenOverflows"] >= len(slept)}


# ---- nagle ---------------------------------------------------------------------------------

HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n"


def posts(port: int, pieces: list[bytes], no_delay: int) -> list[float]:
    """Waits in us of requests on one connection, each sent in these pieces."""
    waits = []
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
        for _ in range(POSTS):
            began = time.monotonic()
            for piece in pieces:
                client.sendall(piece)
            status, body = measure.read_answer(client, began + 5)
            waits.append((time.monotonic() - began) * 1e6)
            if status != 200 or body != measure.HELLO:
                raise ValueError(f"a wrong answer, {status}")
    return waits


def nagle(ctx: Context) -> Way:
    rows: list[Row] = []
    with ctx.server(ctx.stage("stage4")) as server:
        for label, pieces, option in (
                ("in one send", [HEAD + measure.HELLO], 0),
                ("in two, head and body", [HEAD, measure.HELLO], 0),
                ("in two, TCP_NODELAY", [HEAD, measure.HELLO], 1)):
            before = measure.kernel_counters(["DelayedACKs"])
            waits = posts(server.port, pieces, option)
            counted = measure.counters_between(before, measure.kernel_counters(["DelayedACKs"]))
            rows.append({"label": label, "p50_us": measure.median(waits), "max_us": max(waits),
                         "late": sum(wait > 20e3 for wait in waits),
                         "delayed": counted["DelayedACKs"]})
    columns = [("request sent", "label", tables.word), ("p50 ms", "p50_us", tables.milliseconds),
               ("longest ms", "max_us", tables.milliseconds),
               ("above 20 ms", "late", tables.whole), ("delayed ACKs", "delayed", tables.whole)]
    one, two, no_delay = rows
    return {"title": f"{POSTS} POSTs of 12 bytes on one connection to stage 4, three times",
            "lines": tables.text_table(columns, rows).split("\n"),
            "reader": f"The server needs {two['p50_us'] / 1000:.0f} ms for a short POST.",
            "truth": [f"It answers in {one['p50_us']:.0f} us what comes whole. In two sends the "
                      "client's",
                      "kernel keeps the body back until the head is acknowledged (Nagle), and the",
                      f"server's delays that ACK: {two['late']} of {POSTS} requests waited for a "
                      "timer.",
                      f"With TCP_NODELAY, in two sends as well, it is {no_delay['p50_us']:.0f} "
                      "us."],
            "seen": two["p50_us"] > 20e3 and two["delayed"] >= POSTS // 2
            and max(one["p50_us"], no_delay["p50_us"]) < two["p50_us"] / 3}


# ---- omission ------------------------------------------------------------------------------

@contextlib.contextmanager
def stalled(pid: int) -> Iterator[None]:
    """The process does not run from STALL_FROM until STALL_UNTIL, seconds from now."""
    timers = [threading.Timer(seconds, os.kill, (pid, number)) for seconds, number in
              ((STALL_FROM, signal.SIGSTOP), (STALL_UNTIL, signal.SIGCONT))]
    try:
        for timer in timers:
            timer.start()
        yield
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def omission(ctx: Context) -> Way:
    ctx.need_crowd()
    with ctx.server(ctx.stage("stage4")) as server, contextlib.ExitStack() as stack:
        ctx.check(server, "before the load")
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
                   for _ in range(OPEN_CLIENTS)]
        with ctx.crowd(server, 1, "keep-alive", interval=STALL_INTERVAL_MS) as crowd:
            with stalled(measure.children(server.pid)[0]):
                waits = workers.paced(itertools.cycle(clients).__next__, STALL_SECONDS)
            closed = crowd.finish()
    late = sum(wait > LATE_MS * 1000 for wait in waits)
    rows = [{"label": "closed loop, sends when answered", "requests": closed["served"],
             **{f"{name}_us": closed["total_us"][name] for name in ("p50", "p99", "max")}},
            {"label": "schedule, counts from when due", "requests": len(waits),
             "p50_us": measure.percentile(waits, 50), "p99_us": measure.percentile(waits, 99),
             "max_us": max(waits)}]
    columns = [("client", "label", tables.word), ("requests", "requests", tables.whole),
               ("p50 ms", "p50_us", tables.milliseconds),
               ("p99 ms", "p99_us", tables.milliseconds),
               ("longest ms", "max_us", tables.milliseconds)]
    ours, due = rows
    return {"title": f"stage 4's worker stands still for {STALL_UNTIL - STALL_FROM:.0f} s of "
                     f"{STALL_SECONDS:.0f} s; two clients, the same run",
            "lines": tables.text_table(columns, rows).split("\n"),
            "reader": f"99 of 100 requests are answered within {ours['p99_us'] / 1000:.2f} ms.",
            "truth": [f"Nobody was answered for {ours['max_us'] / 1e6:.1f} s. In that time the "
                      "closed loop waited for",
                      f"1 of its {ours['requests']} requests, and sent no other. Of those that "
                      "were due by a",
                      f"schedule, {100 * late / len(waits):.0f} % waited longer than {LATE_MS} "
                      f"ms; their p99 is {due['p99_us'] / 1000:.0f} ms."],
            "seen": ours["p99_us"] < 50e3 and due["p99_us"] > 500e3 and ours["max_us"] > 700e3}
