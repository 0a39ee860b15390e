"""The section of docs/benchmarks.md about planning time and gap, and its plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from svg import COLOURS, FAINT, INK, document, dot, line, path, text
from tables import Result, table

Rows = Sequence[Mapping[str, Any]]
Number = Callable[[Mapping[str, Any]], float]
LEAST_GAP = 1e-4  # what is nearer to the bound is drawn here


def section(result: Result) -> str:
    """Each strategy's share of proofs, and its median time and gap by size."""
    limit = result["time_limit_s"]
    kept = [
        (
            name,
            str(s["runs"]),
            str(s["failed"]),
            str(s["proven"]),
            f"{s['longest_elapsed_s']:.2f} s",
            f"{s['longest_call_s']:.2f} s",
        )
        for name, s in result["summary"].items()
    ]
    heads = ("strategy", "runs", "no plan", "proven best", "longest", "longest, all of `solve`")
    grown = [
        (f"{operators} operators, {devices} devices", *_cells(result, operators, devices))
        for operators, devices in _sizes(result)
    ]
    names = tuple(result["summary"])
    return (
        f"Time limit {limit:g} s each. Grid: {result['grid']}.\n\n{table(heads, kept)}\n\n"
        "Median over the four shapes: seconds, and gap to the bound of its own scope.\n\n"
        + table(("size", *names), grown)
    )


def _sizes(result: Result) -> list[tuple[int, int]]:
    return list(dict.fromkeys((row["operators"], row["devices"]) for row in result["rows"]))


def _cells(result: Result, operators: int, devices: int) -> list[str]:
    cells = []
    for name in result["summary"]:
        rows = [
            row
            for row in result["rows"]
            if (row["strategy"], row["operators"], row["devices"]) == (name, operators, devices)
        ]
        solved = [row for row in rows if "failed" not in row]
        if not solved:
            cells.append("no plan")
            continue
        took = statistics.median(row["elapsed_s"] for row in solved)
        gap = statistics.median(row["gap"] for row in solved)
        cells.append(
            f"{took:.3f} s, {gap:.1%}" if any(r["bound_s"] for r in solved) else f"{took:.3f} s, –"
        )
    return cells


def plot(result: Mapping[str, Any]) -> str:
    """Planning time and gap by operators and by devices, one line a strategy and shape."""
    names = list(result["summary"])
    solved = [row for row in result["rows"] if "failed" not in row]
    sizes = _sizes(result)
    many = statistics.mode(d for _, d in sizes)
    few = statistics.mode(o for o, _ in sizes)
    panels: list[tuple[str, str, Number, Rows]] = []
    for axis, rows in (
        ("operators", [row for row in solved if row["devices"] == many]),
        ("devices", [row for row in solved if row["operators"] == few]),
    ):
        panels.append((f"seconds by {axis}", axis, lambda r: max(r["elapsed_s"], 1e-4), rows))
        bounded: Rows = [row for row in rows if row["bound_s"] > 0]
        panels.append((f"gap by {axis}", axis, lambda r: max(r["gap"], LEAST_GAP), bounded))
    parts: list[str] = []
    for i, (title, axis, number, shown) in enumerate(panels):
        left, top = 60.0 + 340 * (i // 2), 40.0 + 230 * (i % 2)
        parts += _panel(left, top, title, axis, number, shown, names)
    for i, name in enumerate(names):
        parts.append(dot(70.0 + 130 * i, 500, COLOURS[i], name))
        parts.append(text(78.0 + 130 * i, 504, name))
    return document(740, 520, parts)


def _panel(
    left: float, top: float, title: str, axis: str, number: Number, rows: Rows, names: list[str]
) -> list[str]:
    width, height = 270.0, 170.0
    xs, ys = [row[axis] for row in rows], [number(row) for row in rows]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)

    def x(value: float) -> float:
        span = math.log(max(xs) / min(xs)) or 1.0
        return left + math.log(value / min(xs)) / span * width

    def y(value: float) -> float:
        return top + (high - math.log10(value)) / max(high - low, 1) * height

    parts = [text(left, top - 10, title)]
    for exponent in range(low, high + 1):
        parts.append(line(left, y(10.0**exponent), left + width, y(10.0**exponent), FAINT))
        label = f"{10.0**exponent:g}"
        parts.append(text(left - 6, y(10.0**exponent) + 4, label, anchor="end", size=10))
    for value in sorted(set(xs)):
        parts.append(text(x(value), top + height + 14, str(value), anchor="middle", size=10))
    parts.append(line(left, top + height, left + width, top + height, INK))
    for i, name in enumerate(names):
        for shape in dict.fromkeys(row["shape"] for row in rows):
            own = [row for row in rows if (row["strategy"], row["shape"]) == (name, shape)]
            points = sorted((x(row[axis]), y(number(row))) for row in own)
            if len(points) > 1:
                parts.append(path(points, COLOURS[i]))
            parts += [dot(a, b, COLOURS[i], f"{name}, {shape}") for a, b in points]
    return parts
