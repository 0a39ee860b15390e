"""The least latency over many devices, against every plan of tiny problems."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, UnsupportedProblemError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import TOLERANCE, solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers import scopes
from cutset.solvers.all_plans import untiled_plans
from cutset.solvers.arrays import cluster_arrays
from cutset.solvers.latency import latency_blocks as blocks_module
from cutset.solvers.latency import makespan as makespan_module
from cutset.solvers.latency.block_search import BlockSearch
from cutset.solvers.latency.exchange import renamings
from cutset.solvers.latency.latency_blocks import latency_blocks
from cutset.solvers.latency.makespan import makespan
from cutset.solvers.one_stage import value_of
from cutset.testing import graphs
from cutset.testing.problems import random_problem

seeds = st.integers(0, 10**6)


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


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_no_plan_is_below_the_bound(seed: int) -> None:
    problem = latency_problem(seed)
    check(problem, least_s(problem))


def test_most_tiny_problems_are_proven() -> None:
    proven = 0
    for seed in range(40):
        problem = latency_problem(seed, 3)
        proven += check(problem, least_s(problem))
    assert proven >= 30


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_regions_bound_large_blocks(seed: int) -> None:
    """Small blocks treated as large ones are: bounded by regions, then searched."""
    problem = latency_problem(seed)
    best = least_s(problem)
    large = blocks_module.LARGE
    blocks_module.LARGE = 2
    try:
        check(problem, best)
    finally:
        blocks_module.LARGE = large


@given(seeds)
@settings(max_examples=80, deadline=None)
def test_bounds_hold_whatever_is_left_out_as_beside(seed: int) -> None:
    """Side tensors of any size, and side operators of any weight."""
    problem = latency_problem(seed)
    best = least_s(problem)
    side = blocks_module.SIDE
    blocks_module.SIDE = 0
    try:
        check(problem, best)
    finally:
        blocks_module.SIDE = side


def masked(layers: int) -> Graph:
    """Layers in a row that all read one mask, and the end one that is made of it late."""

    def op(name: str, *reads: str) -> Operator:
        return Operator(name, "Any", reads, (f"t{name}",))

    operators = [op("mask", "m"), op("0", "x", "tmask")]
    for i in range(1, layers):
        operators += [op(f"{i}a", f"t{operators[-1].name}"), op(str(i), f"t{i}a", "tmask")]
    operators += [op("late", "m"), op("end", f"t{operators[-1].name}", "tlate")]
    names = ("x", "m", *(f"t{o.name}" for o in operators))
    small = ("m", "tmask", "tlate")
    sizes = {n: Tensor(n, 10 if n in small else 20_000) for n in names}
    return Graph("masked", tuple(operators), sizes, ("x", "m"), ("tend",))


def test_a_mask_hides_no_articulation() -> None:
    graph = masked(6)
    assert max(b.count for b in latency_blocks(graph)) <= 4
    positions = {i for b in latency_blocks(graph) for i in b.positions}
    assert graph.positions["late"] not in positions
    problem = helpers(graph, 2, bandwidth_bps=8e9)
    solution = solve(problem, "makespan")
    assert solution.gap <= 0.1
    assert solution.bound_s <= solution.value_s
    assert {n for stage in solution.plan.stages for n in stage.operators} == set(graph.positions)


def test_what_is_made_of_a_mask_may_stay_on_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside all else: sent for what is made of it elsewhere, the mask would delay what matters."""
    for other in ("improving_plans", "starts", "chain_plans"):  # plans of other methods
        monkeypatch.setattr(makespan_module, other, lambda *_, **__: iter(()))
    graph = masked(6)
    first = Operator("first", "Any", ("x",), ("tfirst",))
    operators = [
        replace(op, inputs=("tfirst", "tmask")) if op.name == "0" else op for op in graph.operators
    ]
    tensors = {**graph.tensors, "tfirst": Tensor("tfirst", 20_000)}
    graph = Graph("masked", (first, *operators), tensors, graph.inputs, graph.outputs)
    problem = helpers(graph, 1, bandwidth_bps=8e6)
    slow = replace(problem.cluster.devices[0], kind="slow")
    cluster = replace(problem.cluster, devices=(slow, *problem.cluster.devices[1:]))
    seconds = {op.name: 0.1 for op in graph.operators} | {"mask": 0.001, "late": 0.001}
    cost = TableCost({"k": {op.name: 0.01 for op in graph.operators}, "slow": seconds})
    solution = solve(Problem(graph, cluster, cost), "makespan")
    # x goes to the other device in 20 ms, where all else runs, and the result comes back in 20
    assert solution.value_s == pytest.approx(0.02 + 0.01 * (len(graph.operators) - 2) + 0.02)
    assert solution.proof == "optimal"
    placed = {name: stage.device for stage in solution.plan.stages for name in stage.operators}
    assert placed["mask"] == placed["late"] == "main"


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


