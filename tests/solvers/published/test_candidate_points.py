"""Candidate points against their published definition: alone at their depth, on every path."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.graph import Graph, Operator, Tensor
from cutset.plan import check_plan
from cutset.solvers.published.candidate_points import candidate_points, pipeline
from cutset.testing import graphs
from cutset.testing.problems import random_problem


def published(graph: Graph) -> list[int]:
    """Positions after operators that are alone at their depth and that no path bypasses."""
    depth = [0] * len(graph.operators)
    for i, before in enumerate(graph.predecessors):
        depth[i] = max((depth[j] + 1 for j in before), default=0)
    paths = [[i] for i, before in enumerate(graph.predecessors) if not before]
    whole = []
    while paths:
        path = paths.pop()
        after = graph.successors[path[-1]]
        paths += [[*path, i] for i in after]
        if not after:
            whole.append(set(path))
    on_all = set.intersection(*whole)
    return [i + 1 for i in sorted(on_all) if depth.count(depth[i]) == 1 and graph.successors[i]]


@pytest.mark.parametrize("kind", ["chain", "skip_connections", "series_parallel", "layered"])
@pytest.mark.parametrize("seed", range(6))
def test_points_are_the_published_ones(kind: str, seed: int) -> None:
    graph, _ = graphs.GENERATORS[kind](14, seed)
    assert list(candidate_points(graph).positions[1:-1]) == published(graph)


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_bytes_and_memory_are_those_of_the_graph(seed: int) -> None:
    problem = random_problem(seed)
    graph, points = problem.graph, candidate_points(problem.graph)
    for i, position in enumerate(points.positions):
        made = [t for t in graph.crossing(position) if t in graph.producers]
        assert points.crossing_bytes[i] == sum(graph.tensors[t].size_bytes for t in made)
        assert points.memory_bytes[i] == sum(o.memory_bytes for o in graph.operators[:position])
    ends = range(1, points.last + 1)
    names = [problem.cluster.source] * points.last
    check_plan(pipeline(graph, points, ends, names), graph, problem.cluster)


def test_a_small_side_tensor_is_paid_and_a_colocate_group_is_kept() -> None:
    def chain(groups: tuple[str | None, ...], mask_bytes: int = 1) -> Graph:
        operators = (
            Operator("a", "Any", ("x",), ("t", "mask"), colocate=groups[0]),
            Operator("b", "Any", ("t",), ("u",), colocate=groups[1]),
            Operator("c", "Any", ("u", "mask"), ("v",), colocate=groups[2]),
            Operator("d", "Any", ("v",), ("y",)),
        )
        sizes = {"x": 5, "t": 100, "mask": mask_bytes, "u": 30, "v": 40, "y": 1}
        tensors = {name: Tensor(name, size) for name, size in sizes.items()}
        return Graph("chain", operators, tensors, ("x",), ("y",))

    free = candidate_points(chain((None, None, None)))
    assert free.positions == (0, 1, 2, 3, 4)
    assert list(free.crossing_bytes) == [0, 101, 31, 40, 0]
    assert candidate_points(chain((None, None, None), 2)).positions == (0, 1, 3, 4)
    assert candidate_points(chain(("g", None, "g"))).positions == (0, 3, 4)


def test_reach_is_the_furthest_end_that_fits() -> None:
    graph, _ = graphs.chain(4)
    points = candidate_points(graph)
    exact = float(points.memory_bytes[3] - points.memory_bytes[1])
    assert points.reach(1, exact) == 3
    assert points.reach(1, exact - 1) == 2
    assert points.reach(1, -1) <= 1
