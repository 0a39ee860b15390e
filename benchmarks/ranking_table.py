"""The section of docs/benchmarks.md about the predicted and the measured order of plans."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from tables import Result, table


def section(result: Result) -> str:
    """Every plan that ran, in the predicted order of its case, and Kendall's tau of the case."""
    s = result["summary"]
    simulated = s["simulated"]
    head = (
        f"Kendall's τ-b of a case: mean {s['mean_tau']:.2f}, least {s['least_tau']:.2f}; by the"
        f" simulator's figures {simulated['mean_tau']:.2f} and {simulated['least_tau']:.2f}. Of the"
        f" {s['clear_pairs']} pairs of plans predicted to differ by more than"
        f" {result['close']:.0%}, {s['in_order']} ran in the predicted order; of the"
        f" {simulated['clear_pairs']} that the simulator tells apart, {simulated['in_order']} in"
        " its.\n\n"
    )
    heads = (
        "case",
        "τ",
        "strategy",
        "stages",
        "predicted",
        "simulated",
        "measured",
        "off by",
        "simulation off by",
        "best possible",
    )
    return head + table(heads, [row for case in result["cases"] for row in _rows(case)])


def _rows(case: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each distinct plan, with all who found it."""
    memory = case["memory_bytes"]
    limit = f", {memory / 2**20:.0f} MiB each" if memory else ""
    name = f"{case['model']}, {case['objective']}, {len(case['shares'])} devices{limit}"
    ran = sorted((r for r in case["rows"] if "failed" not in r), key=_figures)
    for i, (_, found) in enumerate(itertools.groupby(ran, key=_figures)):
        same = list(found)
        r = min(same, key=lambda row: _PROOFS.index(row["proof"]))
        yield (
            name if i == 0 else "",
            f"{case['tau']:.2f}" if i == 0 else "",
            ", ".join(row["strategy"] for row in same),
            str(len(r["stages"])),
            _shown(r["predicted_s"]),
            _shown(r["simulated_s"]),
            _shown(r["measured_s"]),
            f"{r['measured_s'] / r['predicted_s'] - 1:+.1%}",
            f"{r['measured_s'] / r['simulated_s'] - 1:+.1%}",
            _proven(r),
        )
    failed = [r["strategy"] for r in case["rows"] if "failed" in r]
    if failed:
        yield "", "", ", ".join(failed), "–", "no plan", *["–"] * 5


_PROOFS = ("optimal", "bound", "none")


def _figures(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["predicted_s"], row["measured_s"]


def _proven(row: Mapping[str, Any]) -> str:
    if row["proof"] == "optimal":
        return "proven"
    return f"≥ {_shown(row['bound_s'])}" if row["proof"] == "bound" else "–"


def _shown(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"
