"""picture_coroutines.py - stage 7: who waits for whom over time, and two stacks at a switch.

Does not: measure; the times of the model are made up, the frames are those of the code.
"""
from dataclasses import dataclass

from picture_draw import WIDTH, Picture
from picture_time import QUIET, WAIT, WORK, Client, Row, Span, add_span, fill_gaps, timeline

LEFT, RIGHT = 12, WIDTH - 12
Steps = tuple[tuple[str, float], ...]  # (class, seconds): what a handler does


# ---- Over time ---------------------------------------------------------------------------------

@dataclass
class Asked:
    """A request: when it comes, of whom, and what its handler does."""
    when: float
    client: Client
    steps: Steps


def by_turns(asked: list[Asked], end: float) -> list[Span]:
    """One process: who is ready first runs until its handler waits or is done."""
    lane: list[Span] = []
    quiet_since = {id(a.client): a.client.arrives for a in asked}
    ready = sorted(((a.when, i, 0) for i, a in enumerate(asked)), reverse=True)
    t = 0.0
    while ready:
        when, i, step = ready.pop()
        c, steps = asked[i].client, asked[i].steps
        kind, cost = steps[step]
        if step == 0:
            c.span(quiet_since[id(c)], when, QUIET, "silent")
        if kind == WAIT:
            c.span(when, when + cost, WAIT, "waits for the upstream", "waits")
            t_next = when + cost
        else:
            c.span(when, max(t, when), WAIT, "waits")
            t = t_next = max(t, when) + cost
            c.span(t - cost, t, WORK, "served")
            add_span(lane, t - cost, t, WORK, c.name)
        quiet_since[id(c)] = t_next
        if step + 1 < len(steps):
            ready.append((t_next, i, step + 1))
            ready.sort(reverse=True)
    for c in {id(a.client): a.client for a in asked}.values():
        c.span(quiet_since[id(c)], end, QUIET, "silent")
    return fill_gaps(lane, end, "asleep in epoll_wait", "epoll_wait", "asleep")


def timeline_7() -> Picture:
    end = 7
    short: Steps = ((WORK, 0.5),)
    asks: Steps = ((WORK, 0.4), (WAIT, 3.4), (WORK, 0.4))
    a = Client("A", "says nothing", 0.4)
    b = Client("B", "sends a request now and then", 0.6)
    c = Client("C", "asks for a page of a slow upstream", 1)
    d = Client("D", "sends two requests", 0.5)
    lane = by_turns([Asked(0.6, b, short), Asked(1.4, c, asks), Asked(3.1, b, short),
                     Asked(3.9, d, short), Asked(4.6, b, short), Asked(6, d, short)], end)
    a.span(a.arrives, end, QUIET, "silent")
    rows: list[Client | Row] = [a, b, c, d, ("the process", "one thread", lane)]
    return timeline("Stage 7: one process, a coroutine for each client",
                    "Client C asks for a page that an upstream takes its time for. Its coroutine "
                    "waits; the process serves B and D meanwhile, and sleeps in epoll_wait when "
                    "nobody is ready. Client A is silent, and disturbs nobody.", end, rows)


# ---- Two stacks --------------------------------------------------------------------------------

FRAME, WORD, COLUMN = 26, 20, 176
SAVED = ("rbp", "rbx", "r12", "r13", "r14", "r15")


def stack(p: Picture, x: float, top: float, cls: str, frames: tuple[str, ...],
          back: str) -> tuple[float, float]:
    """One stack, growing downwards. Returns the y of the return address and of its end."""
    y = top
    for name in frames:
        p.box(x, y, COLUMN, FRAME, cls, name)
        y += FRAME
    back_y = y
    p.box(x, y, COLUMN, FRAME, "wait", back)
    y += FRAME
    for name in SAVED:
        p.box(x, y, COLUMN, WORD, "plain", name, "mono")
        y += WORD
    return back_y, y


def switch() -> Picture:
    p = Picture("A switch from the loop's stack to a coroutine's",
                "On the loop's stack stand the frames of loop_run, coroutine_run_ready and "
                "resume, then where to go on in resume, then six registers; loop_sp points to the "
                "last. On the coroutine's stack stand serve, conn_fill, recv, loop_wait and "
                "leave, then where to go on in leave, then six registers; co->sp points to the "
                "last. The switch moves the stack pointer from one to the other.")
    left, right, top = LEFT, RIGHT - COLUMN, 62
    p.text(left + COLUMN / 2, 24, "the loop's stack", "title", "middle")
    p.text(right + COLUMN / 2, 24, "a coroutine's stack", "title", "middle")
    p.text(WIDTH / 2, 48, "calls grow downwards", "soft", "middle")
    p.arrow(WIDTH / 2, 58, WIDTH / 2, 118)
    _, low = stack(p, left, top, "client", ("loop_run", "coroutine_run_ready", "resume"),
                   "go on in resume")
    back, deep = stack(p, right, top, "work",
                       ("serve", "conn_fill", "recv, wrapped", "loop_wait", "leave"),
                       "go on in leave")
    p.text(left, low + 36, "loop_sp", "mono")
    p.arrow(left + 30, low + 22, left + 30, low + 3)
    p.text(right + COLUMN, deep + 36, "co->sp", "mono", "end")
    p.arrow(right + COLUMN - 30, deep + 22, right + COLUMN - 30, deep + 3)
    p.text(left + 66, low + 20, "1 push six,", "alarm")
    p.text(left + 66, low + 38, "2 keep %rsp", "alarm")
    p.line([(left + COLUMN, low), (WIDTH / 2 - 8, low), (WIDTH / 2 - 8, deep)], "edge")
    p.arrow(WIDTH / 2 - 8, deep, right - 2, deep, "edge")
    p.text(left + COLUMN - 6, deep + 20, "3 another %rsp", "alarm", "end")
    p.arrow(right - 14, deep - 8, right - 14, back + 12, "late")
    y = deep + 62
    y = p.lines(LEFT, y, ["4 pop six, upwards;", "5 pop where to go on, and jump there."], "alarm")
    p.lines(LEFT, y + 4, ["Below each end there is nothing of value. The",
                          "processor keeps a list of its own of where calls",
                          "return to; its last entry says: to resume."], "soft")
    return p


PICTURES = {"7-timeline": timeline_7, "7-switch": switch}
