"""The plot of the adaptive benchmark: what each choice takes at each point, and over the trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from adapt_math import arms, median
from svg import COLOURS, FAINT, INK, document, dot, line, path, text

#: The arms and their colours; the oracle's stands last, as a ring around what it took.
ARMS = {
    "offload": COLOURS[4],
    "local": COLOURS[5],
    "oblivious": COLOURS[1],
    "aware": COLOURS[0],
}
LABELS = {
    "offload": "offload",
    "local": "local",
    "oblivious": "load-oblivious",
    "aware": "load-aware",
    "oracle": "oracle: the fastest held cut, with what it took",
}
TRACED = {"load-oblivious": COLOURS[1], "oracle": COLOURS[2], "load-aware": COLOURS[0]}
LEFT, TOP = 64.0, 74.0
PANEL_WIDTH, PANEL_HEIGHT, GAP_X, GAP_Y = 216.0, 96.0, 26.0, 56.0
#: Arms are shown by their latency over the fastest held cut's; what is beyond stands at the edge.
RATIOS = (1.0, 1.5, 2.0, 3.0, 4.0)
TRACE_HEIGHT, RATE_HEIGHT = 170.0, 80.0

Y = Callable[[float], float]


def plot(result: Mapping[str, Any]) -> str:
    """A row of panels a model, one a load: latency over the links' rate; below it the trace."""
    points = result["points"]["points"]
    models = list(dict.fromkeys(p["model"] for p in points))
    loads = sorted({p["competing"] for p in points})
    width = LEFT + len(loads) * (PANEL_WIDTH + GAP_X)
    parts = [
        text(
            LEFT,
            22,
            "Median latency over that of the fastest held cut, by links' rate (lab)",
            size=14,
        )
    ]
    parts += _legend(LEFT, 44)
    for i, model in enumerate(models):
        own = [p for p in points if p["model"] == model]
        top = TOP + i * (PANEL_HEIGHT + GAP_Y)
        y = _log(0.95, RATIOS[-1], top, PANEL_HEIGHT)
        for k, load in enumerate(loads):
            left = LEFT + k * (PANEL_WIDTH + GAP_X)
            parts.append(text(left, top - 6, f"{model}, {load} competing", size=11))
            row = sorted((p for p in own if p["competing"] == load), key=lambda p: p["rate_bps"])
            parts += _panel(row, left, y, first=k == 0)
    top = TOP + len(models) * (PANEL_HEIGHT + GAP_Y) + 20
    parts += _trace(result["trace"], top, width - LEFT - GAP_X)
    return document(width, top + RATE_HEIGHT + TRACE_HEIGHT + 90, parts)


