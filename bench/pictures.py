"""pictures.py - figures of results.json as SVG, drawn by gnuplot, wide and narrow (for phones).

Does not: look at rows; a figure is {"panels": [...]}, and a panel is one of
  lines  {"x_label", "y_label", "x_log", "y_log" (base; absent: linear), "x_even" (ticks at even
          distances, not at the points), "upright" (x of upright lines),
          "series": [{"key", "label", "points": [[x, y], ...], "dashed", "plain" (no marks),
                      "crosses": [[x, y, text], ...]}]}
  bars   {"x_label", "x_log", "bars": [{"key", "label", "value", "low", "high", "text"}]}
  stack  {"x_label", "segments": [names], "bars": [{"label", "values": [...], "text"}]}
The colours stand on light and on dark, and differ for the colour-blind as far as ten can; every
line is labelled at its end, in its colour, and has a mark of its own.
"""
import dataclasses
import math
import re
import subprocess
import textwrap

TEXT = "#767676"  # as far from white as from black
COLOURS = {
    "floor": "#808080", "evhttp": "#8C6D46", "nginx": "#CC6699", "stage1": "#D55E00",
    "stage2": "#B8860B", "stage3-select": "#009E73", "stage3-poll": "#2E9BD6",
    "stage4": "#1877C0", "stage4-edge": "#7A6FE0", "stage4-shared": "#D55E00",
    "stage4-exclusive": "#009E73",
}
SEGMENTS = ["#2E9BD6", "#D55E00", "#009E73", "#CC6699", "#B8860B", "#7A6FE0", "#808080"]
MEANINGS = {"served": "#009E73", "refused": "#D55E00", "waiting": "#B8860B",
            "no connection": "#808080"}
MARKS = {"floor": 2, "evhttp": 3, "nginx": 1, "stage1": 7, "stage2": 5, "stage3-select": 9,
         "stage3-poll": 11, "stage4": 13, "stage4-edge": 12, "stage4-shared": 7,
         "stage4-exclusive": 9}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Sizes in px. left, right: of the plot, for names and texts."""
    width: int
    font: int
    line_height: int
    lines_left: int
    lines_right: int
    lines_height: int
    bars_left: int
    bars_right: int
    bar_height: int
    names_above: bool    # a bar's name and text stand above it
    tick_gap: float      # between ticks, of an axis' length
    label_gap: float     # between labels of lines, of a plot's height
    suffix: str          # to ids: both layouts stand in one page

    def letters(self, px):
        """How many have room."""
        return int(px / (0.52 * self.font))


WIDE = Layout(760, 14, 20, 88, 150, 330, 150, 150, 26, False, 0.05, 0.062, "")
NARROW = Layout(372, 13, 18, 58, 100, 270, 14, 16, 44, True, 0.16, 0.078, "-narrow")


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def colour(key, i=0):
    return COLOURS.get(key, SEGMENTS[i % len(SEGMENTS)])


# ---- Axes ----------------------------------------------------------------------------------

def steps(low, high):
    """1, 2, 5, 10, ... that cover low to high, for a logarithmic axis."""
    found = []
    power = math.floor(math.log10(low)) - 1
    while not found or found[-1] < high:
        for step in (1, 2, 5):
            found.append(step * 10.0 ** power)
        power += 1
    first = max(i for i, step in enumerate(found) if step <= low * 1.0001)
    last = min(i for i, step in enumerate(found) if step >= high / 1.0001)
    if first == last:
        last += 1
        found.append(found[-1] * 2)
    ticks = found[first:last + 1]
    if len(ticks) > 9:
        ticks = [tick for tick in ticks if round(math.log10(tick) % 1, 6) in (0, 1)]
        ticks = [found[first], *[t for t in ticks if found[first] < t < found[last]], found[last]]
    return ticks


def round_up(value):
    """The next of 1, 2, 2.5, 4, 5, 8, 10, ... for the top of a linear axis."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
                        if step * power >= value * 0.9999)


def tick_words(ticks):
    return ", ".join(f'"{tick:,.6g}" {tick:.10g}' for tick in ticks)


def log_axis(name, low, high):
    ticks = steps(low, high)
    return ticks[0], ticks[-1], [f"set logscale {name}", f"set {name}tics ({tick_words(ticks)})",
                                 f"set {name}range [{ticks[0] * 0.999:.10g}:"
                                 f"{ticks[-1] * 1.001:.10g}]"]


