"""answers.py - what a client sees: one answer, read to its end, whole or not.

Does not: believe that an answer ends well, or know who gives it. It is for gateways, whose
answers break off because those of others did.
"""
import re
import socket
import time
from typing import NamedTuple, Optional

WHOLE, BREAKS_OFF, TIME_OUT, NONSENSE = "whole", "breaks off", "time-out", "no HTTP"
BODILESS = (101, 204, 304)  # RFC 9112 section 6.3


class Answer(NamedTuple):
    """status: 0 if none came; body_bytes: without what frames them."""
    status: int
    end: str
    body_bytes: int


class Parsed(NamedTuple):
    """How far an answer is. used: bytes of it, once it is whole."""
    answer: Answer
    used: int = 0
    until_close: bool = False


def unfinished(status: int = 0, body_bytes: int = 0, until_close: bool = False) -> Parsed:
    return Parsed(Answer(status, BREAKS_OFF, body_bytes), until_close=until_close)


def parse_chunks(status: int, text: bytes, at: int) -> Parsed:
    """The body in chunks that begins at `at`. RFC 9112 section 7.1, without trailers."""
    body_bytes = 0
    while True:
        line, found, _ = text[at:].partition(b"\r\n")
        if not found:
            return unfinished(status, body_bytes)
        if not re.fullmatch(rb"[0-9a-fA-F]+", line):
            return Parsed(Answer(status, NONSENSE, body_bytes))
        at, size = at + len(line) + 2, int(line, 16)
        body_bytes += min(size, len(text) - at)
        if len(text) < at + size + 2:
            return unfinished(status, body_bytes)
        if text[at + size:at + size + 2] != b"\r\n":
            return Parsed(Answer(status, NONSENSE, body_bytes))
        at += size + 2
        if size == 0:
            return Parsed(Answer(status, WHOLE, body_bytes), at)


def skip_interim(text: bytes) -> int:
    """Where the answer begins behind those of 100 to 199; 101 is the last there is."""
    at = 0
    while re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r]").match(text, at):
        end = text.find(b"\r\n\r\n", at)
        if end < 0:
            break
        at = end + 4
    return at


def parse(text: bytes, method: str) -> Parsed:
    """The answer to `method`, as far as it came. Interim ones are skipped."""
    at = skip_interim(text)
    head, blank, _ = text[at:].partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d{3})[ \r]", head + b"\r")
    if not match and (blank or not b"HTTP/1.1 200".startswith(head[:5])):
        return Parsed(Answer(0, NONSENSE, 0))
    if not match or not blank:
        return unfinished()
    status, body = int(match.group(1)), at + len(head) + 4
    if method == "HEAD" or status in BODILESS:
        return Parsed(Answer(status, WHOLE, 0), body)
    if re.search(rb"\r\ntransfer-encoding:[ \t]*chunked", head, re.I):
        return parse_chunks(status, text, body)
    length = re.search(rb"\r\ncontent-length:[ \t]*(\d+)", head, re.I)
    if not length:
        return unfinished(status, len(text) - body, until_close=True)
    size = int(length.group(1))
    if len(text) - body < size:
        return unfinished(status, len(text) - body)
    return Parsed(Answer(status, WHOLE, size), body + size)


class Client:
    """One connection, and one request on it after the other."""

    def __init__(self, port: int, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self.socket = socket.create_connection(("127.0.0.1", port), patience_seconds)
        self.text = b""  # that came, and belongs to no answer yet

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def receive(self, deadline: float) -> Optional[bytes]:
        """What comes; b"" at the end of the stream. None: a reset. socket.timeout."""
        self.socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return None

    def ask(self, method: str, target: str, minor: int = 1) -> Answer:
        """Whatever comes of it. A POST has a body of ten bytes."""
        body = "Content-Length: 10\r\n\r\n0123456789" if method == "POST" else "\r\n"
        deadline = time.monotonic() + self.patience_seconds
        try:
            self.socket.sendall(f"{method} {target} HTTP/1.{minor}\r\n"
                                f"Host: localhost\r\n{body}".encode())
        except ConnectionError:
            return Answer(0, BREAKS_OFF, 0)
        while True:
            parsed = parse(self.text, method)
            if parsed.answer.end != BREAKS_OFF:
                self.text = self.text[parsed.used:]
                return parsed.answer
            try:
                piece = self.receive(deadline)
            except socket.timeout:
                return parsed.answer._replace(end=TIME_OUT)
            if not piece:
                self.text = b""
                whole = piece == b"" and parsed.until_close
                return parsed.answer._replace(end=WHOLE if whole else BREAKS_OFF)
            self.text += piece
