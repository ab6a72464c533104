"""picture_draw.py - what pictures are drawn with: text, boxes, arrows; light and dark.

Orange and dashed waits, blue works, grey is a client. A picture is WIDTH units wide, and text is
15 of them high: on a phone that is still about 12 pixels. Does not: know what is drawn.
"""
from collections.abc import Iterable
from xml.sax.saxutils import escape

WIDTH = 440
SHOWN = 480  # pixels, where there is room

STYLE = """
text { font: 15px system-ui, sans-serif; fill: #24292f }
.title { font-weight: bold; font-size: 16px }
.soft { fill: #57606a }
.alarm { fill: #bc4c00 }
.mono { font-family: ui-monospace, monospace; font-size: 14px }
.page { fill: #ffffff }
.panel { fill: #f6f8fa; stroke: #d0d7de }
.work { fill: #ddf4ff; stroke: #0969da }
.wait { fill: #fff1e5; stroke: #bc4c00; stroke-dasharray: 4 3 }
.client { fill: #eaeef2; stroke: #6e7781 }
.other { fill: #f3e8ff; stroke: #8250df }
.plain { fill: #ffffff; stroke: #6e7781 }
.line { stroke: #57606a; fill: none }
.faint { stroke: #d0d7de; fill: none }
.edge { stroke: #bc4c00; stroke-width: 3; fill: none }
.late { stroke: #bc4c00; stroke-dasharray: 4 3; fill: none }
.arrow { marker-end: url(#head) }
.late.arrow { marker-end: url(#latehead) }
#head path { fill: #57606a } #latehead path { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .soft { fill: #9198a1 } .alarm { fill: #f0883e }
  .page { fill: #0d1117 } .panel { fill: #151b23; stroke: #30363d }
  .work { fill: #0c2d6b; stroke: #58a6ff } .wait { fill: #4a2410; stroke: #f0883e }
  .client { fill: #2a313a; stroke: #9198a1 } .other { fill: #3c1e70; stroke: #be8fff }
  .plain { fill: #0d1117; stroke: #9198a1 }
  .line { stroke: #9198a1 } .faint { stroke: #30363d } .edge, .late { stroke: #f0883e }
  #head path { fill: #9198a1 } #latehead path { fill: #f0883e }
}
"""
MARKER = ('<marker id="{}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
          'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z"/></marker>')


def number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Picture:
    """Elements are drawn in the order in which they are added."""

    def __init__(self, title: str, description: str) -> None:
        self.title, self.description = title, description
        self.parts: list[str] = []
        self.bottom: float = 0

    def add(self, element: str, bottom: float) -> None:
        self.parts.append(element)
        self.bottom = max(self.bottom, bottom)

    def text(self, x: float | list[float], y: float, words: str, cls: str = "",
             anchor: str = "start") -> None:
        """One line; y is its base line. x: a list of numbers places each character."""
        where = " ".join(number(value) for value in x) if isinstance(x, list) else number(x)
        self.add(f'<text x="{where}" y="{number(y)}"'
                 + (f' text-anchor="{anchor}"' if anchor != "start" else "")
                 + (f' class="{cls}"' if cls else "") + f'>{escape(words)}</text>', y + 5)

    def lines(self, x: float, y: float, words: Iterable[str], cls: str = "",
              anchor: str = "start") -> float:
        """Several lines; returns the y below them."""
        for line in words:
            self.text(x, y, line, cls, anchor)
            y += 19
        return y

    def box(self, x: float, y: float, w: float, h: float, cls: str, words: str = "",
            text_cls: str = "") -> None:
        self.add(f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" '
                 f'height="{number(h)}" rx="4" class="{cls}"/>', y + h)
        if words:
            self.text(x + w / 2, y + h / 2 + 5, words, text_cls, "middle")

    def circle(self, x: float, y: float, cls: str, words: str = "", r: float = 13) -> None:
        self.add(f'<circle cx="{number(x)}" cy="{number(y)}" r="{r}" class="{cls}"/>', y + r)
        if words:
            self.text(x, y + 5, words, "", "middle")

    def line(self, points: list[tuple[float, float]], cls: str = "line") -> None:
        path = " L".join(f"{number(x)} {number(y)}" for x, y in points)
        self.add(f'<path d="M{path}" class="{cls}"/>', max(y for _, y in points))

    def arrow(self, x1: float, y1: float, x2: float, y2: float, cls: str = "line") -> None:
        self.line([(x1, y1), (x2, y2)], cls + " arrow")

    def legend(self, y: float, entries: list[tuple[str, str]], x: float = 12) -> float:
        """Samples of colours in a row; returns the y below."""
        for cls, words in entries:
            self.box(x, y, 22, 14, cls)
            self.text(x + 28, y + 12, words, "soft")
            x += 48 + 8.2 * len(words)
        return y + 24

    def svg(self) -> str:
        height = number(self.bottom + 10)
        shown = number((self.bottom + 10) * SHOWN / WIDTH)
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
                f'width="{SHOWN}" height="{shown}" role="img" aria-labelledby="title desc">\n'
                f'<title id="title">{escape(self.title)}</title>\n'
                f'<desc id="desc">{escape(self.description)}</desc>\n'
                f'<style>{STYLE}</style>\n'
                f'<defs>{MARKER.format("head")}{MARKER.format("latehead")}</defs>\n'
                f'<rect width="{WIDTH}" height="{height}" rx="6" class="page"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")
