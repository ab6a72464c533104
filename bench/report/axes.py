"""axes.py - the arithmetic of plots: ticks of axes, and room for the labels of lines.

Does not: draw, or know gnuplot. An axis is (low, high, logarithmic), a place on it 0 to 1.
"""
import math


def steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... that cover low to high, for a logarithmic axis."""
    found: list[float] = []
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
    return found[first:last + 1]


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, ... for the top of a linear axis."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
                        if step * power >= value * 0.9999)


def even(top: float, most: int = 5) -> list[float]:
    """Ticks from 0 to at most `top`, in steps of 1, 2, 2.5 or 5, not more than `most` of them."""
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= top / most * 0.9999)
    return [i * step for i in range(int(top / step * 1.0001) + 1)]


def thin(xs: list[float], least_gap: float, log: bool = True) -> list[float]:
    """Not more ticks than there is room for, in shares of the axis: the last stays."""
    kept: list[float] = []
    span = math.log(xs[-1] / xs[0]) if log and xs[-1] > xs[0] else xs[-1] - xs[0]
    for x in reversed(xs):
        gap = 1.0
        if kept and span:
            gap = (math.log(kept[-1] / x) if log else kept[-1] - x) / span
        if gap > least_gap:
            kept.append(x)
    return kept[::-1]


def place(value: float, axis: tuple[float, float, bool]) -> float:
    low, high, log = axis
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def spread_labels(heights: list[float], label_gap: float) -> dict[int, float]:
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


def along(points: list[tuple[float, float]], pieces: int = 24) -> list[tuple[float, float]]:
    """Points of a line through `points`, close enough together to see what it runs through."""
    found = points[-1:]
    for (x, y), (to_x, to_y) in zip(points, points[1:]):
        found += [(x + (to_x - x) * i / pieces, y + (to_y - y) * i / pieces)
                  for i in range(pieces)]
    return found


def beside(heights: list[float], lines: list[tuple[float, float]], left: float, width: float,
           label_gap: float) -> dict[int, float]:
    """Where labels go whose lines end inside a plot, all at one x: around the ends, below or
    above them, whichever covers least of the lines. left, width: of the labels' box; lines:
    points, from 0 to 1. Returns heights, as spread_labels() does."""
    rest = label_gap * (len(heights) - 1)

    def covered(middle: float) -> int:
        low, high = middle - (rest + label_gap) / 2, middle + (rest + label_gap) / 2
        hidden = sum(left <= x <= left + width and low <= y <= high for x, y in lines)
        return hidden + 100 * (low < -0.05) + 100 * (high > 1)
    away = 0.8 * label_gap + rest / 2
    middle = min((sum(heights) / len(heights), min(heights) - away, max(heights) + away),
                 key=covered)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    return {i: middle - rest / 2 + at * label_gap for at, i in enumerate(order)}