def linear_axis(name, high):
    top = round_up(high)
    return 0, top, [f"set {name}tics autofreq", f"set {name}range [0:{top:.10g}]"]


def spread_labels(heights, label_gap):
    """Heights (0 to 1) moved apart so that labels do not cover each other, order kept."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [heights[i] for i in order]
    for _ in range(100):
        for i in range(1, len(placed)):
            lack = label_gap - (placed[i] - placed[i - 1])
            if lack > 1e-9:
                placed[i] += lack / 2
                placed[i - 1] -= lack / 2
        if placed:
            shift = max(0, -placed[0]) - max(0, placed[-1] - 1.02)
            placed = [height + shift for height in placed]
    return {i: height for i, height in zip(order, placed)}


# ---- Panels --------------------------------------------------------------------------------

def x_axis(panel, xs, layout):
    """gnuplot's words for the axis of a panel of lines."""
    if panel.get("x_log"):
        return ["set logscale x", f"set xtics ({tick_words(thin(xs, layout.tick_gap))})",
                f"set xrange [{xs[0] * 0.9:.10g}:{xs[-1] * 1.1:.10g}]"]
    if panel.get("x_even"):
        return ["set xtics autofreq", f"set xrange [0:{xs[-1]:.10g}]"]
    return [f"set xtics ({tick_words(thin(xs, layout.tick_gap, False))})",
            f"set xrange [0:{xs[-1] * 1.03:.10g}]"]


def plot_of(one, i):
    """A series as (gnuplot's words, data)."""
    shade = colour(one["key"], i)
    style = f"linespoints lw 2 ps 0.6 pt {MARKS.get(one['key'], 7)}"
    if one.get("dashed"):
        style = "lines dt (6,5) lw 1.5"
    elif one.get("plain"):
        style = "lines lw 2"
    plots = [f"'-' using 1:2 with {style} lc rgb '{shade}' notitle"]
    data = [f"{x:.10g} {y:.10g}" for x, y in one["points"]] + ["e"]
    if one.get("crosses"):
        plots.append(f"'-' using 1:2 with points pt 2 ps 1.1 lw 3 lc rgb '{shade}' notitle")
        data += [f"{x:.10g} {y:.10g}" for x, y, _ in one["crosses"]] + ["e"]
    return plots, data


def crosses_text(series):
    return [f"set label {quote(str(text))} at first {x:.10g}, first {y:.10g} center "
            f"offset 0,0.9 front tc rgb '{colour(one['key'], i)}'"
            for i, one in enumerate(series) for x, y, text in one.get("crosses", [])]


def lines_panel(panel, layout):
    """gnuplot's words for a panel of lines."""
    series = [one for one in panel["series"] if one["points"]]
    xs = sorted({x for one in series for x, _ in one["points"]})
    ys = [y for one in series for _, y in one["points"]]
    words = [f"set ylabel {quote(panel['y_label'])}"]
    if panel.get("y_log"):
        low, high, axis = log_axis("y", min(ys), max(ys))
    else:
        low, high, axis = linear_axis("y", max(ys) * 1.02)
    words += axis + x_axis(panel, xs, layout)
    words += [f"set arrow from first {x:.10g}, graph 0 to first {x:.10g}, graph 1 nohead back "
              f"lw 1 dt (4,4) lc rgb '{TEXT}'" for x in panel.get("upright", [])]

    def height(y):
        if panel.get("y_log"):
            return math.log(y / low) / math.log(high / low)
        return (y - low) / (high - low)
    named = [i for i, one in enumerate(series) if one["label"]]
    places = spread_labels([height(series[i]["points"][-1][1]) for i in named],
                           layout.label_gap)
    for at, i in enumerate(named):
        words.append(f"set label {quote(series[i]['label'])} at graph 1.02, graph "
                     f"{places[at]:.4f} tc rgb '{colour(series[i]['key'], i)}'")
    parts = [plot_of(one, i) for i, one in enumerate(series)]
    plots = [plot for some, _ in parts for plot in some]
    return [*words, *crosses_text(series), "plot " + ", ".join(plots),
            *[line for _, data in parts for line in data]]


def thin(xs, least_gap, log=True):
    """Not more ticks than there is room for: the last stays."""
    kept = []
    span = math.log(xs[-1] / xs[0]) if log and xs[-1] > xs[0] else xs[-1] - xs[0]
    for x in reversed(xs):
        gap = 1.0
        if kept and span:
            gap = (math.log(kept[-1] / x) if log else kept[-1] - x) / span
        if gap > least_gap:
            kept.append(x)
    return kept[::-1]


