"""The graph over the devices: a lane for each device, boxes of operators, transfers labelled."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cutset.graph import Graph
from cutset.page.colours import ink
from cutset.page.groups import Group, edges
from cutset.page.markup import box, clipped, label, picture, tag, title, words
from cutset.problem import Problem, Solution
from cutset.units import format_bytes, format_time

_BOX = (98.0, 36.0)
_WIRE = 14.0  # height of a lane that a passing edge takes
_GAP, _LABELLED_GAP = 26.0, 92.0
_GUTTER, _PAD = 108.0, 12.0
MOST_EDGES = 200  # between boxes
_LABELS = 10  # transfers with their words beside them: the longest
_NAMES = 12  # operators named when the pointer rests on a box


@dataclass(eq=False)
class _Item:
    """A box, or where an edge passes a layer. Mutable while it is placed."""

    lane: int
    layer: int
    height: float
    before: list[_Item] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    order: float = 0.0


@dataclass(frozen=True, eq=False)
class _Edge:
    points: tuple[_Item, ...]
    text: str = ""
    about: str = ""
    crosses: bool = False
    seconds: float = 0.0


def draw_graph(
    problem: Problem, solution: Solution, colours: Mapping[str, str], boxes: Sequence[Group]
) -> str:
    """The picture: what runs where, and what crosses between devices."""
    graph, cluster = problem.graph, problem.cluster
    used = {*solution.plan.devices, cluster.source, cluster.sink}
    lanes = [d.name for d in cluster.devices if d.name in used]
    row = {name: i for i, name in enumerate(lanes)}
    last = max(g.layer for g in boxes) + 1
    nodes = [_Item(row[g.device], g.layer + 1, _BOX[1]) for g in boxes]
    request = _Item(row[cluster.source], 0, _BOX[1])
    result = _Item(row[cluster.sink], last + 1, _BOX[1])
    items = [*nodes, request, result]
    made: list[_Edge] = []
    labelled: set[tuple[str, str]] = set()

    def join(start: _Item, end: _Item, tensors: Sequence[str]) -> None:
        path = [start]
        for layer in range(start.layer + 1, end.layer):
            wire = _Item(end.lane, layer, _WIRE, before=[path[-1]])
            items.append(wire)
            path.append(wire)
        end.before.append(path[-1])
        crosses = start.lane != end.lane
        text, about, seconds = "", "", 0.0
        if crosses:
            ends = (lanes[start.lane], lanes[end.lane])
            text, about, seconds = _transfer(solution, tensors, *ends, labelled)
        made.append(_Edge((*path, end), text, about, crosses, seconds))

    readers: dict[int, list[str]] = {}
    for tensor in graph.inputs:
        first = {b for b, g in enumerate(boxes) if set(g.operators) & set(graph.consumers[tensor])}
        for b in sorted(first):
            readers.setdefault(b, []).append(tensor)
    for b, tensors in readers.items():
        join(request, nodes[b], tensors)
    between = edges(graph, boxes)
    for (a, b), found in sorted(_largest(graph, between).items()):
        join(nodes[a], nodes[b], found)
    makers: dict[int, list[str]] = {}
    box_of = {i: b for b, g in enumerate(boxes) for i in g.operators}
    for tensor in graph.outputs:
        if tensor in graph.producers:
            makers.setdefault(box_of[graph.producers[tensor]], []).append(tensor)
    for b, tensors in makers.items():
        join(nodes[b], result, tensors)
    noted = [e for e in made if e.text and e.points[-1].layer > e.points[0].layer]
    longest = sorted(noted, key=lambda e: -e.seconds)[:_LABELS]
    made = [e if e in longest else replace(e, text="") for e in made]
    width, tops = _place(items, made, len(lanes))
    parts = [_lane(name, tops, i, width, colours, problem) for i, name in enumerate(lanes)]
    parts += [_line(e) for e in sorted(made, key=lambda e: e.crosses)]
    for group, node in zip(boxes, nodes, strict=True):
        parts.append(_box(problem, group, node, colours))
    parts += [_end(request, "request"), _end(result, "result")]
    parts += [_note(e) for e in made if e.text]
    about = f"{len(graph.operators)} operators on {', '.join(solution.plan.devices)}"
    return picture(width, tops[-1], *parts, about=about)


def _largest(
    graph: Graph, between: Mapping[tuple[int, int], tuple[str, ...]]
) -> Mapping[tuple[int, int], tuple[str, ...]]:
    """Those with the most bytes, where there are more than anybody can follow."""
    if len(between) <= MOST_EDGES:
        return between
    size = {
        pair: sum(graph.tensors[t].size_bytes for t in tensors) for pair, tensors in between.items()
    }
    kept = sorted(between, key=lambda pair: (-size[pair], pair))[:MOST_EDGES]
    return {pair: between[pair] for pair in kept}


def _transfer(
    solution: Solution, tensors: Sequence[str], start: str, end: str, done: set[tuple[str, str]]
) -> tuple[str, str, float]:
    """Words and seconds of what crosses here; a tensor goes to a device once, and counts once."""
    moves = [
        t
        for t in solution.estimate.transfers
        if t.transfer.tensor in tensors
        and (t.transfer.source_device, t.transfer.target_device) == (start, end)
        and (t.transfer.tensor, end) not in done
    ]
    if not moves:
        return "", f"{', '.join(tensors[:_NAMES])}: on {end} already", 0.0
    done.update((t.transfer.tensor, end) for t in moves)
    size = format_bytes(sum(t.transfer.bytes for t in moves))
    wire_s = sum(t.end_s - t.start_s for t in moves)
    took = format_time(wire_s)
    names = ", ".join(clipped(t.transfer.tensor, 40) for t in moves[:_NAMES])
    return f"{size}, {took}", f"{names}: {size} from {start} to {end} in {took}", wire_s


def _place(items: list[_Item], made: Sequence[_Edge], lanes: int) -> tuple[float, list[float]]:
    """Give every item its place; returns the width, and where lanes begin and the last ends."""
    cells: dict[tuple[int, int], list[_Item]] = {}
    for i, item in enumerate(items):
        item.order = float(i)
        cells.setdefault((item.layer, item.lane), []).append(item)
    for key in sorted(cells):  # barycentre: beside what an item reads
        cell = cells[key]
        for item in cell:
            near = [b.order for b in item.before if b.lane == item.lane]
            item.order = sum(near) / len(near) if near else item.order
        cell.sort(key=lambda item: item.order)
        for rank, item in enumerate(cell):
            item.order = rank - (len(cell) - 1) / 2
    heights = [_BOX[1]] * lanes
    for (_, lane), cell in cells.items():
        heights[lane] = max(heights[lane], sum(i.height + _PAD for i in cell) - _PAD)
    tops = list(itertools.accumulate((h + 2 * _PAD for h in heights), initial=0.0))
    for (_, lane), cell in cells.items():
        stack = sum(i.height + _PAD for i in cell) - _PAD
        y = (tops[lane] + tops[lane + 1] - stack) / 2
        for item in cell:
            item.y = y + item.height / 2
            y += item.height + _PAD
    layers = max(item.layer for item in items) + 1
    # Between neighbouring lanes words have their place under one box and over the other.
    wide = {e.points[0].layer for e in made if e.text and abs(_climb(e)) > 1}
    gaps = [_LABELLED_GAP if layer in wide else _GAP for layer in range(layers)]
    lefts = list(itertools.accumulate((_BOX[0] + gap for gap in gaps), initial=_GUTTER))
    for item in items:
        item.x = lefts[item.layer]
    return lefts[-1] - gaps[-1] + _PAD, tops


def _climb(edge: _Edge) -> int:
    return edge.points[-1].lane - edge.points[0].lane


def _lane(
    name: str,
    tops: Sequence[float],
    index: int,
    width: float,
    colours: Mapping[str, str],
    problem: Problem,
) -> str:
    top, bottom = tops[index], tops[index + 1]
    middle = (top + bottom) / 2
    kind = problem.device(name).kind
    return (
        box(0, top + 1, width, bottom - top - 2, fill=colours[name], class_="lane", rx=6)
        + box(0, top + 1, 6, bottom - top - 2, fill=colours[name], rx=3)
        + label(14, middle - 2, clipped(name, 14), class_="strong")
        + ("" if kind == name else label(14, middle + 13, clipped(kind, 16), class_="faint"))
    )


def _box(problem: Problem, group: Group, item: _Item, colours: Mapping[str, str]) -> str:
    operators = [problem.graph.operators[i] for i in group.operators]
    seconds = sum(problem.compute_s(group.device)[i] for i in group.operators)
    first, last = operators[0], operators[-1]
    many = len(operators) > 1
    head = f"{len(operators)} operators" if many else clipped(first.name, 13)
    tail = format_time(seconds)
    if not many and first.op_type:
        tail = f"{clipped(first.op_type, 12 - len(tail))} {tail}"
    names = ", ".join(clipped(op.name, 60) for op in operators[:_NAMES])
    more = f" and {len(operators) - _NAMES} more" if len(operators) > _NAMES else ""
    about = f"{names}{more}: {tail} on {group.device}"
    if many:
        about = f"{clipped(first.name, 60)} to {clipped(last.name, 60)}: {about}"
    colour = colours[group.device]
    width, height = _BOX
    return tag(
        "g",
        title(about),
        box(item.x, item.y - height / 2, width, height, rx=5, fill=colour, class_="box"),
        label(item.x + 7, item.y - 3, head, fill=ink(colour), class_="in"),
        label(item.x + 7, item.y + 11, tail, fill=ink(colour), class_="in"),
    )


def _end(item: _Item, text: str) -> str:
    width, height = _BOX
    return box(item.x, item.y - height / 2, width, height, rx=18, class_="end") + label(
        item.x + width / 2, item.y + 4, text, text_anchor="middle"
    )


def _line(edge: _Edge) -> str:
    width = _BOX[0]
    start, end = edge.points[0], edge.points[-1]
    if end.layer <= start.layer:  # boxes of one band: straight up or down
        down = 1 if end.y > start.y else -1
        path = (
            f"M{start.x + width / 2:.0f} {start.y + down * _BOX[1] / 2:.0f}"
            f"L{end.x + width / 2 + 9:.0f} {end.y - down * _BOX[1] / 2:.0f}"
        )
    else:
        x, y = start.x + width, start.y
        path = f"M{x:.0f} {y:.0f}"
        for point in edge.points[1:]:
            middle = (x + point.x) / 2
            path += f"C{middle:.0f} {y:.0f} {middle:.0f} {point.y:.0f} {point.x:.0f} {point.y:.0f}"
            x, y = point.x, point.y
            if point is not end:
                x += width
                path += f"H{x:.0f}"
    mark = "url(#arrow)" if edge.crosses else None
    inside = title(edge.about) if edge.about else ""
    return tag("path", inside, d=path, class_="cross" if edge.crosses else "edge", marker_end=mark)


def _note(edge: _Edge) -> str:
    start, following = edge.points[0], edge.points[1]
    x = (start.x + _BOX[0] + following.x) / 2
    y = (start.y + following.y) / 2
    return tag(
        "text",
        title(edge.about),
        words(edge.text),
        x=x,
        y=y + 4,
        text_anchor="middle",
        class_="note",
    )
