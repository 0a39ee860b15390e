"""ties(): at the place that is named, the other plan is as good; before it, it is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import LoadedCost, TableCost
from cutset.errors import InvalidFileError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, check_plan
from cutset.planner import explained, flips, solve
from cutset.problem import Alternative, BreakEven, Objective, Problem
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.ties import AMONG, Ends, family_of, ties
from cutset.solvers.two_way.break_even import with_bandwidth
from cutset.testing import graphs
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem, two_stage_plans


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
    for flip in ties(problem, own, others).plan:
        assert flip.scope == AMONG
        towards = 1 / 1.001 if flip.below is not None else 1.001
        there, before = at(problem, flip, towards**0.01), at(problem, flip, 1 / towards)
        beyond = at(problem, flip, towards)
        named = min(
            (p for name, p in others if flip.then in (name, family_of(p))),
            key=lambda p: value_of(there, p),
        )
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
    found = ties(problem, plan, [("a alone", single_stage(problem, "a"))]).plan
    assert any(f.change.startswith("link:") and f.below is not None for f in found)
    assert any(f.change.endswith(".load") for f in found)
    assert {f.then for f in found} == {"a alone"}
    assert ties(problem, plan, [("a alone", single_stage(problem, "a"))]).plan == found


def test_the_golden_tie_of_a_link() -> None:
    problem, plan = three_devices()
    single = single_stage(problem, "a")
    found = ties(problem, plan, [("a alone", single)]).plan
    flip = next(f for f in found if f.change == "link:a>b")
    graph = problem.graph
    crossing = graph.operators[9].outputs[0]
    bits = 8 * graph.tensors[crossing].size_bytes
    assert flip.below == pytest.approx(bits / value_of(problem, single), rel=1e-3)


def test_the_same_plan_is_no_alternative() -> None:
    problem, plan = three_devices()
    renamed = Plan(tuple(replace(s, name=s.name + "'") for s in plan.stages))
    assert ties(problem, plan, [("itself", renamed)]) == Ends()
    assert ties(problem, plan, []) == Ends()


def test_the_tie_is_the_same_from_the_other_side() -> None:
    problem, plan = three_devices()
    single = ("a alone", single_stage(problem, "a"))
    at_tie = next(f for f in ties(problem, plan, [single]).plan if f.change == "link:a>b")
    assert at_tie.below is not None
    link = problem.cluster.link("a", "b")
    assert link is not None
    slowed = with_bandwidth(problem, link, at_tie.below / 3)
    found = ties(slowed, single[1], [("pipeline", plan)])
    flip = next(f for f in found.plan if (f.change, f.then) == ("link:a>b", "pipeline"))
    assert flip.above == pytest.approx(at_tie.below, rel=1e-3)
    verdict = next(f for f in found.verdict if f.change == "link:a>b")
    assert (verdict.then, verdict.above) == ("split", pytest.approx(at_tie.below, rel=1e-3))


def test_alternatives_of_a_solution_are_compared_with() -> None:
    problem, plan = three_devices()
    names = single_stage(problem, "a").stages[0].operators
    halves = Plan((Stage("s0", "a", names[:15]), Stage("s1", "b", names[15:])))
    solution = solve(problem, "single_device", explain=False)
    pipeline = replace(
        solution, plan=plan, alternatives=(Alternative("halves", "test", 1.0, plan=halves),)
    )
    found = explained(problem, pipeline)
    assert {f.then for f in found.stays_best if f.change == "device:c.load"} == {"halves"}
    assert {f.scope for f in found.stays_best} == {AMONG}
    # The verdict does not flip with that device: a and b can split it between them.
    assert not any(f.change == "device:c.load" for f in found.break_even)


def valid_plans(problem: Problem) -> list[Plan]:
    """Every plan of at most two stages that tears no colocate group apart."""
    found = []
    for plan in two_stage_plans(problem):
        try:
            check_plan(plan, problem.graph, problem.cluster)
        except InvalidFileError:
            continue
        found.append(plan)
    return found


@given(st.integers(0, 20_000))
@settings(deadline=None, max_examples=150)
def test_ends_agree_with_every_plan_of_two_stages(seed: int) -> None:
    problem = random_problem(seed, max_operators=5, max_devices=2)
    plans = valid_plans(problem)
    plan = min(plans, key=lambda p: value_of(problem, p))
    if math.isinf(value_of(problem, plan)):
        return
    solution = solve(problem, "envelope", explain=False)
    assert len(solution.plan.stages) <= 2
    ends = flips(problem, solution)

    def best(there: Problem, family: str | None = None) -> float:
        """The least of all, or of those that are not of this family."""
        kept = [p for p in plans if family is None or family_of(p) != family]
        return min((value_of(there, p) for p in kept), default=math.inf)

    family = family_of(solution.plan)
    for end in ends.plan:
        assert end.scope is None
        beyond = 1 / 1.02 if end.below is not None else 1.02
        before, behind = at(problem, end, 1 / beyond), at(problem, end, beyond)
        if today_is_between(problem, end, 1 / beyond):
            assert value_of(before, solution.plan) <= best(before) * (1 + 1e-6)
        assert best(behind) < value_of(behind, solution.plan)
        if end.then.endswith(" alone"):
            single = single_stage(problem, end.then.removesuffix(" alone"))
            near = at(problem, end, beyond**0.001)
            assert value_of(near, single) <= value_of(near, solution.plan)
    for flip in ends.verdict:
        beyond = 1 / 1.02 if flip.below is not None else 1.02
        before, behind = at(problem, flip, 1 / beyond), at(problem, flip, beyond)
        if today_is_between(problem, flip, 1 / beyond):
            assert min(value_of(before, p) for p in plans if family_of(p) == family) <= best(
                before, family
            ) * (1 + 1e-6)
        assert best(behind, family) <= best(behind) * (1 + 1e-6)
    for end in (*ends.plan, *ends.verdict):  # the plan is beaten no later than the verdict flips
        own = [e for e in ends.plan if e.change == end.change]
        assert own, "the verdict flips where the plan is not beaten"


def today_is_between(problem: Problem, end: BreakEven, factor: float) -> bool:
    """Whether `factor` times the end is still on today's side of it and not beyond today."""
    if end.change.startswith("link:"):
        start, _, name = end.change.removeprefix("link:").partition(">")
        link = problem.cluster.link(start, name)
        assert link is not None
        today = problem.bandwidth_bps(link)
    else:
        today = 1.0
    place = (end.below or end.above or 0.0) * factor
    return place < today if end.below is not None else place > today


