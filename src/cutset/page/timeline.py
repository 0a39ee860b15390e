"""One request over time: a lane for each device and link that it uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cutset.page.colours import ink
from cutset.page.markup import box, clipped, label, picture, tag, title
from cutset.problem import Problem, Solution
from cutset.units import format_bytes, format_time

_WIDTH, _GUTTER, _RIGHT = 1060.0, 150.0, 66.0
_LANE, _AXIS = 24.0, 22.0
_LEAST = 0.6  # pixels: bars closer than this are drawn as one
_MOST_LINKS = 24  # lanes: of more links, those of a sender share one
_MOST_BARS = 250  # with more, bars are merged sooner


@dataclass(frozen=True)
class _Bar:
    start_s: float
    end_s: float
    about: str
    arrive_s: float | None = None


def draw_timeline(problem: Problem, solution: Solution, colours: Mapping[str, str]) -> str:
    """The picture: when devices compute and when links carry, for one request when all is idle."""
    estimate = solution.estimate
    lanes: dict[tuple[str, str], list[_Bar]] = {}
    sizes = {s.name: len(s.operators) for s in solution.plan.stages}
    for stage in estimate.stages:
        took = format_time(stage.end_s - stage.start_s)
        about = f"{stage.name} on {stage.device}: {sizes[stage.name]} operators, {took}"
        bar = _Bar(stage.start_s, stage.end_s, about)
        lanes.setdefault((stage.device, ""), []).append(bar)
    links = {(t.transfer.source_device, t.transfer.target_device) for t in estimate.transfers}
    for move in estimate.transfers:
        sent = move.transfer
        about = (
            f"{clipped(sent.tensor, 60)}, {format_bytes(sent.bytes)}, from {sent.source_device} to"
            f" {sent.target_device} in {format_time(move.end_s - move.start_s)}"
        )
        if move.start_s > move.ready_s:
            about += f", after waiting {format_time(move.start_s - move.ready_s)}"
        bar = _Bar(move.start_s, move.end_s, about, move.arrive_s)
        to = sent.target_device if len(links) <= _MOST_LINKS else "all"
        lanes.setdefault((sent.source_device, to), []).append(bar)
    order = sorted(
        lanes, key=lambda lane: (min(b.start_s for b in lanes[lane]), lane[1] != "", lane)
    )
    end = max((b.arrive_s or b.end_s for bars in lanes.values() for b in bars), default=0.0)
    end = max(end, estimate.latency_s)
    scale = (_WIDTH - _GUTTER - _RIGHT) / end if end > 0 else 0.0
    height = _LANE * len(order) + _AXIS + 4
    least = _LEAST * max(1.0, sum(map(len, lanes.values())) / _MOST_BARS)
    parts = [_axis(end, scale, height)]
    for i, lane in enumerate(order):
        parts.append(_lane(lane, _merged(lanes[lane], scale, least), i * _LANE, scale, colours))
    x = _GUTTER + estimate.latency_s * scale
    parts.append(tag("line", x1=x, x2=x, y1=0, y2=height - _AXIS, class_="finish"))
    parts.append(label(x + 5, 14, format_time(estimate.latency_s), class_="strong"))
    about = f"one request takes {format_time(estimate.latency_s)}"
    return picture(_WIDTH, height, *parts, about=about)


def ticks(end: float, most: int = 8) -> list[float]:
    """Round numbers from 0 up to `end`, at most so many steps."""
    if not 0 < end < math.inf:
        return [0.0]
    rough = end / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * (1 - 1e-9))
    return [i * step for i in range(math.floor(end / step + 1e-9) + 1)]


def _axis(end: float, scale: float, height: float) -> str:
    parts = []
    bottom = height - _AXIS
    for at in ticks(end):
        x = _GUTTER + at * scale
        parts.append(tag("line", x1=x, x2=x, y1=0, y2=bottom, class_="grid"))
        text = format_time(at) if at else "0"
        parts.append(label(x, bottom + 15, text, text_anchor="middle", class_="faint"))
    return "".join(parts)


def _lane(
    lane: tuple[str, str],
    bars: list[_Bar],
    top: float,
    scale: float,
    colours: Mapping[str, str],
) -> str:
    device, target = lane
    colour = colours[device]
    name = f"{clipped(device, 9)} → {clipped(target, 9)}" if target else clipped(device, 20)
    parts = [label(8, top + 16, name, class_="faint" if target else "strong")]
    high = 8.0 if target else 18.0
    y = top + (_LANE - high) / 2
    for bar in bars:
        x, width = _GUTTER + bar.start_s * scale, max((bar.end_s - bar.start_s) * scale, _LEAST)
        parts.append(box(x, y, width, high, title(bar.about), fill=colour, class_="box"))
        if bar.arrive_s is not None and (bar.arrive_s - bar.end_s) * scale > 2:
            middle = y + high / 2
            end = _GUTTER + bar.arrive_s * scale
            parts.append(tag("line", x1=x + width, x2=end, y1=middle, y2=middle, class_="flight"))
        text = format_time(bar.end_s - bar.start_s)
        if not target and width > 7.5 * len(text):
            parts.append(label(x + 5, top + 16, text, fill=ink(colour), class_="in"))
    return "".join(parts)


def _merged(bars: list[_Bar], scale: float, least: float) -> list[_Bar]:
    """Bars that touch on the screen as one, so that thousands of them stay a small picture."""
    merged: list[tuple[_Bar, int]] = []
    for bar in sorted(bars, key=lambda b: (b.start_s, b.end_s)):
        if merged and (bar.start_s - merged[-1][0].end_s) * scale < least:
            last, count = merged[-1]
            small = min(last.end_s - last.start_s, bar.end_s - bar.start_s) * scale < 5 * least
            if small:
                end = max(last.end_s, bar.end_s)
                arrive = max(last.arrive_s or 0.0, bar.arrive_s or 0.0) or None
                about = last.about if count == 1 else last.about.partition(" (and ")[0]
                about = f"{about} (and {count} more)"
                merged[-1] = (_Bar(last.start_s, end, about, arrive), count + 1)
                continue
        merged.append((bar, 1))
    return [bar for bar, _ in merged]