def test_branches_run_beside_each_other() -> None:
    """By hand: a, then one branch here; t leaves for two helpers one after the other, the results
    come back one after the other: 10 + 2 + 10 + 1 + 10 ms."""
    solution = solve(helpers(diamond(3), 2), "makespan")
    assert solution.proof == "optimal"
    assert solution.value_s == pytest.approx(0.033, rel=1e-12)
    placed = {name: stage.device for stage in solution.plan.stages for name in stage.operators}
    assert placed["a"] == placed["z"] == "main"
    assert len({placed["b0"], placed["b1"], placed["b2"]}) == 3


def test_a_stage_that_goes_on_pays_no_overhead_twice() -> None:
    """Overhead makes splitting not worth it: the one stage pays once."""
    graph = diamond(2)
    assert solve(helpers(graph, 2, overhead_s=0.005), "makespan").value_s == pytest.approx(0.045)
    small = solve(helpers(graph, 2, overhead_s=0.001), "makespan")
    # a's stage ends for b0 and b1 elsewhere: 1 + 10, move 1, 1 + 10, move 1, 1 + 10
    assert small.value_s == pytest.approx(0.035)
    assert small.proof == "optimal"


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


@pytest.mark.parametrize("bandwidth_bps", [1e5, 8e6, 1e9])
def test_results_of_a_block_and_of_its_entry_are_both_awaited(bandwidth_bps: float) -> None:
    graph = Graph(
        "two results",
        (Operator("a", "Any", ("x",), ("t",)), Operator("b", "Any", ("t",), ("u",))),
        {"x": Tensor("x", 10), "t": Tensor("t", 1000), "u": Tensor("u", 1000)},
        ("x",),
        ("t", "u"),
    )
    problem = helpers(graph, 1, bandwidth_bps=bandwidth_bps)
    slow = replace(problem.cluster.devices[0], kind="slow")
    cluster = replace(problem.cluster, devices=(slow, *problem.cluster.devices[1:]))
    cost = TableCost({"k": {"a": 0.01, "b": 0.01}, "slow": {"a": 0.1, "b": 0.02}})
    problem = Problem(graph, cluster, cost)
    solution = solve(problem, "makespan")
    assert solution.proof == "optimal"
    assert solution.value_s == pytest.approx(least_s(problem), rel=1e-9)


def test_blocks_that_are_the_same_share_their_search_but_not_their_operators() -> None:
    """Two diamonds in a row, all alike but for their operators' names."""
    operators, reads = [], "x"
    for part in "pq":
        operators.append(Operator(f"{part}a", "Any", (reads,), (f"{part}t",)))
        operators += [
            Operator(f"{part}{i}", "Any", (f"{part}t",), (f"{part}u{i}",)) for i in range(2)
        ]
        reads = f"{part}z"
        operators.append(Operator(reads, "Any", (f"{part}u0", f"{part}u1"), (reads,)))
    tensors = {t: Tensor(t, 1000) for op in operators for t in (*op.inputs, *op.outputs)}
    graph = Graph("twice", tuple(operators), tensors, ("x",), (reads,))
    solution = solve(helpers(graph, 1), "makespan")
    # each: 10, then 1 for the tensor and 10 for both branches, then 10 where the second one ran
    assert solution.value_s == pytest.approx(2 * 0.031, rel=1e-9)
    assert solution.proof == "optimal"


def test_no_worse_than_balance_where_memory_is_short() -> None:
    for seed in range(4):
        graph, cost = graphs.layered(30, seed)
        needed = sum(op.memory_bytes for op in graph.operators) + graph.stage_memory_bytes
        names = "abc"
        cluster = Cluster(
            tuple(
                Device(n, kind, memory_bytes=0.6 * needed + 1)
                for n, kind in zip(names, ("slow", "fast", "fast"), strict=True)
            ),
            (),
            "a",
            "a",
            default_link=Link("", "", 1e9, 0.0003),
        )
        problem = Problem(graph, cluster, cost)
        found = makespan(problem, Budget(), max_nodes=1_000)
        balanced = solve(problem, "balance")
        assert value_of(problem, found.plan) <= balanced.value_s * (1 + 1e-9)


