"""Where plans are few, each is tried: value is bound, for every family."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutset.errors import InfeasibleError
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.few_plans import Best, best_of_few
from cutset.solvers.one_stage import single_stage
from cutset.testing import graphs
from cutset.testing.plans import plans_of, value_s
from cutset.testing.problems import random_problem

TIES = 1e-9


@given(st.integers(0, 10**6), st.sampled_from(Objective))
@example(14937, Objective.LATENCY)  # two stages on one device are best
@settings(max_examples=60, deadline=None)
def test_few_plans_are_all_plans(seed: int, objective: Objective) -> None:
    problem = replace(random_problem(seed, max_operators=4), objective=objective)
    few = best_of_few(problem, Budget())
    if few is None:
        return
    plans = plans_of(problem, "full")
    if plans is not None:
        least = min((value_s(problem, plan) for plan in plans), default=math.inf)
        assert few.least_s == pytest.approx(least, rel=TIES)
    two = plans_of(problem, "plans of at most two stages")
    assert two is not None
    least = min((value_s(problem, plan) for plan in two), default=math.inf)
    assert few.two_way.value_s == pytest.approx(least, rel=TIES)
    if few.best.plan is None:
        assert math.isinf(few.least_s)
        with pytest.raises(InfeasibleError) as caught:
            solve(problem, "auto")
        assert caught.value.scope == "full"
        return
    solution = solve(problem, "auto")
    assert (solution.proof, solution.scope) == ("optimal", "full")
    assert solution.value_s == pytest.approx(few.least_s, rel=TIES)


def test_auto_and_makespan_prove_the_best_of_a_toy() -> None:
    """Two operators, of which the second has to leave: the bounds of both alone are weak here."""
    graph, cost = graphs.chain(2)
    problem = Problem(graph, graphs.two_devices(), cost)
    for name in ("auto", "makespan"):
        solution = solve(problem, name)
        assert (solution.proof, solution.scope) == ("optimal", "full"), name


def test_auto_shows_what_each_family_would_give() -> None:
    graph, cost = graphs.chain(3, 1)
    names = [op.name for op in graph.operators]
    slow = {"slow": dict(zip(names, (0.001, 10.0, 0.001), strict=True))}
    fast = {"fast": dict(zip(names, (10.0, 0.001, 10.0), strict=True))}
    problem = Problem(graph, graphs.two_devices(1e9), replace(cost, seconds=slow | fast))
    families = {a.family: a for a in solve(problem, "auto").alternatives}
    assert list(families) == ["one device", "two-way split", "parallel branches"]
    two, any_ = families["two-way split"], families["parallel branches"]
    assert two.value_s == pytest.approx(solve(problem, "envelope").value_s, rel=TIES)
    assert two.plan is not None
    assert any_.value_s is not None
    assert two.value_s is not None
    assert any_.value_s < two.value_s


def test_many_plans_and_no_time_are_declined() -> None:
    graph, cost = graphs.chain(3)
    problem = Problem(graph, graphs.two_devices(), cost)
    assert best_of_few(problem, Budget()) is not None
    assert best_of_few(problem, Budget(0.0)) is None
    graph, cost = graphs.chain(12)
    assert best_of_few(Problem(graph, graphs.two_devices(), cost), Budget()) is None


def test_of_equal_plans_the_one_of_fewest_stages_counts() -> None:
    graph, cost = graphs.chain(3)
    problem = Problem(graph, graphs.two_devices(), cost)
    one = single_stage(problem, "pi")
    more = replace(one, stages=(*one.stages, *one.stages))
    best = Best()
    assert not best.offer(more, math.inf)
    assert best.offer(more, 1.0)
    assert best.offer(one, 1.0)
    assert not best.offer(more, 1.0)
    assert not best.offer(single_stage(problem, "server"), 1.0)
    assert best.plan is one
    assert best.offer(more, 0.9)
