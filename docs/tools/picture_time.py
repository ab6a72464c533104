"""picture_time.py - who waits for whom over time. The spans are computed by a model, not placed.

one_by_one() is what stages 1 and 2 do, by_readiness() what stages 3 and 4 do, round_robin() what
a process does whose handlers give way while they wait. Does not: measure; times are made up.
"""
from collections.abc import Sequence
from dataclasses import dataclass, field

from picture_draw import WIDTH, Picture, number

LEFT, RIGHT = 12, WIDTH - 12
WAIT, WORK, QUIET = "wait", "work", "client"

Span = tuple[float, float, str, tuple[str, ...]]  # from, until, class, what to write into it
Job = tuple[str, tuple[tuple[str, float], ...]]  # name, (class, seconds) of each step
Row = tuple[str, str, list[Span]]                # name, note


@dataclass
class Client:
    """Connects, sends requests (when, seconds of work), and hangs up if `leaves` is set."""
    name: str
    note: str
    arrives: float
    requests: tuple[tuple[float, float], ...] = ()
    leaves: float = 0
    worker: int = 0
    spans: list[Span] = field(default_factory=list)

    def span(self, start: float, end: float, cls: str, *words: str) -> None:
        add_span(self.spans, start, end, cls, *words)


def add_span(spans: list[Span], start: float, end: float, cls: str, *words: str) -> None:
    """Words: what to write into it, the longest that fits is taken."""
    if end > start + 1e-9:
        spans.append((start, end, cls, words))


def fill_gaps(spans: list[Span], end: float, *words: str) -> list[Span]:
    """What a process does while it has nothing to do: it sleeps."""
    filled: list[Span] = []
    t = 0.0
    for span in sorted(spans):
        add_span(filled, t, span[0], WAIT, *words)
        filled.append(span)
        t = span[1]
    add_span(filled, t, end, WAIT, *words)
    return filled


# ---- The policies ------------------------------------------------------------------------------

def one_by_one(clients: list[Client], workers: int, end: float) -> list[list[Span]]:
    """A worker takes the client that has waited longest, and keeps it until it is finished."""
    free = [0.0] * workers
    lanes: list[list[Span]] = [[] for _ in range(workers)]
    for c in sorted(clients, key=lambda client: client.arrives):
        w = free.index(min(free))
        t = max(c.arrives, free[w])
        c.span(c.arrives, t, WAIT, "waits in the queue", "in the queue", "waits")
        for when, cost in c.requests:
            add_span(lanes[w], t, when, WAIT, f"asleep in recv, for {c.name}", f"recv: {c.name}")
            c.span(t, when, QUIET, "silent")
            t = max(t, when)
            add_span(lanes[w], t, t + cost, WORK, f"serves {c.name}", c.name)
            c.span(t, t + cost, WORK, "served")
            t += cost
        add_span(lanes[w], t, c.leaves, WAIT, f"asleep in recv, for {c.name}", f"recv: {c.name}")
        c.span(t, c.leaves, QUIET, "silent")
        free[w] = max(t, c.leaves)
    return [fill_gaps(spans, end, "accept") for spans in lanes]


def by_readiness(clients: list[Client], workers: int, end: float, call: str) -> list[list[Span]]:
    """Each worker serves whatever request of its own clients came first, and sleeps if none did."""
    lanes = []
    for w in range(workers):
        spans: list[Span] = []
        t = 0.0
        own = [c for c in clients if c.worker == w]
        until = {c.name: c.arrives for c in own}
        for when, name, cost, c in sorted((when, c.name, cost, c) for c in own
                                          for when, cost in c.requests):
            start = max(t, when)
            t = start + cost
            c.span(until[name], when, QUIET, "silent")
            running = [words[-1] for begin, stop, _, words in spans if begin <= when < stop]
            c.span(max(when, until[name]), start, WAIT, f"waits for {''.join(running)}", "waits")
            c.span(start, t, WORK, "slow handler", "served")
            add_span(spans, start, t, WORK, f"handler of {name}", name)
            until[name] = t
        for c in own:
            c.span(until[c.name], c.leaves or end, QUIET, "silent")
        lanes.append(fill_gaps(spans, end, f"asleep in {call}", call))
    return lanes


# ---- Drawing ----------------------------------------------------------------------------------

def put_span(p: Picture, x: float, y: float, w: float, h: float, cls: str,
             words: Sequence[str]) -> None:
    fitting = [word for word in words if 7.6 * len(word) + 8 <= w]
    p.box(x, y, w, h, cls, fitting[0] if fitting else "")


