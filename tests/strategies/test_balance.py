"""Load balancing: never worse than where it starts, off the device that the end waits for."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutset import strategies
from cutset.cluster import Cluster, Device, Link
from cutset.cost import LoadedCost
from cutset.errors import InfeasibleError, NoPlanFoundError
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.one_stage import best_single, value_of
from cutset.solvers.scheduling.balancing import balanced, on_one_device
from cutset.solvers.scheduling.list_schedule import list_schedule, value_s
from cutset.solvers.scheduling.stages_of import stages_of
from cutset.testing import graphs
from cutset.testing.problems import random_problem

CLOSE = 1 + 1e-9


def cluster_of(devices: int, bandwidth_bps: float = 1e9, latency_s: float = 0.0003) -> Cluster:
    """The first device is slow; of the rest every third is."""
    return Cluster(
        tuple(Device(f"d{i}", graphs.FAST if i % 3 else graphs.SLOW) for i in range(devices)),
        (),
        "d0",
        "d0",
        default_link=Link("", "", bandwidth_bps, latency_s),
    )


def problem_of(
    shape: str, operators: int, devices: int = 5, objective: Objective = Objective.LATENCY
) -> Problem:
    graph, cost = graphs.GENERATORS[shape](operators, 1)
    return Problem(graph, cluster_of(devices), cost, objective)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), objective=st.sampled_from(tuple(Objective)))
@example(seed=40206, objective=Objective.LATENCY)  # no schedule is found, nor ruled out
def test_never_worse_than_its_start_nor_than_one_device(seed: int, objective: Objective) -> None:
    problem = replace(random_problem(seed, 12, 4), objective=objective)
    single_s = best_single(problem, required=False)[1]
    try:
        start = list_schedule(problem, contended=True)
    except (InfeasibleError, NoPlanFoundError):
        assert math.isinf(single_s)
        return
    refined = balanced(problem, start, Budget())
    assert value_s(problem, refined) <= value_s(problem, start) * CLOSE
    plan = strategies.load("balance")(problem, Budget()).plan
    limit = min(value_of(problem, stages_of(problem, start.device, start.order)), single_s)
    assert value_of(problem, plan) <= limit * CLOSE


@pytest.mark.parametrize("shape", sorted(graphs.GENERATORS))
@pytest.mark.parametrize("objective", tuple(Objective))
def test_real_shapes_are_improved_and_reported_on_the_way(shape: str, objective: Objective) -> None:
    problem = problem_of(shape, 60, objective=objective)
    budget = Budget(value_s=lambda plan: value_of(problem, plan))
    plan = strategies.load("balance")(problem, budget).plan
    assert budget.best is not None
    assert value_of(problem, plan) == pytest.approx(budget.best_s, rel=1e-9)
    single = on_one_device(problem)
    assert single is not None
    assert budget.best_s <= best_single(problem)[1] * CLOSE
    assert set(single.device) == {
        [*problem.cluster.by_name].index(best_single(problem)[0].devices[0])
    }
    assert strategies.load("balance")(problem, Budget()).plan == plan


def test_golden_plan() -> None:
    """The wide graph's branches, shared out between the fast devices; d0 and d3 are slow."""
    plan = solve(problem_of("wide", 12), "balance").plan
    assert [(s.device, s.operators) for s in plan.stages] == [
        ("d1", ("op0",)),
        ("d1", ("op5",)),
        ("d4", ("op10",)),
        ("d2", ("op1", "op6", "op7")),
        ("d1", ("op4",)),
        ("d1", ("op2",)),
        ("d1", ("op3",)),
        ("d1", ("op9",)),
        ("d4", ("op8",)),
        ("d2", ("op11",)),
    ]


def test_throughput_is_spread_over_many_devices() -> None:
    solution = solve(problem_of("chain", 60, 7, Objective.THROUGHPUT), "balance")
    assert solution.verdict is not None
    assert solution.verdict.gain > 0.5
    assert len(solution.plan.devices) >= 4


def test_the_plan_leaves_a_device_that_slows_down() -> None:
    problem = problem_of("wide", 12)
    before = solve(problem, "balance")
    slowed = max(
        (d for d in before.plan.devices if d != "d0"),
        key=lambda d: before.estimate.busy_s[f"device:{d}"],
    )
    after = replace(problem, cost=LoadedCost(problem.cost, {slowed: 4.0}))
    again = solve(after, "balance")
    old_s = value_of(after, before.plan)
    assert before.value_s < again.value_s < old_s
    assert (
        again.estimate.busy_s.get(f"device:{slowed}", 0.0)
        < 4 * before.estimate.busy_s[f"device:{slowed}"]
    )


def test_memory_is_kept_where_stages_take_most_of_it() -> None:
    problem = problem_of("layered", 40)
    graph = replace(problem.graph, stage_memory_bytes=2_000_000)
    total = sum(op.memory_bytes for op in graph.operators)
    devices = tuple(replace(d, memory_bytes=total / 3 + 5_000_000) for d in problem.cluster.devices)
    tight = Problem(graph, replace(problem.cluster, devices=devices), problem.cost)
    assert best_single(tight, required=False)[0] is None
    assert math.isfinite(solve(tight, "balance").value_s)


def test_an_effort_ends_the_search() -> None:
    problem = problem_of("layered", 300, 10)
    start = list_schedule(problem, contended=True)
    little = balanced(problem, start, Budget(), effort=1e5)
    assert value_s(problem, little) <= value_s(problem, start)
    assert value_s(problem, balanced(problem, start, Budget(), effort=0.0)) == value_s(
        problem, start
    )


def test_thousands_of_operators_on_fifty_devices() -> None:
    problem = problem_of("series_parallel", 5000, 50)
    plan = strategies.load("balance", {"effort": 1e7})(problem, Budget()).plan
    assert value_of(problem, plan) <= best_single(problem)[1] * CLOSE
