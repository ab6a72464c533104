"""picture_callbacks.py - handlers in pieces: who waits for whom, and one function cut in two.

The spans of the timeline are computed by a model, not placed. Does not: measure; times are made
up.
"""
import heapq

from picture_draw import WIDTH, Picture
from picture_time import QUIET, WAIT, WORK, Client, Row, Span, add_span, fill_gaps, timeline

Piece = tuple[float, int, Client, float, float]  # when, order, whose, seconds of work, of a wait


# ---- Who waits for whom ------------------------------------------------------------------------

def in_pieces(clients: list[Client], upstream_s: dict[str, float], half_s: float,
              end: float) -> list[Span]:
    """One process does whatever piece of a handler became ready first. Who is in upstream_s has
    a handler in two pieces of half_s each, and the upstream takes so long in between."""
    ready: list[Piece] = []
    process: list[Span] = []
    until = {c.name: c.arrives for c in clients}
    t = 0.0
    for c in clients:
        for when, work in c.requests:
            wait = upstream_s.get(c.name, 0.0)
            heapq.heappush(ready, (when, len(ready), c, half_s if wait else work, wait))
    while ready:
        when, order, c, work, wait = heapq.heappop(ready)
        c.span(until[c.name], when, QUIET, "silent")
        start = max(t, when)
        c.span(max(when, until[c.name]), start, WAIT, "waits")
        t = start + work
        c.span(start, t, WORK, "served")
        cut = c.name in upstream_s
        piece = c.name + ("1" if wait else "2") if cut else c.name
        add_span(process, start, t, WORK, f"handler of {c.name}", piece)
        until[c.name] = t
        if wait:
            c.span(t, t + wait, WAIT, "waits for the upstream", "upstream")
            until[c.name] = t + wait
            heapq.heappush(ready, (t + wait, order, c, half_s, 0.0))
    for c in clients:
        c.span(until[c.name], end, QUIET, "silent")
    return fill_gaps(process, end, "epoll_wait")


def timeline_6() -> Picture:
    end = 7
    clients = [Client("A", "asks for /upstream", 0.2, ((0.5, 0),)),
               Client("B", "asks for /upstream, too", 0.2, ((2.1, 0),)),
               Client("C", "sends two requests", 0.2, ((1.4, 0.5), (3.2, 0.5)))]
    process = in_pieces(clients, {"A": 2.6, "B": 2.6}, 0.4, end)
    rows: list[Client | Row] = [*clients, ("the process", "A1, A2: pieces of one handler",
                                           process)]
    return timeline("Stage 6: one process, handlers in pieces",
                    "The handler of A asks the upstream and returns. While A waits, the process "
                    "serves C, then begins B, whose handler asks the upstream, too. When the "
                    "upstream has answered, a second piece of A's handler runs, and then one of "
                    "B's. C never waits.",
                    end, rows)


# ---- One function, cut in two ------------------------------------------------------------------

def function(p: Picture, x: float, y: float, w: float, name: str,
             steps: list[tuple[str, str, float]]) -> float:
    """A function: its name, and its steps (class, words, height). Returns the y below."""
    p.text(x, y + 12, name, "mono")
    y += 18
    for cls, words, height in steps:
        p.box(x, y, w, height, cls, words)
        y += height + 3
    return y


def cut_in_two() -> Picture:
    p = Picture("One function, cut in two",
                "Left, the handler that blocks: it reads the number, sleeps in clock_nanosleep, "
                "and answers; c, req, ms and until stay on its stack. Right, the same with a "
                "callback: the handler makes a struct nap of c, req, ms and until, gives the loop "
                "a timer, and returns. The loop serves others. Then on_timer answers and frees "
                "the struct; or, if the client has reset before, cancel takes the timer back and "
                "frees it.")
    w, h = 202.0, 30.0
    left, right = 12.0, WIDTH - 12 - w
    p.text(left, 24, "It blocks", "title")
    p.text(right, 24, "It returns", "title")
    top = 40.0
    y = function(p, right, top, w, "handler_sleep()",
                 [("work", "ms = ?", h), ("work", "event_add, return", h)])
    gap = y + 4
    p.arrow(right + 24, y - 2, right + 24, gap + 34)
    p.text(right + 36, gap + 12, "the loop goes on,", "soft")
    p.text(right + 36, gap + 29, "and serves others", "soft")
    nap = gap + 36
    p.box(right, nap, w, 66, "other")
    p.text(right + w / 2, nap + 20, "struct nap", "mono", "middle")
    p.text(right + w / 2, nap + 39, "c, req, ms, until,", "", "middle")
    p.text(right + w / 2, nap + 57, "timer, cancel", "", "middle")
    p.arrow(right + 24, nap + 66, right + 24, nap + 94)
    p.text(right + 36, nap + 86, "time is over", "soft")
    timer = nap + 98
    y = function(p, right, timer, w, "on_timer()",
                 [("work", "reply", h), ("work", "free(nap)", h)])
    bottom = y
    p.text(left, top + 12, "handler_sleep()", "mono")
    p.box(left, top + 18, w, h, "work", "ms = ?")
    sleep_top, sleep_end = top + 18 + h + 3, timer + 15
    p.box(left, sleep_top, w, sleep_end - sleep_top, "wait")
    middle = (sleep_top + sleep_end) / 2
    p.text(left + w / 2, middle - 46, "clock_nanosleep", "mono", "middle")
    p.text(left + w / 2, middle - 26, "and nobody is served", "alarm", "middle")
    p.box(left + 16, middle - 6, w - 32, 46, "other")
    p.text(left + w / 2, middle + 12, "on its stack:", "", "middle")
    p.text(left + w / 2, middle + 31, "c, req, ms, until", "", "middle")
    p.box(left, timer + 18, w, h, "work", "reply")
    p.lines(left, timer + 18 + h + 23, ["Nobody asks whether", "the client is there."], "soft")
    p.line([(left, bottom + 12), (WIDTH - 12, bottom + 12)], "faint")
    p.lines(left, bottom + 44, ["Or the client resets", "while it waits:"], "soft")
    function(p, right, bottom + 22, w, "cancel()", [("work", "event_del, free(nap)", h)])
    return p


PICTURES = {"timeline-6": timeline_6, "callbacks": cut_in_two}