def test_a_plan_is_beaten_by_another_cut_long_before_the_verdict_flips() -> None:
    """By hand: p[a] q[b, c] takes 48.4 ms, 8·load ms of it on q; p[a, b] q[c] 71.2, 3·load."""
    tensors = {"x": 500_000, "t1": 50_000, "t2": 2_000, "y": 1_000}
    operators = tuple(
        Operator(name, "Any", (read,), (made,))
        for name, read, made in (("a", "x", "t1"), ("b", "t1", "t2"), ("c", "t2", "y"))
    )
    graph = Graph(
        "ch", operators, {n: Tensor(n, size) for n, size in tensors.items()}, ("x",), ("y",)
    )
    cost = TableCost(
        {"p": {"a": 0.02, "b": 0.05, "c": 0.30}, "q": {"a": 0.002, "b": 0.005, "c": 0.003}}
    )
    cluster = Cluster(
        (Device("p", "p"), Device("q", "q")),
        (Link("p", "q", 2e7, 0.0), Link("q", "p", 2e7, 0.0)),
        "p",
        "p",
    )
    problem = Problem(graph, cluster, cost)
    solution = solve(problem)
    assert solution.value_s == pytest.approx(0.0484)
    load = "device:q.load"
    (own,) = (e for e in solution.stays_best if e.change == load)
    (flip,) = (e for e in solution.break_even if e.change == load)
    # 0.02 + 0.02 + 0.008·x + 0.0004 = 0.07 + 0.0008 + 0.003·x + 0.0004
    assert (own.then, own.scope) == ("another cut", None)
    assert own.above == pytest.approx((0.0712 - 0.0404) / 0.005, rel=1e-4)
    # 0.0712 + 0.003·x = 0.37
    assert (flip.then, flip.scope) == ("p alone", None)
    assert flip.above == pytest.approx((0.37 - 0.0712) / 0.003, rel=1e-4)


def test_a_graph_with_too_many_cuts_to_list_says_what_was_compared() -> None:
    graph, cost = graphs.layered(80, 2)
    problem = Problem(graph, graphs.two_devices(), cost)
    ends = flips(problem, solve(problem, "envelope", explain=False))
    found = (*ends.plan, *ends.verdict)
    assert found
    assert {end.scope for end in found} == {AMONG}


def test_when_time_is_over_what_is_known_until_then_counts() -> None:
    problem, plan = three_devices()
    rivals = [("a alone", single_stage(problem, "a"))]
    assert ties(problem, plan, rivals, over=lambda: True) == Ends()
    whole, asked = ties(problem, plan, rivals), iter(range(10**6))
    some = ties(problem, plan, rivals, over=lambda: next(asked) > 12)
    assert 0 < len(some.plan) + len(some.verdict) < len(whole.plan) + len(whole.verdict)
    assert {end.scope for end in (*some.plan, *some.verdict)} == {AMONG}
    solution = solve(problem, "single_device", explain=False)
    done = explained(problem, solution, [("split", plan)], until_s=0.0)
    assert (done.break_even, done.stays_best) == ((), ())
