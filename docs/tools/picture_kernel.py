"""picture_kernel.py - what is not seen from outside: a connection, its bytes, queues and sets."""
from collections.abc import Container

from picture_draw import WIDTH, Picture

LEFT, RIGHT, MIDDLE = 12, WIDTH - 12, WIDTH / 2
CHARACTER = 15


# ---- One connection ----------------------------------------------------------------------------

def connection() -> Picture:
    p = Picture("One TCP connection, from socket to close",
                "The server calls socket, bind, listen and accept, and sleeps in accept. The "
                "client's connect sends SYN; the server's kernel answers SYN and ACK; with the "
                "client's ACK both calls return. The client sends a request and sleeps in recv. "
                "The server reads, answers, and sleeps in recv again, which returns 0 when the "
                "client has closed.")
    client, server, row, top = 98, 336, 50, 66

    def y(t: float) -> float:
        return top + t * row

    def call(side: str, name: str, start: float, end: float, cls: str) -> None:
        x = client if side == "client" else server
        p.box(x - 8, y(start), 16, (end - start) * row, cls)
        anchor = "end" if side == "client" else "start"
        p.text(x + (-16 if side == "client" else 16), y(start) + 14, name, "", anchor)

    def message(words: str, start: float, to_server: bool, flight: float = 0.6) -> float:
        ends = (client + 10, server - 10) if to_server else (server - 10, client + 10)
        p.arrow(ends[0], y(start), ends[1], y(start + flight))
        p.text(MIDDLE, y(start) + (-1 if len(words) > 12 else 4), words, "",
               "middle")
        return start + flight

    for x, name in ((client, "client"), (server, "server")):
        p.text(x, 28, name, "title", "middle")
    for i, name in enumerate(("socket", "bind", "listen")):
        call("server", name, i * 0.45, i * 0.45 + 0.35, "work")
    call("client", "socket", 1.3, 1.65, "work")
    syn = message("SYN", 1.8, True)
    synack = message("SYN, ACK", syn + 0.1, False)
    ack = message("ACK", synack + 0.1, True)
    call("client", "connect", 1.8, synack, "wait")
    call("server", "accept", 1.5, ack, "wait")
    sent = ack + 0.1
    call("client", "send", sent, sent + 0.35, "work")
    request = message("GET / HTTP/1.1 ...", sent + 0.1, True)
    call("server", "recv", ack + 0.15, request, "wait")
    answered = request + 0.9
    call("server", "handler", request, answered, "work")
    call("server", "send", answered, answered + 0.35, "work")
    response = message("200 OK ...", answered + 0.1, False)
    call("client", "recv", sent + 0.45, response, "wait")
    closed = response + 0.3
    call("client", "close", closed, closed + 0.35, "work")
    end = message("FIN", closed + 0.1, True)
    call("server", "recv: 0", answered + 0.45, end, "wait")
    call("server", "close", end + 0.1, end + 0.45, "work")
    last = message("FIN", end + 0.2, False)
    for x in (client, server):  # the life of each, behind all else
        p.parts.insert(0, f'<path d="M{x} 38 V{y(last + 0.2):.1f}" class="faint"/>')
    p.text(LEFT, y(end + 1.4), "The ACKs of data and of FIN are left out.", "soft")
    p.legend(y(end + 1.6), [("wait", "sleeps in the call"), ("work", "runs")])
    return p


# ---- A stream of bytes -------------------------------------------------------------------------

