"""Throughput on any graph, against every placement of small problems with all corners."""

import functools
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, PlanningError
from cutset.estimate import estimate
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, check_plan
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo, check_memory
from cutset.solvers import scopes
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.one_stage import best_single, value_of
from cutset.solvers.throughput.assignment_bound import assignment_bound_s
from cutset.solvers.throughput.dag_pipeline import best_dag_plan
from cutset.solvers.throughput.ideals import all_ideals, family, prefixes
from cutset.solvers.throughput.merging import convex, together
from cutset.solvers.throughput.period_kernels import acyclic, busy
from cutset.solvers.throughput.period_model import period_model, placement_plan
from cutset.testing import graphs
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem

SEEDS = st.integers(0, 10**6)


def throughput(seed: int, operators: int = 7, devices: int = 4) -> Problem:
    return replace(random_problem(seed, operators, devices), objective=Objective.THROUGHPUT)


def placements(problem: Problem) -> Iterator[np.ndarray]:
    """Every device for every colocate group or operator."""
    unit = together(problem)
    for choice in itertools.product(range(len(problem.cluster.devices)), repeat=unit.max() + 1):
        yield np.array(choice, dtype=np.int64)[unit]


def runs(graph: Graph, placed: tuple[int, ...]) -> Iterator[tuple[tuple[int, frozenset[int]], ...]]:
    """Every listing of a placement whose stages take all they can: none needs more of these."""

    def extend(done: frozenset[int]) -> Iterator[tuple[tuple[int, frozenset[int]], ...]]:
        if len(done) == len(placed):
            yield ()
        for d in sorted(set(placed)):
            run: frozenset[int] = frozenset()
            for i, e in enumerate(placed):
                if e == d and i not in done and set(graph.predecessors[i]) <= done | run:
                    run |= {i}
            if run:
                for rest in extend(done | run):
                    yield ((d, run), *rest)

    yield from extend(frozenset())


@functools.cache
def least(seed: int) -> tuple[float, float]:
    """The least period of all plans of one stage a device, and of all untiled plans."""
    problem = throughput(seed, 5, 3)
    per_device = untiled = math.inf
    for placement in placements(problem):
        placed = tuple(int(d) for d in placement)
        for listing in runs(problem.graph, placed):
            value = value_of(problem, plan_of(problem, listing))
            untiled = min(untiled, value)
            if len({d for d, _ in listing}) == len(listing):
                per_device = min(per_device, value)
    return per_device, untiled


def plan_of(problem: Problem, listing: tuple[tuple[int, frozenset[int]], ...]) -> Plan:
    return Plan(
        tuple(
            Stage(
                f"s{k}",
                problem.cluster.devices[d].name,
                tuple(problem.graph.operators[i].name for i in sorted(run)),
            )
            for k, (d, run) in enumerate(listing)
        )
    )


