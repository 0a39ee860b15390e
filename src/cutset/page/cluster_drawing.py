"""The cluster under a plan: devices with speed, memory and load, links with how busy they are."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cutset.page.colours import ink
from cutset.page.markup import box, clipped, label, picture, tag, title
from cutset.problem import Objective, Problem, Solution
from cutset.units import format_bytes, format_rate, format_time

_CARD, _SMALL = (166.0, 78.0), (130.0, 46.0)
_WIDTH, _MARGIN = 1060.0, 20.0  # of the picture at most; beside the cards
_MANY = 7  # devices: from here on cards are smaller
_LABELLED = 8  # links: more than these have no words beside them
MOST_LINKS = 60  # the busiest are drawn


def draw_cluster(problem: Problem, solution: Solution, colours: Mapping[str, str]) -> str:
    """Devices on a ring, the source at its left; the links that the plan uses between them."""
    cluster, plan = problem.cluster, solution.plan
    names = list(dict.fromkeys([cluster.source, *plan.devices, cluster.sink]))
    places, width, height = _ring(len(names))
    at = dict(zip(names, places, strict=True))
    large = len(names) < _MANY
    links = [
        (resource.partition(":")[2], seconds)
        for resource, seconds in solution.estimate.busy_s.items()
        if resource.startswith("link:")
    ]
    links = sorted(links, key=lambda link: -link[1])[:MOST_LINKS]
    labels = large and len(links) <= _LABELLED
    drawn = [_link(problem, solution, *link, at, colours, large, labels) for link in links]
    parts = [path for path, _ in drawn]
    parts += [_card(problem, solution, name, at[name], colours, large) for name in names]
    parts += [text for _, text in drawn]
    about = f"{len(plan.devices)} of {len(cluster.devices)} devices compute"
    return picture(width, height, *parts, about=about)


def share_of(problem: Problem, solution: Solution) -> tuple[float, str]:
    """What busy times are shares of (seconds), and its name."""
    if problem.objective is Objective.LATENCY:
        return solution.estimate.latency_s, "of a request"
    return solution.estimate.period_s, "of the period"


def _ring(count: int) -> tuple[list[tuple[float, float]], float, float]:
    """Centres of the cards, width and height of the picture."""
    height = 150.0
    if count > 2:
        height = 380.0 if count < 5 else 480.0 if count < _MANY else 640.0
    across = (_WIDTH - _CARD[0]) / 2 - _MARGIN
    along = (height - _CARD[1]) / 2 - 8
    across *= 0.62 if count == 2 else 0.8 if count < _MANY else 1.0
    width = 2 * (across + _MARGIN) + _CARD[0]
    turn = 2 * math.pi / count
    return (
        [
            (width / 2 - across * math.cos(i * turn), height / 2 - along * math.sin(i * turn))
            for i in range(count)
        ],
        width,
        height,
    )


def _card(
    problem: Problem,
    solution: Solution,
    name: str,
    centre: tuple[float, float],
    colours: Mapping[str, str],
    large: bool,
) -> str:
    device, estimate = problem.device(name), solution.estimate
    width, height = _CARD if large else _SMALL
    x, y = centre[0] - width / 2, centre[1] - height / 2
    whole = math.fsum(problem.compute_s(name))
    speed = "cannot run it all" if math.isinf(whole) else f"alone: {format_time(whole)} compute"
    whole_s, of = share_of(problem, solution)
    busy = estimate.busy_s.get(f"device:{name}", 0.0)
    share = busy / whole_s if whole_s > 0 else 0.0
    memory = estimate.memory_bytes.get(name, 0)
    limit = device.memory_bytes
    load = f"busy {share:.0%} {of}"
    held = f"{format_bytes(memory)} of {format_bytes(limit)}"
    if math.isinf(limit):
        held = f"{format_bytes(memory)}, no limit"
    role = " (source)" if name == problem.cluster.source else ""
    role += " (sink)" if name == problem.cluster.sink != problem.cluster.source else ""
    about = f"{name}, {device.kind}: {speed}; memory {held}; {load}"
    head = 19.0
    parts = [
        title(about),
        box(x, y, width, height, rx=6, class_="card"),
        box(x, y, width, head, rx=6, fill=colours[name], class_="box"),
        label(
            x + 7,
            y + 14,
            clipped(name + role, 21 if large else 16),
            fill=ink(colours[name]),
            class_="in strong",
        ),
    ]
    if large:
        parts.append(label(x + 7, y + 33, speed, class_="small"))
        parts.append(_meter(x + 7, y + 38, width - 14, f"memory {held}", _part(memory, limit)))
        parts.append(_meter(x + 7, y + 57, width - 14, load, share))
    else:
        parts.append(
            _meter(x + 7, y + 23, width - 14, f"{share:.0%}, {format_bytes(memory)}", share)
        )
    return tag("g", *parts)


def _part(part: float, whole: float) -> float:
    return part / whole if 0 < whole < math.inf else 0.0


def _meter(x: float, y: float, width: float, text: str, share: float) -> str:
    return (
        label(x, y + 9, text, class_="small")
        + box(x, y + 12, width, 4, rx=2, class_="track")
        + box(x, y + 12, width * min(share, 1.0), 4, rx=2, class_="fill")
    )


def _link(
    problem: Problem,
    solution: Solution,
    name: str,
    seconds: float,
    at: Mapping[str, tuple[float, float]],
    colours: Mapping[str, str],
    large: bool,
    labels: bool,
) -> tuple[str, str]:
    """The arrow, and what stands beside it."""
    link = next(x for x in problem.cluster.links if x.name == name)
    (x1, y1), (x2, y2) = at[link.source], at[link.target]
    whole_s, of = share_of(problem, solution)
    share = seconds / whole_s if whole_s > 0 else 0.0
    # Bent to the right of its direction, so that the way back is another line.
    length = math.hypot(x2 - x1, y2 - y1)
    bend = min(44.0, length * 0.14)
    cx = (x1 + x2) / 2 - (y2 - y1) / length * bend
    cy = (y1 + y2) / 2 + (x2 - x1) / length * bend
    width, height = _CARD if large else _SMALL
    sx, sy = _rim(x1, y1, cx, cy, width, height)
    tx, ty = _rim(x2, y2, cx, cy, width, height)
    rate = format_rate(problem.bandwidth_bps(link))
    about = f"{name}: {rate}, busy {format_time(seconds)}, {share:.0%} {of}"
    drawn = tag(
        "path",
        title(about),
        d=f"M{sx:.0f} {sy:.0f}Q{cx:.0f} {cy:.0f} {tx:.0f} {ty:.0f}",
        stroke=colours[link.source],
        stroke_width=1.5 + 5 * min(share, 1.0),
        class_="wire",
        marker_end="url(#arrow)",
    )
    if not labels:
        return drawn, ""
    part = 0.42  # of the way: that of the way back is elsewhere
    near, far, middle = (1 - part) ** 2, part**2, 2 * part * (1 - part)
    mx, my = near * sx + middle * cx + far * tx, near * sy + middle * cy + far * ty
    style = {"text_anchor": "middle", "class_": "note"}
    return drawn, label(mx, my - 2, rate, **style) + label(
        mx, my + 12, f"{share:.0%} busy", **style
    )


def _rim(
    x: float, y: float, towards_x: float, towards_y: float, width: float, height: float
) -> tuple[float, float]:
    """Where the line from a card's centre leaves the card."""
    dx, dy = towards_x - x, towards_y - y
    reach = min(
        (width / 2 + 4) / abs(dx) if dx else math.inf,
        (height / 2 + 4) / abs(dy) if dy else math.inf,
        1.0,
    )
    return x + dx * reach, y + dy * reach
