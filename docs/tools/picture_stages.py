"""picture_stages.py - stages 1 to 4 side by side: who waits for whom."""
from picture_draw import WIDTH, Picture

W, H = (WIDTH - 24) / 2, 296  # of one panel
TITLES = ("1 blocking", "2 prefork", "3 select", "4 epoll, reuseport")
BELOW = (("sleeps in accept, then", "in one client's recv"),
         ("as many clients", "as there are processes"),
         ("sleeps in no client,", "looks at all of them"),
         ("the kernel remembers", "whom each one watches"))


def clients(p: Picture, left: float, y: float, count: int, served: int) -> list[float]:
    """A row of clients; `served` of them are talked to, the others wait. Returns their x."""
    xs = [left + W / count * (i + 0.5) for i in range(count)]
    for i, x in enumerate(xs):
        p.circle(x, y, "client" if i < served else "wait", r=11)
    return xs


def blocking(p: Picture, left: float, top: float) -> None:
    xs = clients(p, left, top + 54, 5, 1)
    p.text(xs[1] - 8, top + 92, "4 wait in the queue", "alarm")
    p.arrow(xs[0], top + 66, left + W / 2 - 20, top + 140)
    p.box(left + W / 2 - 64, top + 142, 128, 40, "work", "recv, send")
    p.text(left + W / 2, top + 204, "1 process", "soft", "middle")


def prefork(p: Picture, left: float, top: float) -> None:
    xs = clients(p, left, top + 54, 5, 3)
    p.text(left + W - 8, top + 92, "2 wait", "alarm", "end")
    for i in range(3):
        x = left + 8 + 66 * i
        p.arrow(xs[i], top + 66, x + 30, top + 110)
        p.box(x, top + 112, 60, 48, "work")
        p.text(x + 30, top + 132, "recv,", "", "middle")
        p.text(x + 30, top + 151, "send", "", "middle")
        p.line([(left + W / 2, top + 196), (x + 30, top + 160)], "late")
    p.box(left + W / 2 - 56, top + 190, 112, 30, "plain", "supervisor")


def select(p: Picture, left: float, top: float) -> None:
    xs = clients(p, left, top + 54, 5, 5)
    for x in xs:
        p.arrow(x, top + 66, left + W / 2 + (x - left - W / 2) / 2, top + 110)
    p.box(left + 14, top + 112, W - 28, 34, "work", "select: who is ready?")
    p.arrow(left + W / 2, top + 146, left + W / 2, top + 172)
    p.box(left + W / 2 - 64, top + 174, 128, 34, "work", "recv, send")


def epoll(p: Picture, left: float, top: float) -> None:
    xs = clients(p, left, top + 54, 6, 6)
    for i in range(2):
        x = left + 6 + 100 * i
        for j in range(3):
            p.arrow(xs[3 * i + j], top + 66, x + 24 + 24 * j, top + 92)
        p.box(x, top + 94, 96, 44, "work")
        p.text(x + 48, top + 113, "a listener", "", "middle")
        p.text(x + 48, top + 131, "each", "", "middle")
        p.arrow(x + 48, top + 138, x + 48, top + 156)
        p.box(x, top + 158, 96, 28, "work", "epoll_wait")
        p.line([(left + W / 2, top + 208), (x + 48, top + 186)], "late")
    p.box(left + W / 2 - 56, top + 204, 112, 30, "plain", "supervisor")


def models() -> Picture:
    p = Picture("Who waits for whom in stages 1 to 4",
                "Stage 1: one process serves one client, four wait in the queue. Stage 2: three "
                "processes serve three clients, two wait. Stage 3: one process asks select which "
                "of its five clients is ready. Stage 4: two workers, each with its own listener "
                "and its own epoll, hold three clients each.")
    for i, draw in enumerate((blocking, prefork, select, epoll)):
        left, top = 8 + i % 2 * (W + 8), 8 + i // 2 * (H + 8)
        p.box(left, top, W, H, "panel")
        p.text(left + W / 2, top + 26, TITLES[i], "title", "middle")
        draw(p, left, top)
        p.lines(left + W / 2, top + H - 30, BELOW[i], "soft", "middle")
    return p


PICTURES = {"models": models}
