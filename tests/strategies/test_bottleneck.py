"""Pipelines and other plans of one stage a device together: the better plan, honest words."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, PlanningError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers import scopes
from cutset.solvers.one_stage import value_of
from cutset.solvers.throughput.pipelines import best_pipeline
from cutset.strategies.bottleneck import Bottleneck
from cutset.testing import graphs
from cutset.testing.plans import best_s
from cutset.testing.problems import random_problem


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
@example(257)
def test_no_worse_than_all_plans_of_one_stage_a_device(seed: int) -> None:
    problem = replace(random_problem(seed, 5, 3), objective=Objective.THROUGHPUT)
    per_device = best_s(problem, scopes.STAGE_PER_DEVICE)
    pipelines = best_s(problem, scopes.PIPELINES)
    assert per_device is not None
    assert pipelines is not None
    try:
        solution = solve(problem, "bottleneck")
    except InfeasibleError:
        assert per_device == math.inf
        return
    assert solution.value_s <= per_device * (1 + 1e-9)
    full = best_s(problem, scopes.FULL)
    assert full is None or solution.full_bound_s <= full * (1 + 1e-9)
    if solution.scope == scopes.PIPELINES:
        assert solution.bound_s <= pipelines * (1 + 1e-9)
    elif solution.scope == scopes.STAGE_PER_DEVICE:
        assert solution.bound_s <= per_device * (1 + 1e-9)
    else:
        assert solution.scope == scopes.FULL


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_without_time_nothing_is_called_infeasible(seed: int) -> None:
    problem = replace(random_problem(seed, 5, 3), objective=Objective.THROUGHPUT)
    budget = Budget(0.0, value_s=lambda plan: value_of(problem, plan))
    try:
        Bottleneck()(problem, budget)
    except InfeasibleError:
        assert best_s(problem, scopes.STAGE_PER_DEVICE) == math.inf
    except PlanningError as error:
        assert error.field == "time_limit_s"  # noqa: PT017


def one_block(names: str) -> Problem:
    """Two chains side by side between an input and a join: no cut parts it in whole blocks."""
    tensors = {n: Tensor(n, 100) for n in ("x", "a1", "a2", "b1", "b2", "y")}
    reads = {"a1": ("x",), "b1": ("x",), "a2": ("a1",), "b2": ("b1",), "y": ("a2", "b2")}
    operators = tuple(Operator(t, "Any", r, (t,), memory_bytes=10) for t, r in reads.items())
    graph = Graph("side by side", operators, tensors, ("x",), ("y",))
    links = tuple(Link(a, b, 1e9, 0.0) for a, b in itertools.permutations(names, 2))
    cluster = Cluster(
        tuple(Device(n, "k", memory_bytes=30) for n in names), links, names[0], names[0]
    )
    cost = TableCost({"k": {op.name: 0.01 for op in operators}})
    return Problem(graph, cluster, cost, Objective.THROUGHPUT)


def test_plans_that_are_no_pipeline_are_found_where_none_is() -> None:
    problem = one_block("ab")
    assert best_pipeline(problem, Budget()) is None
    solution = solve(problem, "bottleneck")
    assert solution.value_s == pytest.approx(0.03, rel=1e-3)
    assert solution.proof == "optimal"
    assert solution.scope in (scopes.STAGE_PER_DEVICE, scopes.FULL)


def test_says_what_would_make_it_fit() -> None:
    graph, cost = graphs.chain(6)
    total = sum(op.memory_bytes for op in graph.operators)
    devices = tuple(Device(n, graphs.FAST, memory_bytes=total * 0.3) for n in "ab")
    links = tuple(Link(x, y, 1e7, 0.0) for x, y in itertools.permutations("ab", 2))
    problem = Problem(graph, Cluster(devices, links, "a", "a"), cost, Objective.THROUGHPUT)
    with pytest.raises(InfeasibleError, match="bytes"):
        solve(problem, "bottleneck")


def test_larger_graphs_claim_no_more_than_pipelines() -> None:
    """Too many down-sets for a proof: the bound for pipelines is said to be that."""
    graph, _ = graphs.layered(60, 1, width=8)
    cost = TableCost({"k": {op.name: 0.001 for op in graph.operators}})
    cluster = Cluster(
        tuple(Device(f"d{k}", "k") for k in range(4)),
        (),
        "d0",
        "d0",
        default_link=Link("", "", 1e7, 0.0),
    )
    problem = Problem(graph, cluster, cost, Objective.THROUGHPUT)
    solution = solve(problem, "bottleneck", time_limit_s=5.0)
    assert 0 < solution.full_bound_s <= solution.value_s
    if solution.proof == "optimal" and solution.scope == scopes.PIPELINES:
        assert len(solution.plan.stages) == len(solution.plan.devices)