def stream() -> Picture:
    requests = ["GET /a HTTP…↵↵", "GET /b HTTP…↵↵"]
    whole = "".join(requests)
    first = len(requests[0])
    left = (WIDTH - CHARACTER * len(whole)) / 2
    p = Picture("Two requests in a stream, and how recv may cut it",
                "A client sends two requests. TCP keeps the order of the bytes and forgets where "
                "one send ended. recv may bring exactly one request, both at once, half of one, "
                "or one and a half.")

    def piece(y: float, start: int, end: int, h: float = 26) -> None:
        """The bytes from start to end, each in the colour of its request."""
        gap = 1.5
        for low, high, cls in ((0, first, "work"), (first, len(whole), "other")):
            a, b = max(start, low), min(end, high)
            if a < b:
                x = left + a * CHARACTER + (gap if a == start else 0)
                p.box(x, y, left + b * CHARACTER - (gap if b == end else 0) - x, h, cls)
        for i in range(start, end):
            p.text(left + (i + 0.5) * CHARACTER, y + 18, whole[i], "mono", "middle")

    def cut(y: float, title: str, ends: list[int]) -> float:
        """One way to cut the stream: where each recv ends."""
        p.text(left, y + 14, title, "title")
        start = 0
        for i, end in enumerate(ends):
            piece(y + 22, start, end)
            middle = left + (start + end) / 2 * CHARACTER
            p.text(middle, y + 65, f"recv {i + 1}" if end - start > 5 else str(i + 1), "soft",
                   "middle")
            start = end
        return y + 82

    n = len(whole)
    y = 8.0
    p.text(left, y + 14, "The client writes two requests", "title")
    piece(y + 22, 0, first)
    piece(y + 22, first, n)
    p.text(left + first / 2 * CHARACTER, y + 65, "send 1", "soft", "middle")
    p.text(left + (first + n) / 2 * CHARACTER, y + 65, "send 2", "soft", "middle")
    y += 96
    p.line([(0, y - 10), (WIDTH, y - 10)], "faint")
    y = cut(y, "As one hopes", [first, n])
    y = cut(y, "Both at once", [n])
    y = cut(y, "Half a request, then one and a half", [first // 2, n])
    y = cut(y, "One and a half, then half a request", [first + first // 2, n])
    y = cut(y, "Drop by drop", list(range(5, n, 5)) + [n])
    p.lines(left, y + 4, ["↵ is CR LF, the end of a line; … stands for more",
                          "lines. Only the empty line, ↵↵, tells where the",
                          "head of a request ends; recv does not."], "soft")
    return p


# ---- The queues of a listener ------------------------------------------------------------------

def backlog() -> Picture:
    p = Picture("The two queues of a listening socket",
                "A SYN makes an entry in the SYN queue, and the kernel answers SYN and ACK. The "
                "client's ACK moves the connection to the accept queue, where accept takes it "
                "out. When the accept queue is full, the ACK and new SYNs are dropped, and "
                "ListenOverflows counts them.")
    for i in range(4):
        p.circle(198 + i * 34, 28, "client")
    p.text(324, 33, "clients", "soft")
    p.box(LEFT, 86, RIGHT - LEFT, 376, "panel")
    p.text(RIGHT - 10, 108, "kernel", "soft", "end")

    def queue(y: float, title: str, cls: str, filled: int, cells: int = 8) -> None:
        p.text(28, y - 10, title, "title")
        for i in range(cells):
            p.box(28 + i * 30, y, 26, 30, cls if i < filled else "plain")

    p.arrow(234, 44, 234, 136)
    p.text(226, 72, "SYN", "", "end")
    p.arrow(256, 136, 256, 44)
    p.text(264, 72, "SYN, ACK")
    queue(140, "SYN queue: half open", "wait", 3)
    p.lines(28, 190, ["the kernel has answered, and waits for the ACK"], "soft")
    p.lines(28, 210, ["full: a SYN cookie is sent instead; without",
                      "tcp_syncookies, the SYN is dropped"], "alarm")
    p.arrow(252, 242, 252, 296)
    p.text(262, 266, "ACK: connected")
    queue(300, "accept queue: complete", "wait", 6)
    p.lines(28, 350, ["what clients send is taken in; nobody reads it yet"], "soft")
    p.lines(28, 370, ["full: the last ACK is dropped, and so is every",
                      "new SYN; TcpExtListenOverflows counts both.",
                      "The clients try again, soon less and less often"], "alarm")
    p.text(28, 442, "room for min(backlog, net.core.somaxconn) + 1", "")
    p.arrow(236, 452, 236, 500)
    p.text(228, 486, "accept takes the first", "", "end")
    p.box(146, 504, 180, 36, "work", "the process")
    p.lines(LEFT, 568, ["ss -tln shows the accept queue: Recv-Q is how",
                        "many are in it, Send-Q its backlog."], "soft")
    return p


# ---- select's sets -----------------------------------------------------------------------------

SMALL, LARGE = list(range(3, 11)), [1022, 1023]
WATCHED, READY = {3, 4, 6, 7, 8, 10, 1023}, {6}


def fd_x(fd: int) -> tuple[int, int]:
    """Left edge and width of the cell of a descriptor."""
    if fd in SMALL:
        return LEFT + 6 + 29 * SMALL.index(fd), 27
    return 274 + 47 * (LARGE + [1024]).index(fd), 45


def sets() -> Picture:
    p = Picture("What select does, each time",
                "The process sets a bit for each client. The kernel copies the set in, looks at "
                "each descriptor, and overwrites the set with those that are ready. The process "
                "looks at all bits again. There is no bit for descriptor 1024.")

    def bits(y: float, marked: set[int], cls: str, looked: Container[int] = ()) -> None:
        for fd in SMALL + LARGE:
            x, w = fd_x(fd)
            p.box(x, y, w, 28, cls if fd in marked else "plain", "1" if fd in marked else "0",
                  "mono" if fd in marked else "mono soft")
            if fd in looked:
                p.arrow(x + w / 2, y + 52, x + w / 2, y + 31)
        p.text(fd_x(10)[0] + 41, y + 18, "...", "soft", "middle")

    def numbers(y: float) -> None:
        for fd in SMALL + LARGE + [1024]:
            x, w = fd_x(fd)
            p.text(x + w / 2, y, str(fd), "alarm" if fd == 1024 else "soft", "middle")

    everything = SMALL + LARGE
    y = 8
    p.lines(LEFT + 6, y + 14, ["1  The process builds the set", ], "title")
    p.text(LEFT + 6, y + 34, "FD_SET for each client, every time", "soft")
    numbers(y + 58)
    bits(y + 66, WATCHED, "client")
    x, w = fd_x(1024)
    p.box(x, y + 66, w, 28, "wait", "?", "alarm")
    p.line([(x - 2, y + 60), (x - 2, y + 100)], "edge")
    p.lines(RIGHT, y + 118, ["no bit for 1024: FD_SET would write", "behind the set"], "alarm",
            "end")
    p.arrow(MIDDLE - 150, y + 100, MIDDLE - 150, y + 156)
    p.text(MIDDLE - 140, y + 130, "copied in", "soft")

    y = 168
    p.box(4, y, WIDTH - 8, 116, "panel")
    p.text(LEFT + 6, y + 22, "2  The kernel looks at each one", "title")
    p.text(RIGHT - 8, y + 22, "kernel", "soft", "end")
    bits(y + 34, WATCHED, "client", WATCHED)
    for fd in READY:
        p.box(fd_x(fd)[0], y + 34, 27, 28, "work", "1", "mono")
    p.text(LEFT + 6, y + 106, f"{len(WATCHED)} looks, {len(READY)} is ready: {min(READY)}", "soft")
    p.arrow(MIDDLE - 150, y + 116, MIDDLE - 150, y + 156)
    p.text(MIDDLE - 140, y + 142, "copied out, over the set that was passed in", "soft")

    y = 340
    p.text(LEFT + 6, y + 2, "3  The process looks at each bit", "title")
    p.text(LEFT + 6, y + 22, "FD_ISSET up to the highest descriptor", "soft")
    bits(y + 34, READY, "work", everything)
    p.lines(LEFT + 6, y + 108, [f"It finds {min(READY)}, serves it, and begins again at 1:",
                                "the set has lost the others."], "soft")
    return p


# ---- epoll -------------------------------------------------------------------------------------

def epoll() -> Picture:
    p = Picture("epoll: an interest list and a ready list",
                "epoll_ctl puts a connection into the interest list, a red-black tree in the "
                "kernel, once. Data that comes in puts the connection into the ready list. "
                "epoll_wait copies out the entries of the ready list alone.")
    fds, ready = [5, 6, 7, 8, 9, 10, 11], [6, 11]
    p.box(LEFT, 10, RIGHT - LEFT, 44, "work", "the process", "title")
    p.arrow(90, 54, 90, 128)
    p.lines(100, 78, ["epoll_ctl: once for", "each connection"])
    p.arrow(366, 128, 366, 56)
    p.lines(356, 78, ["epoll_wait:", "ready ones only"], "", "end")
    p.box(LEFT, 130, RIGHT - LEFT, 262, "panel")
    p.text(LEFT + 10, 154, "interest list", "title")
    p.text(LEFT + 10, 173, "a red-black tree", "soft")
    p.text(RIGHT - 10, 154, "ready list", "title", "end")

    where = {}

    def place(low: int, high: int, depth: int) -> int | None:
        """A balanced tree: the middle one above the two halves."""
        if low >= high:
            return None
        middle = (low + high) // 2
        fd = fds[middle]
        where[fd] = (LEFT + 30 + middle * 38, 206 + depth * 62)
        for child in (place(low, middle, depth + 1), place(middle + 1, high, depth + 1)):
            if child:
                p.line([where[fd], where[child]])
        return fd

    place(0, len(fds), 0)
    for fd, (x, y) in where.items():
        p.circle(x, y, "work" if fd in ready else "client", str(fd), r=17)
    for i, fd in enumerate(ready):
        p.box(342, 172 + i * 50, 48, 34, "work", str(fd))
        if i:
            p.arrow(366, 222, 366, 208)
    x, y = where[11]
    p.line([(x + 17, y), (366, y), (366, 260)], "line arrow")
    p.lines(x - 12, 366, ["its arrival runs a callback,", "which links it in"], "soft", "end")
    p.arrow(x, 436, x, y + 19)
    p.text(x + 10, 424, "data for 11")
    p.lines(LEFT, 458, ["Five silent clients cost nothing here: they lie in the",
                        "tree, and nobody looks at them."], "soft")
    return p


# ---- Queues of several workers -----------------------------------------------------------------

def queues() -> Picture:
    p = Picture("One queue for all workers, or one for each",
                "Shared listener: every epoll that watches it is woken for one client; one gets "
                "it, the others get EAGAIN. With EPOLLEXCLUSIVE one is woken, often the same. "
                "With SO_REUSEPORT a hash of the addresses chooses a queue; clients in the queue "
                "of a stuck worker wait though others are idle.")
    w, xs = 122, [LEFT + 8 + i * 136 for i in range(3)]

    def panel(y: float, h: float, title: str, note: list[str]) -> None:
        p.box(4, y, WIDTH - 8, h, "panel")
        p.text(LEFT, y + 22, title, "title")
        p.lines(LEFT, y + h - 14 - 19 * (len(note) - 1), note, "soft")

    def worker(i: int, y: float, cls: str, what: str) -> None:
        p.box(xs[i], y, w, 46, cls)
        p.text(xs[i] + w / 2, y + 20, f"worker {i + 1}", "", "middle")
        p.text(xs[i] + w / 2, y + 38, what, "", "middle")

    def shared(y: float) -> None:
        p.box(MIDDLE - 70, y, 140, 34, "plain")
        p.circle(MIDDLE - 48, y + 17, "client")
        p.text(MIDDLE - 26, y + 22, "one queue", "soft")

    y = 6
    panel(y, 218, "One listener in every epoll",
          ["one client: all are woken, one gets it, and the", "others have worked for nothing"])
    shared(y + 36)
    for i in range(3):
        p.arrow(MIDDLE + (i - 1) * 40, y + 70, xs[i] + w / 2, y + 114)
        worker(i, y + 116, "work" if i == 1 else "plain", "gets it" if i == 1 else "EAGAIN")
    y += 226
    panel(y, 218, "The same, with EPOLLEXCLUSIVE",
          ["one client: one is woken (or more); mostly the",
           "first in line that sleeps, so it has most clients"])
    shared(y + 36)
    p.arrow(MIDDLE - 40, y + 70, xs[0] + w / 2, y + 114)
    for i in range(3):
        worker(i, y + 116, "work" if i == 0 else "wait", "gets it" if i == 0 else "asleep")
    y += 226
    panel(y, 286, "A listener each: SO_REUSEPORT",
          ["the hash does not know who is busy: two wait for",
           "worker 2, and worker 1 and 3 have nothing to do"])
    p.box(MIDDLE - 110, y + 36, 220, 32, "plain", "hash of addresses, ports")
    for i, waiting in enumerate((0, 2, 0)):
        p.arrow(MIDDLE + (i - 1) * 70, y + 68, xs[i] + w / 2, y + 102)
        p.box(xs[i], y + 104, w, 38, "plain")
        for j in range(waiting):
            p.circle(xs[i] + w / 2 + (j - 0.5) * 36, y + 123, "wait")
        if not waiting:
            p.text(xs[i] + w / 2, y + 128, "empty", "soft", "middle")
        p.arrow(xs[i] + w / 2, y + 142, xs[i] + w / 2, y + 180, "late" if waiting else "line")
        worker(i, y + 182, "work" if waiting else "wait", "slow handler" if waiting else "asleep")
    return p


PICTURES = {"connection": connection, "stream": stream, "backlog": backlog, "sets": sets,
            "epoll": epoll, "queues": queues}
