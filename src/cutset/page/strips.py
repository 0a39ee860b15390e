"""Strips of a picture that share a time axis: scales, frames, lines of many points. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from cutset.page.markup import box, clipped, label, tag

WIDTH, GUTTER, RIGHT = 1060.0, 150.0, 20.0
CHARACTER = 6.6  # pixels that one takes on average
_ROOM = 0.04  # of a strip's height, above and below its lines
_MOST_MARKS = 7
_MOST_SPREAD = 1e12  # between the least and the most value of an axis; less lies at its foot

Points = Sequence[tuple[float, float]]


class Time:
    """Seconds on the horizontal axis."""

    def __init__(self, duration_s: float) -> None:
        self.end_s = duration_s if duration_s > 0 else 1.0
        self.scale = (WIDTH - GUTTER - RIGHT) / self.end_s

    def __call__(self, at_s: float) -> float:
        return GUTTER + min(max(at_s, 0.0), self.end_s) * self.scale


@dataclass(frozen=True)
class Log:
    """Values on a logarithmic vertical axis; what is 0 or less lies at the bottom, what is more
    than `most` at the top. `marks` are values that are written beside it, each with its height."""

    least: float
    most: float
    top: float
    height: float

    def __call__(self, value: float) -> float:
        bottom = self.top + self.height
        if not value > 0:
            return bottom
        part = math.log(min(max(value, self.least), self.most) / self.least)
        room = _ROOM * self.height
        whole = math.log(self.most / self.least)
        return bottom - room - (self.height - 2 * room) * part / whole

    @property
    def marks(self) -> list[tuple[float, float]]:
        for factors in ((1, 2, 5), (1,)):
            found = [
                factor * 10.0**power
                for power in range(
                    math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1
                )
                for factor in factors
                if self.least <= factor * 10.0**power <= self.most
            ]
            if len(found) <= _MOST_MARKS:
                break
        found = found[:: max(1, math.ceil(len(found) / _MOST_MARKS))]
        return [(value, self(value)) for value in found]


def log_of(values: Sequence[float], top: float, height: float) -> Log:
    """An axis on which all values lie; what is not finite, or 0, has no part in it."""
    proper = [v for v in values if 0 < v < math.inf]
    least, most = min(proper, default=1.0), max(proper, default=1.0)
    # At least half a decade: noise alone would look like a change.
    spread = max(1.0, math.sqrt(10**0.5 * least / most))
    least = max(least, most / _MOST_SPREAD)
    return Log(least / spread * 0.95, most * spread * 1.05, top, height)


def frame(
    top: float,
    height: float,
    name: str,
    marks: Sequence[tuple[float, float]],
    written: Callable[[float], str],
) -> str:
    parts = [label(12, top + 12, name, class_="strong")]
    for value, y in marks:
        parts.append(tag("line", x1=GUTTER, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        text = written(value) if value else "0"
        parts.append(label(GUTTER - 6, y + 4, text, text_anchor="end", class_="faint small"))
    parts.append(box(GUTTER, top, WIDTH - GUTTER - RIGHT, height, class_="frame"))
    return "".join(parts)


def keys_of(top: float, keys: Sequence[tuple[str, str | None, str]]) -> list[str]:
    """What a strip's lines are, above it, from the right."""
    parts = []
    right = WIDTH - RIGHT
    for style, stroke, name in reversed(keys):
        shown = clipped(name, 40)
        left = right - CHARACTER * len(shown)
        parts.append(label(left, top - 6, shown, class_="small"))
        parts.append(
            tag(
                "line",
                x1=left - 26,
                x2=left - 5,
                y1=top - 10,
                y2=top - 10,
                class_=style,
                stroke=stroke,
            )
        )
        right = left - 40
    return parts


def steps(x: Time, points: Points, **attributes: object) -> str:
    """A line of what holds from one point to the next. Of points that share a column of pixels the
    first, the extremes and the last are drawn, so that a long trace stays a small picture."""
    kept: list[tuple[float, float]] = []
    for _, column in groupby(points, lambda point: math.floor(x(point[0]))):
        group = list(column)
        if len(group) > 4:
            low, high = min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])
            group = sorted({group[0], low, high, group[-1]})
        kept += group
    if not kept:
        return ""
    path = f"M{x(kept[0][0]):.1f} {kept[0][1]:.1f}"
    for (_, before), (at_s, y) in pairwise(kept):
        if y != before:
            path += f"H{x(at_s):.1f}V{y:.1f}"
    return tag("path", d=f"{path}H{x(x.end_s):.1f}", **attributes)


def means(x: Time, points: Points, **attributes: object) -> str:
    """A line through points; those that share two columns of pixels are one, at their mean."""
    line = []
    for _, column in groupby(points, lambda point: math.floor(x(point[0]) / 2)):
        group = list(column)
        at = sum(x(at_s) for at_s, _ in group) / len(group)
        line.append(f"{at:.1f},{sum(y for _, y in group) / len(group):.1f}")
    return tag("polyline", points=" ".join(line), **attributes) if line else ""


def apart(x: Time, times_s: Sequence[float], pixels: float = 5.0) -> list[float]:
    """Of the times those that can be told from the one before on the screen."""
    found: list[float] = []
    for at_s in times_s:
        if not found or x(at_s) - x(found[-1]) >= pixels:
            found.append(at_s)
    return found
