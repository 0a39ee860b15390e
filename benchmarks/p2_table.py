"""The section of docs/benchmarks.md about throughput on many devices with memory limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables import Result, table

HEADS = (
    "devices",
    "links",
    "proven optimal",
    "largest gap",
    "time: median / p95 / max",
    "greedy over ours",
    "greedy finds none",
)


def section(result: Result) -> str:
    """Shares proven and planning times by cluster; then the stress."""
    rows = [_row(str(c["devices"]), c["law"], c) for c in result["cells"]]
    rows.append(_row("**all**", "", result["summary"]))
    stress = [
        (
            r["graph"],
            f"{r['needed']} of 50",
            "no plan" if "failed" in r else f"{r['stages']}",
            "" if "failed" in r else ("proven" if r["proven"] else f"{r['gap']:.1%}"),
            f"{r['elapsed_s']:.1f} s",
        )
        for r in result["stress"]
    ]
    return (
        f"{_goals(result)}\n\n"
        f"Real models. Grid: {result['grid']}. Baseline: {result['baseline']}. The first plan of a"
        f" process takes {result['first_with_compilation_s']:.1f} s more, compilation included,"
        " less where it is cached.\n\n"
        f"{table(HEADS, rows)}\n\n"
        f"Stress: Wi-Fi, 50 devices of equal memory, {result['stress_limit_s']:g} s.\n\n"
        + table(("graph", "least stages", "stages", "gap", "time"), stress)
    )


def _goals(result: Result) -> str:
    """What was aimed at, and what was reached, a line each."""
    s = result["summary"]
    proven = s["proven"] / s["problems"]
    p95_s = s["elapsed_s"]["p95"]
    met = proven == 1 and p95_s <= 1
    solved = [r for r in result["stress"] if "failed" not in r]
    gap = max((r["gap"] for r in solved), default=0.0)
    within = sum(r["gap"] <= 0.05 for r in solved)
    count = len(result["stress"])
    return (
        f"- Goal, real models: 100% proven, p95 of planning at most 1 s: {_reached(met)}:"
        f" {proven:.1%} proven, p95 {p95_s:.2f} s.\n"
        f"- Goal, stress: gap at most 5% within {result['stress_limit_s']:g} s:"
        f" {_reached(within == count)}: {within} of {count}, largest gap {gap:.1%}."
    )


def _reached(met: bool) -> str:
    return "reached" if met else "not reached"


def _row(devices: str, law: str, s: Mapping[str, Any]) -> tuple[str, ...]:
    t = s["elapsed_s"]
    ratio = s["greedy_over_value"]
    return (
        devices,
        law,
        f"{s['proven']} of {s['problems']}",
        f"{s['largest_gap']:.1%}",
        f"{t['median']:.2f} / {t['p95']:.2f} / {t['max']:.2f} s",
        "" if ratio is None else f"{ratio:.2f}×",
        str(s["greedy_without_plan"]),
    )
