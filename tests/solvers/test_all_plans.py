"""Enumerations of plans, against all topological orders cut into runs without any thought."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, check_plan
from cutset.problem import Objective, Problem
from cutset.solvers import scopes
from cutset.solvers.all_plans import placement_count, untiled_plans
from cutset.solvers.two_way.search import scope_of
from cutset.testing.plans import plans_of, random_plan, value_s
from cutset.testing.problems import random_problem

seeds = st.integers(0, 10**6)


def naive(problem: Problem) -> Iterator[Plan]:
    """Every list of stages in topological order, on every device, whatever comes of it."""
    graph = problem.graph
    everything = frozenset(range(len(graph.operators)))

    def extend(done: frozenset[int], stages: tuple[Stage, ...]) -> Iterator[Plan]:
        if done == everything:
            yield Plan(stages)
        left = sorted(everything - done)
        for count in range(1, len(left) + 1):
            for chosen in itertools.combinations(left, count):
                now = done | set(chosen)
                if all(j in now for i in chosen for j in graph.predecessors[i]):
                    operators = tuple(graph.operators[i].name for i in chosen)
                    for device in problem.cluster.devices:
                        stage = Stage(f"s{len(stages)}", device.name, operators)
                        yield from extend(now, (*stages, stage))

    return extend(frozenset(), ())


def values(problem: Problem, plans: Iterator[Plan]) -> list[float]:
    """The different values that plans have, in ascending order, to 12 digits."""
    found = {float(f"{value_s(problem, plan):.12g}") for plan in plans}
    return sorted(found - {math.inf})


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_latency_has_every_value_that_some_plan_has(seed: int) -> None:
    problem = replace(random_problem(seed, max_operators=4), objective=Objective.LATENCY)
    assert values(problem, untiled_plans(problem)) == values(problem, naive(problem))


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_throughput_has_the_best_value_of_each_placement(seed: int) -> None:
    problem = replace(random_problem(seed, max_operators=4), objective=Objective.THROUGHPUT)

    def best(plans: Iterator[Plan]) -> dict[frozenset[tuple[str, str]], float]:
        found: dict[frozenset[tuple[str, str]], float] = {}
        for plan in plans:
            value = value_s(problem, plan)
            where = frozenset((name, s.device) for s in plan.stages for name in s.operators)
            if value < math.inf:
                found[where] = min(float(f"{value:.12g}"), found.get(where, math.inf))
        return found

    assert best(untiled_plans(problem)) == best(naive(problem))


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_no_plan_comes_twice_and_all_are_valid(seed: int) -> None:
    problem = random_problem(seed, max_operators=5)
    seen = set()
    for plan in itertools.islice(untiled_plans(problem), 3000):
        check_plan(plan, problem.graph, problem.cluster)
        sequences: dict[str, list[frozenset[str]]] = {}
        for stage in plan.stages:
            sequences.setdefault(stage.device, []).append(frozenset(stage.operators))
        order = tuple((s.device, frozenset(s.operators)) for s in plan.stages)
        if len(problem.cluster.devices) <= 2:  # nothing but the order on each device counts
            seen_as = frozenset((d, tuple(parts)) for d, parts in sequences.items())
            assert seen_as not in seen
            seen.add(seen_as)
        assert order not in seen
        seen.add(order)
        assert value_s(problem, plan) < math.inf


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_random_plans_are_no_better(seed: int) -> None:
    problem = random_problem(seed, max_operators=6)
    if placement_count(problem) > 200:
        return
    plans = list(itertools.islice(untiled_plans(problem), 4000))
    if len(plans) == 4000:
        return
    best = min((value_s(problem, plan) for plan in plans), default=math.inf)
    for i in range(30):
        assert value_s(problem, random_plan(problem, i)) >= best * (1 - 1e-9)


def tied() -> Problem:
    """o0 on a and o1 on b end together and both send to c: who stands first, sends first."""
    graph = Graph(
        "tied",
        (
            Operator("o0", "Any", (), ("t0",)),
            Operator("o1", "Any", (), ("t1",)),
            Operator("o2", "Any", ("t0",), ("y0",)),
            Operator("o3", "Any", ("t1",), ("y1",)),
        ),
        {t: Tensor(t, 2000 if t == "t0" else 1000) for t in ("t0", "t1", "y0", "y1")},
        (),
        ("y0", "y1"),
    )
    devices = (Device("a", "a"), Device("b", "b"), Device("c", "c", ingress_bps=1e6))
    links = tuple(Link(x, y, 1e9, 0.0) for x, y in itertools.permutations("abc", 2))
    inf = math.inf
    seconds = {
        "a": {"o0": 0.01, "o1": inf, "o2": inf, "o3": inf},
        "b": {"o0": inf, "o1": 0.01, "o2": inf, "o3": inf},
        "c": {"o0": inf, "o1": inf, "o2": 0.01, "o3": 0.1},
    }
    return Problem(graph, Cluster(devices, links, "a", "c"), TableCost(seconds))


def test_the_order_across_devices_counts_where_transfers_tie() -> None:
    found = values(tied(), untiled_plans(tied()))
    assert found == values(tied(), naive(tied()))
    # 8 ms for t1 and 16 ms for t0 after it, while c runs the long o3; the best only with o1 listed
    # before o0, which ends at the same time.
    assert found[0] == pytest.approx(0.018 + 0.1 + 0.01)
    assert found[1] == pytest.approx(0.026 + 0.01 + 0.1)


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_scopes_hold_what_their_words_say(seed: int) -> None:
    problem = random_problem(seed, max_operators=4)
    everything = list(naive(problem))
    graph = problem.graph
    blocks = [{graph.operators[i].name for i in range(a, b)} for a, b in graph.blocks]

    def one_a_device(plan: Plan) -> bool:
        return len(plan.devices) == len(plan.stages)

    def of_blocks(plan: Plan) -> bool:
        return all(any(b <= set(s.operators) for s in plan.stages) for b in blocks)

    described = {
        scopes.FULL: everything,
        scopes.ONE_STAGE: [p for p in everything if len(p.stages) == 1],
        scopes.STAGE_PER_DEVICE: [p for p in everything if one_a_device(p)],
        scopes.PIPELINES: [p for p in everything if one_a_device(p) and of_blocks(p)],
        "plans of at most two stages": [
            p for p in everything if len(p.stages) <= 2 and one_a_device(p)
        ],
    }
    described[scope_of(problem)] = (
        described["plans of at most two stages"]
        if len(problem.cluster.devices) > 1
        else described[scopes.ONE_STAGE]
    )
    for scope, plans in described.items():
        listed = plans_of(problem, scope)
        assert listed is not None
        best = min((value_s(problem, p) for p in plans), default=math.inf)
        assert min((value_s(problem, p) for p in listed), default=math.inf) == pytest.approx(best)
    assert plans_of(problem, "plans that I like") is None