def axis(p: Picture, top: float, y: float, end: float) -> float:
    """Seconds below, and a line upwards at each of them."""
    scale = (RIGHT - LEFT) / end
    marks = []
    for second in range(int(end) + 1):
        x = LEFT + second * scale
        p.text(min(max(x, LEFT + 4), RIGHT - 8), y + 18, str(second), "soft", "middle")
        marks.append(f"M{x:.1f} {number(top)} V{number(y)}")
    p.parts.insert(0, f'<path d="{" ".join(marks)}" class="faint"/>')
    p.text(WIDTH / 2, y + 38, "seconds, in a model", "soft", "middle")
    return y + 46


def lane(p: Picture, y: float, name: str, note: str, spans: list[Span],
         end: float) -> float:
    scale = (RIGHT - LEFT) / end
    p.text(LEFT, y + 15, name, "title")
    p.text(LEFT + 10 + 9.8 * len(name), y + 15, note, "soft")
    for start, stop, cls, words in spans:
        put_span(p, LEFT + start * scale, y + 22, (stop - start) * scale, 26, cls, words)
    return y + 58


def timeline(title: str, description: str, end: float,
             rows: Sequence[Client | Row]) -> Picture:
    """rows: clients, and (name, note, spans) of processes."""
    p = Picture(title, description)
    y = 8.0
    top = y + 22
    for row in rows:
        name, note, spans = ((row.name, row.note, row.spans) if isinstance(row, Client) else row)
        y = lane(p, y, name, note, spans, end)
    y = axis(p, top, y, end)
    p.legend(y + 4, [(WAIT, "waits, asleep"), (WORK, "works, is served"), (QUIET, "silent")])
    return p


def timeline_1() -> Picture:
    end = 7
    clients = [Client("A", "says nothing, hangs up at 4 s", 0.4, leaves=4),
               Client("B", "sends a request", 1, ((1, 0.7),)),
               Client("C", "sends a request", 1.6, ((1.6, 0.7),)),
               Client("D", "sends a request", 2.4, ((2.4, 0.7),))]
    lanes = one_by_one(clients, 1, end)
    return timeline("Stage 1: one process, one client at a time",
                    "Client A connects and says nothing. The process sleeps in recv for A until A "
                    "hangs up. B, C and D wait in the queue meanwhile, and are served one after "
                    "the other when A is gone.",
                    end, clients + [("the process", "", lanes[0])])


def timeline_2() -> Picture:
    end = 7
    clients = [Client("A", "says nothing, hangs up at 5 s", 0.4, leaves=5),
               Client("B", "sends a request", 1, ((1, 0.7),)),
               Client("C", "says nothing, hangs up at 6 s", 2, leaves=6),
               Client("D", "sends a request", 2.6, ((2.6, 0.7),))]
    lanes = one_by_one(clients, 2, end)
    return timeline("Stage 2: two workers, two silent clients",
                    "A silent client holds worker 1, and B is served by worker 2. Then a second "
                    "silent client holds worker 2, and D waits until one of the two hangs up.",
                    end, clients + [(f"worker {w + 1}", "", lanes[w]) for w in range(2)])


def timeline_3() -> Picture:
    end = 7
    clients = [Client("A", "says nothing, and disturbs nobody", 0.4),
               Client("B", "sends two requests", 0.8, ((0.8, 0.6), (3.4, 0.6))),
               Client("C", "asks for a slow page", 1.8, ((2.4, 2.1),)),
               Client("D", "sends two requests", 2.9, ((2.9, 0.6), (6.2, 0.6)))]
    lanes = by_readiness(clients, 1, end, "select")
    return timeline("Stage 3: one process asks select who is ready",
                    "Client A is silent, and B is served at once. Then a handler runs for two "
                    "seconds for C. B and D wait until it returns, though the process has many "
                    "clients at once.",
                    end, clients + [("the process", "", lanes[0])])


def timeline_4() -> Picture:
    end = 7
    clients = [Client("A", "says nothing", 0.4),
               Client("B", "sends a request now and then", 0.8, ((0.8, 0.6), (2.8, 0.6), (5, 0.6))),
               Client("C", "asks for a slow page", 1.3, ((1.9, 2.8),), worker=1),
               Client("D", "sends two requests", 0.6, ((0.6, 0.6), (2.7, 0.6)), worker=1)]
    lanes = by_readiness(clients, 2, end, "epoll_wait")
    rows: list[Client | Row] = []
    for w in range(2):
        rows += [c for c in clients if c.worker == w]
        rows.append((f"worker {w + 1}", "has " + " and ".join(
            c.name for c in clients if c.worker == w), lanes[w]))
    return timeline("Stage 4: two workers, each with clients of its own",
                    "A and B belong to worker 1, C and D to worker 2. The slow handler of C makes "
                    "D wait. B is served at once all the time; but worker 1 does not take D over.",
                    end, rows)


