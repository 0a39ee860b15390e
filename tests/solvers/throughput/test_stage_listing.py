"""Stages of a placement, against every listing of it."""

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.plan import check_plan
from cutset.problem import Problem
from cutset.solvers.throughput.merging import together
from cutset.solvers.throughput.stage_listing import listed_plan, listing, most_stages
from cutset.testing.problems import random_problem


def counts(problem: Problem, placed: list[int]) -> set[tuple[int, ...]]:
    """Stages by device of every way to cut every topological order into runs of one device."""
    graph = problem.graph
    devices = len(problem.cluster.devices)
    found = set()
    for order in itertools.permutations(range(len(placed))):
        at = {i: k for k, i in enumerate(order)}
        if any(at[j] > at[i] for i, before in enumerate(graph.predecessors) for j in before):
            continue
        runs = [d for d, _ in itertools.groupby(placed[i] for i in order)]
        found.add(tuple(runs.count(d) for d in range(devices)))
    return found


@given(st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_finds_a_listing_where_there_is_one(seed: int) -> None:
    problem = random_problem(seed, 5, 3)
    unit = together(problem)
    rng = np.random.default_rng(seed)
    choice = rng.integers(0, len(problem.cluster.devices), int(unit.max()) + 1)
    placed = [int(choice[u]) for u in unit]
    possible = counts(problem, placed)
    for most in itertools.product((0, 1, 2), repeat=len(problem.cluster.devices)):
        wanted = any(all(n <= m for n, m in zip(c, most, strict=True)) for c in possible)
        found, certain = listing(problem, placed, most)
        assert certain
        assert (found is not None) == wanted
        if found is not None:
            plan = listed_plan(problem, found)
            check_plan(plan, problem.graph, problem.cluster)
            used = [sum(d == k for d, _ in found) for k in range(len(most))]
            assert all(u <= m for u, m in zip(used, most, strict=True))
    assert listing(problem, placed, [math.inf] * len(problem.cluster.devices), looks=0)[1] is False


def test_how_many_stages_a_device_can_have() -> None:
    assert most_stages(0.5, 0.25, 1.0, 10.0, 5.0, 100.0) == 3  # 0.5, 0.75, 1.0 seconds
    assert most_stages(0.5, 0.0, 1.0, 10.0, 5.0, 21.0) == 2
    assert most_stages(0.5, 0.25, math.inf, 10.0, 0.0, 21.0) == math.inf
    assert most_stages(0.5, 0.25, 1.0, 30.0, 5.0, 21.0) < 1
