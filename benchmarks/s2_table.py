"""The section of docs/benchmarks.md about the published throughput methods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from svg import COLOURS, FAINT, INK, document, dot, line, text
from tables import Result, table

#: What the plot shows: the seven numbers of classes would lie on each other.
SHOWN = ("kpath, best of these", "greedy, best start", "greedy, one start", "random")
TICKS = (1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0)


def section(result: Result) -> str:
    """Ratios to the proven optimum, and the published figures beside ours."""
    sums = result["summary"]
    every = sums["all"]
    proof = every["proof_s"]
    alone = [
        f"{c['model']} at {c['capacity_mib']} MiB" for c in result["left_out"] if "nodes" not in c
    ]
    short = [
        f"{c['model']} at {c['capacity_mib']} MiB with {', '.join(map(str, c['nodes']))} nodes"
        f" ({c['why']})"
        for c in result["left_out"]
        if "nodes" in c
    ]
    return "\n\n".join(
        (
            f"Grid: {result['grid']}. **{every['proven']} of {every['instances']}** instances are"
            f" proven optimal, limit {result['time_limit_s']:g} s each: median"
            f" {proof['median']:.2f} s, slowest {every['slowest_proof_s']:.1f} s."
            + _unproven(every),
            "Value over the proven optimum: geometric mean and its bootstrap 95% interval, by"
            " number of nodes.",
            _ratios(sums),
            "The same over all numbers of nodes, by how many devices the network takes at least:",
            _by_least(result["by_least_devices"]),
            "Beside the published figures (against kpath with the best of its numbers of classes;"
            " over its own bound the mean of all of them):",
            _published(result),
            f"Not in these figures: where one device holds the whole network nothing is sent, every"
            f" method has the value 0 and no ratio exists ({'; '.join(alone)}); and where there are"
            f" too few nodes for any plan ({'; '.join(short) or 'nowhere'}).",
        )
    )


def _unproven(every: Mapping[str, Any]) -> str:
    gap = every["unproven_gap"]
    if gap is None:
        return ""
    rows = ", ".join(
        f"{method} {m['unproven']['ratio']:.3f}"
        for method, m in every["methods"].items()
        if m["unproven"]
    )
    return (
        f" The other {gap['instances']} are kept apart: the best plan is {gap['ratio']:.3f} times"
        f" the bound there, and over the bound are {rows}."
    )


def _ratios(sums: Mapping[str, Any]) -> str:
    names = [name for name in sums if name != "all"]
    rows = []
    for method, m in sums["all"]["methods"].items():
        cells = [_interval(sums[name]["methods"][method]["proven"]) for name in names]
        whole = m["proven"]
        rows.append(
            (
                method,
                *cells,
                f"**{whole['ratio']:.3f}** {_ends(whole)}",
                f"{m['optimal'] / whole['instances']:.0%}",
                f"{m['worst']:.2f}",
                str(m["failures"]),
            )
        )
    heads = ("method", *(f"{name} nodes" for name in names))
    return table((*heads, "all", "optimal", "worst", "failures"), rows)


def _by_least(sums: Mapping[str, Any]) -> str:
    rows = [
        (method, *(_interval(s["methods"][method]["proven"]) for s in sums.values()))
        for method in SHOWN
    ]
    heads = (f"{name} devices ({s['instances']})" for name, s in sums.items())
    return table(("method", *heads), rows)


def _interval(ratio: Mapping[str, float] | None) -> str:
    return "–" if ratio is None else f"{ratio['ratio']:.3f} {_ends(ratio)}"


def _ends(ratio: Mapping[str, float]) -> str:
    return f"[{ratio['low']:.3f}, {ratio['high']:.3f}]"


def _published(result: Result) -> str:
    sums, published = result["summary"], result["published"]
    most = max((name for name in sums if name != "all"), key=int)
    rows = []
    for what, claim, method, name in (
        ("random over kpath", published["random_over_kpath"], "random", "all"),
        ("random over kpath", published["random_over_kpath"], "random", most),
        ("greedy over kpath", published["greedy_over_kpath"], "greedy, best start", most),
        ("greedy over kpath", published["greedy_over_kpath"], "greedy, one start", most),
    ):
        o = sums[name]["over_kpath"][method]
        where = "all" if name == "all" else f"{name} nodes"
        start = f" ({method.partition(', ')[2]})" if ", " in method else ""
        rows.append(
            (
                f"{what}{start}, {where}",
                f"{claim:g}",
                _interval(o["geometric"]),
                f"{o['of_means']:.3f}",
            )
        )
    relaxed = sums["all"]["kpath_over_relaxed"]
    rows.append(
        (
            "kpath over the bound for its own partition, mean",
            f"{published['kpath_over_bound']:g}",
            "",
            f"{relaxed['mean']:.3f} (worst {relaxed['worst']:.2f})",
        )
    )
    return table(("what", "published", "geometric mean of ratios", "ratio of means"), rows)


def plot(result: Result) -> str:
    """Ratio to the proven optimum by number of nodes, with its 95% interval."""
    sums = result["summary"]
    names = [name for name in sums if name != "all"]
    points = {
        method: [sums[name]["methods"][method]["proven"] for name in names] for method in SHOWN
    }
    left, top, width, height = 56.0, 40.0, 440.0, 300.0
    high = math.log(1.05 * max(p["high"] for own in points.values() for p in own))

    def y(ratio: float) -> float:
        return top + (1 - math.log(ratio) / high) * height

    parts = [text(left, 18, "Value over the proven optimum: geometric mean, 95% interval")]
    for tick in TICKS:
        if math.log(tick) <= high:
            parts.append(line(left, y(tick), left + width, y(tick), FAINT if tick > 1 else INK))
            parts.append(text(left - 6, y(tick) + 4, f"{tick:g}", anchor="end", size=10))
    for i, name in enumerate(names):
        middle = left + (i + 0.5) / len(names) * width
        parts.append(text(middle, top + height + 16, f"{name} nodes", anchor="middle"))
        for k, method in enumerate(SHOWN):
            p, x = points[method][i], middle + 14 * (k - (len(SHOWN) - 1) / 2)
            parts.append(line(x, y(p["low"]), x, y(p["high"]), COLOURS[k], 2))
            label = f"{method}, {name} nodes: {p['ratio']:.3f} {_ends(p)}"
            parts.append(dot(x, y(p["ratio"]), COLOURS[k], label))
    for k, method in enumerate(SHOWN):
        parts.append(dot(left + width + 20, top + 10 + 18 * k, COLOURS[k], method))
        shown = "kpath, best number of classes" if method.startswith("kpath") else method
        parts.append(text(left + width + 28, top + 14 + 18 * k, shown))
    return document(left + width + 210, top + height + 30, parts)
