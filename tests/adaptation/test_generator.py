"""Generated traces: the same for a seed, and of the statistics that they state."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.generator import generate, steps
from cutset.adaptation.trace_words import is_generated, parse_generated
from cutset.errors import UsageError

BASE = Conditions(8e6, 16e6, 0.001, 0.002, queue_s=0.01, slowdown=1.2)


def held(values: list[tuple[float, float]], duration_s: float) -> list[tuple[float, float]]:
    """(value, seconds) of the runs of equal values at times."""
    runs = [next(group) for _, group in itertools.groupby(values, key=lambda pair: pair[1])]
    ends = [at_s for at_s, _ in runs[1:]] + [duration_s]
    return [(value, end - at_s) for (at_s, value), end in zip(runs, ends, strict=True)]


def test_a_seed_gives_the_trace_that_it_gave() -> None:
    """Fixed numbers: another machine or Python has to give these too."""
    found = [
        (m.at_s, m.conditions.up_bps, m.conditions.down_bps, m.conditions.load)
        for m in generate(7, 2, BASE, dwell_s=1).moments
    ]
    assert found[:4] == [
        (0.0, 1004823.61, 941224.705, 1.79466797),
        (0.140242, 16077177.8, 15059595.3, 1.79466797),
        (0.336312, 1004823.61, 941224.705, 1.79466797),
        (0.424391, 1004823.61, 941224.705, 2.58933594),
    ]
    assert generate(7, 2, BASE, dwell_s=1) == generate(7, 2, BASE, dwell_s=1)
    assert generate(8, 2, BASE, dwell_s=1).moments != generate(7, 2, BASE, dwell_s=1).moments


def test_levels_hold_as_long_as_stated_and_each_follows_each() -> None:
    levels = (1e6, 2e6, 4e6)
    trace = generate(1, 20_000, BASE, bandwidths_bps=levels, loads=(1, 2), dwell_s=5, noise=0)
    rates = held([(m.at_s, m.conditions.up_bps) for m in trace.moments], 20_000)
    loads = held([(m.at_s, m.conditions.load) for m in trace.moments], 20_000)
    assert len(rates) > 3000
    for runs in (rates, loads):
        times_s = [seconds for _, seconds in runs[:-1]]
        assert statistics.fmean(times_s) == pytest.approx(5, rel=0.06)
        assert statistics.stdev(times_s) == pytest.approx(5, rel=0.1)  # exponential: its mean
    follow = Counter((a, b) for (a, _), (b, _) in itertools.pairwise(rates))
    assert set(follow) == {(a, b) for a in levels for b in levels if a != b}
    for (a, _), count in follow.items():
        leaving = sum(n for (x, _), n in follow.items() if x == a)
        assert count / leaving == pytest.approx(0.5, abs=0.06)
    # How long a level holds says nothing about how long the next one does.
    pairs = [(a, b) for (_, a), (_, b) in itertools.pairwise(rates[:-1])]
    assert abs(statistics.correlation(*zip(*pairs, strict=True))) < 0.06


def test_noise_is_lognormal_of_mean_one() -> None:
    trace = generate(2, 5000, BASE, bandwidths_bps=(1e6,), loads=(3,), noise=0.4)
    assert len(trace.moments) == 10_000
    ups = [m.conditions.up_bps / 1e6 for m in trace.moments]
    downs = [m.conditions.down_bps / 1e6 for m in trace.moments]
    loads = [(m.conditions.load - 1) / 2 for m in trace.moments]
    for factors in (ups, downs, loads):
        assert statistics.fmean(factors) == pytest.approx(1, abs=0.03)
        assert statistics.stdev(map(math.log, factors)) == pytest.approx(0.4, rel=0.05)
    for one, other in itertools.combinations((ups, downs, loads), 2):
        assert abs(statistics.correlation(one, other)) < 0.05


def test_noise_leaves_the_levels_as_they_are() -> None:
    plain, noisy = (generate(5, 200, BASE, noise=noise) for noise in (0.0, 0.001))
    for moment in noisy.moments:
        assert moment.conditions.up_bps == pytest.approx(plain.at(moment.at_s).up_bps, rel=0.01)


@given(
    st.integers(0, 2**53 - 1),
    st.floats(0.01, 300),
    st.lists(st.floats(0, 1e12), min_size=1, max_size=5),
    st.lists(st.floats(1, 100), min_size=1, max_size=4),
    st.floats(0.5, 100),
    st.floats(0, 1),
    st.floats(0.1, 10),
)
def test_any_options_give_a_trace(
    seed: int,
    duration_s: float,
    rates: list[float],
    loads: list[float],
    dwell_s: float,
    noise: float,
    step_s: float,
) -> None:
    trace = generate(
        seed,
        duration_s,
        BASE,
        bandwidths_bps=rates,
        loads=loads,
        dwell_s=dwell_s,
        noise=noise,
        step_s=step_s,
    )
    assert trace.duration_s == duration_s
    for moment in trace.moments:
        seen = moment.conditions
        assert 0 <= seen.up_bps < math.inf
        assert 1 <= seen.load < math.inf
        assert (seen.up_latency_s, seen.queue_s, seen.slowdown) == (0.001, 0.01, 1.2)


def test_steps_go_down_and_back() -> None:
    trace = steps(BASE, step_s=10)
    assert [m.at_s for m in trace.moments] == [0, 10, 20, 30, 40, 50, 60]
    assert trace.duration_s == 70
    seen = [m.conditions for m in trace.moments]
    assert [c.up_bps for c in seen] == [8e6, 2e6, 5e5, 8e6, 8e6, 8e6, 8e6]
    assert [c.down_bps for c in seen] == [16e6, 4e6, 1e6, 16e6, 16e6, 16e6, 16e6]
    assert [c.load for c in seen] == [1, 1, 1, 1, 2, 4, 1]
    stated = steps(BASE, bandwidths_bps=(1e6,), loads=(3,))
    assert [m.conditions.down_bps for m in stated.moments] == [16e6, 1e6, 16e6, 16e6, 16e6]
    with pytest.raises(UsageError, match="state bandwidths"):
        steps(Conditions(math.inf, 1e6))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"duration_s": 0}, "duration"),
        ({"duration_s": math.nan}, "duration"),
        ({"duration_s": 1e8}, "duration"),
        ({"dwell_s": 0}, "dwell"),
        ({"dwell_s": math.inf}, "dwell"),
        ({"step_s": -1}, "step"),
        ({"noise": -0.1}, "noise"),
        ({"noise": math.nan}, "noise"),
        ({"bandwidths_bps": ()}, "bandwidths"),
        ({"bandwidths_bps": (1e6, -1)}, "bandwidths"),
        ({"bandwidths_bps": (math.inf,)}, "bandwidths"),
        ({"loads": (0.5,)}, "loads"),
        ({"loads": (math.nan,)}, "loads"),
        ({"loads": (1,) * 1001}, "loads"),
    ],
)
def test_bad_options(options: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        generate(**{"seed": 1, "duration_s": 60, "base": BASE} | options)
    assert caught.value.field == field
    assert caught.value.remedy


def test_words_mean_the_same_as_arguments() -> None:
    text = "markov:seed=3, duration=1e2,bandwidths=1Mbit/s;8e6;0,loads=1;2.5,dwell=500ms,noise=0"
    assert parse_generated(text + ",step=2s", BASE) == generate(
        3, 100, BASE, bandwidths_bps=(1e6, 8e6, 0), loads=(1, 2.5), dwell_s=0.5, noise=0, step_s=2
    )
    assert parse_generated("markov:seed=3,duration=9s", BASE) == generate(3, 9, BASE)
    assert parse_generated("steps:", BASE) == parse_generated("steps", BASE) == steps(BASE)
    assert parse_generated("steps:step=5s,bandwidths=1Mbit/s,loads=3", BASE) == steps(
        BASE, step_s=5, bandwidths_bps=(1e6,), loads=(3,)
    )


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("", "TRACE", "kinds are markov, steps"),
        ("markow:seed=3", "TRACE", "did you mean markov"),
        ("markov:" + "x" * 30_000, "TRACE", "not a generated trace"),
        ("markov:sed=3", "TRACE markov:sed", "did you mean seed"),
        ("steps:seed=3", "TRACE steps:seed", "options are step"),
        ("markov:seed", "TRACE markov:seed", "no value"),
        ("markov:seed=3,,", "TRACE markov:", "no such option"),
        ("markov:seed=3,seed=4", "TRACE markov:seed", "twice"),
        ("markov:seed=3", "TRACE markov:duration", "missing"),
        ("markov:duration=3", "TRACE markov:seed", "missing"),
        ("markov:seed=3.5,duration=1", "TRACE markov:seed", "not a number"),
        ("markov:seed=-3,duration=1", "TRACE markov:seed", "not a number"),
        ("markov:seed=3,duration=1min", "TRACE markov:duration", "not a time"),
        ("markov:seed=3,duration=1,loads=1;x", "TRACE markov:loads", "not a number"),
        ("markov:seed=3,duration=1,bandwidths=5MB", "TRACE markov:bandwidths", "not a rate"),
        ("markov:seed=3,duration=1,noise=9", "TRACE markov:noise", "from 0 to 3"),
        ("steps:step=0", "TRACE steps:step", "too short"),
        ("steps:loads=inf", "TRACE steps:loads", "from 1 to"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_words(text: str, field: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_generated(text, BASE)
    error = caught.value
    assert error.field == field
    assert words in str(error)
    assert error.remedy
    assert "\n" not in str(error)


def test_which_words_are_generated_traces() -> None:
    assert [t for t in ("markov:x", "steps:", "steps", "a.csv", "c:/x") if is_generated(t)] == [
        "markov:x",
        "steps:",
    ]
