"""How cuts followed network and load, over time: what held and was believed, what requests took.

Three strips share a time axis: bandwidth, load and latency, all logarithmic, with a band for each
policy that shows the cut in use. A live run is drawn alike, without what really held.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.simulated import Played
from cutset.adaptation.traces import Trace
from cutset.page.colours import colour, ink
from cutset.page.markup import box, clipped, label, tag, title
from cutset.page.strips import (
    CHARACTER,
    GUTTER,
    RIGHT,
    WIDTH,
    Time,
    apart,
    frame,
    keys_of,
    log_of,
    means,
    steps,
)
from cutset.page.timeline import ticks
from cutset.units import format_rate, format_time

_STRIP, _HIGH_STRIP, _GAP, _BAND, _AXIS, _HEAD = 120.0, 190.0, 34.0, 20.0, 26.0, 30.0
_LEGEND_ROW = 20.0
_DOTS = 150  # requests: of more, the line alone is drawn
_MOST_SWITCHES = 400  # marks in a band; more would be one block
_NAME = 20
#: From few to many operators on the server, dark to light (the anchors of "viridis"): cuts have an
#: order, and their colours are none that a policy's line has.
_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
_STYLE = (
    "svg{background:#fff;font:12px system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    "text:not([fill]){fill:#1c1f23}text.faint:not([fill]){fill:#5b636c}.strong{font-weight:600}.head{font-size:15px;"
    "font-weight:600}.small{font-size:11px}.grid{stroke:#e1e4e8}.frame{fill:none;stroke:#b6bcc4}"
    ".truth{fill:none;stroke:#1c1f23;stroke-width:1.4}.line{fill:none;stroke-width:1.5}"
    ".down{stroke-dasharray:5 3}.gone{fill:#d55e00;opacity:.14}"
    ".mark{stroke:#1c1f23;stroke-width:1.2}"
)


@dataclass(frozen=True)
class Dot:
    """A request, or the mean of several; `latency_s` None where none was answered."""

    at_s: float
    cut: str
    latency_s: float | None


@dataclass(frozen=True)
class Track:
    """What one policy, or one live run, did: names of cuts, seconds from the start."""

    policy: str
    dots: tuple[Dot, ...]
    believed: tuple[tuple[float, Conditions], ...]
    switches: tuple[tuple[float, str], ...]


def track_of(played: Played, names: Sequence[str]) -> Track:
    """A policy as it was played; `names` are those of the cuts."""
    return Track(
        played.policy,
        tuple(
            Dot(r.at_s, names[r.cut], r.latency_s if r.answered else None) for r in played.requests
        ),
        tuple((r.at_s, r.believed) for r in played.requests),
        tuple(
            (s.at_s, _change_in_words(names[s.before], names[s.after], s.reason))
            for s in played.switches
        ),
    )


def draw_adaptation(
    heading: str,
    names: Sequence[str],
    tracks: Sequence[Track],
    duration_s: float,
    truth: Trace | None = None,
    believed: str | None = None,
) -> str:
    """The picture as a file of its own (SVG).

    `names` are those of all cuts, in their order; `believed` is the policy whose belief is drawn
    (default: the first).
    """
    x = Time(duration_s)
    inks = [colour(i) for i in range(len(tracks))]
    own = next((t for t in tracks if t.policy == believed), tracks[0] if tracks else None)
    own_ink = inks[tracks.index(own)] if own is not None else "#000"
    held = [(m.at_s, m.conditions) for m in truth.moments] if truth is not None else []
    seen = list(own.believed) if own is not None else []
    about_belief = f"believed by {own.policy}" if own is not None else ""
    used = [name for name in names if any(d.cut == name for t in tracks for d in t.dots)]
    bands = {name: _tint(i, len(used)) for i, name in enumerate(used)}

    parts = [label(12, 20, heading, class_="head")]
    top = _HEAD + 20
    parts += _bandwidth(x, top, held, seen, own_ink, about_belief)
    top += _STRIP + _GAP
    parts += _load(x, top, held, seen, own_ink, about_belief)
    top += _STRIP + _GAP
    parts += _latencies(x, top, tracks, inks)
    top += _HIGH_STRIP + 6
    for track, line in zip(tracks, inks, strict=True):
        parts.append(_band(x, top, track, line, bands))
        top += _BAND + 4
    parts.append(_time_axis(x, top))
    top += _AXIS + 12
    rows, top = _legend(top, bands)
    parts += rows
    about = f"{heading}: bandwidth, load, latency and cut over {format_time(duration_s)}"
    return tag(
        "svg",
        title(about),
        tag("style", _STYLE),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        width=round(WIDTH),
        height=round(top),
        viewBox=f"0 0 {WIDTH:.0f} {top:.0f}",
        role="img",
    )


def _change_in_words(before: str, after: str, reason: str) -> str:
    return f"{before} → {after}" + (f": {reason}" if reason else "")


def _bandwidth(
    x: Time,
    top: float,
    held: Sequence[tuple[float, Conditions]],
    seen: Sequence[tuple[float, Conditions]],
    line: str,
    about: str,
) -> list[str]:
    rates = [r for _, c in (*held, *seen) for r in (c.up_bps, c.down_bps)]
    y = log_of(rates, top, _STRIP)
    parts = [frame(top, _STRIP, "bandwidth", y.marks, format_rate)]
    parts += _gone(x, top, held or seen)
    keys = []
    alike = all(c.up_bps == c.down_bps for _, c in (*held, *seen))
    for points, style, ink_, name in (
        (held, "truth", None, "held"),
        (seen, "line", line, about),
    ):
        if not points:
            continue
        way = "" if alike else "up: "
        up = [(at, y(c.up_bps)) for at, c in points]
        parts.append(steps(x, up, class_=style, stroke=ink_))
        keys.append((style, ink_, f"{way}{name}"))
        if not alike:
            down = [(at, y(c.down_bps)) for at, c in points]
            parts.append(steps(x, down, class_=f"{style} down", stroke=ink_))
            keys.append((f"{style} down", ink_, f"down: {name}"))
    return [*parts, *keys_of(top, keys)]


def _load(
    x: Time,
    top: float,
    held: Sequence[tuple[float, Conditions]],
    seen: Sequence[tuple[float, Conditions]],
    line: str,
    about: str,
) -> list[str]:
    y = log_of([c.load for _, c in (*held, *seen)], top, _STRIP)
    parts = [frame(top, _STRIP, "load k", y.marks, lambda k: f"{k:g}")]
    keys = []
    for points, style, ink_, name in ((held, "truth", None, "held"), (seen, "line", line, about)):
        if points:
            lines = [(at, y(c.load)) for at, c in points]
            parts.append(steps(x, lines, class_=style, stroke=ink_))
            keys.append((style, ink_, name))
    return [*parts, *keys_of(top, keys)]


def _latencies(x: Time, top: float, tracks: Sequence[Track], inks: Sequence[str]) -> list[str]:
    taken = [d.latency_s for t in tracks for d in t.dots if d.latency_s is not None]
    y = log_of(taken, top, _HIGH_STRIP)
    parts = [frame(top, _HIGH_STRIP, "latency", y.marks, format_time)]
    keys: list[tuple[str, str | None, str]] = []
    # The first is drawn last, so that it lies on top.
    for track, line in reversed(list(zip(tracks, inks, strict=True))):
        points = [(d.at_s, y(d.latency_s)) for d in track.dots if d.latency_s is not None]
        parts.append(means(x, points, class_="line", stroke=line))
        if len(points) <= _DOTS:
            parts += [tag("circle", cx=x(at), cy=h, r=2.2, fill=line) for at, h in points]
        parts += [
            label(x(at), top + 11, "×", fill=line, text_anchor="middle", class_="strong")
            for at in apart(x, [d.at_s for d in track.dots if d.latency_s is None])
        ]
        keys.insert(0, ("line", line, track.policy))
    return [*parts, *keys_of(top, keys)]


def _band(x: Time, top: float, track: Track, line: str, bands: Mapping[str, str]) -> str:
    """The cut in use over time, in a lane named after the policy."""
    parts = [label(12, top + 14, clipped(track.policy, _NAME), class_="strong", fill=line)]
    runs = _runs(x, track.dots)
    for name, start_s, end_s in runs:
        left, right = x(start_s), x(end_s)
        about = f"{name} from {format_time(start_s)} to {format_time(end_s)}"
        fill = bands[name]
        parts.append(box(left, top, max(right - left, 0.5), _BAND, title(about), fill=fill))
        if right - left > CHARACTER * len(name) + 8:
            parts.append(label(left + 5, top + 14, name, fill=ink(fill), class_="small"))
    for at_s, why in track.switches[:_MOST_SWITCHES]:
        at = x(at_s)
        parts.append(
            tag("line", title(why), x1=at, x2=at, y1=top - 2, y2=top + _BAND + 2, class_="mark")
        )
    return "".join(parts)


def _runs(x: Time, dots: Sequence[Dot]) -> list[tuple[str, float, float]]:
    """Cuts with the seconds from and to which they were taken. Of several in one column of pixels
    the most frequent counts, so that a policy that flaps stays a small picture."""
    columns = []
    for _, column in groupby(dots, lambda dot: math.floor(x(dot.at_s))):
        group = list(column)
        name = Counter(dot.cut for dot in group).most_common(1)[0][0]
        columns.append((name, next(dot.at_s for dot in group if dot.cut == name)))
    starts = [(name, next(group)[1]) for name, group in groupby(columns, lambda c: c[0])]
    ends = [*(at_s for _, at_s in starts), x.end_s][1:]
    return [(name, at_s, end_s) for (name, at_s), end_s in zip(starts, ends, strict=True)]


def _time_axis(x: Time, top: float) -> str:
    parts = []
    for at_s in ticks(x.end_s, 10):
        parts.append(tag("line", x1=x(at_s), x2=x(at_s), y1=top, y2=top + 5, class_="frame"))
        text = format_time(at_s) if at_s else "0"
        parts.append(label(x(at_s), top + 18, text, text_anchor="middle", class_="faint"))
    return "".join(parts)


def _legend(top: float, bands: Mapping[str, str]) -> tuple[list[str], float]:
    """The cuts' colours beside their names, in as many rows as they need, and where they end."""
    parts = [label(12, top + 12, "cut in use", class_="faint")]
    at = GUTTER
    for name, fill in bands.items():
        shown = clipped(name, 40)
        width = 28 + CHARACTER * len(shown)
        if at + width > WIDTH - RIGHT and at > GUTTER:
            at, top = GUTTER, top + _LEGEND_ROW
        parts.append(box(at, top + 2, 14, 12, fill=fill))
        parts.append(label(at + 19, top + 12, shown))
        at += width
    hint = "│ a switch (rest the pointer on it to see why)   × no answer"
    parts.append(label(GUTTER, top + 34, hint, class_="faint small"))
    return parts, top + _LEGEND_ROW + 26


def _gone(x: Time, top: float, points: Sequence[tuple[float, Conditions]]) -> list[str]:
    """While the server is lost, behind the lines."""
    parts = []
    ends = [*(at for at, _ in points), x.end_s][1:]
    spans = [(at, end, c.lost) for (at, c), end in zip(points, ends, strict=True)]
    for lost, group in groupby(spans, lambda span: span[2]):
        run = list(group)
        if lost:
            left, right = x(run[0][0]), x(run[-1][1])
            about = title("server lost")
            parts.append(box(left, top, max(right - left, 1.0), _STRIP, about, class_="gone"))
    return parts


def _tint(index: int, count: int) -> str:
    """The colour of the cut number `index` of those in use, between the ramp's anchors."""
    at = index / max(1, count - 1) * (len(_RAMP) - 1)
    low = min(int(at), len(_RAMP) - 2)
    part = at - low
    parts = [
        round(
            (1 - part) * int(_RAMP[low][i : i + 2], 16) + part * int(_RAMP[low + 1][i : i + 2], 16)
        )
        for i in (1, 3, 5)
    ]
    return "#" + "".join(f"{value:02x}" for value in parts)