def test_faster_is_never_worse() -> None:
    """Of proven values. A few are not: transfers in the evaluator's order may not be what the
    search counted."""
    compared = 0
    for seed in range(8):
        graph, cost = graphs.series_parallel(12, seed)
        cluster = Cluster(
            (Device("a", "slow"), Device("b", "fast"), Device("c", "slow")),
            (),
            "a",
            "a",
            default_link=Link("", "", 4e7, 0.002),
        )
        faster = replace(cluster, default_link=Link("", "", 8e7, 0.001))
        halved = {name: s / 2 for name, s in cost.seconds["fast"].items()}
        quick = TableCost({"slow": cost.seconds["slow"], "fast": halved})
        before = solve(Problem(graph, cluster, cost), "makespan")
        for changed in (Problem(graph, faster, cost), Problem(graph, cluster, quick)):
            after = solve(changed, "makespan")
            if before.proof == after.proof == "optimal":
                compared += 1
                assert after.value_s <= before.value_s * (1 + 1e-9)
    assert compared >= 10


def test_an_ended_budget_still_gives_a_plan_and_a_true_bound() -> None:
    graph, cost = graphs.layered(40, 1)
    problem = Problem(graph, graphs.two_devices(), cost)
    budget = Budget(0.0, value_s=lambda plan: value_of(problem, plan))
    proposal = makespan(problem, budget)
    assert budget.best is not None
    assert proposal.bound_s <= value_of(problem, proposal.plan)


def test_a_limit_of_work_leaves_an_honest_gap() -> None:
    """Same work, same plan; less work, no higher bound."""
    graph, cost = graphs.layered(30, 2)
    problem = Problem(graph, graphs.two_devices(4e8), cost)
    short = makespan(problem, Budget(), max_nodes=1)
    again = makespan(problem, Budget(), max_nodes=1)
    full = makespan(problem, Budget(), max_nodes=20_000)
    assert short == again
    assert short.bound_s <= full.bound_s * (1 + 1e-9)
    assert full.bound_s <= value_of(problem, full.plan) * (1 + 1e-9)


def test_blocks_meet_where_one_operator_is_crossed() -> None:
    """A skip connection keeps its operators in one block; a dead operator is in none."""

    def op(name: str, *reads: str) -> Operator:
        return Operator(name, "Any", reads, (f"t{name}",))

    operators = (
        op("0", "x"),
        op("1", "t0"),
        op("2", "t1"),
        op("3", "t2", "t0"),
        op("4", "t3"),
        op("5", "t3"),
    )
    names = ("x", *(f"t{i}" for i in range(6)))
    graph = Graph("g", operators, {n: Tensor(n, 8) for n in names}, ("x",), ("t4",))
    assert [b.positions for b in latency_blocks(graph)] == [(-1, 0), (0, 1, 2, 3), (3, 4, -1)]


def test_only_latency() -> None:
    graph, cost = graphs.chain(3)
    problem = Problem(graph, graphs.two_devices(), cost, Objective.THROUGHPUT)
    with pytest.raises(UnsupportedProblemError, match="makespan"):
        solve(problem, "makespan")


def test_equal_blocks_keep_their_own_operators() -> None:
    """Three times the same fork and join: what is found for one is each one's plan."""
    reads = [("x",), ("t0",), ("t0",), ("t1", "t2")]
    operators, tensors = [], {"x": Tensor("x", 1000)}
    for k in range(3):
        for i, names in enumerate(reads):
            inputs = tuple(
                ("x" if k == 0 else f"t3_{k - 1}") if n == "x" else f"{n}_{k}" for n in names
            )
            operators.append(Operator(f"op{i}_{k}", "Any", inputs, (f"t{i}_{k}",)))
            tensors[f"t{i}_{k}"] = Tensor(f"t{i}_{k}", 1000)
    graph = Graph("thrice", tuple(operators), tensors, ("x",), ("t3_2",))
    cost = TableCost({"any": {op.name: 0.01 for op in operators}})
    cluster = Cluster(
        (Device("a", "any"), Device("b", "any")),
        (Link("a", "b", 8e6, 0.0), Link("b", "a", 8e6, 0.0)),
        "a",
        "a",
    )
    solution = solve(Problem(graph, cluster, cost), "makespan")
    # Each block: 10 ms, 1 ms to the other device beside 10 ms here, 10 ms there, where it goes on;
    # in the end 1 ms back.
    assert solution.value_s == pytest.approx(3 * (0.010 + 0.001 + 0.010 + 0.010) + 0.001)
    assert solution.proof == "optimal"
