"""pictures.py - figures of results.json as SVG, drawn by gnuplot.

Does not: look at rows; a figure is {"panels": [...]}, and a panel is one of
  lines  {"x_label", "y_label", "x_log", "y_log" (base; absent: linear), "x_even" (ticks at even
          distances, not at the points), "upright" (x of upright lines),
          "series": [{"key", "label", "points": [[x, y], ...], "dashed" (what was predicted),
                      "plain" (no marks), "crosses": [[x, y, text], ...]}]}
  bars   {"x_label", "x_log", "bars": [{"key", "label", "value" (null: no bar, only the text),
          "endless" (no end was seen: an arrow instead of a bar), "low", "high", "text"}]}
  stack  {"x_label", "segments": [names], "bars": [{"label", "values": [...], "text"}]}
Nobody can tell nine lines apart: more than MOST_LINES are drawn as a small plot each, with the
others pale behind it. Else a line is named where it ends, in its colour. One size serves desks
and phones. The colours stand on light and on dark, and differ for the colour-blind as far as
ten can; every line has a mark of its own.
"""
import re
import subprocess
import textwrap

from report import axes
from results import Row

INK = "#767676"  # gnuplot's; tidy() makes it the colour of the text around
COLOURS = {
    "floor": "#808080", "evhttp": "#8C6D46", "nginx": "#CC6699", "stage1": "#D55E00",
    "stage2": "#B8860B", "stage3-select": "#009E73", "stage3-poll": "#2E9BD6",
    "stage4": "#1877C0", "stage4-edge": "#7A6FE0", "stage4-shared": "#D55E00",
    "stage4-exclusive": "#009E73", "stage5": "#A0522D", "stage6": "#5B8C00",
    "stage7": "#C2187A", "stage7-shared": "#8A63D2",
}
SEGMENTS = ["#2E9BD6", "#D55E00", "#009E73", "#CC6699", "#B8860B", "#7A6FE0", "#808080"]
MEANINGS = {"served": "#009E73", "refused": "#D55E00", "waiting": "#B8860B",
            "no connection": "#808080"}
MARKS = {"floor": 2, "evhttp": 3, "nginx": 1, "stage1": 7, "stage2": 5, "stage3-select": 9,
         "stage3-poll": 11, "stage4": 13, "stage4-edge": 12, "stage4-shared": 7,
         "stage4-exclusive": 9}
MOST_LINES = 6

WIDTH, SHOWN = 420, 520  # units; px where there is room. On a phone a unit is about 0.85 px.
FONT, LINE = 14, 19
MARGIN = 14              # left of bars, right of what needs no room for names
TICKS = 26               # under an axis, for its numbers
GAP = 22                 # under a panel
PLOT_LEFT, PLOT_HEIGHT = 52, 200
BAR_HEIGHT = 41          # with its name and text above it
CELLS, CELL_GAP, CELL_HEIGHT, CELL_TITLE = 3, 20, 92, 30  # small plots: in a row, between two


def text_width(text: str) -> float:
    return 0.56 * FONT * len(text)


def wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, int(width / text_width("x")))


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def colour(key: str, i: int = 0) -> str:
    return COLOURS.get(key, SEGMENTS[i % len(SEGMENTS)])


def label(text: str, place: str, shade: str = INK) -> str:
    return f"set label {quote(text)} at {place} tc rgb '{shade}'"


def axis_name(panel: Row, axis: str) -> str:
    """What the axis shows, and that its steps are ratios if they are."""
    return panel[axis + "_label"] + (", log scale" if panel.get(axis + "_log") else "")


# ---- Where a panel is ----------------------------------------------------------------------

