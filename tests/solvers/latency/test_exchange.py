"""Devices that are alike take each other's place: no plan is lost by trying one of them."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from latency_cases import check, diamond, helpers, least_s

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.planner import solve
from cutset.problem import Budget, Problem
from cutset.solvers.arrays import cluster_arrays
from cutset.solvers.latency.block_search import BlockSearch
from cutset.solvers.latency.exchange import renamings
from cutset.solvers.latency.latency_blocks import latency_blocks

seeds = st.integers(0, 10**6)


@pytest.mark.parametrize("multicast", [False, True])
@pytest.mark.parametrize("overhead_s", [0.0, 0.0005])
def test_like_devices_are_not_tried_twice(multicast: bool, overhead_s: float) -> None:
    problem = helpers(diamond(2), 3, overhead_s=overhead_s, multicast=multicast)
    best = least_s(problem)
    solution = solve(problem, "makespan")
    assert solution.value_s == pytest.approx(best, rel=1e-9)
    assert solution.proof == "optimal"


def exchangeable(seed: int) -> Problem:
    """Two devices alike, and one that is not stands between them by name."""
    rng = random.Random(seed)
    graph = diamond(2)
    if rng.random() < 0.5:  # the first operator's readers read the request instead
        graph = replace(
            graph,
            operators=(
                *(replace(op, inputs=("x",)) for op in graph.operators[1:3]),
                graph.operators[3],
            ),
        )
    seconds = {
        kind: {op.name: rng.choice((0.001, 0.004, 0.01)) for op in graph.operators}
        for kind in "skl"
    }
    kinds = {"main": "s", "h0": "k", "h1": "l", "h2": "k"}
    overhead_s = rng.choice((0.0, 0.0005))
    near = rng.choice((1e6, 8e6, 3e7))
    far = rng.choice((1e6, 8e6, 3e7))
    cluster = Cluster(
        tuple(Device(name, kind, stage_overhead_s=overhead_s) for name, kind in kinds.items()),
        tuple(
            Link(a, b, far if "h1" in (a, b) else near, 0.0) for a in kinds for b in kinds if a != b
        ),
        "main",
        "main",
        multicast=rng.random() < 0.2,
    )
    return Problem(graph, cluster, TableCost(seconds))


@given(seeds)
@example(37)
@example(127)
@settings(max_examples=15, deadline=None)
def test_bounds_hold_for_devices_that_are_exchanged(seed: int) -> None:
    problem = exchangeable(seed)
    check(problem, least_s(problem))


@pytest.mark.parametrize("seed", [37, 127])
def test_names_by_which_devices_are_exchanged_close_a_cell(seed: int) -> None:
    """Of two devices alike, that one runs a branch by whose name its input comes in time."""
    problem = exchangeable(seed)
    cluster = cluster_arrays(problem)
    until = np.where(np.arange(4) == cluster.source, 0.0, np.inf)
    for block in latency_blocks(problem.graph):
        seconds = np.zeros((block.count, 4))
        real = block.real > 0
        seconds[real] = cluster.compute_s.T[np.array(block.positions)[real]]
        if block.last:
            seconds[-1] = np.where(np.arange(4) == cluster.sink, 0.0, np.inf)
        search = BlockSearch(block, cluster, seconds)
        for d, e in zip(*np.nonzero(np.isfinite(search.low)), strict=True):
            search.solve(int(d), int(e), math.inf, Budget(), 10_000)
            assert search.solved(int(d), int(e))
        until = (until[:, None] + search.high).min(axis=0)
    assert until[cluster.sink] == pytest.approx(least_s(problem), rel=1e-9)


def test_names_are_exchanged_in_every_order_that_they_can_take() -> None:
    """Devices 0, 2 and 4 are alike; 1 and 3 are themselves. All orders of any three of them."""
    rank, alone = np.arange(5), np.arange(5)
    alike = np.array([0, 1, 0, 3, 0])
    for used in itertools.combinations(range(5), 3):
        together = np.zeros((5, 5), dtype=np.bool_)
        together[np.ix_(used, used)] = True
        np.fill_diagonal(together, False)
        found = renamings((alone, alike), rank, used, together)
        assert found is not None
        assert found[0].tolist() == list(range(5))
        orders = {tuple(np.argsort([to[i] for i in used])) for to in found}
        assert len(orders) == len(found)
        possible = {
            tuple(np.argsort(to))
            for to in itertools.permutations(range(5), 3)
            if all(alike[i] == alike[y] for i, y in zip(used, to, strict=True))
        }
        assert orders == possible
