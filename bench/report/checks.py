"""checks.py - what was predicted against what was found. Every check has two sides, and says how
far apart the two may be.

Does not: measure. A check is a dictionary, as it stands in results.json:
  what, measured, predicted; low, high   between them it holds
  tolerance   in words, "±20 %"
  state       "holds", "off" or "not measured"
  why         null, or why it was not measured
"""
from typing import cast

from results import Check, Figure, Findings, Prediction, Result, Row, Verdict

HOLDS, OFF, NOT_MEASURED = "holds", "off", "not measured"


def number(value: float | None) -> str:
    """As short as it is clear."""
    if value is None:
        return "nothing"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def between(what: str, measured: float | None, predicted: float | None, low: float | None,
            high: float | None, tolerance: str) -> Check:
    """low <= measured <= high; what was not measured at all is off."""
    holds = None not in (measured, low, high) and \
        cast(float, low) <= cast(float, measured) <= cast(float, high)
    return {"what": what, "measured": measured, "predicted": predicted, "low": low, "high": high,
            "tolerance": tolerance, "state": HOLDS if holds else OFF, "why": None}


def within(what: str, measured: float | None, predicted: float, share: float, more: float = 0.0,
           unit: str = "") -> Check:
    """Not further off than this share of the prediction, and `more` besides."""
    room = abs(predicted) * share + more
    also = f" ±{number(more)} {unit}".rstrip() if more else ""
    return between(what, measured, predicted, predicted - room, predicted + room,
                   f"±{share * 100:.0f} %{also}")


def near(what: str, measured: float | None, predicted: float, room: float, unit: str = "") -> Check:
    """Not further off than `room`, in the unit of the two."""
    return between(what, measured, predicted, predicted - room, predicted + room,
                   f"±{number(room)} {unit}".rstrip())


def exactly(what: str, measured: float | None, predicted: float) -> Check:
    return between(what, measured, predicted, predicted, predicted, "exact")


# ---- Ratios ----------------------------------------------------------------------------------

def noise(median: float | None, least: float | None, greatest: float | None) -> str | None:
    """None, or why a ratio of two costs says nothing: its rounds are further apart than it is
    from 1."""
    if median is None or least is None or greatest is None or least == greatest:
        return "fewer than two rounds"
    spread, effect = greatest - least, abs(median - 1)
    return f"spread {spread:.2f}, effect {effect:.2f}" if spread > effect else None


def ratio(what: str, median: float | None, least: float | None, greatest: float | None,
          predicted: float, room: float) -> Check:
    """A ratio, taken round by round; `room` is part of the ratio itself."""
    found = near(what, median, predicted, room)
    found["why"] = noise(median, least, greatest)
    if found["why"]:
        found["state"] = NOT_MEASURED
    return found


def band(what: str, median: float | None, least: float | None, greatest: float | None,
         low: float, high: float) -> Check:
    """A ratio, taken round by round, between two bounds. Where its rounds are further apart
    than the bounds, they cannot tell."""
    found = between(what, median, (low + high) / 2, low, high, f"{low:g} to {high:g}")
    if least is not None and greatest is not None and greatest - least > high - low:
        found["state"] = NOT_MEASURED
        found["why"] = f"spread {greatest - least:.2f}, band {high - low:.2f}"
    return found


def ratio_words(median: float | None, least: float | None, greatest: float | None,
                base: str = "") -> str:
    """"1.20 × the floor (1.18 to 1.23)"; where it says nothing, that."""
    why = noise(median, least, greatest)
    if median is None:
        return f"not measured: {why}"
    return ((f"not measured against{base or ' 1'}: {why}" if why else f"{median:.2f} ×{base}")
            + f" ({least:.2f} to {greatest:.2f})")


# ---- All checks of an experiment -------------------------------------------------------------

def verdict(found: list[Check]) -> Verdict:
    """What results.json says of an experiment: agrees is true if all its checks hold, false if
    one is off, and null if one was not measured or there is none."""
    states = {check["state"] for check in found}
    agrees = False if OFF in states else True if states == {HOLDS} else None
    reasons = [f"{check['what']}: {check['why']}" for check in found
               if check["state"] == NOT_MEASURED]
    return {"checks": found, "agrees": agrees,
            "tolerance": ", ".join(dict.fromkeys(check["tolerance"] for check in found)),
            "not_measured": "; ".join(reasons) or None}


def findings(found: list[Check], prediction: Prediction, rows: list[Row], finding: str,
             figure: Figure | None) -> Findings:
    """All that an experiment gives, its verdict made from the checks."""
    judged = verdict(found)
    return {"prediction": prediction, "rows": rows, "checks": judged["checks"],
            "agrees": judged["agrees"], "tolerance": judged["tolerance"],
            "not_measured": judged["not_measured"], "finding": finding, "figure": figure}


def missed(found: list[Check]) -> str:
    """"a (8, predicted 4 ±20 %), b ..." of those that are off."""
    return ", ".join(f"{check['what']} ({number(check['measured'])}, predicted "
                     f"{number(check['predicted'])} {check['tolerance']})"
                     for check in found if check["state"] == OFF)


def sentence(found: list[Check]) -> str:
    """The last words of a finding."""
    off = missed(found)
    if off:
        return f"Against the prediction: {off}."
    return "As predicted." if verdict(found)["agrees"] else "Not measured well enough to tell."


def badge_words(result: Result | Verdict) -> str:
    """What stands in the badge of a result that is neither skipped nor failed; "" for none."""
    told = f": {result['tolerance']}" if result.get("tolerance") else ""
    if result["agrees"] is False:
        return f"against the prediction{told}"
    if result.get("not_measured"):
        return f"not measured: {result['not_measured']}"
    return f"as predicted{told}" if result["agrees"] else ""