def box(left, right, row, fill, layout):
    low, high = (-0.46, -0.06) if layout.names_above else (-0.34, 0.34)
    return f"{left:.10g} {row} {left:.10g} {right:.10g} {row + low} {row + high} {fill}"


def bar_rows(panel, layout):
    """What bars and stacks have in common: their names, and nothing else on that axis."""
    bars = panel["bars"]
    words = ["unset ylabel", f"set yrange [{-len(bars) + 0.5}:0.5]", "unset logscale y"]
    if layout.names_above:
        return words + ["unset ytics"] + [
            f"set label {quote(bar['label'])} at graph 0, first {-i + 0.2} offset 0.4,0 "
            "tc rgb '%s'" % TEXT for i, bar in enumerate(bars)]
    names = ", ".join(f"{quote(bar['label'])} {-i}" for i, bar in enumerate(bars))
    return words + [f"set ytics ({names})"]


def bar_text(text, end, i, layout):
    """What is written at the end of a bar."""
    place = (f"graph 1, first {-i + 0.2} right" if layout.names_above else
             f"first {end:.10g}, first {-i} offset 0.8,0")
    return f"set label {quote(text)} at {place} tc rgb '{TEXT}'"


BOXES = ("plot '-' using 1:2:3:4:5:6:7 with boxxyerror fill solid noborder lc rgb variable "
         "notitle")


def bars_panel(panel, layout):
    bars = panel["bars"]
    words = bar_rows(panel, layout)
    top = max([bar.get("high") or bar["value"] or 0 for bar in bars] + [1e-9])
    if panel.get("x_log"):
        smallest = min([bar["value"] for bar in bars if bar["value"]] or [0.1])
        low, _, axis = log_axis("x", smallest / 2, max(top, smallest) * 1.01)
    else:
        low, _, axis = linear_axis("x", top)
    words += axis
    boxes = []
    for i, bar in enumerate(bars):
        value = max(bar["value"] or low, low)
        boxes.append(box(low, value, -i, int(colour(bar.get("key"), i)[1:], 16), layout))
        words.append(bar_text(bar["text"], max(bar.get("high") or value, value), i, layout))
        if bar.get("low") is not None and bar["high"] > bar["low"]:
            words.append(f"set arrow from first {bar['low']:.10g}, first {-i} to first "
                         f"{bar['high']:.10g}, first {-i} heads size screen 0.004,90 front "
                         f"lw 1.5 lc rgb '{TEXT}'")
    return [*words, BOXES, *boxes, "e"]


def legend(panel, layout):
    """Names of segments in lines as wide as the plot: [[(name, letters before it), ...], ...]."""
    room = layout.letters(layout.width - layout.bars_left - layout.bars_right)
    lines, at = [[]], 0
    for name in panel["segments"]:
        if at and at + len(name) + 2 > room:
            lines.append([])
            at = 0
        lines[-1].append((name, at))
        at += len(name) + 4
    return lines


def stack_panel(panel, layout):
    bars = panel["bars"]
    words = bar_rows(panel, layout)
    words += linear_axis("x", max(sum(bar["values"]) for bar in bars) or 1)[2]
    plot = layout.width - layout.bars_left - layout.bars_right
    boxes = []
    fills = [MEANINGS.get(name, SEGMENTS[i % len(SEGMENTS)])
             for i, name in enumerate(panel["segments"])]
    lines, shades = legend(panel, layout), iter(fills)
    for row, line in enumerate(lines):
        for name, before in line:
            words.append(f"set label {quote('■ ' + name)} at graph "
                         f"{before * 0.54 * layout.font / plot:.4f}, graph 1 offset "
                         f"0,{1.0 + 1.1 * (len(lines) - 1 - row)} tc rgb '{next(shades)}'")
    for i, bar in enumerate(bars):
        left = 0.0
        for value, fill in zip(bar["values"], fills):
            boxes.append(box(left, left + value, -i, int(fill[1:], 16), layout))
            left += value
        words.append(bar_text(bar["text"], left, i, layout))
    return [*words, BOXES, *boxes, "e"]


PANELS = {"lines": lines_panel, "bars": bars_panel, "stack": stack_panel}


def x_label_lines(panel, layout):
    return textwrap.wrap(panel["x_label"], layout.letters(layout.width - 20))


