"""The section of docs/benchmarks.md about DAGs over all edge devices, and its plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from svg import COLOURS, FAINT, INK, document, dot, line, text
from tables import Result, table

BOTH = "min(heft, single_device)"
NAMES = ("single_device", "heft", BOTH, "balance", "makespan")


def section(result: Result) -> str:
    """Ratios by network, planning times, every cell, and what re-planning gains."""
    return "\n\n".join(
        (
            f"Grid: {result['grid']}. Speeds: {result['speeds']}. Time limit"
            f" {result['time_limit_s']:g} s each.",
            "Latency over the least that any of them found: geometric mean, worst.",
            _ratios(result),
            "Planning time, ms: median, longest.",
            _times(result["rows"]),
            "Every cell, ms; bold: the least; the last column is the highest bound that was proven"
            " for all plans.",
            _cells(result["rows"]),
            f"The busiest of {result['adapted_devices']} devices becomes {result['slowdown']:g}"
            " times slower: latency of `balance`'s plan before, of the same plan after, and of the"
            " new plan, ms.",
            _changes(result["adapted"]),
        )
    )


def _present(names: Mapping[str, Any]) -> list[str]:
    return [name for name in NAMES if name in names]


def _ratios(result: Result) -> str:
    summary = result["summary"]
    names = _present(next(iter(summary.values()))["over_least"])
    rows = [
        (
            network,
            str(s["cells"]),
            *(f"{s['over_least'][n]:.3f}, {s['worst_over_least'][n]:.2f}" for n in names),
            str(s["proven"]),
        )
        for network, s in summary.items()
    ]
    return table(("network", "cells", *names, "cells where the least is proven"), rows)


def _times(rows: Sequence[Mapping[str, Any]]) -> str:
    names = _present(rows[0]["plans"])
    lines = []
    for devices in dict.fromkeys(row["devices"] for row in rows):
        cells = []
        for name in names:
            own = [
                1e3 * row["plans"][name]["elapsed_s"]
                for row in rows
                if row["devices"] == devices and name in row["plans"]
            ]
            cells.append(f"{statistics.median(own):.0f}, {max(own):.0f}" if own else "–")
        lines.append((str(devices), *cells))
    return table(("devices", *names), lines)


def _cells(rows: Sequence[Mapping[str, Any]]) -> str:
    names = _present(rows[0]["plans"])
    lines = []
    for row in rows:
        plans = row["plans"]
        least = min(p["value_s"] for p in plans.values())
        cells = []
        for name in names:
            if name not in plans:
                cells.append("no plan")
                continue
            value = plans[name]["value_s"]
            words = f"{1e3 * value:.2f} on {plans[name]['devices']}"
            cells.append(f"**{words}**" if value <= least * (1 + 1e-9) else words)
        bound = f"{1e3 * row['bound_s']:.2f}" if row["bound_s"] else "–"
        lines.append((row["model"], row["network"], str(row["devices"]), *cells, bound))
    return table(("model", "network", "devices", *names, "bound"), lines)


def _changes(rows: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ("model", "network", "slower", "before", "old plan", "new plan", "saved", "replanning"),
        [
            (
                row["model"],
                row["network"],
                row["slowed"],
                f"{1e3 * row['before_s']:.1f}",
                f"{1e3 * row['old_plan_s']:.1f}",
                f"{1e3 * row['new_plan_s']:.1f}",
                f"{1 - row['new_plan_s'] / row['old_plan_s']:.0%}",
                f"{1e3 * row['replanning_s']:.0f}",
            )
            for row in rows
        ],
    )


def plot(result: Mapping[str, Any]) -> str:
    """Latency over the least known, a panel for each network, a column for each cell."""
    rows = result["rows"]
    names = _present(rows[0]["plans"])
    left, width, height, gap = 60.0, 620.0, 120.0, 52.0
    ratios = [
        plan["value_s"] / min(p["value_s"] for p in row["plans"].values())
        for row in rows
        for plan in row["plans"].values()
    ]
    high = math.log(max(max(ratios), 1.25) * 1.05)
    parts = [text(left, 18, "Latency over the least that was found, logarithmic")]
    top = 44.0
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        parts.append(text(left, top - 6, network))
        for ratio in (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0):
            if math.log(ratio) <= high:
                y = top + height * (1 - math.log(ratio) / high)
                parts.append(line(left, y, left + width, y, FAINT))
                parts.append(text(left - 6, y + 4, f"{ratio:g}", anchor="end", size=10))
        for i, row in enumerate(own):
            x = left + (i + 0.5) / len(own) * width
            least = min(p["value_s"] for p in row["plans"].values())
            if i and row["model"] != own[i - 1]["model"]:
                edge = left + i / len(own) * width
                parts.append(line(edge, top, edge, top + height, FAINT))
            for k, name in enumerate(names):
                if name in row["plans"]:
                    ratio = row["plans"][name]["value_s"] / least
                    y = top + height * (1 - math.log(ratio) / high)
                    label = f"{row['model']}, {row['devices']} devices, {name}: {ratio:.3f}"
                    parts.append(dot(x + 5 * (k - (len(names) - 1) / 2), y, COLOURS[k], label))
            parts.append(text(x, top + height + 14, str(row["devices"]), anchor="middle", size=10))
        parts.append(line(left, top + height, left + width, top + height, INK))
        models = list(dict.fromkeys(row["model"] for row in own))
        for model in models:
            at = [i for i, row in enumerate(own) if row["model"] == model]
            x = left + (statistics.fmean(at) + 0.5) / len(own) * width
            parts.append(text(x, top + height + 27, model, anchor="middle", size=10))
        top += height + gap
    for k, name in enumerate(names):
        parts.append(dot(left + 10 + 150 * k, top, COLOURS[k], name))
        parts.append(text(left + 18 + 150 * k, top + 4, name))
    return document(left + width + 30, top + 20, parts)
