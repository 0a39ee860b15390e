"""Plots as hand-written SVG: a dot plot of ratios, and predicted against measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from svg import COLOURS, FAINT, GOAL, INK, document, dot, line, text


def segments(result: Mapping[str, Any]) -> str:
    """Each model's CPU time in 2 and 4 segments over the whole's; bars are the quartiles."""
    rows = result["models"]
    left, right, top, step = 160.0, 640.0, 58.0, 22.0
    highest = max(float(s["ratio"]["p75"]) for r in rows for s in r["segments"].values())
    low, high = 0.95, math.ceil(highest * 20) / 20
    bottom = top + step * len(rows)

    def x(ratio: float) -> float:
        return left + (min(max(ratio, low), high) - low) / (high - low) * (right - left)

    parts = [text(left, 18, "CPU time of the chain over the whole's: median, quartiles")]
    count = round((high - low) / 0.05)
    for i in range(count + 1):
        ratio = low + 0.05 * i
        parts.append(line(x(ratio), top - 8, x(ratio), bottom, FAINT))
        parts.append(text(x(ratio), bottom + 16, f"{ratio:.2f}", anchor="middle"))
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        parts.append(text(left - 8, y + 4, row["model"], anchor="end"))
        for k, (n, s) in enumerate(row["segments"].items()):
            spot, ratio = y + 8 * k - 4, s["ratio"]
            parts.append(line(x(ratio["p25"]), spot, x(ratio["p75"]), spot, COLOURS[k], 2))
            parts.append(dot(x(ratio["median"]), spot, COLOURS[k], f"{row['model']}, {n}"))
    for k, (n, limit) in enumerate((("2", 1.05), ("4", 1.10))):
        parts.append(line(x(limit), top - 8, x(limit), bottom, COLOURS[k], 1, "4 3"))
        parts.append(
            text(x(limit) + 3, top - 12 - 12 * k, f"goal, {n} segments", COLOURS[k], size=10)
        )
    return document(right + 30, bottom + 30, parts)


def latency(result: Mapping[str, Any]) -> str:
    """Predicted against measured, both logarithmic, with the band of the goal."""
    rows = result["rows"]
    left, top, side = 64.0, 34.0, 400.0
    times = [row[k] for row in rows for k in ("predicted_s", "measured_s")]
    low, high = math.log10(min(times)) - 0.1, math.log10(max(times)) + 0.1

    def at(seconds: float) -> float:
        return (math.log10(seconds) - low) / (high - low) * side

    def x(seconds: float) -> float:
        return left + at(seconds)

    def y(seconds: float) -> float:
        return top + side - at(seconds)

    parts = [text(left, 18, "Latency of one request, emulated devices; dashed: within 10%")]
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            seconds = digit * 10.0**exponent
            if not low <= math.log10(seconds) <= high:
                continue
            label = f"{seconds:g} s" if seconds >= 1 else f"{1e3 * seconds:g} ms"
            parts.append(line(x(seconds), top, x(seconds), top + side, FAINT))
            parts.append(line(left, y(seconds), left + side, y(seconds), FAINT))
            parts.append(text(x(seconds), top + side + 16, label, anchor="middle", size=10))
            parts.append(text(left - 6, y(seconds) + 4, label, anchor="end", size=10))
    first, last = 10**low, 10**high
    parts.append(line(x(first), y(first), x(last), y(last), INK))
    for factor in (0.9, 1.1):
        begin, end = max(first, first / factor), min(last, last / factor)
        parts.append(line(x(begin), y(begin * factor), x(end), y(end * factor), GOAL, 1, "4 3"))
    models = list(dict.fromkeys(row["model"] for row in rows))
    for row in rows:
        colour = COLOURS[models.index(row["model"]) % len(COLOURS)]
        label = f"{row['model']}, {row['plan']}, {row['bandwidth_bps'] / 1e6:g} Mbit/s"
        parts.append(dot(x(row["measured_s"]), y(row["predicted_s"]), colour, label))
    for i, model in enumerate(models):
        parts.append(dot(left + side + 22, top + 12 + 18 * i, COLOURS[i % len(COLOURS)], model))
        parts.append(text(left + side + 30, top + 16 + 18 * i, model))
    parts.append(text(left + side / 2, top + side + 34, "measured (median)", anchor="middle"))
    parts.append(text(left + 6, top + 14, "predicted"))
    return document(left + side + 170, top + side + 44, parts)


def runtime(result: Mapping[str, Any]) -> str:
    """Measured over predicted throughput, and latency beside it, plan by plan, with the goals."""
    rows = [row for row in result["rows"] if not row.get("left_out")]
    left, top, width, height = 56.0, 46.0, 560.0, 220.0
    low, high = 0.8, 1.25
    panels = (
        ("throughput, measured / predicted", "throughput_ratio", 0.0, result["throughput_goal"]),
        (
            "latency of one request, measured / predicted",
            "latency_error",
            1.0,
            (1 - result["latency_goal"], 1 + result["latency_goal"]),
        ),
    )
    parts: list[str] = []
    kinds = list(dict.fromkeys(row["plan"] for row in rows))
    for k, (title, key, offset, goal) in enumerate(panels):
        upper = top + k * (height + 60)

        def y(ratio: float, upper: float = upper) -> float:
            return upper + (high - min(max(ratio, low), high)) / (high - low) * height

        parts.append(text(left, upper - 12, title))
        for i in range(round((high - low) / 0.05) + 1):
            ratio = low + 0.05 * i
            parts.append(line(left, y(ratio), left + width, y(ratio), FAINT))
            if i % 2 == 0:
                parts.append(text(left - 6, y(ratio) + 4, f"{ratio:.2f}", anchor="end", size=10))
        for limit in goal:
            parts.append(line(left, y(limit), left + width, y(limit), GOAL, 1, "4 3"))
        for i, row in enumerate(rows):
            rate = row["bandwidth_bps"]
            link = "unshaped" if rate is None else f"{rate / 1e6:g} Mbit/s"
            label = f"{row['model']}, {row['devices']} devices, {link}, {row['plan']}"
            x = left + (i + 0.5) / len(rows) * width
            colour = COLOURS[kinds.index(row["plan"])]
            parts.append(dot(x, y(row[key] + offset), colour, label))
    for i, kind in enumerate(kinds):
        parts.append(dot(left + width + 22, top + 12 + 18 * i, COLOURS[i], kind))
        parts.append(text(left + width + 30, top + 16 + 18 * i, kind))
    parts.append(
        text(
            left,
            top + 2 * height + 80,
            "one dot a plan, in the table's order; dashed: the goal; beyond the axis: at its edge",
        )
    )
    return document(left + width + 120, top + 2 * height + 96, parts)
