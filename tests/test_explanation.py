"""Solutions in words: the critical path adds up, the bottleneck is named, open gaps stay open."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cutset.errors import InfeasibleError, PlanningError
from cutset.explanation import (
    any_plan_in_words,
    bottleneck_in_words,
    critical_path,
    flips_in_words,
    gap_in_words,
    path_in_words,
    resource_in_words,
)
from cutset.planner import certify
from cutset.problem import BreakEven, Objective, Problem, Proposal, Solution
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem


def scored(problem: Problem, seed: int) -> Solution:
    try:
        return certify(problem, Proposal(random_plan(problem, seed)), "test", 0.0)
    except (InfeasibleError, PlanningError):
        assume(False)
        raise


@given(st.integers(0, 20_000))
@settings(deadline=None, max_examples=200)
def test_the_critical_path_takes_no_more_than_the_latency(seed: int) -> None:
    problem = random_problem(seed)
    solution = scored(problem, seed)
    steps = critical_path(problem, solution)
    total = sum(seconds for _, seconds in steps)
    assert total <= solution.estimate.latency_s * (1 + 1e-9) + 1e-15
    assert all(seconds >= 0 for _, seconds in steps)


@given(st.integers(0, 20_000))
@settings(deadline=None, max_examples=100)
def test_without_costs_of_sending_the_steps_are_the_latency(seed: int) -> None:
    drawn = random_problem(seed)
    devices = tuple(replace(d, send_s_per_byte=0.0) for d in drawn.cluster.devices)
    problem = replace(drawn, cluster=replace(drawn.cluster, devices=devices))
    solution = scored(problem, seed)
    total = sum(seconds for _, seconds in critical_path(problem, solution))
    assert total == pytest.approx(solution.estimate.latency_s, rel=1e-9, abs=1e-12)


def test_a_path_in_one_line() -> None:
    steps = (("pi", 0.01), ("link pi>server", 0.02), ("server", 0.003))
    assert path_in_words(steps) == "pi 10 ms → link pi>server 20 ms → server 3 ms"
    assert path_in_words(steps * 4) == "links 80 ms + pi 40 ms + server 12 ms, in 12 steps"


def test_the_bottleneck_names_what_is_next() -> None:
    problem = random_problem(1)
    estimate = replace(
        scored(problem, 1).estimate,
        latency_s=0.1,
        period_s=0.05,
        bottleneck="link:a>b",
        busy_s={"link:a>b": 0.05, "egress:a": 0.05, "ingress:b": 0.05, "device:a": 0.03},
    )
    said = bottleneck_in_words(estimate, Objective.THROUGHPUT)
    assert said == "link a>b sets the period: busy 50 ms per request; next is device a with 60%"
    said = bottleneck_in_words(estimate, Objective.LATENCY)
    assert said == "link a>b is busy longest: 50 ms, 50% of a request"
    said = bottleneck_in_words(replace(estimate, latency_s=0.04), Objective.LATENCY)
    assert "%" not in said
    assert said.endswith("50 ms for a request, whose answer does not wait for all of that")
    assert resource_in_words("egress:pi") == "network interface of pi (sending)"


def test_an_open_gap_does_not_read_as_closed() -> None:
    assert [gap_in_words(g) for g in (0.0, 1e-6, 0.0123)] == ["0.0%", "<0.1%", "1.2%"]


def test_break_evens_say_what_was_compared() -> None:
    exact = BreakEven("link:a>b", "a alone", below=3e6)
    assert flips_in_words([exact]) == [
        ("verdict flips", "link:a>b below 3 Mbit/s: a alone"),
        ("", "(one parameter is moved at a time)"),
    ]
    tied = [replace(exact, scope="the plans compared")] * 4
    lines = flips_in_words(tied, most=2)
    assert lines[2] == ("", "and 2 more")
    assert lines[3][1].startswith("(the plans compared only")
    assert "(in part the plans compared only" in flips_in_words([exact, *tied])[-1][1]
    assert flips_in_words([]) == []


def test_a_plans_own_range_is_not_the_verdicts() -> None:
    flip = BreakEven("link:a>b", "a alone", below=1e6)
    cut = BreakEven("link:a>b", "another cut", below=3e6)
    top = BreakEven("link:a>b", "b alone", above=12e6)
    load = BreakEven("device:b.load", "another cut", above=6.2)
    lines = flips_in_words([flip, replace(top)], [cut, top, load])
    assert lines[:4] == [
        (
            "stays best",
            "link:a>b from 3 Mbit/s to 12 Mbit/s (below: another cut, above: b alone)",
        ),
        ("stays best", "device:b.load up to 6.2 (above: another cut)"),
        ("verdict flips", "link:a>b below 1 Mbit/s: a alone (the cut moved meanwhile)"),
        ("verdict flips", "link:a>b above 12 Mbit/s: b alone"),
    ]


def test_what_is_proven_of_any_plan() -> None:
    assert any_plan_in_words(2.0, 2.0) == "proven: no untiled plan, of whatever shape, is better"
    assert "nothing is proven" in any_plan_in_words(0.0, 2.0)
    between = any_plan_in_words(0.5, 2.0)
    assert "none takes less than 500 ms (75.0% less)" in between
    assert "may exist in between" in between