@dataclass(frozen=True)
class Dag:
    """best_dag_plan as a strategy."""

    info: ClassVar[StrategyInfo] = StrategyInfo(
        frozenset({Objective.THROUGHPUT}), scopes.STAGE_PER_DEVICE, ""
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return best_dag_plan(problem, budget)


@given(SEEDS)
@settings(max_examples=300, deadline=None)
def test_compiled_period_is_the_evaluators(seed: int) -> None:
    problem = throughput(seed)
    model = period_model(problem)
    out = np.empty((3, len(problem.cluster.devices)))
    index = {d.name: k for k, d in enumerate(problem.cluster.devices)}
    for k in range(6):
        plan = random_plan(problem, 10 * seed + k)
        device = {name: index[s.device] for s in plan.stages for name in s.operators}
        placement = np.array([device[op.name] for op in problem.graph.operators])
        made = placement_plan(problem, placement)
        check_plan(made, problem.graph, problem.cluster)
        whole = len(made.stages) == len(made.devices)
        assert whole == acyclic(model, placement)
        period = busy(model, placement, True, out)
        for listed in (made, plan):
            value = value_of(problem, listed)
            assert value >= period * (1 - 1e-12)
            if len(listed.stages) == len(listed.devices):
                assert value == pytest.approx(period, rel=1e-12, abs=0)
        if math.isfinite(period) and whole:
            scored = estimate(problem, made)
            check_memory(problem, scored.memory_bytes)
            for row, family_ in enumerate(("device", "egress", "ingress")):
                for d, name in enumerate(index):
                    wanted = scored.busy_s.get(f"{family_}:{name}", 0.0)
                    assert out[row, d] == pytest.approx(wanted, rel=1e-12, abs=1e-15)


@given(SEEDS)
@settings(max_examples=200, deadline=None)
@example(257)
@example(1200)
def test_one_stage_a_device_is_solved(seed: int) -> None:
    problem = throughput(seed)
    model = period_model(problem)
    out = np.empty((3, len(problem.cluster.devices)))
    best = placed = math.inf
    for placement in placements(problem):
        period = busy(model, placement, True, out)
        placed = min(placed, period)
        if period < best and acyclic(model, placement):
            best = period
    try:
        solution = solve(problem, Dag())
    except InfeasibleError:
        assert best == math.inf
        return
    value = solution.value_s
    assert solution.proof == "optimal"
    assert placed * (1 - 1e-12) <= value <= best * (1 + 1e-9)
    assert solution.bound_s <= best * (1 + 1e-9)
    if solution.scope == scopes.STAGE_PER_DEVICE:
        assert len(solution.plan.stages) > len(solution.plan.devices) or value >= best * (1 - 1e-9)
    again = solve(problem, Dag())
    assert (again.plan, again.bound_s) == (solution.plan, solution.bound_s)


@given(SEEDS)
@settings(max_examples=120, deadline=None)
def test_bounds_on_all_untiled_plans(seed: int) -> None:
    problem = throughput(seed, 5, 3)
    per_device, untiled = least(seed)
    single = best_single(problem, required=False)[1]
    for known in {math.inf, single, untiled * 1.3, untiled}:
        if known < untiled:
            continue
        assert full_bound_s(problem, known) <= untiled * (1 + 1e-9)
        assert assignment_bound_s(problem, Budget(), known) <= untiled * (1 + 1e-9)
        assert assignment_bound_s(problem, Budget(), known, nodes=1) <= untiled * (1 + 1e-9)
    try:
        solution = solve(problem, Dag())
    except InfeasibleError:
        assert per_device == math.inf
        return
    if solution.scope == scopes.FULL:
        assert solution.bound_s <= untiled * (1 + 1e-9)
        if solution.proof == "optimal":
            assert solution.value_s <= untiled * (1 + 1e-9)
    assert solution.value_s >= untiled * (1 - 1e-9)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_few_down_sets_or_nodes_leave_an_honest_gap(seed: int) -> None:
    problem = throughput(seed)
    try:
        full = solve(problem, Dag())
    except InfeasibleError:
        return
    several = len(full.plan.stages) > len(full.plan.devices)
    for limits in ({"max_ideals": 1}, {"rounds": (1,), "kicks": 0}, {"nodes": 0}):
        try:
            proposal = best_dag_plan(problem, Budget(), **limits)  # type: ignore[arg-type]
        except InfeasibleError:
            assert several, limits  # there is none of one stage a device
            continue
        except PlanningError as error:
            assert "ended before it found a plan" in str(error), limits  # noqa: PT017
            continue
        value = value_of(problem, proposal.plan)
        assert value >= full.value_s * (1 - 1e-9) or full.scope != scopes.FULL
        if proposal.scope == scopes.FULL or not several:
            assert proposal.bound_s <= full.value_s * (1 + 1e-9)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_down_sets_are_all_there(seed: int) -> None:
    problem = throughput(seed)
    graph = problem.graph
    unit = convex(problem, together(problem))
    ideals, complete = all_ideals(problem, unit, 10**6)
    masks = {
        mask
        for mask in range(1 << len(graph.operators))
        if all(
            not mask >> i & 1 or not graph.ancestors[i] & ~mask for i in range(len(graph.operators))
        )
        and all(
            (mask >> i & 1) == (mask >> j & 1)
            for i in range(len(unit))
            for j in range(i)
            if unit[i] == unit[j]
        )
    }
    assert complete
    assert len(ideals) == len(set(ideals))
    assert set(ideals) == masks
    assert set(prefixes(problem, unit, 20)) <= masks
    assert len(prefixes(problem, unit, 3)) <= 5
    arrays = family(problem, ideals)
    model = period_model(problem)
    for k, row in enumerate(arrays.member):
        done = {i for i, inside in enumerate(row) if inside}
        live = set(arrays.live[arrays.live_at[k] : arrays.live_at[k + 1]])
        wanted = {
            t
            for t, p in enumerate(model.producer)
            if (p < 0 or p in done)
            and set(model.readers[model.readers_at[t] : model.readers_at[t + 1]]) - done
        }
        assert live == wanted


def pipeline(names: str, count: int = 6, link_bps: float = 1e9) -> Problem:
    """A chain of equal operators on equal devices."""
    tensors = {f"t{i}": Tensor(f"t{i}", 1000) for i in range(count + 1)}
    operators = tuple(
        Operator(f"o{i}", "Any", (f"t{i}",), (f"t{i + 1}",), memory_bytes=10) for i in range(count)
    )
    graph = Graph("chain", operators, tensors, ("t0",), (f"t{count}",))
    cluster = Cluster(
        tuple(Device(n, "k") for n in names),
        (),
        names[0],
        names[0],
        default_link=Link("", "", link_bps, 0.0),
    )
    cost = TableCost({"k": {op.name: 0.01 for op in operators}})
    return Problem(graph, cluster, cost, Objective.THROUGHPUT)


def test_equal_devices_share_a_chain() -> None:
    solution = solve(pipeline("abc"), Dag())
    assert solution.value_s == pytest.approx(0.02)
    assert (solution.proof, solution.scope) == ("optimal", scopes.FULL)
    assert len(solution.plan.stages) == 3


def test_slow_links_prove_that_nothing_is_split() -> None:
    problem = pipeline("abc", link_bps=1e5)
    assert full_bound_s(problem, 0.06) == pytest.approx(0.06)
    solution = solve(problem, "single_device")
    assert (solution.proof, solution.scope) == ("optimal", scopes.FULL)


def test_branches_run_on_several_devices() -> None:
    """Two branches between a fork and a join: halves of the chain would cut both."""
    sizes = {"x": 10, "f": 10, "a1": 4_000_000, "b1": 4_000_000, "a2": 10, "b2": 10, "y": 10}
    reads = {"f": ("x",), "a1": ("f",), "b1": ("f",), "a2": ("a1",), "b2": ("b1",)}
    operators = tuple(Operator(t, "Any", r, (t,)) for t, r in reads.items())
    operators += (Operator("y", "Any", ("a2", "b2"), ("y",)),)
    graph = Graph("fork", operators, {n: Tensor(n, s) for n, s in sizes.items()}, ("x",), ("y",))
    cluster = Cluster(
        (Device("p", "k"), Device("q", "k")),
        (Link("p", "q", 1e8, 0.0), Link("q", "p", 1e8, 0.0)),
        "p",
        "p",
    )
    cost = TableCost({"k": {op.name: 0.0 if op.name in "fy" else 0.01 for op in operators}})
    problem = Problem(graph, cluster, cost, Objective.THROUGHPUT)
    solution = solve(problem, Dag())
    assert solution.value_s == pytest.approx(0.02)
    assert solution.proof == "optimal"
    placed = {name: s.device for s in solution.plan.stages for name in s.operators}
    assert placed["a1"] == placed["a2"] != placed["b1"] == placed["b2"]


@pytest.mark.parametrize("name", ["skip_connections", "series_parallel", "layered"])
def test_larger_graphs_within_limits(name: str) -> None:
    graph, _ = graphs.GENERATORS[name](40, 3)
    rng = random.Random(name)
    cost = TableCost(
        {
            kind: {op.name: rng.uniform(0.5, 1.5) / speed for op in graph.operators}
            for kind, speed in (("slow", 100), ("fast", 400))
        }
    )
    total = sum(op.memory_bytes for op in graph.operators)
    cluster = Cluster(
        tuple(
            Device(f"d{k}", "fast" if k % 3 else "slow", memory_bytes=total / 3) for k in range(5)
        ),
        (),
        "d0",
        "d4",
        default_link=Link("", "", 1e9, 0.001),
    )
    problem = Problem(graph, cluster, cost, Objective.THROUGHPUT)
    solution = solve(problem, Dag())
    assert solution.verdict is not None
    assert solution.verdict.best_single_device is None
    assert solution.gap < 1e-9 or solution.scope == scopes.FULL
    assert solution.value_s >= load_share(problem)
    assert solve(problem, Dag()).plan == solution.plan


def load_share(problem: Problem) -> float:
    """All operators where they are fastest, spread evenly."""
    rows = [problem.compute_s(d.name) for d in problem.cluster.devices]
    return math.fsum(map(min, zip(*rows, strict=True))) / len(rows)


def test_ends_when_time_is_up() -> None:
    graph, _ = graphs.layered(300, 1, width=12)
    cost = TableCost({"k": {op.name: 0.001 for op in graph.operators}})
    cluster = Cluster(
        tuple(Device(f"d{k}", "k") for k in range(6)),
        (),
        "d0",
        "d0",
        default_link=Link("", "", 1e10, 0.0),
    )
    problem = Problem(graph, cluster, cost, Objective.THROUGHPUT)
    budget = Budget(0.0, value_s=lambda plan: value_of(problem, plan))
    proposal = best_dag_plan(problem, budget)
    assert value_of(problem, proposal.plan) <= 0.3 * (1 + 1e-9)
    assert 0 < proposal.bound_s <= 0.3
    assert budget.best is not None
