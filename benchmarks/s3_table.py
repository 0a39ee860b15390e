"""The section of docs/benchmarks.md about load-aware decisions in simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables import Result, table

HEADS = (
    "model",
    "server faster by",
    "mean of the grid",
    "points where the cut differs",
    "mean of those",
    "largest",
    "LoADPart over the optimum: mean, largest",
)


def section(result: Result) -> str:
    """Reductions of latency: LoADPart that knows the load against LoADPart that does not."""
    rows = [_row(r["model"], str(r["speedup"]), r) for r in result["models"]]
    rows += [_row("**all**", speedup, s) for speedup, s in result["summary"].items()]
    published = result["published"]
    against = "; ".join(
        f"server {speedup} times faster: "
        + ", ".join(f"{other} {saved:.1%}" for other, saved in s["mean_against"].items())
        for speedup, s in result["summary"].items()
    )
    return (
        f"Grid: {result['grid']}. Published (devices, grid not stated in the abstract): mean"
        f" {published['mean']:.1%}, up to {published['largest']:.1%}.\n\n"
        f"{table(HEADS, rows)}\n\n"
        f"Mean reduction against other baselines over the same grid: {against}."
    )


def _row(name: str, speedup: str, s: Mapping[str, Any]) -> tuple[str, ...]:
    over = s["loadpart_over_optimum"]
    return (
        name,
        f"{speedup}×",
        f"{s['mean']:.1%}",
        f"{s['changed_points']} of {s['points']}",
        f"{s['mean_over_changed']:.1%}",
        f"{s['largest']:.1%}",
        f"{over['mean']:.2%}, {over['largest']:.2%}",
    )
