"""picture_threads.py - stage 5: who waits for whom among threads, and whose a connection is.

by_pool() is what the threads of a process do: whoever is free takes the request that has waited
longest. Does not: measure; times are made up.
"""
from picture_draw import WIDTH, Picture
from picture_time import QUIET, WAIT, WORK, Client, Row, Span, add_span, fill_gaps, timeline

LEFT, RIGHT = 12, WIDTH - 12


def by_pool(clients: list[Client], threads: int, end: float) -> list[list[Span]]:
    """What each of the threads does."""
    free = [0.0] * threads
    lanes: list[list[Span]] = [[] for _ in range(threads)]
    until = {c.name: c.arrives for c in clients}
    for when, name, cost, c in sorted((when, c.name, cost, c) for c in clients
                                      for when, cost in c.requests):
        w = free.index(min(free))
        start = max(when, free[w])
        free[w] = start + cost
        c.span(until[name], when, QUIET, "silent")
        c.span(when, start, WAIT, "in the queue", "waits")
        c.span(start, free[w], WORK, "slow handler", "served")
        add_span(lanes[w], start, free[w], WORK, f"handler of {name}", name)
        until[name] = free[w]
    for c in clients:
        c.span(until[c.name], end, QUIET, "silent")
    return [fill_gaps(spans, end, "asleep", "") for spans in lanes]


def waits() -> Picture:
    end = 8
    clients = [Client("A", "sends a request now and then", 0.3,
                      ((0.6, 0.6), (2.2, 0.6), (4.4, 0.6), (6.8, 0.6))),
               Client("B", "asks for a slow page", 0.6, ((1.4, 3.9),)),
               Client("C", "asks for a slow page, too", 1, ((3.2, 3),))]
    lanes = by_pool(clients, 2, end)
    rows: list[Client | Row] = [*clients]
    rows += [(f"thread {i + 1}", "", spans) for i, spans in enumerate(lanes)]
    return timeline("Stage 5: one process, a loop and two threads",
                    "B's slow handler holds one thread. A is served by the other one at once, "
                    "until C's slow handler holds that, too. Then A's request lies in the queue "
                    "until the first of the two handlers is done.", end, rows)


# ---- Whose is a connection ---------------------------------------------------------------------

def owner() -> Picture:
    p = Picture("Whose is a connection",
                "A connection belongs to the loop while epoll watches it. An event disarms it, "
                "and the loop puts it into the queue, where it belongs to nobody. A thread takes "
                "it out, and alone reads, answers and closes it. It gives it back by arming it "
                "again with epoll_ctl.")
    x, w, h = 24.0, 252.0, 76.0
    steps = (("the loop's", "other", ("armed: epoll may tell of it,", "its time may run out")),
             ("in the queue", "wait", ("disarmed: nobody touches it,", "it waits for a thread")),
             ("a thread's", "work", ("disarmed: recv, handler,", "send; all of it is its own")))
    between = (("epoll_wait tells of it once;", "queue_push"), ("queue_take", ""))
    y = 10.0
    tops = []
    for i, (name, cls, words) in enumerate(steps):
        tops.append(y)
        p.box(x, y, w, h, cls)
        p.text(x + w / 2, y + 22, name, "title", "middle")
        p.lines(x + w / 2, y + 44, words, "", "middle")
        y += h
        if i < len(between):
            p.arrow(x + 30, y, x + 30, y + 52)
            p.lines(x + 42, y + (24 if between[i][1] else 32), [t for t in between[i] if t],
                    "mono")
            y += 54
    back = RIGHT - 54
    p.line([(x + w, tops[2] + h / 2), (back, tops[2] + h / 2), (back, tops[0] + h / 2)])
    p.arrow(back, tops[0] + h / 2, x + w + 2, tops[0] + h / 2)
    p.lines(back - 8, tops[1] + 20, ["watch:", "armed", "again"], "mono", "end")
    p.arrow(x + w / 2 - 60, y, x + w / 2 - 60, y + 26)
    p.text(x + w / 2 - 48, y + 20, "WANT_CLOSE: closed here", "mono")
    p.lines(LEFT, y + 56, ["Its time is up while it is the loop's: closed by the",
                           "loop. While it is not: who has it judges, or the",
                           "loop, when it is back."], "soft")
    return p


PICTURES = {"5-waits": waits, "5-owner": owner}
