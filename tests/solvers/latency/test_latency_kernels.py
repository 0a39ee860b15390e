"""The compiled evaluator equals the evaluator; stages_of makes valid plans and loses nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.estimate import estimate
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, check_plan
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.arrays import Ints
from cutset.solvers.latency.latency_model import latency_model
from cutset.solvers.one_stage import value_of
from cutset.solvers.scheduling.stages_of import plan_of, stages_of
from cutset.solvers.two_way.two_stage import shape_of
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem

TOLERANCE = 1e-12


def arrays_of(problem: Problem, plan: Plan) -> tuple[Ints, Ints, Ints]:
    """Device and stage of each operator, and the order in which the plan lists them."""
    count = len(problem.graph.operators)
    names = [d.name for d in problem.cluster.devices]
    device, stage = np.zeros(count, np.int64), np.zeros(count, np.int64)
    order = []
    for s, listed in enumerate(plan.stages):
        for name in listed.operators:
            i = problem.graph.positions[name]
            device[i], stage[i] = names.index(listed.device), s
            order.append(i)
    return device, np.array(order, dtype=np.int64), stage


def equal(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def drawn(seed: int, objective: Objective, operators: int = 12) -> tuple[Problem, Plan]:
    problem = random_problem(seed, operators, 4)
    problem = Problem(problem.graph, problem.cluster, problem.cost, objective)
    return problem, random_plan(problem, seed)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**6), objective=st.sampled_from(tuple(Objective)))
def test_compiled_value_is_the_evaluators(seed: int, objective: Objective) -> None:
    from cutset.solvers.latency import latency_kernels as kernels

    problem, plan = drawn(seed, objective)
    device, order, stage = arrays_of(problem, plan)
    model = latency_model(problem)
    latency = objective is Objective.LATENCY
    found = kernels.value_s(model, device, order, stage, latency)
    if not kernels.memory_kept(model, device, stage):
        found = math.inf
    assert equal(found, value_of(problem, plan))
    assert plan_of(problem, device, order, stage) == plan


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ends_of_stages_are_the_evaluators(seed: int) -> None:
    from cutset.solvers.latency import latency_kernels as kernels

    problem, plan = drawn(seed, Objective.LATENCY)
    if math.isinf(value_of(problem, plan)):
        return
    device, order, stage = arrays_of(problem, plan)
    model = latency_model(problem)
    at, targets, _, _, linked = kernels.moves(model, device, order)
    assert linked
    found = kernels.timeline(model, device, order, stage, at, targets)
    scored = estimate(problem, plan)
    assert len(targets) == len(scored.transfers)
    assert all(equal(a, b.end_s) for a, b in zip(found[1], scored.stages, strict=True))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), objective=st.sampled_from(tuple(Objective)))
def test_stages_of_is_valid_and_joining_never_worse(seed: int, objective: Objective) -> None:
    problem, plan = drawn(seed, objective)
    device, order, _ = arrays_of(problem, plan)
    apart = stages_of(problem, device, order, effort=0)
    joined = stages_of(problem, device, order)
    check_plan(apart, problem.graph, problem.cluster)
    check_plan(joined, problem.graph, problem.cluster)
    assert len(joined.stages) <= len(apart.stages)
    assert value_of(problem, joined) <= value_of(problem, apart) * (1 + 1e-9)
    assert stages_of(problem, device, order) == joined


def test_stages_that_neither_send_nor_receive_on_the_way_cost_nothing() -> None:
    """As good as a stage for each operator, but for ties between transfers, which go by place."""
    from cutset.solvers.latency import latency_kernels
    from cutset.solvers.scheduling import stage_kernels

    equals = []
    for seed in range(300):
        problem, plan = drawn(seed, Objective.LATENCY)
        free = tuple(
            replace(d, stage_overhead_s=0.0, memory_bytes=math.inf) for d in problem.cluster.devices
        )
        problem = Problem(problem.graph, replace(problem.cluster, devices=free), problem.cost)
        device, order, _ = arrays_of(problem, plan)
        single = np.empty(len(order), np.int64)
        single[order] = np.arange(len(order))
        model = latency_model(problem)
        fine = latency_kernels.value_s(model, device, order, single, True)
        if math.isfinite(fine) and not shape_of(problem.graph).dead:
            equals.append(equal(stage_kernels.grouped_score(model, device, order, True), fine))
    assert len(equals) > 50
    assert sum(equals) >= 0.97 * len(equals)


def two_devices(overhead_s: float, memory: float = math.inf, stage_memory: int = 0) -> Problem:
    """x -> early (sent to b at once, read by far) ; late runs after early on a; join on a."""
    graph = Graph(
        "fork",
        (
            Operator("early", "Any", ("x",), ("e",), memory_bytes=10),
            Operator("late", "Any", ("e",), ("l",), memory_bytes=10),
            Operator("far", "Any", ("e",), ("f",), memory_bytes=10),
            Operator("end", "Any", ("l", "f"), ("y",), memory_bytes=10),
        ),
        {name: Tensor(name, 1000) for name in "xelfy"},
        ("x",),
        ("y",),
        stage_memory_bytes=stage_memory,
    )
    devices = (
        Device("a", "a", stage_overhead_s=overhead_s, memory_bytes=memory),
        Device("b", "b"),
    )
    cluster = Cluster(devices, (Link("a", "b", 8e6, 0.0), Link("b", "a", 8e6, 0.0)), "a", "a")
    cost = TableCost({kind: dict.fromkeys(graph.positions, 0.01) for kind in "ab"})
    return Problem(graph, cluster, cost)


@pytest.mark.parametrize(
    ("overhead_s", "stages"),
    [
        (0.0, [("early",), ("far",), ("late",), ("end",)]),
        (0.1, [("early", "late"), ("far",), ("end",)]),
    ],
)
def test_a_stage_ends_early_where_others_wait_unless_overheads_cost_more(
    overhead_s: float, stages: list[tuple[str, ...]]
) -> None:
    problem = two_devices(overhead_s)
    plan = stages_of(problem, [0, 0, 1, 0], [0, 1, 2, 3])
    assert sorted(s.operators for s in plan.stages) == sorted(stages)


def test_stages_are_joined_to_fit_memory() -> None:
    assert len(stages_of(two_devices(0.0), [0, 0, 1, 0], [0, 1, 2, 3]).stages) == 4
    tight = two_devices(0.0, memory=50, stage_memory=10)
    plan = stages_of(tight, [0, 0, 1, 0], [0, 1, 2, 3])
    assert math.isfinite(value_of(tight, plan))
    assert len(plan.stages) == 3


def test_an_exhausted_budget_ends_the_joining() -> None:
    budget = Budget(0.0)
    assert len(stages_of(two_devices(0.1), [0, 0, 1, 0], [0, 1, 2, 3], budget).stages) == 4