class Frame:
    """A panel's place in the picture. px: from the picture's top."""

    def __init__(self, top: int, total: int) -> None:
        self.top, self.total = top, total

    def at(self, x: float, y: float) -> str:
        """A place for a label; y px below the panel's top."""
        return f"screen {x / WIDTH:.4f}, screen {1 - (self.top + y) / self.total:.4f}"

    def plot(self, left: float, right: float, above: int, height: int) -> list[str]:
        """gnuplot's words: the plot is `above` px below the panel's top."""
        top = self.top + above
        return [f"set lmargin at screen {left / WIDTH:.4f}",
                f"set rmargin at screen {right / WIDTH:.4f}",
                f"set tmargin at screen {1 - top / self.total:.4f}",
                f"set bmargin at screen {1 - (top + height) / self.total:.4f}"]

    def words(self, lines: list[str], y: int, x: float = MARGIN, shade: str = INK) -> list[str]:
        """Lines of text, the first of them y px below the panel's top."""
        return [label(line, self.at(x, y + LINE * (i + 0.5)), shade)
                for i, line in enumerate(lines)]

    def heading(self, lines: list[str]) -> list[str]:
        return [f"{line} font 'sans-serif:Bold'" for line in self.words(lines, 2)]


def ticks(axis: str, places: list[float], named: bool = True) -> str:
    return f"set {axis}tics (" + ", ".join(
        f'"{place if named else "":{",.6g" if named else ""}}" {place:.10g}'
        for place in places) + ")"


# ---- Lines ---------------------------------------------------------------------------------

def all_series(panel: Row) -> list[Row]:
    return [one for one in panel["series"] if one["points"]]


def is_crowded(panel: Row) -> bool:
    return panel["kind"] == "lines" and sum(
        bool(one["label"]) for one in all_series(panel)) > MOST_LINES


def x_axis(panel: Row, xs: list[float]) -> tuple[tuple[float, float, bool], list[float]]:
    """((low, high, logarithmic), ticks); xs: all there are, in order."""
    if panel.get("x_log"):
        return (xs[0] * 0.9, xs[-1] * 1.1, True), axes.thin(xs, 0.16)
    if panel.get("x_even"):
        return (0, xs[-1], False), axes.even(xs[-1])
    return (0, xs[-1] * 1.03, False), axes.thin(xs, 0.16, False)


def y_axis(panel: Row, series: list[Row],
           rows: int = 0) -> tuple[tuple[float, float, bool], list[float]]:
    """((low, high, logarithmic), ticks), with room for so many rows of text."""
    ys = [y for one in series for _, y in one["points"]]
    if panel.get("y_log"):
        found = axes.steps(min(ys), max(ys))
        return (found[0] * 0.999, found[-1] * 1.001, True), found
    top = axes.round_up(max(ys) * (1.02 + 0.12 * rows))
    return (0, top, False), axes.even(top)


def grid(axis: str) -> str:
    return f"unset grid\nset grid {axis}tics lc rgb '#C0808080' lw 1 lt 1 dt 1"


def set_axis(name: str, axis: tuple[float, float, bool]) -> list[str]:
    low, high, log = axis
    return [f"{'set' if log else 'unset'} logscale {name}",
            f"set {name}range [{low:.10g}:{high:.10g}]"]


def plot_of(one: Row, i: int, width: float = 2) -> tuple[list[str], list[str]]:
    """A series as ([gnuplot's words], [data]); its name is shown by who points at it."""
    shade, name = colour(one["key"], i), one["label"]
    style = f"linespoints lw {width} ps 0.6 pt {MARKS.get(one['key'], 7)}"
    if one.get("dashed"):
        style, name = "lines dt (6,5) lw 1.5", "predicted"
    elif one.get("plain"):
        style = f"lines lw {width}"
    plots = [f"'-' using 1:2 with {style} lc rgb '{shade}' title {quote(name)}"]
    data = [f"{x:.10g} {y:.10g}" for x, y in one["points"]] + ["e"]
    if one.get("crosses"):
        plots.append(f"'-' using 1:2 with points pt 2 ps 1.1 lw 3 lc rgb '{shade}' "
                     f"title {quote(name + ', failed')}")
        data += [f"{x:.10g} {y:.10g}" for x, y, _ in one["crosses"]] + ["e"]
    return plots, data


