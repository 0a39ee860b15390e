"""Regret against the oracle's run."""

from __future__ import annotations

import math

import pytest

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.lab_regret import with_best
from cutset.adaptation.regret import score
from cutset.adaptation.simulated import Played, Request
from cutset.adaptation.traces import Moment, Trace

HELD = Conditions(1e6, 1e6)
TRACE = Trace("t", tuple(Moment(float(i), HELD) for i in range(4)), 4.0)


def played(policy: str, *requests: tuple[float, float]) -> Played:
    made = tuple(Request(at, 0, took, None, False, HELD) for at, took in requests)
    return Played(policy, made, (), 4.0)


def test_the_best_is_the_oracles_of_the_same_moment() -> None:
    aware = played("load-aware", (0.1, 0.3), (0.6, 0.2), (1.5, 1.0), (2.5, 0.4), (3.5, 0.5))
    oracle = played("oracle", (0.0, 0.1), (0.4, 0.2), (0.7, 0.3), (1.2, 1.5), (3.4, math.inf))
    found, own = with_best([aware, oracle], TRACE)
    # In the third moment a request of the second was under way, in the fourth none was answered.
    assert [r.best_s for r in found.requests] == [0.2, 0.2, 1.5, 1.5, None]
    assert [r.latency_s for r in found.requests] == [0.3, 0.2, 1.0, 0.4, 0.5]
    assert [r.best_s for r in own.requests][:4] == [0.2, 0.2, 0.2, 1.5]
    expected = (0.3 / 0.2 + 1 + 1 / 1.5 + 0.4 / 1.5) / 4 - 1
    assert score(found).regret == pytest.approx(expected)
    assert score(found).requests == 5


def test_without_the_oracle_no_regret_is_known() -> None:
    [found] = with_best([played("local", (0.0, 0.1))], TRACE)
    assert found.requests[0].best_s is None
    scored = score(found)
    assert (scored.regret, scored.regret_low, scored.regret_high) == (None, None, None)
    assert scored.mean_s == pytest.approx(0.1)
