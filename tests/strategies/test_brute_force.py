"""brute_force: all plans, an end in time, and a clear word where there are too many."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.errors import InfeasibleError, UnsupportedProblemError
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.strategies.brute_force import BruteForce
from cutset.testing import graphs
from cutset.testing.plans import plans_of, value_s
from cutset.testing.problems import random_problem


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_it_is_the_best_of_all_and_no_worse_than_two_stages(seed: int) -> None:
    problem = random_problem(seed, max_operators=5)
    try:
        solution = solve(problem, BruteForce(max_plans=3000))
    except UnsupportedProblemError:
        return
    except InfeasibleError:
        two = plans_of(problem, "plans of at most two stages")
        assert two is not None
        assert all(math.isinf(value_s(problem, plan)) for plan in two)
        return
    assert (solution.proof, solution.scope) == ("optimal", "full")
    two = plans_of(problem, "plans of at most two stages")
    assert two is not None
    assert solution.value_s <= min(value_s(problem, plan) for plan in two) * (1 + 1e-9)


@pytest.mark.parametrize("objective", list(Objective))
def test_going_back_and_forth_is_found(objective: Objective) -> None:
    """Each of three operators is fast on one device only; the middle one not where the others."""
    graph, cost = graphs.chain(3, 1)
    names = [op.name for op in graph.operators]
    slow = {"slow": dict(zip(names, (0.001, 10.0, 0.001), strict=True))}
    fast = {"fast": dict(zip(names, (10.0, 0.001, 10.0), strict=True))}
    cost = replace(cost, seconds=slow | fast)
    problem = Problem(graph, graphs.two_devices(1e9), cost, objective)
    assert [s.device for s in solve(problem, "brute_force").plan.stages] == ["pi", "server", "pi"]


@pytest.mark.parametrize("objective", list(Objective))
def test_too_many_plans_are_declined_with_the_number(objective: Objective) -> None:
    graph, cost = graphs.layered(60, 1)
    problem = Problem(graph, graphs.two_devices(), cost, objective)
    with pytest.raises(UnsupportedProblemError, match="more than 30000") as caught:
        solve(problem, "brute_force")
    assert caught.value.value == "60 operators, 2 devices"
    small = Problem(*_small(), objective=objective)
    with pytest.raises(UnsupportedProblemError, match="more than 20"):
        solve(small, BruteForce(max_plans=20))


def _small() -> tuple:  # type: ignore[type-arg]
    graph, cost = graphs.chain(5, 1)
    return graph, graphs.two_devices(), cost


def test_a_stopped_search_has_a_plan_and_an_honest_bound() -> None:
    problem = Problem(*_small())
    best = solve(problem, "brute_force")
    stopped = BruteForce()(problem, Budget(time_limit_s=0))
    assert stopped.bound_s <= best.value_s <= value_s(problem, stopped.plan)
