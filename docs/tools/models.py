#!/usr/bin/env python3
"""Draw models.svg: the four stages side by side, who waits for whom.
Usage: models.py > models.svg
"""

W, H = 240, 300  # of one panel
STYLE = """
text { font: 13px sans-serif; fill: #24292f }
.title { font-weight: bold; font-size: 14px }
.small { font-size: 11px; fill: #57606a }
.box { fill: #ddf4ff; stroke: #0969da }
.wait { fill: #fff1e5; stroke: #bc4c00; stroke-dasharray: 4 3 }
.client { fill: #ffffff; stroke: #57606a }
.line { stroke: #57606a; fill: none; marker-end: url(#arrow) }
.idle { stroke: #bc4c00; fill: none; stroke-dasharray: 4 3 }
.panel { fill: #f6f8fa; stroke: #d0d7de }
#arrow path { fill: #57606a }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } #arrow path { fill: #9198a1 }
  .box { fill: #0c2d6b; stroke: #58a6ff } .wait { fill: #4a2410; stroke: #f0883e }
  .client { fill: #161b22; stroke: #9198a1 } .line { stroke: #9198a1 }
  .idle { stroke: #f0883e } .panel { fill: #0d1117; stroke: #30363d }
}
"""


def text(x, y, words, cls="", anchor="middle"):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{cls}">{words}</text>'


def box(x, y, w, h, words, cls="box"):
    return (f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="4" class="{cls}"/>'
            + text(x + w / 2, y + h / 2 + 4, words, "small" if w < 70 else ""))


def clients(n, served):
    """A row of clients; the first `served` are being talked to."""
    step = (W - 20) / n
    out = []
    for i in range(n):
        cls = "client" if i in served else "wait"
        out.append(f'<circle cx="{10 + step * (i + 0.5)}" cy="60" r="10" class="{cls}"/>')
    return out, [10 + step * (i + 0.5) for i in range(n)]


def line(x1, y1, x2, y2, cls="line"):
    return f'<path d="M{x1} {y1} L{x2} {y2}" class="{cls}"/>'


def panel(index, title, foot, body):
    return (f'<g transform="translate({10 + index % 2 * (W + 10)} '
            f'{10 + index // 2 * (H + 10)})">'
            f'<rect width="{W}" height="{H}" rx="6" class="panel"/>'
            + text(W / 2, 26, title, "title") + "".join(body)
            + "".join(text(W / 2, H - 28 + 16 * i, words, "small")
                      for i, words in enumerate(foot)) + "</g>")


def blocking():
    row, xs = clients(5, {0})
    return row + [line(xs[0], 70, W / 2, 146), box(W / 2 - 62, 150, 124, 40, "recv, send"),
                  text(W / 2 + 30, 112, "4 wait in the queue", "small"),
                  text(W / 2, 212, "1 process", "small")]


def prefork():
    row, xs = clients(5, {0, 1, 2})
    body = row
    for i in range(3):
        x = 12 + i * 75
        body += [line(xs[i], 70, x + 33, 126), box(x, 130, 66, 32, "recv, send")]
        body.append(line(W / 2, 200, x + 33, 166, "idle"))
    return body + [box(W / 2 - 62, 200, 124, 32, "supervisor"),
                   text(190, 98, "2 wait", "small")]


def select():
    row, xs = clients(5, set(range(5)))
    body = row + [line(x, 70, W / 2 + (x - W / 2) / 3, 126) for x in xs]
    return body + [box(W / 2 - 80, 130, 160, 34, "select: who is ready?"),
                   line(W / 2, 164, W / 2, 192), box(W / 2 - 62, 196, 124, 34, "recv, send")]


def epoll():
    row, xs = clients(6, set(range(6)))
    body = row
    for i in range(2):
        x = 12 + i * 112
        body += [line(xs[3 * i + j], 70, x + 26 + 26 * j, 104) for j in range(3)]
        body += [box(x, 108, 104, 28, "own listener"), line(x + 52, 136, x + 52, 150),
                 box(x, 154, 104, 28, "epoll_wait"),
                 line(W / 2, 210, x + 52, 186, "idle")]
    return body + [box(W / 2 - 62, 210, 124, 30, "supervisor")]


def main():
    width, height = 2 * W + 30, 2 * H + 30
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
          f'width="{width}" height="{height}" role="img" '
          f'aria-label="The four models: blocking, prefork, select, epoll with SO_REUSEPORT">')
    print(f'<style>{STYLE}</style><defs><marker id="arrow" viewBox="0 0 10 10" refX="9" '
          'refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
          '<path d="M0 0 L10 5 L0 10 z"/></marker></defs>')
    print(panel(0, "1 blocking", ["sleeps in accept, then in one client"], blocking()))
    print(panel(1, "2 prefork", ["as many clients as processes"], prefork()))
    print(panel(2, "3 select", ["sleeps in none of them;", "looks at all of them"], select()))
    print(panel(3, "4 epoll, SO_REUSEPORT", ["the kernel remembers whom to watch,",
                                             "and deals clients out to the workers"], epoll()))
    print("</svg>")


if __name__ == "__main__":
    main()