def crosses_text(series: list[Row], x: tuple[float, float, bool],
                 width: float) -> tuple[list[str], int]:
    """(gnuplot's words, rows): how many failed, above the cross, where no line runs. x: the axis,
    width: of the plot."""
    words: list[str] = []
    ends: list[float] = []  # of what stands in each row so far
    for i, one in enumerate(series):
        for at, _, number in one.get("crosses", []):
            room = text_width(str(number))
            left = min(axes.place(at, x) * width, width - room)
            row = next((row for row, end in enumerate(ends) if end < left), len(ends))
            ends[row:row + 1] = [left + room]
            words.append(label(str(number), f"graph {left / width:.4f}, graph "
                               f"{0.95 - 0.09 * row:.2f}", colour(one["key"], i)) + " front")
    return words, len(ends)


def names_right(series: list[Row], named: list[int], y: tuple[float, float, bool],
                left: float) -> list[str]:
    """Names beside the plot, each with a stroke that leads to its line's end."""
    ends = [axes.place(series[i]["points"][-1][1], y) for i in named]
    places = axes.spread_labels(ends, LINE * 0.95 / PLOT_HEIGHT)
    words = []
    for at, i in enumerate(named):
        shade = colour(series[i]["key"], i)
        words += [f"set arrow from graph 1, graph {ends[at]:.4f} to screen {left / WIDTH:.4f}, "
                  f"graph {places[at]:.4f} nohead lw 0.8 lc rgb '{shade}'",
                  label(series[i]["label"], f"screen {(left + 4) / WIDTH:.4f}, graph "
                        f"{places[at]:.4f}", shade)]
    return words


def names_inside(series: list[Row], named: list[int],
                 plane: tuple[tuple[float, float, bool], tuple[float, float, bool]],
                 width: float) -> list[str]:
    """Names of lines that end inside the plot, beside their ends. width: of the plot."""
    x, y = plane

    def dots(one: Row) -> list[tuple[float, float]]:
        return [(axes.place(at, x), axes.place(to, y)) for at, to in one["points"]]
    drawn = [dot for one in series for dot in axes.along(dots(one))]
    words = []
    for end in sorted({series[i]["points"][-1][0] for i in named}):
        mine = [i for i in named if series[i]["points"][-1][0] == end]
        left = axes.place(end, x) + 9 / width
        room = max(text_width(series[i]["label"]) for i in mine) / width
        places = axes.beside([dots(series[i])[-1][1] for i in mine], drawn, left, room,
                             LINE / PLOT_HEIGHT)
        words += [label(series[i]["label"], f"graph {left:.4f}, graph {places[at]:.4f}",
                        colour(series[i]["key"], i)) for at, i in enumerate(mine)]
    return words


def lines_height(panel: Row) -> int:
    return (LINE + 10 + PLOT_HEIGHT + TICKS + GAP
            + LINE * len(wrap(axis_name(panel, "x"), WIDTH - 2 * MARGIN)))


def lines_panel(panel: Row, frame: Frame) -> list[str]:
    """gnuplot's words for a panel of lines."""
    series = all_series(panel)
    xs = sorted({x for one in series for x, _ in one["points"]})
    x, x_ticks = x_axis(panel, xs)
    named = [i for i, one in enumerate(series) if one["label"]]
    far = [i for i in named if series[i]["points"][-1][0] >= xs[-1] * 0.99]
    room = max([text_width(series[i]["label"]) + 22 for i in far] + [MARGIN])
    right, above = WIDTH - room, LINE + 10
    texts, rows = crosses_text(series, x, right - PLOT_LEFT)
    y, y_ticks = y_axis(panel, series, rows)
    words = [*frame.plot(PLOT_LEFT, right, above, PLOT_HEIGHT), *set_axis("x", x),
             *set_axis("y", y), ticks("x", x_ticks), ticks("y", y_ticks),
             *frame.heading([axis_name(panel, "y")]),
             *frame.words(wrap(axis_name(panel, "x"), WIDTH - 2 * MARGIN),
                          above + PLOT_HEIGHT + TICKS),
             *names_right(series, far, y, right + 14),
             *names_inside(series, [i for i in named if i not in far], (x, y),
                           right - PLOT_LEFT), *texts]
    words += [f"set arrow from first {at:.10g}, graph 0 to first {at:.10g}, graph 1 nohead back "
              f"lw 1 dt (4,4) lc rgb '{INK}'" for at in panel.get("upright", [])]
    parts = [plot_of(one, i) for i, one in enumerate(series)]
    return [*words, grid("y"), "plot " + ", ".join(plot for some, _ in parts
                                                          for plot in some),
            *[line for _, data in parts for line in data]]


