"""ties(): at the place that is named, the other plan is as good; before it, it is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cost import LoadedCost
from cutset.plan import Plan
from cutset.planner import flips, solve
from cutset.problem import Alternative, BreakEven, Objective, Problem
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.ties import AMONG, ties
from cutset.solvers.two_way.break_even import with_bandwidth
from cutset.testing import graphs
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem


def at(problem: Problem, flip: BreakEven, factor: float) -> Problem:
    """The problem at `factor` times the place of the break-even."""
    family, _, name = flip.change.partition(":")
    place = flip.below if flip.below is not None else flip.above
    assert place is not None
    place *= factor
    if family == "link":
        start, _, end = name.partition(">")
        link = problem.cluster.link(start, end)
        assert link is not None
        return with_bandwidth(problem, link, place)
    device, _, what = name.rpartition(".")
    load = place if what == "load" else 1 / place
    return replace(problem, cost=LoadedCost(problem.cost, {device: load}))


def best_of(plans: list[tuple[str, Plan]], problem: Problem) -> float:
    return min(value_of(problem, plan) for _, plan in plans)


@given(st.integers(0, 5_000))
@settings(deadline=None, max_examples=80)
def test_at_a_tie_another_plan_is_as_good_and_just_before_it_is_not(seed: int) -> None:
    problem = random_problem(seed)
    plans = [(str(i), random_plan(problem, seed + i)) for i in range(4)]
    plans.sort(key=lambda plan: value_of(problem, plan[1]))
    own, others = plans[0][1], plans[1:]
    for flip in ties(problem, own, others):
        assert flip.scope == AMONG
        towards = 1 / 1.001 if flip.below is not None else 1.001
        there, before = at(problem, flip, towards**0.01), at(problem, flip, 1 / towards)
        beyond = at(problem, flip, towards)
        named = dict(others)[flip.then]
        assert value_of(there, named) <= value_of(there, own) * (1 + 1e-3)
        assert value_of(before, own) <= best_of(others, before) * (1 + 1e-9)
        assert math.isfinite(value_of(beyond, named))


def three_devices() -> tuple[Problem, Plan]:
    """A pipeline of three equal devices over fast links, for throughput."""
    graph, cost = graphs.chain(30, 1)
    two = graphs.two_devices(bandwidth_bps=1e10, latency_s=0.0)
    devices = tuple(replace(two.devices[1], name=n) for n in ("a", "b", "c"))
    links = tuple(
        replace(two.links[0], source=x.name, target=y.name)
        for x in devices
        for y in devices
        if x is not y
    )
    cluster = replace(two, devices=devices, links=links, source="a", sink="a")
    problem = Problem(graph, cluster, cost, Objective.THROUGHPUT)
    whole = single_stage(problem, "a").stages[0]
    names = whole.operators
    parts = (names[:10], names[10:20], names[20:])
    stages = tuple(
        replace(whole, name=f"s{i}", device=d.name, operators=part)
        for i, (d, part) in enumerate(zip(devices, parts, strict=True))
    )
    return problem, Plan(stages)


def test_a_pipeline_of_three_has_break_evens_against_the_best_single_device() -> None:
    problem, plan = three_devices()
    found = ties(problem, plan, [("a alone", single_stage(problem, "a"))])
    assert any(f.change.startswith("link:") and f.below is not None for f in found)
    assert any(f.change.endswith(".load") for f in found)
    assert {f.then for f in found} == {"a alone"}
    assert ties(problem, plan, [("a alone", single_stage(problem, "a"))]) == found


def test_the_golden_tie_of_a_link() -> None:
    problem, plan = three_devices()
    single = single_stage(problem, "a")
    found = ties(problem, plan, [("a alone", single)])
    flip = next(f for f in found if f.change == "link:a>b")
    graph = problem.graph
    crossing = graph.operators[9].outputs[0]
    bits = 8 * graph.tensors[crossing].size_bytes
    assert flip.below == pytest.approx(bits / value_of(problem, single), rel=1e-3)


def test_the_same_plan_is_no_alternative() -> None:
    problem, plan = three_devices()
    renamed = Plan(tuple(replace(s, name=s.name + "'") for s in plan.stages))
    assert ties(problem, plan, [("itself", renamed)]) == ()
    assert ties(problem, plan, []) == ()


def test_alternatives_of_a_solution_are_compared_with() -> None:
    problem, plan = three_devices()
    single = ("a alone", single_stage(problem, "a"))
    at_tie = next(f for f in ties(problem, plan, [single]) if f.change == "link:a>b")
    assert at_tie.below is not None
    link = problem.cluster.link("a", "b")
    assert link is not None
    slowed = with_bandwidth(problem, link, at_tie.below / 3)
    solution = solve(slowed, "single_device")
    assert not any(f.then == "pipeline" for f in solution.break_even)
    pipeline = Alternative("pipeline", "test", value_of(slowed, plan), plan=plan)
    found = flips(slowed, replace(solution, alternatives=(pipeline,)))
    flip = next(f for f in found if (f.change, f.then) == ("link:a>b", "pipeline"))
    assert flip.above == pytest.approx(at_tie.below, rel=1e-3)
