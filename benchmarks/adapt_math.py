"""What the adaptive benchmark makes of what it measured; pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000
#: After the first request by a good cut, so many more must take one, or it was a coincidence.
STAYS = 3
#: A cut that costs at most so much more than the best one is good.
GOOD = 0.03
#: A segment that takes less without load says little about it.
LEAST_SEGMENT_S = 5e-3

#: Seconds of an arm's request in each round; None where it was not sent, or lost.
Rounds = Sequence[float | None]


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval | None:
    """The mean and its percentile interval over resampled values; None without any."""
    if not values:
        return None
    found = np.asarray(values, dtype=np.float64)
    draw = np.random.default_rng(seed)
    means = [found[draw.integers(0, len(found), len(found))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(found.mean()), float(low), float(high))


def median(rounds: Rounds) -> float | None:
    answered = [x for x in rounds if x is not None]
    return statistics.median(answered) if answered else None


def cross_fitted(latencies_s: Mapping[int, Rounds], chosen: int) -> float | None:
    """By how much, as a fraction, `chosen` is slower than the cut that an oracle would take.

    The oracle's cut is the fastest on half of the rounds and compared on the other half, and the
    other way round: the fastest of noisy arms on the rounds that it was chosen on looks faster
    than it is. So the figure may be negative. None where `chosen` has no rounds in a half.
    """
    halves = [
        {arm: _median_of_half(rounds, half) for arm, rounds in latencies_s.items()}
        for half in (0, 1)
    ]
    losses = []
    for fit, test in (halves, halves[::-1]):
        known = {a: s for a, s in fit.items() if s is not None and test[a] is not None}
        if chosen not in known:
            return None
        best = min(known, key=lambda a: known[a])
        mine_s, best_s = test[chosen], test[best]
        assert mine_s is not None
        assert best_s is not None
        losses.append(mine_s / best_s - 1)
    return statistics.fmean(losses)


def _median_of_half(rounds: Rounds, half: int) -> float | None:
    return median(rounds[half::2])


def reduction(latencies_s: Mapping[int, Rounds], chosen: int, against: int) -> float | None:
    """What `chosen` saves of the latency of `against`, as a fraction; 0 where they are one."""
    if chosen == against:
        return 0.0
    mine_s, theirs_s = median(latencies_s[chosen]), median(latencies_s[against])
    return None if mine_s is None or theirs_s is None else 1 - mine_s / theirs_s


@dataclass(frozen=True)
class Followed:
    """After a step: seconds until the first request was sent by a good cut, and how many were sent
    by others before."""

    after_s: float
    requests: int


def followed(sent: Sequence[tuple[float, bool]], step_s: float) -> Followed | None:
    """When requests (time sent, whether the cut is good for the new conditions) follow a step.

    They do from the first good one after which STAYS more are good; None where there is none.
    """
    after = [(at_s, good) for at_s, good in sent if at_s >= step_s]
    for i in range(len(after) - STAYS):
        if all(good for _, good in after[i : i + STAYS + 1]):
            return Followed(after[i][0] - step_s, i)
    return None


def good_cuts(values_s: Sequence[float]) -> frozenset[int]:
    """The cheapest cut and those that cost hardly more."""
    least = min(values_s)
    return frozenset(i for i, value in enumerate(values_s) if value <= (1 + GOOD) * least)


def grid_summary(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Regret, reductions and the error of k over the points of the grid."""
    regrets = [r for p in points if (r := _regret(p, "aware")) is not None]
    theirs = [r for p in points if (r := _regret(p, "oblivious")) is not None]
    differ = [p for p in points if p["aware"] != p["oblivious"]]
    errors = [e for p in points for e in load_errors(p)]
    loaded = [e for p in points if p["competing"] for e in load_errors(p)]
    return {
        "points": len(points),
        "regret": _interval(regrets),
        "largest_regret": max(regrets, default=None),
        "oblivious_regret": _interval(theirs),
        "differ": len(differ),
        "reduction_where_they_differ": _reductions(differ, "oblivious"),
        "reduction": {x: _reductions(points, x) for x in ("oblivious", "local", "offload")},
        "load_error": statistics.fmean(errors) if errors else None,
        "load_error_under_load": statistics.fmean(loaded) if loaded else None,
        "load_segments": len(errors),
    }


def arms(point: Mapping[str, Any]) -> dict[int, Rounds]:
    """A point's latencies by the index of the cut (JSON knows texts only)."""
    return {int(cut): rounds for cut, rounds in point["latencies_s"].items()}


def load_errors(point: Mapping[str, Any]) -> list[float]:
    """|predicted/measured − 1| of the server's segments at a point, the longer ones only."""
    return [
        abs(s["predicted_s"] / s["measured_s"] - 1)
        for s in point["segments"]
        if s["unloaded_s"] >= LEAST_SEGMENT_S
    ]


def _regret(point: Mapping[str, Any], policy: str) -> float | None:
    return cross_fitted(arms(point), point[policy])


def _reductions(points: Sequence[Mapping[str, Any]], against: str) -> dict[str, Any] | None:
    """Of the points that have such a cut."""
    saved = [
        r
        for p in points
        if p[against] is not None and (r := reduction(arms(p), p["aware"], p[against])) is not None
    ]
    found = _interval(saved)
    return None if found is None else {**found, "largest": max(saved), "least": min(saved)}


def _interval(values: Sequence[float]) -> dict[str, float] | None:
    found = bootstrap(values)
    if found is None:
        return None
    return {"mean": found.mean, "low": found.low, "high": found.high}


def time_mean_s(latencies_s: Sequence[float]) -> float:
    """The mean latency over time: requests that take longer are under way at more moments."""
    return sum(x * x for x in latencies_s) / sum(latencies_s)


def by_second(
    requests: Sequence[tuple[float, float]], seconds: int, mean: Callable[[list[float]], float]
) -> list[float | None]:
    """`mean` of the values of the requests (seconds since the start, value) of each second; None
    where none was sent."""
    found: list[list[float]] = [[] for _ in range(seconds)]
    for at_s, value in requests:
        if 0 <= at_s < seconds:
            found[int(at_s)].append(value)
    return [mean(values) if values else None for values in found]