def _shown(point: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each arm, and of the fastest cut, where they were measured."""
    medians = {cut: s for cut, rounds in arms(point).items() if (s := median(rounds)) is not None}
    found = {a: medians[point[a]] for a in ARMS if point[a] is not None and point[a] in medians}
    return {**found, "oracle": min(medians.values())}


def _panel(row: Sequence[Mapping[str, Any]], left: float, y: Y, first: bool) -> list[str]:
    parts = []
    for tick in RATIOS:
        parts.append(line(left, y(tick), left + PANEL_WIDTH, y(tick), FAINT))
        if first:
            said = f"≥ {tick:g}×" if tick == RATIOS[-1] else f"{tick:g}×"
            parts.append(text(left - 6, y(tick) + 4, said, anchor="end", size=10))
    xs = [left + (i + 0.5) / len(row) * PANEL_WIDTH for i in range(len(row))]
    shown = [_shown(point) for point in row]
    for x, point, s in zip(xs, row, shown, strict=True):
        label = f"{point['rate_bps'] / 1e6:g} Mbit/s"
        parts.append(text(x, y(0.95) + 13, label, anchor="middle", size=9))
        parts.append(text(x, y(0.95) + 25, _seconds(s["oracle"]), COLOURS[2], "middle", 9))

    def at(s: Mapping[str, float], arm: str) -> float:
        return y(min(s[arm] / s["oracle"], RATIOS[-1]))

    for arm, colour in ARMS.items():
        known = [(x, at(s, arm)) for x, s in zip(xs, shown, strict=True) if arm in s]
        parts += [line(*a, *b, colour, 2 if arm == "aware" else 1.2) for a, b in pairwise(known)]
    for x, point, s in zip(xs, row, shown, strict=True):
        parts.append(_ring(x, y(1), f"fastest held cut: {_seconds(s['oracle'])}"))
        where = f"{point['rate_bps'] / 1e6:g} Mbit/s, {point['competing']} competing"
        parts += [
            dot(x, at(s, arm), colour, f"{LABELS[arm]} at {where}: {_seconds(s[arm])}")
            for arm, colour in ARMS.items()
            if arm in s
        ]
    return parts


def _ring(x: float, y: float, title: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5" fill="none" stroke="{COLOURS[2]}"'
        f' stroke-width="1.6"><title>{title}</title></circle>'
    )


def _legend(left: float, top: float) -> list[str]:
    parts = []
    for arm in ("aware", "oblivious", "local", "offload", "oracle"):
        ring = arm == "oracle"
        parts.append(
            _ring(left + 5, top, LABELS[arm])
            if ring
            else dot(left + 5, top, ARMS[arm], LABELS[arm])
        )
        parts.append(text(left + 16, top + 4, LABELS[arm], size=11))
        left += 34 + 6.4 * len(LABELS[arm])
    return parts


def _trace(trace: Mapping[str, Any], top: float, width: float) -> list[str]:
    """Rate and load above, then latency by second of the policies that follow something."""
    seconds = len(trace["up_by_second_bps"])
    parts = [
        text(LEFT, top, f"A trace, {trace['model']}: the rate up, and shaded the load", size=14)
    ]

    def x(second: float) -> float:
        return LEFT + second / seconds * width

    rate_top = top + 14
    most = max(trace["competing_by_second"], default=0)
    for i, load in enumerate(trace["competing_by_second"]):
        if load:
            parts.append(
                f'<rect x="{x(i):.1f}" y="{rate_top:.1f}" width="{width / seconds:.2f}"'
                f' height="{RATE_HEIGHT:.0f}" fill="{COLOURS[4]}"'
                f' fill-opacity="{0.4 * load / most:.2f}"/>'
            )
    rate_y = _log(0.5e6, 128e6, rate_top, RATE_HEIGHT)
    for rate in (1e6, 8e6, 64e6):
        parts.append(line(LEFT, rate_y(rate), LEFT + width, rate_y(rate), FAINT))
        label = f"{rate / 1e6:g} Mbit/s"
        parts.append(text(LEFT - 6, rate_y(rate) + 4, label, anchor="end", size=10))
    rates = trace["up_by_second_bps"]
    parts.append(path([(x(i + 0.5), rate_y(r)) for i, r in enumerate(rates)], INK))
    return parts + _latencies(trace, rate_top + RATE_HEIGHT + 40, x, width)


def _latencies(
    trace: Mapping[str, Any], top: float, x: Callable[[float], float], width: float
) -> list[str]:
    rows = {row["policy"]: row["latency_by_second_s"] for row in trace["rows"]}
    rows = {name: rows[name] for name in TRACED if name in rows}
    ticks = _ticks([s for row in rows.values() for s in row if s is not None])
    y = _log(ticks[0], ticks[-1], top, TRACE_HEIGHT)
    parts = [text(LEFT, top - 10, "Mean latency of the requests sent in each second", size=12)]
    left = LEFT + 310
    for name in reversed(rows):
        parts.append(line(left, top - 14, left + 16, top - 14, TRACED[name], 2.5))
        parts.append(text(left + 21, top - 10, name, size=11))
        left += 44 + 6.4 * len(name)
    for tick in ticks:
        parts.append(line(LEFT, y(tick), LEFT + width, y(tick), FAINT))
        parts.append(text(LEFT - 6, y(tick) + 4, _seconds(tick), anchor="end", size=10))
    for name, row in rows.items():
        known = [(x(i + 0.5), y(s)) for i, s in enumerate(row) if s is not None]
        parts.append(path(known, TRACED[name], 2 if name == "load-aware" else 1.3))
    seconds = len(trace["up_by_second_bps"])
    for second in range(0, seconds + 1, 30 if seconds > 60 else 10):
        bottom = top + TRACE_HEIGHT + 16
        parts.append(text(x(second), bottom, f"{second} s", anchor="middle", size=10))
    return parts


def _ticks(values_s: Sequence[float]) -> list[float]:
    """1, 2, 5, 10 … around the values, every third of them where they are many."""
    steps = [m * 10.0**e for e in range(-4, 4) for m in (1, 2, 5)]
    low = max((s for s in steps if s <= min(values_s)), default=steps[0])
    high = min((s for s in steps if s >= max(values_s)), default=steps[-1])
    if high <= low:
        high = min(s for s in steps if s > low)
    found = [s for s in steps if low <= s <= high]
    return found if len(found) <= 6 else [low, *found[2:-2:2], high]


def _log(low: float, high: float, top: float, height: float) -> Y:
    return lambda value: top + height * (1 - math.log(value / low) / math.log(high / low))


def _seconds(value_s: float) -> str:
    return f"{value_s:.3g} s" if value_s >= 1 else f"{1e3 * value_s:.3g} ms"
