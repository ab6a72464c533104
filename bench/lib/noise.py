"""noise.py - how quiet the machine was: what others took of its cpus before and after the run, and
how far apart costs are that should be the same.

Does not: make it quiet, or decide whether a run may be saved.
"""
import os
import re
import shutil
import statistics
import time

from lib import candidates, measure
from lib.context import Context
from results import Look, Noise

LOOK_SECONDS = 0.5    # while the benchmark itself does nothing
FLOOR_LOADS = 3       # before the run, and after it
FLOOR_SECONDS = 0.3   # of each
MIN_IDLE = 0.95       # of all cpus, with nothing at work but others
MAX_STEAL = 0.01      # of their time: what the hypervisor gave to other machines
MAX_SPREAD = 0.10     # of the floor's cost, greatest less least, of its median


def cpu_ticks(text: str) -> tuple[int, int, int]:
    """(all, idle, stolen) ticks of all cpus together, from /proc/stat. proc_stat(5)."""
    fields = [int(word) for word in text.splitlines()[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4], fields[7]


def shares(before: tuple[int, int, int], after: tuple[int, int, int]) -> dict[str, float]:
    """{idle, steal}: of the time between two cpu_ticks()."""
    every = max(1, after[0] - before[0])
    return {"idle_share": (after[1] - before[1]) / every,
            "steal_share": (after[2] - before[2]) / every}


def run_queue(text: str) -> int | None:
    """Who runs or could, this program not counted, from /proc/loadavg."""
    match = re.search(r" (\d+)/\d+ ", text)
    return max(0, int(match.group(1)) - 1) if match else None


def pressure(text: str) -> float | None:
    """Share of the last 10 s in which somebody waited for a cpu, from /proc/pressure/cpu; None
    where the kernel does not tell."""
    match = re.search(r"^some avg10=([\d.]+)", text, re.M)
    return float(match.group(1)) / 100 if match else None


def floor_costs(ctx: Context) -> list[float]:
    """µs per request of the floor, several times over; [] where it cannot be loaded."""
    if not shutil.which("wrk") or not os.path.exists(os.path.join(ctx.build, "bench", "floor")):
        return []
    seconds = min(FLOOR_SECONDS, ctx.p["seconds"])
    with ctx.server(candidates.floor(ctx.build)) as server:
        rows = [ctx.load(server, ctx.p["main_clients"], seconds, look=False)
                for _ in range(FLOOR_LOADS)]
    return [row["cpu_us_per_request"] for row in rows if row["cpu_us_per_request"]]


def look(ctx: Context) -> Look:
    """The machine now, with nothing of ours at work, and then the floor."""
    began = cpu_ticks(measure.read("/proc/stat"))
    queue = run_queue(measure.read("/proc/loadavg"))
    time.sleep(LOOK_SECONDS)
    found = shares(began, cpu_ticks(measure.read("/proc/stat")))
    return {"idle_share": found["idle_share"], "steal_share": found["steal_share"],
            "run_queue": queue,
            "pressure_share": pressure(measure.read("/proc/pressure/cpu")),
            "floor_us": floor_costs(ctx)}


def stamp(before: Look, after: Look, steal_share: float) -> Noise:
    """What results.json and environment.json say. steal_share: of the whole run."""
    costs = before["floor_us"] + after["floor_us"]
    spread = (max(costs) - min(costs)) / statistics.median(costs) if costs else None
    idle = min(before["idle_share"], after["idle_share"])
    why = [text for loud, text in (
        (idle < MIN_IDLE, f"only {idle * 100:.0f} % of the cpus were idle before or after it"),
        (steal_share > MAX_STEAL, f"{steal_share * 100:.1f} % of cpu time was stolen"),
        (spread is not None and spread > MAX_SPREAD,
         f"the floor's cost varied by {(spread or 0) * 100:.0f} %")) if loud]
    return {"quiet": not why, "why": why, "idle_share": idle, "steal_share": steal_share,
            "run_queue": max(before["run_queue"] or 0, after["run_queue"] or 0),
            "floor_us_min": min(costs, default=None), "floor_us_max": max(costs, default=None),
            "floor_spread": spread, "before": before, "after": after}


def words(noise: Noise) -> str:
    """One sentence."""
    floor = ("" if noise["floor_spread"] is None else
             f"; the floor cost {noise['floor_us_min']:.2f} to {noise['floor_us_max']:.2f} µs a "
             f"request (spread {noise['floor_spread'] * 100:.0f} %)")
    told = (f"{noise['idle_share'] * 100:.0f} % idle before and after, "
            f"{noise['steal_share'] * 100:.1f} % stolen during the run, {noise['run_queue']} "
            f"others in the run queue{floor}")
    if noise["quiet"]:
        return f"The machine was quiet: {told}."
    return f"The machine was NOT quiet ({', '.join(noise['why'])}): {told}."