def margins(panel, layout):
    """(above, below) a plot, in px."""
    above = 14
    if panel["kind"] == "stack":
        above = 14 + layout.line_height * len(legend(panel, layout))
    return above, 32 + layout.line_height * len(x_label_lines(panel, layout))


def panel_height(panel, layout):
    if panel["kind"] == "lines":
        return layout.lines_height + layout.line_height * (len(x_label_lines(panel, layout)) - 1)
    return sum(margins(panel, layout)) + layout.bar_height * len(panel["bars"]) + 14


def placed(panel, layout, below, total):
    """gnuplot's words for where the plot and the label of its axis are; below: px under it."""
    above, under = margins(panel, layout)
    height = panel_height(panel, layout)
    left, right = ((layout.lines_left, layout.lines_right) if panel["kind"] == "lines" else
                   (layout.bars_left, layout.bars_right))
    middle = (layout.width / 2 if layout.names_above else
              left + (layout.width - left - right) / 2)
    text = "\\n".join(quote(line)[1:-1] for line in x_label_lines(panel, layout))
    return [f"set lmargin at screen {left / layout.width:.4f}",
            f"set rmargin at screen {1 - right / layout.width:.4f}",
            f"set bmargin at screen {(below + under) / total:.4f}",
            f"set tmargin at screen {(below + height - above) / total:.4f}",
            f'set label "{text}" at screen {middle / layout.width:.4f}, screen '
            f"{(below + under - 38) / total:.4f} center tc rgb '{TEXT}'",
            "set grid ytics lc rgb '#C0808080' lw 1 lt 1 dt 1" if panel["kind"] == "lines" else
            "unset grid\nset grid xtics lc rgb '#C0808080' lw 1 lt 1 dt 1"]


def script(figure, layout=WIDE):
    """All that gnuplot is told."""
    panels = figure["panels"]
    heights = [panel_height(panel, layout) for panel in panels]
    total = below = sum(heights)
    words = [f"set terminal svg size {layout.width},{total} dynamic enhanced font "
             f"'sans-serif,{layout.font}' linewidth 1", "set encoding utf8",
             "set termoption noenhanced", "unset key", f"set border 3 lc rgb '{TEXT}'",
             f"set ylabel tc rgb '{TEXT}'", f"set xtics nomirror tc rgb '{TEXT}'",
             f"set ytics nomirror tc rgb '{TEXT}'", "set multiplot"]
    for panel, height in zip(panels, heights):
        below -= height
        words += ["unset label", "unset arrow", "unset logscale", "set format '%g'",
                  *placed(panel, layout, below, total), *PANELS[panel["kind"]](panel, layout)]
    return "\n".join([*words, "unset multiplot", ""])


# ---- SVG -----------------------------------------------------------------------------------

def tidy(svg, name, title):
    """gnuplot's SVG with names of its own, so that several can stand in one page, and with a
    title that is read aloud."""
    svg = re.sub(r'\bid=(["\'])', rf"id=\1{name}-", svg)
    svg = re.sub(r'href=(["\'])#', rf"href=\1#{name}-", svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"<desc>.*?</desc>", "", svg, flags=re.S)
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    svg = re.sub(r"<title>Gnuplot</title>", f"<title>{escaped}</title>", svg, count=1)
    for name in ("color", "stroke"):  # gnuplot's own black and white are for white paper
        svg = svg.replace(f'{name}="black"', f'{name}="{TEXT}"')
        svg = svg.replace(f'{name}="white"', f'{name}="{TEXT}"')
    return svg.replace("<svg ", '<svg role="img" ', 1)


def draw(figure, name, title, layout=WIDE):
    """A figure as the text of an SVG file. Needs gnuplot."""
    done = subprocess.run(["gnuplot"], input=script(figure, layout).encode(),
                          capture_output=True, timeout=60, check=False)
    svg = done.stdout.decode()
    if done.returncode != 0 or "</svg>" not in svg:
        raise RuntimeError(f"gnuplot could not draw {name}: {done.stderr.decode()[-300:]}")
    return tidy(svg, name + layout.suffix, title)


def for_page(svg):
    """The SVG to be put into HTML: text takes the colour of the page's text."""
    svg = svg[svg.index("<svg"):].replace(f' color="{TEXT}"', "")
    numbers = tuple(int(TEXT[i:i + 2], 16) for i in (1, 3, 5))
    for spelling in (TEXT, TEXT.lower(), "rgb(%d, %d, %d)" % numbers, "rgb(%d,%d,%d)" % numbers):
        svg = svg.replace(spelling, "currentColor")
    return svg
