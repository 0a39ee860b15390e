"""Problems of least latency, and what every solution of them must keep."""

from __future__ import annotations

import math

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import TOLERANCE, solve
from cutset.problem import Objective, Problem
from cutset.solvers import scopes
from cutset.solvers.all_plans import untiled_plans
from cutset.solvers.one_stage import value_of
from cutset.testing.problems import random_problem


def latency_problem(seed: int, operators: int = 4) -> Problem:
    found = random_problem(seed, max_operators=operators)
    return Problem(found.graph, found.cluster, found.cost, Objective.LATENCY)


def least_s(problem: Problem) -> float:
    return min((value_of(problem, plan) for plan in untiled_plans(problem)), default=math.inf)


def check(problem: Problem, best: float) -> bool:
    """No plan is below the bound, and a proof is right; whether there is one."""
    try:
        solution = solve(problem, "makespan")
    except InfeasibleError:
        return False
    assert solution.scope == scopes.FULL
    assert solution.bound_s <= best * (1 + TOLERANCE)
    assert solution.value_s >= best * (1 - TOLERANCE)
    return solution.proof == "optimal"


def diamond(branches: int, seconds: float = 0.010, size: int = 1000) -> Graph:
    """One operator, branches beside each other, one that joins them."""
    middle = [Operator(f"b{i}", "Any", ("t",), (f"u{i}",)) for i in range(branches)]
    ends = tuple(f"u{i}" for i in range(branches))
    return Graph(
        "diamond",
        (Operator("a", "Any", ("x",), ("t",)), *middle, Operator("z", "Any", ends, ("y",))),
        {name: Tensor(name, size) for name in ("x", "t", "y", *ends)},
        ("x",),
        ("y",),
    )


def helpers(
    graph: Graph,
    count: int,
    *,
    overhead_s: float = 0.0,
    bandwidth_bps: float = 8e6,
    **options: bool,
) -> Problem:
    """A source and sink with `count` devices that are all alike; 1 ms for 1000 bytes."""
    names = ["main", *(f"h{i}" for i in range(count))]
    seconds = {"k": {op.name: 0.010 for op in graph.operators}}
    cluster = Cluster(
        tuple(Device(name, "k", stage_overhead_s=overhead_s) for name in names),
        tuple(Link(a, b, bandwidth_bps, 0.0) for a in names for b in names if a != b),
        "main",
        "main",
        **options,
    )
    return Problem(graph, cluster, TableCost(seconds))