# ---- Beyond: a request that computes, waits, computes ------------------------------------------

def in_turn(jobs: Sequence[Job], processes: int) -> list[list[Span]]:
    """Each process takes a job and keeps it, through its waits, until it is done."""
    lanes: list[list[Span]] = [[] for _ in range(processes)]
    free = [0.0] * processes
    for name, steps in jobs:
        w = free.index(min(free))
        for kind, cost in steps:
            add_span(lanes[w], free[w], free[w] + cost, kind, name)
            free[w] += cost
    return lanes


def round_robin(jobs: Sequence[Job], processes: int) -> list[list[Span]]:
    """Each process computes for one of its jobs while others of them wait."""
    lanes = []
    for w in range(processes):
        spans: list[Span] = []
        t = 0.0
        ready = [(0.0, i, list(steps), name) for i, (name, steps) in enumerate(jobs)
                 if i % processes == w]
        while ready:
            when, i, steps, name = ready.pop(ready.index(min(ready)))
            kind, cost = steps.pop(0)
            if kind == WORK:
                t = max(t, when)
                add_span(spans, t, t + cost, WORK, name)
                t += cost
                when = t
            else:
                when += cost
            if steps:
                ready.append((when, i, steps, name))
        lanes.append(spans)
    return lanes


def last(lanes: list[list[Span]]) -> float:
    return max(span[1] for spans in lanes for span in spans)


def beyond() -> Picture:
    p = Picture("What helps against which part of a request's time",
                "A request computes, waits for a database, and computes again. Coroutines let the "
                "waits of several requests overlap in one process. Task workers run handlers that "
                "block or compute beside the loop. More machines do both.")
    steps = ((WORK, 0.5), (WAIT, 2), (WORK, 0.5))
    waiting = [(str(n), steps) for n in (1, 2, 3)]
    computing = [(str(n), ((WORK, 3),)) for n in (1, 2, 3)]
    end, y = 9, 10.0
    scale = (RIGHT - LEFT) / end

    def bars(y: float, name: str, lanes: list[list[Span]]) -> float:
        p.text(LEFT, y + 14, name, "title")
        y += 22
        for spans in lanes:
            for start, stop, cls, words in fill_gaps(spans, last([spans]), ""):
                put_span(p, LEFT + start * scale, y, (stop - start) * scale, 26, cls, words)
            y += 31
        return y + 9

    p.text(LEFT, y + 14, "One request", "title")
    y += 22
    x = float(LEFT)
    for (cls, cost), words in zip(steps, (("1",), ("waits for a database", "waits"), ("1",))):
        put_span(p, x, y, cost * scale, 26, cls, words)
        x += cost * scale
    p.legend(y + 6, [(WORK, "computes"), (WAIT, "waits")], x + 16)
    y += 40
    p.text(LEFT, y + 12, "Three of them, all sent at 0:", "soft")
    y += 24
    top = y + 22
    table = []
    for name, policy, processes, short in (
            ("The handler blocks", in_turn, 1, "handler blocks"),
            ("Coroutines, or asynchronous calls", round_robin, 1, "coroutines"),
            ("Two task workers, beside the loop", in_turn, 2, "two task workers"),
            ("Two machines, with coroutines", round_robin, 2, "two machines")):
        lanes = policy(waiting, processes)
        y = bars(y, name, lanes)
        table.append((short, last(lanes), last(policy(computing, processes))))
    y = axis(p, top, y, end) + 16
    p.lines(300, y, ["all wait", "mostly"], "soft", "end")
    p.lines(RIGHT, y, ["all compute", "3 s each"], "soft", "end")
    p.text(LEFT, y + 19, "The last answer comes", "soft")
    y += 28
    slowest = [max(row[1] for row in table), max(row[2] for row in table)]
    for name, *seconds in table:
        p.line([(LEFT, y), (RIGHT, y)], "faint")
        p.text(LEFT, y + 20, name)
        for x, value, worst in zip((300, RIGHT), seconds, slowest):
            p.text(x, y + 20, f"at {value:g} s", "alarm" if value == worst else "", "end")
        y += 28
    p.text(LEFT, y + 20, "Each process has a cpu of its own here.", "soft")
    return p


PICTURES = {"timeline-1": timeline_1, "timeline-2": timeline_2, "timeline-3": timeline_3,
            "timeline-4": timeline_4, "beyond": beyond}