# ---- A small plot for each line ------------------------------------------------------------

def in_cells(panel: Row) -> list[Row]:
    """Series in the order of their plots: ours before others."""
    return sorted((one for one in all_series(panel) if one["label"]),
                  key=lambda one: not one["key"].startswith("stage"))


def cells_x_label(panel: Row) -> list[str]:
    floor = any(one["key"] == "floor" for one in panel["series"])
    return wrap(f"{axis_name(panel, 'x')} ({'dashed: the floor; ' if floor else ''}pale: all "
                "others)", WIDTH - 2 * MARGIN)


def cells_height(panel: Row) -> int:
    rows = -(-len(in_cells(panel)) // CELLS)
    return (LINE + rows * (CELL_TITLE + CELL_HEIGHT) + TICKS + LINE * len(cells_x_label(panel))
            + GAP)


def cell_plots(one: Row, i: int, series: list[Row]) -> list[str]:
    """All lines pale, the floor's dashed, this one's in its colour."""
    plots, data = [f"'-' using 1:2 with lines lw 1 lc rgb '#B0808080' title {quote('')}"], []
    for other in series:
        data += [f"{x:.10g} {y:.10g}" for x, y in other["points"]] + [""]
    data.append("e")
    for other in series:
        if other["key"] == "floor" and other is not one:
            plots.append(f"'-' using 1:2 with lines dt (4,3) lw 1.5 lc rgb '{INK}' title "
                         f"{quote(other['label'])}")
            data += [f"{x:.10g} {y:.10g}" for x, y in other["points"]] + ["e"]
    mine, points = plot_of(one, i, 2.5)
    return ["plot " + ", ".join(plots + mine), *data, *points]


def cells_panel(panel: Row, frame: Frame) -> list[str]:
    series = in_cells(panel)
    xs = sorted({x for one in series for x, _ in one["points"]})
    (x, x_ticks), (y, y_ticks) = x_axis(panel, xs), y_axis(panel, series)
    x_ticks = axes.thin(x_ticks, 0.28, x[2])
    y_ticks = axes.thin(y_ticks, 0.19, y[2])
    width = (WIDTH - PLOT_LEFT - MARGIN - (CELLS - 1) * CELL_GAP) / CELLS
    rows = -(-len(series) // CELLS)
    below = LINE + rows * (CELL_TITLE + CELL_HEIGHT) + TICKS
    words = [*set_axis("x", x), *set_axis("y", y), grid("y"),
             *frame.heading([axis_name(panel, "y")]), *frame.words(cells_x_label(panel), below)]
    for i, one in enumerate(series):
        row, column = divmod(i, CELLS)
        left = PLOT_LEFT + column * (width + CELL_GAP)
        above = LINE + row * (CELL_TITLE + CELL_HEIGHT)
        words += [*frame.plot(left, left + width, above + CELL_TITLE, CELL_HEIGHT),
                  ticks("x", x_ticks, i + CELLS >= len(series)), ticks("y", y_ticks, column == 0),
                  *frame.words([one["label"]], above + 8, left, colour(one["key"], i)),
                  *cell_plots(one, i, series), "unset label"]
    return words


# ---- Bars ----------------------------------------------------------------------------------

BOXES = ("plot '-' using 1:2:3:4:5:6:7 with boxxyerror fill solid noborder lc rgb variable "
         "title ''")


def box(left: float, right: float, row: int, shade: str) -> str:
    return (f"{left:.10g} {row} {left:.10g} {right:.10g} {row - 0.46} {row - 0.06} "
            f"{int(shade[1:], 16)}")


def legend(panel: Row) -> list[list[tuple[str, float]]]:
    """Names of segments in lines as wide as the plot: [[(name, px before it), ...], ...]."""
    lines: list[list[tuple[str, float]]] = [[]]
    at = 0.0
    for name in panel.get("segments", []):
        if at and at + text_width("■ " + name) > WIDTH - 2 * MARGIN:
            lines.append([])
            at = 0.0
        lines[-1].append((name, at))
        at += text_width("■ " + name) + 12
    return lines if lines[0] else []


def bars_above(panel: Row) -> int:
    """px between a panel's top and its bars."""
    return LINE * (len(wrap(axis_name(panel, "x"), WIDTH - 2 * MARGIN)) + len(legend(panel))) + 4


def bars_height(panel: Row) -> int:
    return bars_above(panel) + BAR_HEIGHT * len(panel["bars"]) + TICKS + GAP


def bar_rows(panel: Row, frame: Frame) -> list[str]:
    """What bars and stacks have in common: what they show, their names and texts."""
    bars, heading = panel["bars"], wrap(axis_name(panel, "x"), WIDTH - 2 * MARGIN)
    words = [*frame.plot(MARGIN, WIDTH - MARGIN - 10, bars_above(panel), BAR_HEIGHT * len(bars)),
             f"set yrange [{-len(bars) + 0.5}:0.5]", "unset ytics", grid("x"),
             *frame.heading(heading)]
    for i, bar in enumerate(bars):
        words += [label(bar["label"], f"graph 0, first {-i + 0.2}") + " offset 0.4,0",
                  label(bar["text"], f"graph 1, first {-i + 0.2}") + " right"]
    return words


def bars_axis(panel: Row) -> tuple[float, list[str]]:
    """(where bars begin, gnuplot's words)."""
    values = [value for bar in panel["bars"] for value in (bar["value"], bar.get("high"))
              if value]
    if panel.get("x_log"):
        found = axes.steps(min(values or [1]) / 2, max(values or [1]) * 1.01)
        axis, found = (found[0], found[-1], True), axes.thin(found, 0.13)
    else:
        top = axes.round_up(max(values or [1]))
        axis, found = (0, top, False), axes.even(top)
    return axis[0], [*set_axis("x", axis), ticks("x", found)]


def bars_panel(panel: Row, frame: Frame) -> list[str]:
    low, words = bars_axis(panel)
    words += bar_rows(panel, frame)
    boxes = []
    for i, bar in enumerate(panel["bars"]):
        shade, middle = colour(bar.get("key"), i), -i - 0.26
        if bar.get("endless"):
            words.append(f"set arrow from graph 0, first {middle} to graph 1, first {middle} "
                         f"filled size screen 0.03,20 front lw 3 dt (5,3) lc rgb '{shade}'")
        elif bar["value"] is not None:
            boxes.append(box(low, max(bar["value"], low), -i, shade))
        if bar.get("low") is not None and bar["high"] > bar["low"]:
            words.append(f"set arrow from first {bar['low']:.10g}, first {middle} to first "
                         f"{bar['high']:.10g}, first {middle} heads size screen 0.008,90 front "
                         f"lw 1.5 lc rgb '{INK}'")
    return [*words, BOXES, *(boxes or ["NaN 0 0 0 0 0 0"]), "e"]


def stack_panel(panel: Row, frame: Frame) -> list[str]:
    bars, lines = panel["bars"], legend(panel)
    top = axes.round_up(max(sum(bar["values"]) for bar in bars))
    words = [*set_axis("x", (0, top, False)), ticks("x", axes.even(top)), *bar_rows(panel, frame)]
    fills = [MEANINGS.get(name, SEGMENTS[i % len(SEGMENTS)])
             for i, name in enumerate(panel["segments"])]
    shades, first = iter(fills), bars_above(panel) - 4 - LINE * len(lines)
    for row, line in enumerate(lines):
        for name, before in line:
            words += frame.words(["■ " + name], first + LINE * row, MARGIN + before, next(shades))
    boxes = []
    for i, bar in enumerate(bars):
        left = 0.0
        for value, fill in zip(bar["values"], fills):
            boxes.append(box(left, left + value, -i, fill))
            left += value
    return [*words, BOXES, *boxes, "e"]


# ---- The whole -----------------------------------------------------------------------------

PANELS = {"lines": (lines_height, lines_panel), "cells": (cells_height, cells_panel),
          "bars": (bars_height, bars_panel), "stack": (bars_height, stack_panel)}


def height_of(figure: dict[str, list[Row]]) -> int:
    return sum(PANELS["cells" if is_crowded(panel) else panel["kind"]][0](panel)
               for panel in figure["panels"])


def script(figure: dict[str, list[Row]]) -> str:
    """All that gnuplot is told."""
    total = height_of(figure)
    words = [f"set terminal svg size {WIDTH},{total} dynamic enhanced font 'sans-serif,{FONT}' "
             "linewidth 1", "set encoding utf8", "set termoption noenhanced", "unset key",
             f"set border 3 lc rgb '{INK}'",
             f"set xtics nomirror scale 0.5 offset 0,0.4 tc rgb '{INK}'",
             f"set ytics nomirror scale 0.5 offset 0.5,0 tc rgb '{INK}'", "set multiplot"]
    top = 0
    for panel in figure["panels"]:
        height, draw_panel = PANELS["cells" if is_crowded(panel) else panel["kind"]]
        words += ["unset label", "unset arrow", "unset logscale",
                  *draw_panel(panel, Frame(top, total))]
        top += height(panel)
    return "\n".join([*words, "unset multiplot", ""])


# ---- SVG -----------------------------------------------------------------------------------

FILE_STYLE = """<style>svg { color: #24292f } .page { fill: #ffffff }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3 } .page { fill: #0d1117 } }</style>"""


def tidy(svg: str, name: str, title: str) -> str:
    """gnuplot's SVG with names of its own, so that several can stand in one page, and with a
    title that is read aloud. Text takes the colour of the text around."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'\bid=(["\'])', rf"id=\1{name}-", svg)
    svg = re.sub(r'href=(["\'])#', rf"href=\1#{name}-", svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"<desc>.*?</desc>", "", svg, flags=re.S)
    svg = svg.replace('"sans-serif:Bold"', '"sans-serif" font-weight="bold"')
    svg = svg.replace('"sans-serif"', '"system-ui, sans-serif"')
    svg = re.sub(r"<title>gnuplot_plot_\w*</title>", "", svg)
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    svg = svg.replace("<title>Gnuplot</title>", f"<title>{escaped}</title>", 1)
    for empty in (r"<text></text>", r"<g [^>]*>\s*</g>", r"<g [^>]*>\s*</g>"):
        svg = re.sub(rf"\s*{empty}", "", svg)  # half of what gnuplot writes
    svg = re.sub(r" color=[\"'](black|white)[\"']", "", svg)
    numbers = tuple(int(INK[i:i + 2], 16) for i in (1, 3, 5))
    for spelling in ("black", "white", INK, INK.lower(), "rgb(%d, %d, %d)" % numbers,
                     "rgb(%3d, %3d, %3d)" % numbers, "rgb(%d,%d,%d)" % numbers):
        svg = re.sub(rf"=(['\"]){re.escape(spelling)}\1", r"=\1currentColor\1", svg)
    return svg.replace("<svg", '<svg role="img"', 1)


def draw(figure: dict[str, list[Row]], name: str, title: str) -> str:
    """A figure as SVG to be put into a page. Needs gnuplot."""
    done = subprocess.run(["gnuplot"], input=script(figure).encode(), capture_output=True,
                          timeout=60, check=False)
    svg = done.stdout.decode()
    if done.returncode != 0 or "</svg>" not in svg:
        raise RuntimeError(f"gnuplot could not draw {name}: {done.stderr.decode()[-300:]}")
    return tidy(svg, name, title)


def for_file(svg: str) -> str:
    """The same as a file of its own, which brings its paper."""
    height = int(re.findall(r'viewBox="0 0 \d+ (\d+)"', svg)[0])
    svg = svg.replace("<svg", f'<svg width="{SHOWN}" height="{height * SHOWN / WIDTH:.0f}"', 1)
    end = svg.index(">") + 1
    return (f'{svg[:end]}\n{FILE_STYLE}\n<rect width="{WIDTH}" height="{height}" rx="6" '
            f'class="page"/>{svg[end:]}')
