"""The least latency over many devices, against every plan of tiny problems."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_cases import check, diamond, helpers, latency_problem, least_s

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import UnsupportedProblemError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.latency import latency_blocks as blocks_module
from cutset.solvers.latency import makespan as makespan_module
from cutset.solvers.latency.latency_blocks import latency_blocks
from cutset.solvers.latency.makespan import makespan
from cutset.solvers.one_stage import value_of
from cutset.testing import graphs

seeds = st.integers(0, 10**6)


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
