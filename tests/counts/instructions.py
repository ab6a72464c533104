"""instructions.py - what a request costs a server in user-space instructions, counted by
valgrind's callgrind: a price without noise, the same in every run.

Does not: count the kernel, where most of a request's time goes. Nor the vDSO: valgrind hides it,
so that a clock is read by a system call, whose few instructions stand for some forty.
"""
import glob
import os
import re
import socket
import tempfile
from collections.abc import Callable
from typing import Any

FEW, MANY = 2000, 12000  # requests of the two runs; their difference is free of start and end

# What a client sends at once, and how many requests that are. The second is what h2load of
# nghttp2 1.52 sends to http://127.0.0.1:8080/ over HTTP/1.1; whatever the port really is, so
# that it is as long everywhere.
BARE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FORMS = {
    "bare": (BARE, 1),
    "h2load": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
               b"user-agent: h2load nghttp2/1.52.0\r\n\r\n", 1),
    "pipelined": (16 * BARE, 16),
}


def skip_answers(client: socket.socket, n: int) -> None:
    """Read n answers that say their Content-Length, whatever else they say."""
    pending = b""
    while n > 0:
        head, blank, rest = pending.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if blank and not (head.startswith(b"HTTP/1.1 200 ") and length):
            raise ValueError(f"no good answer: {head[:60]!r}")
        if blank and length and len(rest) >= int(length.group(1)):
            pending = rest[int(length.group(1)):]
            n -= 1
            continue
        piece = client.recv(65536)
        if not piece:
            raise ValueError("the server closed a keep-alive connection")
        pending += piece


def of_a_run(start: Callable[[list[str]], Any], stop: Callable[[Any], None], form: str,
             requests: int) -> int:
    """Instructions of all of a server's processes, in a run with so many requests."""
    text, batch = FORMS[form]
    with tempfile.TemporaryDirectory() as out:
        os.chmod(out, 0o777)  # a worker that has become another user writes there, too
        server, port = start(["valgrind", "-q", "--vgdb=no", "--tool=callgrind",
                              "--trace-children=yes", f"--callgrind-out-file={out}/%p"])
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            for _ in range(requests // batch):
                client.sendall(text)
                skip_answers(client, batch)
        stop(server)
        counted = 0
        for name in glob.glob(os.path.join(out, "*")):
            with open(name, encoding="utf-8", errors="replace") as file:
                counted += sum(int(n) for n in re.findall(r"^totals: (\d+)", file.read(), re.M))
    if counted == 0:
        raise ValueError("callgrind left no counts")
    return counted


def per_request(start: Callable[[list[str]], Any], stop: Callable[[Any], None], form: str) -> float:
    """Instructions of one request of the form, on a keep-alive connection.
    start(wrapper): start a server with one worker behind the words of wrapper, return it and
    its port. stop(server): end it in such a way that it exits by itself."""
    few, many = (of_a_run(start, stop, form, n) for n in (FEW, MANY))
    return (many - few) / (MANY - FEW)
