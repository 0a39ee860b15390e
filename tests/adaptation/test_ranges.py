"""What is expected around what was measured."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.ranges import Interval, Range, expected_range
from cutset.errors import UsageError

RATES = st.floats(0.0, math.inf)


@given(RATES, RATES, st.floats(0.01, 100), st.floats(0, 100), st.floats(0.01, 100))
def test_what_is_stated_is_expected(
    up: float, down: float, load: float, queue: float, slowdown: float
) -> None:
    stated = Conditions(up, down, 0.001, 0.002, load=load, queue_s=queue, slowdown=slowdown)
    expected = expected_range(stated)
    assert (expected.up_latency_s, expected.down_latency_s) == (0.001, 0.002)
    if 1e3 <= up <= 1e12 and 1e3 <= down <= 1e12:
        assert expected.contains(stated)
    for rates in (expected.up_bps, expected.down_bps):
        assert rates.low <= 0.25e6
        assert rates.high >= 1e9
    usual = Conditions(1e6, 1e6, load=8.0, queue_s=0.5, slowdown=4.0)
    assert expected.contains(usual)
    assert expected.contains(Conditions(1e6, 1e6))


def test_rates_rise_and_fall_by_the_factor() -> None:
    expected = expected_range(Conditions(1e6, 1e9), factor=8)
    assert expected.up_bps == (1e6 / 8, 1e9)
    assert expected.down_bps == (0.25e6, 8e9)


def test_a_lost_server_is_no_part_of_it() -> None:
    assert not expected_range(Conditions(1e6, 1e6)).contains(Conditions(1e6, 1e6, lost=True))


def test_the_grid_has_the_ends_and_stays_inside() -> None:
    expected = expected_range(Conditions(20e6, 7e6))
    grid = expected.grid()
    assert len(grid) == 9 * 5 * 4 * 2 * 2
    assert all(expected.contains(at) for at in grid)
    for name in ("up_bps", "down_bps", "load", "queue_s", "slowdown"):
        values = [getattr(at, name) for at in grid]
        assert (min(values), max(values)) == getattr(expected, name)
    steps = np.diff(np.log(sorted({at.up_bps for at in grid})))
    assert steps == pytest.approx(steps[0])
    point = Range(Interval(1e6, 1e6), Interval(2e6, 2e6))
    assert point.grid() == (Conditions(1e6, 2e6),)


@pytest.mark.parametrize(
    ("name", "interval"),
    [
        ("up_bps", (0.0, 1e6)),
        ("down_bps", (2e6, 1e6)),
        ("up_bps", (1e6, math.inf)),
        ("load", (-1.0, 1.0)),
        ("load", (math.nan, 1.0)),
        ("queue_s", (-0.1, 1.0)),
        ("queue_s", (0.0, math.nan)),
        ("slowdown", (0.0, 1.0)),
    ],
)
def test_what_cannot_be_expected(name: str, interval: tuple[float, float]) -> None:
    usual = {"up_bps": Interval(1e6, 1e7), "down_bps": Interval(1e6, 1e7)}
    with pytest.raises(UsageError, match=rf"range\.{name}: not an interval"):
        Range(**{**usual, name: Interval(*interval)})


def test_latencies_and_factors_are_numbers() -> None:
    rates = Interval(1e6, 1e7)
    for latency_s in (-0.001, math.inf, math.nan):
        with pytest.raises(UsageError, match=r"range\.up_latency_s"):
            Range(rates, rates, up_latency_s=latency_s)
    for factor in (0.5, math.inf, math.nan):
        with pytest.raises(UsageError, match="factor"):
            expected_range(Conditions(1e6, 1e6), factor)
