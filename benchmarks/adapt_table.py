"""The section of docs/benchmarks.md about cuts that follow the network and the load."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import goals_table
from tables import Result, table

NONE = "–"


def section(result: Result) -> str:
    """Goals, the grid by model, the trace, the steps and what a steady link costs."""
    count, published = result["count"], result["published"]
    return "\n\n".join(
        (
            f"Grid: {result['grid']}. The device has {result['device_share_of_a_core']:g} of a"
            " core, the server a core of its own that the competing processes share; both run one"
            f" thread, links have {1e3 * result['latency_s']:g} ms. Baselines: the same policy that"
            " takes the server as idle (load-oblivious), all on the device (local), all on the"
            " server (offload), and the best held cut of the point (oracle).",
            goals_table.adaptive(result),
            f"Of {count['answered'] + count['lost']} requests in all parts, {count['lost']} were"
            f" lost and {count['wrong']} differed from the unsplit model's answer by more than 1e-5"
            f" (largest difference {count['max_rel']:.1e}).",
            "![What each choice takes](benchmark-adapt.svg)",
            "The grid. Regret is against the oracle, cross-fitted: its cut is chosen on one half of"
            " the rounds and compared on the other. A reduction is 1 − load-aware/other, by medians"
            f" of a point's rounds. Published for LoADPart: mean {published['mean']:.1%}, up to"
            f" {published['largest']:.1%}, on other devices.",
            _grid(result["points"]),
            _by_share(result["by_share"]),
            _trace(result["trace"]),
            _steps(result["steps"]),
            _steady(result["steady"]),
        )
    )


def interval(found: Mapping[str, float] | None) -> str:
    """A mean with its 95% interval, as percentages."""
    if found is None:
        return NONE
    return f"{found['mean']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"


def _grid(grid: Mapping[str, Any]) -> str:
    rows = [_grid_row(name, s) for name, s in grid["models"].items()]
    heads = (
        "model",
        "regret: mean and 95% interval",
        "largest",
        "cuts differ",
        "reduction there: mean, largest",
        "against load-oblivious, all points",
        "against local",
        "against offload",
        "error of k, all / under load",
    )
    return table(heads, [*rows, _grid_row("**all**", grid["summary"])])


def _grid_row(name: str, s: Mapping[str, Any]) -> tuple[str, ...]:
    there = s["reduction_where_they_differ"]
    return (
        name,
        interval(s["regret"]),
        _percent(s["largest_regret"]),
        f"{s['differ']} of {s['points']}",
        NONE if there is None else f"{there['mean']:.1%}, {there['largest']:.1%}",
        *(interval(s["reduction"][other]) for other in ("oblivious", "local", "offload")),
        f"{_percent(s['load_error'])} / {_percent(s['load_error_under_load'])}",
    )


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _by_share(rows: Sequence[Mapping[str, Any]]) -> str:
    found = [
        (
            f"{row['share']:g} of a core",
            f"{row['differ']} of {row['points']}",
            _percent(row["mean"]),
            _percent(row["largest"]),
        )
        for row in rows
    ]
    heads = ("device", "cuts differ", "reduction there: mean", "largest")
    return (
        "How much following the load saves is a matter of the device: where it is much slower than"
        " the server, a loaded server still beats it, and where it is not, it can take over."
        " *Predicted* by the costs that were timed and the k that were measured, nothing was run:"
        " all models, 1 to 64 Mbit/s in steps of two, the same loads; load-aware against"
        " load-oblivious, both of which know all else exactly.\n\n" + table(heads, found)
    )


def _trace(trace: Mapping[str, Any]) -> str:
    rows = [
        (
            row["policy"],
            f"{1e3 * row['mean_s']:.0f} ms",
            f"{1e3 * row['p95_s']:.0f} ms",
            f"{1e3 * row['time_mean_s']:.0f} ms",
            str(row["requests"]),
            str(row["switches"]),
            str(row["begun_anew"]),
            f"{row['lost']} / {row['wrong']}",
        )
        for row in trace["rows"]
    ]
    heads = (
        "policy",
        "mean",
        "p95",
        "mean over time",
        "requests",
        "switches",
        "begun anew",
        "lost / wrong",
    )
    return (
        f"A trace: {trace['model']}, {trace['duration_s']:.0f} s a policy, seed {trace['seed']};"
        f" bandwidth 1 to 64 Mbit/s and load 0, 2 or 4 processes, each level {trace['dwell_s']:g} s"
        f" on average, {trace['noise']:.0%} noise on each link every half second. One request"
        " follows another, so that requests of two policies cannot be paired by time: a policy that"
        " is fast sends more of them. The mean over time weighs each by how long it is under way."
        " The oracle is told the rates that were set and the k measured for the number of"
        " processes, and takes the cut that is predicted to be the best; so it is no bound. The"
        " numbered cut is the best of the others by its predicted costs. Begun anew: requests that"
        " were stuck and that the device then answered alone, where the policy says so too.\n\n"
        + table(heads, rows)
    )


def _steps(steps: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(row["step"] for row in steps["rows"]))
    rows = [_steps_row(n, [r for r in steps["rows"] if r["step"] == n]) for n in names]
    heads = (
        "step",
        "held cut was good already",
        "seconds: median, largest",
        "requests: median, largest",
        "in time",
    )
    goal = steps["goal"]
    return (
        f"Steps from steady state, {steps['model']}, {steps['repeats']} times each: from the moment"
        " that the step holds until a request is sent by a cut that is the best for the new"
        f" conditions, or within 3% of it, and the next {steps['stays']} too; and how many were"
        f" sent by others before. In time: within {goal['requests']} requests or"
        f" {goal['seconds']:g} s, whichever is later.\n\n" + table(heads, rows)
    )


def _steps_row(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    after_s = [r["after_s"] for r in rows if r["after_s"] is not None]
    requests = [r["requests"] for r in rows if r["requests"] is not None]
    return (
        name,
        f"{sum(r['needless'] for r in rows)} of {len(rows)}",
        f"{statistics.median(after_s):.2f}, {max(after_s):.2f}" if after_s else NONE,
        f"{statistics.median(requests):g}, {max(requests)}" if requests else NONE,
        f"{sum(r['reached'] for r in rows)} of {len(rows)}",
    )


def _steady(steady: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{row['rate_bps'] / 1e6:g} Mbit/s",
            f"{row['pause_s']:g} s",
            f"{row['up_share']:.2%}",
            f"{row['down_share']:.2%}",
            f"{row['server_share']:.2%}",
            str(row["requests"]),
            str(row["switches"]),
        )
        for row in steady["rows"]
    ]
    heads = ("link", "pause", "looks up", "looks down", "server", "requests", "switches")
    return (
        f"Nothing changes, {steady['model']}, load-aware: what looks take of the links' bits and of"
        f" the server's time. A decision takes **{steady['decision_us']:.0f} µs** of the"
        f" processor's time; with folding in the {steady['observations']} observations of a"
        f" request, twice (for what is reported and for the policy), {steady['cycle_us']:.0f} µs."
        "\n\n" + table(heads, rows)
    )
