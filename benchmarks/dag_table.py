"""The section of docs/benchmarks.md about throughput on graphs with branches."""

from __future__ import annotations

from typing import Any

from tables import Result, table


def section(result: Result) -> str:
    """Gap and seconds by model and number of devices; the worst of the links each."""
    rows = result["rows"]
    counts = sorted({row["devices"] for row in rows})
    models = list(dict.fromkeys(row["model"] for row in rows))
    lines = [
        (name, _operators(rows, name), *(_cell(rows, name, count) for count in counts))
        for name in models
    ]
    s = result["summary"]
    return (
        f"Time limit {result['time_limit_s']:g} s. Grid: {result['grid']}. Proven best among plans"
        f" of one stage a device: **{s['proven']} of {s['runs']}**, largest gap"
        f" {s['largest_gap']:.1%}; among all untiled plans: {s['proven_full']}, median gap"
        f" {s['median_full_gap']:.1%}. Median {s['median_s']:.2f} s, 95th percentile"
        f" {s['p95_s']:.2f} s.\n\nThe largest gap and the longest time of the links:\n\n"
        + table(("model", "operators", *(f"{count} devices" for count in counts)), lines)
    )


def _operators(rows: list[dict[str, Any]], name: str) -> str:
    return next(
        (str(row["operators"]) for row in rows if row["model"] == name and "operators" in row), ""
    )


def _cell(rows: list[dict[str, Any]], name: str, count: int) -> str:
    own = [row for row in rows if (row["model"], row["devices"]) == (name, count)]
    solved = [row for row in own if "failed" not in row]
    if len(solved) < len(own) or not solved:
        return f"no plan in {len(own) - len(solved)}"
    gap = max(row["gap"] for row in solved)
    return f"{'proven' if gap <= 1e-9 else f'{gap:.1%}'}, {max(r['took_s'] for r in solved):.2f} s"
