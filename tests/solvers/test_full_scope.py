"""Bounds on any untiled plan, against plans of any number of stages, back and forth."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.errors import InvalidFileError
from cutset.graph import Graph
from cutset.plan import Plan, Stage, check_plan
from cutset.problem import Problem
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.one_stage import single_stage, value_of
from cutset.testing import graphs
from cutset.testing.problems import random_problem


def any_plan(problem: Problem, rng: random.Random) -> Plan:
    """A random order of the operators, cut into runs, each on a random device."""
    graph, names = problem.graph, [d.name for d in problem.cluster.devices]
    stages: list[tuple[str, list[str]]] = []
    for i in _order(graph, rng):
        if not stages or rng.random() < 0.5:
            stages.append((rng.choice(names), []))
        stages[-1][1].append(graph.operators[i].name)
    return Plan(tuple(Stage(f"s{i}", d, tuple(ops)) for i, (d, ops) in enumerate(stages)))


def _order(graph: Graph, rng: random.Random) -> list[int]:
    order: list[int] = []
    while len(order) < len(graph.operators):
        ready = [
            i
            for i in range(len(graph.operators))
            if i not in order and all(j in order for j in graph.predecessors[i])
        ]
        order.append(rng.choice(ready))
    return order


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_no_plan_is_better(seed: int) -> None:
    problem, rng = random_problem(seed), random.Random(seed)
    bound = full_bound_s(problem)
    for _ in range(30):
        plan = any_plan(problem, rng)
        try:
            check_plan(plan, problem.graph, problem.cluster)
        except InvalidFileError:  # tears a colocate group apart
            continue
        assert value_of(problem, plan) >= bound * (1 - 1e-9)


@pytest.mark.parametrize("bandwidth_bps", [1e5, 1e7, 1e9])
def test_chains_back_and_forth(bandwidth_bps: float) -> None:
    graph, cost = graphs.chain(6, 3)
    problem = Problem(graph, graphs.two_devices(bandwidth_bps), cost)
    bound, rng = full_bound_s(problem), random.Random(0)
    best = math.inf
    for _ in range(3000):
        best = min(best, value_of(problem, any_plan(problem, rng)))
    assert best == pytest.approx(bound, rel=1e-9)  # on a chain, the bound is the best plan


def test_a_far_server_is_ruled_out_for_any_plan() -> None:
    graph, cost = graphs.layered(12, 1)
    near = Problem(graph, graphs.two_devices(1e9, 0.001), cost)
    far = Problem(graph, graphs.two_devices(1e9, 10.0), cost)
    local_s = value_of(far, single_stage(far, "pi"))
    assert full_bound_s(far) == pytest.approx(local_s)
    assert full_bound_s(near) < local_s / 2
