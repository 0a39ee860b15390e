"""HEFT: the published example, and what it adds to it: links, memory, groups, the way home."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cutset import strategies
from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, UnsupportedProblemError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.latency.latency_model import latency_model
from cutset.solvers.one_stage import best_single, value_of
from cutset.solvers.scheduling.list_schedule import list_schedule, rank_order, value_s
from cutset.testing import graphs
from cutset.testing.problems import brute_force_s, random_problem

# Topcuoglu et al. 2002, figures 2 and 3: costs on three processors, and of the edges.
COSTS = {
    1: (14, 16, 9),
    2: (13, 19, 18),
    3: (11, 13, 19),
    4: (13, 8, 17),
    5: (12, 13, 10),
    6: (13, 16, 9),
    7: (7, 15, 11),
    8: (5, 11, 14),
    9: (18, 12, 20),
    10: (21, 7, 16),
}
EDGES = {
    (1, 2): 18,
    (1, 3): 12,
    (1, 4): 9,
    (1, 5): 11,
    (1, 6): 14,
    (2, 8): 19,
    (2, 9): 16,
    (3, 7): 23,
    (4, 8): 27,
    (4, 9): 23,
    (5, 9): 13,
    (6, 8): 15,
    (7, 10): 17,
    (8, 10): 11,
    (9, 10): 13,
}
RANKS = (108, 77, 80, 80, 69, 190 / 3, 128 / 3, 107 / 3, 133 / 3, 44 / 3)


def published() -> Problem:
    """A byte takes a second on every link; each edge is a tensor of its own."""
    operators = tuple(
        Operator(
            f"n{i}",
            "Any",
            tuple(f"e{a}_{b}" for a, b in EDGES if b == i),
            tuple(f"e{a}_{b}" for a, b in EDGES if a == i) or ("end",),
        )
        for i in COSTS
    )
    tensors = {f"e{a}_{b}": Tensor(f"e{a}_{b}", size) for (a, b), size in EDGES.items()}
    graph = Graph("heft", operators, {**tensors, "end": Tensor("end", 0)}, (), ("end",))
    kinds = ("p1", "p2", "p3")
    cost = TableCost(
        {k: {f"n{i}": float(row[j]) for i, row in COSTS.items()} for j, k in enumerate(kinds)}
    )
    devices = tuple(Device(k, k) for k in kinds)
    return Problem(graph, Cluster(devices, (), "p1", "p1", default_link=Link("", "", 8, 0)), cost)


def test_the_published_example_has_its_ranks_and_its_schedule_length() -> None:
    from cutset.solvers.scheduling import list_kernels as kernels

    model = latency_model(published())
    ranks = kernels.upward_ranks(model)
    assert ranks == pytest.approx(RANKS)
    device, start, end, stuck = kernels.schedule(
        model, rank_order(ranks), np.ones(3, np.bool_), model.memory_limit, False
    )
    assert stuck == -1
    assert end.max() == 80
    assert device.tolist() == [2, 0, 2, 1, 2, 1, 2, 0, 1, 1]
    assert (start[0], start[9]) == (0, 73)


def test_the_plan_of_the_published_example_pays_for_links_that_are_shared() -> None:
    solution = solve(published(), "heft")
    assert value_of(published(), solution.plan) == solution.value_s >= 80
    assert {s.device for s in solution.plan.stages} == {"p1", "p2", "p3"}
    assert solution.plan == solve(published(), "heft").plan


def fork(**kinds: float) -> Problem:
    """x -> a -> (b1, b2) -> c: two long branches between two short operators."""
    graph = Graph(
        "fork",
        (
            Operator("a", "Any", ("x",), ("ta",), memory_bytes=10),
            Operator("b1", "Any", ("ta",), ("t1",), memory_bytes=40),
            Operator("b2", "Any", ("ta",), ("t2",), memory_bytes=40),
            Operator("c", "Any", ("t1", "t2"), ("y",), memory_bytes=10),
        ),
        {name: Tensor(name, 1000) for name in ("x", "ta", "t1", "t2", "y")},
        ("x",),
        ("y",),
    )
    seconds = {"a": 0.01, "b1": 0.1, "b2": 0.1, "c": 0.01}
    cost = TableCost(
        {k: {n: s * factor for n, s in seconds.items()} for k, factor in kinds.items()}
    )
    devices = tuple(Device(k, k) for k in kinds)
    first = devices[0].name
    cluster = Cluster(devices, (), first, first, default_link=Link("", "", 1e7, 0.001))
    return Problem(graph, cluster, cost)


def test_branches_go_to_different_devices() -> None:
    plan = solve(fork(p=1, q=1), "heft").plan
    where = {name: s.device for s in plan.stages for name in s.operators}
    assert where == {"a": "p", "b1": "p", "b2": "q", "c": "p"}


def test_missing_links_restrict_where_operators_go() -> None:
    problem = fork(p=1, q=1, r=0.1)
    links = (Link("p", "q", 1e7, 0.001), Link("q", "p", 1e7, 0.001), Link("p", "r", 1e7, 0.001))
    cluster = replace(problem.cluster, default_link=None, links=links)
    plan = solve(replace(problem, cluster=cluster), "heft").plan
    assert plan.devices == ("p", "q")


def test_memory_limits_are_kept_or_named() -> None:
    problem = fork(p=1, q=1, r=1)

    def limited(memory: float) -> Problem:
        devices = tuple(replace(d, memory_bytes=memory) for d in problem.cluster.devices)
        return replace(problem, cluster=replace(problem.cluster, devices=devices))

    assert best_single(limited(60), required=False)[0] is None
    assert math.isfinite(value_of(limited(60), solve(limited(60), "heft").plan))
    with pytest.raises(InfeasibleError, match=r"1 bytes and 1 bytes short"):
        solve(limited(39), "heft")


def test_throughput_is_refused_by_name() -> None:
    problem = replace(fork(p=1), objective=Objective.THROUGHPUT)
    with pytest.raises(UnsupportedProblemError, match="'heft'"):
        solve(problem, "heft")


def test_colocated_operators_stay_together() -> None:
    problem = fork(p=1, q=1)
    operators = tuple(
        replace(op, colocate="g") if op.name in ("b1", "b2") else op
        for op in problem.graph.operators
    )
    problem = replace(problem, graph=replace(problem.graph, operators=operators))
    plan = solve(problem, "heft").plan
    where = {name: s.device for s in plan.stages for name in s.operators}
    assert where["b1"] == where["b2"]


@pytest.mark.parametrize("shape", sorted(graphs.GENERATORS))
def test_thousands_of_operators_on_fifty_devices(shape: str) -> None:
    graph, cost = graphs.GENERATORS[shape](5000, 1)
    devices = tuple(Device(f"d{i}", graphs.FAST if i % 3 else graphs.SLOW) for i in range(50))
    cluster = Cluster(devices, (), "d0", "d0", default_link=Link("", "", 1e9, 0.0003))
    problem = Problem(graph, cluster, cost)
    plan = strategies.load("heft")(problem, Budget()).plan
    schedule = list_schedule(problem, contended=False)
    assert value_of(problem, plan) <= value_s(problem, schedule) * (1 + 1e-9) < math.inf


def test_a_plan_is_found_wherever_some_two_stages_fit() -> None:
    found = 0
    for seed in range(300):
        problem = replace(random_problem(seed), objective=Objective.LATENCY)
        if math.isfinite(brute_force_s(problem)):
            assert math.isfinite(value_s(problem, list_schedule(problem, contended=True))), seed
            found += 1
    assert found > 200
