"""The table of docs/benchmarks.md that holds the planner's figures against its goals."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from tables import Result, table

HEADS = ("what", "goal", "reached", "")
Row = tuple[str, str, str, str]


def section(results: Mapping[str, Result]) -> str:
    """A line a goal: what was reached, and whether that is enough; from envelope, p2 and p3."""
    rows = [*_two_devices(results["envelope"]), *_pipelines(results["p2"])]
    rows += _latency(results["p3"])
    return table(HEADS, rows)


def adaptive(result: Result) -> str:
    """The same of adaptation, which was measured in the lab: a table of its own."""
    return table(HEADS, [*_grid(result), *_costs(result)])


def _grid(result: Result) -> Iterator[Row]:
    s, goals = result["points"]["summary"], result["goals"]
    yield _at_most("regret against the oracle, mean", s["regret"], goals["regret"])
    there = s["reduction_where_they_differ"]
    found = "no point" if there is None else f"{_interval(there)}, up to {there['largest']:.1%}"
    yield _row(
        "reduction against load-oblivious where the cuts differ, mean",
        f"≥ {goals['reduction']:.1%}",
        f"{found} ({s['differ']} of {s['points']} points)",
        there is not None and there["mean"] >= goals["reduction"],
    )
    error = s["load_error_under_load"]
    yield _row(
        "server's time under load as predicted with k, mean error",
        f"≤ {goals['load_error']:.0%}",
        "no segment" if error is None else f"{error:.1%}",
        error is not None and error <= goals["load_error"],
    )


def _costs(result: Result) -> Iterator[Row]:
    goals, rows = result["goals"], result["steps"]["rows"]
    reached = sum(row["reached"] for row in rows)
    yield _row(
        "a good cut after a step",
        f"{goals['step_requests']} requests or {goals['step_s']:g} s",
        f"{reached} of {len(rows)} steps",
        reached == len(rows),
    )
    steady = result["steady"]["rows"]
    share = max(max(row["up_share"], row["down_share"]) for row in steady)
    yield _row(
        "looks, of a link's bits",
        f"≤ {goals['looks']:.0%}",
        f"{share:.2%}",
        share <= goals["looks"],
    )
    switches = sum(row["switches"] for row in steady)
    yield _row("switches where nothing changes", "0", str(switches), switches == 0)
    count = result["count"]
    for what in ("lost", "wrong"):
        yield _row(f"requests {what}", "0", str(count[what]), count[what] == 0)


def _at_most(what: str, found: Mapping[str, float] | None, goal: float) -> Row:
    if found is None:
        return _row(what, f"≤ {goal:.0%}", "no point", False)
    return _row(what, f"≤ {goal:.0%}", _interval(found), found["mean"] <= goal)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


def _row(what: str, goal: str, found: str, reached: bool) -> Row:
    return what, goal, found, "yes" if reached else "**no**"


def _two_devices(result: Result) -> Iterator[Row]:
    s, graphs = result["summary"], result["graphs"]
    equal = f"{s['equal']} of {s['points']}"
    yield _row("P1: plans equal to min-cut", "all", equal, s["equal"] == s["points"])
    slowest = s["slowest_lookup_p99_us"]
    yield _row("P1: look-up, 99th percentile", "≤ 5 µs", f"{slowest:.1f} µs", slowest <= 5)
    large = {g["graph"]: g["precompute_ms"] for g in graphs if g["operators"] >= 1000}
    found = f"real models {s['slowest_precompute_of_a_model_ms']:.0f} ms; " + "; ".join(
        f"{name} {ms:.0f} ms" for name, ms in large.items()
    )
    yield _row(
        "P1: precomputation, up to 5000 operators",
        "≤ 100 ms",
        found,
        max(s["slowest_precompute_of_a_model_ms"], *large.values()) <= 100,
    )


def _pipelines(result: Result) -> Iterator[Row]:
    s = result["summary"]
    found = f"{s['proven']} of {s['problems']}"
    yield _row(
        "P2: real models, 5 to 50 devices", "all proven", found, s["proven"] == s["problems"]
    )
    p95 = s["elapsed_s"]["p95"]
    yield _row("P2: the same, 95th percentile of the time", "≤ 1 s", f"{p95:.2f} s", p95 <= 1)
    gaps = {f"{r['graph']}, {r['needed']} stages": r.get("gap", 1.0) for r in result["stress"]}
    worst = max(gaps, key=lambda name: gaps[name])
    within = sum(gap <= 0.05 for gap in gaps.values())
    yield _row(
        f"P2: stress, 50 devices, {result['stress_limit_s']:g} s",
        "gap ≤ 5%",
        f"{within} of {len(gaps)}; worst {gaps[worst]:.1%} ({worst})",
        within == len(gaps),
    )


def _latency(result: Result) -> Iterator[Row]:
    few = [r for r in result["rows"] if r["devices"] <= 5]
    proven = sum(r["gap"] <= 1e-6 for r in few)
    quick = sum(r["gap"] <= 1e-6 and r["elapsed_s"] <= 1.0 for r in few)
    yield _row(
        "P3: real models, up to 5 devices",
        "all proven, each in 1 s",
        f"{proven} of {len(few)} proven, {quick} of them in 1 s",
        quick == len(few),
    )
    many = [r for r in result["rows"] if r["devices"] > 5]
    near = sum(r["gap"] <= 0.01 for r in many)
    yield _row(
        "P3: real models, 10 to 20 devices, 20 s",
        "gap ≤ 1%",
        f"{near} of {len(many)}; median {statistics.median(r['gap'] for r in many):.2%},"
        f" worst {max(r['gap'] for r in many):.1%}",
        near == len(many),
    )
