"""Why a cut is left, in words: the one quantity whose change tells most against it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts

#: What is said of each field of Conditions, and how its value is written.
_QUANTITIES: tuple[tuple[tuple[str, ...], str, Callable[[float, float], str]], ...]


def reason(cuts: Cuts, left: int, taken: int, chosen_under: Conditions, now: Conditions) -> str:
    """Why `left`, chosen under the one conditions, is left for `taken` under the other.

    Each quantity by itself is given its new value among the old ones: the one that adds most to
    what `left` costs beyond `taken` is named, such as "bandwidth up 20 -> 4.8 Mbit/s".
    """
    if now.lost and not chosen_under.lost:
        return "server lost"
    if chosen_under.lost and not now.lost:
        return "server back"
    before_s = _difference_s(cuts, left, taken, chosen_under)
    most, named = 0.0, ""
    for fields, name, written in _QUANTITIES:
        old, new = getattr(chosen_under, fields[0]), getattr(now, fields[0])
        changed = replace(chosen_under, **{field: getattr(now, field) for field in fields})
        adds_s = _difference_s(cuts, left, taken, changed) - before_s
        if adds_s > most:  # false for NaN: inf before and after is no change
            most, named = adds_s, f"{name} {written(old, new)}"
    if named:
        return named
    return f"{cuts.cuts[taken].name} is cheaper"  # as it already was, but by less than counts


def _difference_s(cuts: Cuts, left: int, taken: int, conditions: Conditions) -> float:
    values = cuts.values_s(conditions)
    return float(values[left]) - float(values[taken])


def _written(unit_names: tuple[tuple[str, float], ...]) -> Callable[[float, float], str]:
    """Writes two values in the one unit that the smaller (if not 0) is readable in; each in its
    own where the larger is not."""

    def alone(value: float) -> str:
        name, scale = next((u for u in unit_names if value >= u[1]), unit_names[-1])
        return f"{_digits(value / scale)} {name}"

    def write(old: float, new: float) -> str:
        least = min((v for v in (old, new) if 0 < v < math.inf), default=unit_names[-1][1])
        # Down to a tenth of a unit is readable: 0.8 -> 20 Mbit/s, not 800 -> 20000 kbit/s.
        name, scale = next((u for u in unit_names if least >= 0.1 * u[1]), unit_names[-1])
        if 1e3 * scale <= max(old, new) < math.inf:
            return f"{alone(old)} -> {alone(new)}"
        return f"{_digits(old / scale)} -> {_digits(new / scale)} {name}"

    return write


def _factors(old: float, new: float) -> str:
    return f"{old:.1f} -> {new:.1f}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


_rates = _written((("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)))
_times = _written((("s", 1.0), ("ms", 1e-3), ("us", 1e-6)))

_QUANTITIES = (
    (("up_bps",), "bandwidth up", _rates),
    (("down_bps",), "bandwidth down", _rates),
    (("load",), "load", _factors),
    (("queue_s",), "queue", _times),
    (("slowdown",), "device slow-down", _factors),
    (("up_latency_s", "down_latency_s"), "latency", _times),
)
