"""Boxes of a picture: every operator in one, on its device, few enough, from left to right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.page.groups import DETAIL, OVERVIEW, Limits, edges, groups
from cutset.page.timeline import ticks
from cutset.plan import Plan, Stage, check_plan
from cutset.testing import graphs
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_boxes_are_a_partition_by_device(seed: int, most: int) -> None:
    problem = random_problem(seed)
    plan = random_plan(problem, seed)
    device_of = {name: s.device for s in plan.stages for name in s.operators}
    boxes = groups(problem.graph, plan, Limits(most, most, most))
    assert sorted(i for box in boxes for i in box.operators) == list(
        range(len(problem.graph.operators))
    )
    for box in boxes:
        assert {device_of[problem.graph.operators[i].name] for i in box.operators} == {box.device}
        assert box.layer >= 0
    assert len({(b.operators) for b in boxes}) == len(boxes)
    assert len(boxes) <= max(most, len(plan.devices))


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=100)
def test_fine_boxes_are_drawn_from_left_to_right(seed: int) -> None:
    problem = random_problem(seed)
    plan = random_plan(problem, seed)
    boxes = groups(problem.graph, plan, DETAIL)
    assert len(boxes) == len(problem.graph.operators)
    for a, b in edges(problem.graph, boxes):
        assert boxes[a].layer < boxes[b].layer


def pipeline(stages: int) -> tuple[graphs.Graph, Plan]:
    graph, _ = graphs.series_parallel(400, 3)
    blocks = graph.blocks
    share = len(blocks) // stages
    edges_at = [0, *(blocks[i * share][0] for i in range(1, stages)), len(graph.operators)]
    names = [op.name for op in graph.operators]
    plan = Plan(
        tuple(
            Stage(f"s{i}", f"d{i}", tuple(names[edges_at[i] : edges_at[i + 1]]))
            for i in range(stages)
        )
    )
    check_plan(plan, graph)
    return graph, plan


@pytest.mark.parametrize("stages", [1, 2, 7, 14])
def test_a_pipeline_is_a_box_a_stage(stages: int) -> None:
    graph, plan = pipeline(stages)
    boxes = groups(graph, plan, OVERVIEW)
    assert [box.layer for box in boxes] == list(range(stages))
    assert set(edges(graph, boxes)) == {(i, i + 1) for i in range(stages - 1)}


def test_round_ticks() -> None:
    assert ticks(0.144) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14])
    assert ticks(3.0) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3])
    assert ticks(0.0) == [0.0]
    assert all(2 <= len(ticks(1.37**i * 1e-6)) <= 9 for i in range(60))
