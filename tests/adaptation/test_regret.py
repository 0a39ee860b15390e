"""Regret: what it counts, its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.policy import Switch
from cutset.adaptation.regret import interval, score
from cutset.adaptation.simulated import Played, Request

SEEN = Conditions(1e6, 1e6)


def played(*latencies: tuple[float, float], fallbacks: int = 0) -> Played:
    requests = tuple(
        Request(float(i), 0, took, best, i < fallbacks, SEEN)
        for i, (took, best) in enumerate(latencies)
    )
    return Played("p", requests, (Switch(1.0, 0, 1, "load"),), 10.0)


def test_the_mean_of_ratios_of_what_was_answered() -> None:
    found = score(played((1.0, 1.0), (3.0, 2.0), (math.inf, 1.0), (4.0, 2.0), fallbacks=1))
    assert found.regret == pytest.approx((0.0 + 0.5 + 1.0) / 3)
    assert (found.requests, found.unanswered, found.fallbacks, found.switches) == (4, 1, 1, 1)
    assert found.fallback_share == 0.25
    assert found.mean_s == pytest.approx(8 / 3)
    assert (found.p50_s, found.p95_s) == (3.0, 4.0)


def test_nothing_answered_has_no_numbers() -> None:
    found = score(played((math.inf, 1.0)))
    assert (found.mean_s, found.regret, found.regret_low) == (None, None, None)
    assert found.unanswered == 1


def test_the_interval_is_seeded_and_holds_the_mean() -> None:
    values = np.random.default_rng(5).lognormal(size=500)
    low, high = interval(values, 1)
    assert low is not None
    assert high is not None
    assert low < values.mean() < high
    assert interval(values, 1) == (low, high)
    assert interval(values, 2) != (low, high)


def test_the_interval_of_constant_regret_is_that_point() -> None:
    assert interval(np.full(100, 0.25), 0) == (pytest.approx(0.25), pytest.approx(0.25))


def test_runs_of_alike_requests_widen_the_interval() -> None:
    """The same values, once in runs and once mixed: in runs there are fewer independent ones."""
    runs = np.repeat(np.random.default_rng(2).normal(size=20), 50)
    mixed = np.random.default_rng(3).permutation(runs)

    def width(values: np.ndarray) -> float:
        low, high = interval(values, 0)
        assert low is not None
        assert high is not None
        return high - low

    assert width(runs) > 2 * width(mixed)
