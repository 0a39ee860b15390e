"""k-path matching, joint greedy and random: golden plans, and how each fails."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from cutset import strategies
from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, PlanningError, UnsupportedProblemError, UsageError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Solution
from cutset.strategies.kpath import classify, runs

METHODS = ("kpath", "greedy_joint", "random_cut")

#: Mbit/s between devices; the best two links do not meet.
RATES = {"ab": 9.0, "cd": 8.0, "bc": 3.0, "ac": 2.0, "bd": 1.5, "ad": 1.0}


def problem(
    sizes: tuple[int, ...] = (1000, 4000, 2000),
    rates: dict[str, float] = RATES,
    memory: float = 10,
    operator_bytes: int = 10,
) -> Problem:
    """A chain of operators of 10 bytes, on devices that hold `memory` each; sizes in bytes."""
    names = sorted({name for pair in rates for name in pair})
    tensors = {f"t{i}": Tensor(f"t{i}", size) for i, size in enumerate((0, *sizes, 0))}
    operators = tuple(
        Operator(f"o{i}", "Any", (f"t{i}",), (f"t{i + 1}",), memory_bytes=operator_bytes)
        for i in range(len(sizes) + 1)
    )
    links = tuple(
        Link(*ends, rate * 1e6, 0.0)
        for pair, rate in rates.items()
        for ends in (pair, reversed(pair))
    )
    return Problem(
        Graph("chain", operators, tensors, ("t0",), (f"t{len(operators)}",)),
        Cluster(
            tuple(Device(name, "any", memory_bytes=memory) for name in names),
            links,
            "a",
            "a",
            default_link=None,
        ),
        TableCost({"any": {op.name: 0.0 for op in operators}}),
        Objective.THROUGHPUT,
    )


def path(solution: Solution) -> str:
    return "".join(stage.device for stage in solution.plan.stages)


def test_kpath_gives_the_largest_transfer_the_best_link() -> None:
    found = solve(problem(), strategies.load("kpath", {"classes": 3}))
    assert path(found) == "dabc"  # 4000 bytes over a-b, then 2000 on from b, 1000 with the rest
    assert found.value_s == pytest.approx(8 * 1000 / 1e6)
    one_class = solve(problem(), strategies.load("kpath", {"classes": 1}))
    assert path(one_class) in ("abcd", "dcba")  # the best worst link, whatever crosses it


def test_greedy_follows_the_best_unused_link() -> None:
    one = solve(problem(), strategies.load("greedy_joint", {"best_start": False}))
    assert path(one) == "abcd"
    assert one.value_s == pytest.approx(8 * 4000 / 3e6)
    best = solve(problem(), strategies.load("greedy_joint"))
    assert path(best) == "abcd"
    assert best.value_s == one.value_s
    swapped = problem((4000, 1000, 1000))
    assert path(solve(swapped, strategies.load("greedy_joint"))) == "abcd"
    later = solve(problem((4000,)), strategies.load("greedy_joint", {"best_start": False}))
    assert path(later) == "ab"


def test_random_fills_and_draws() -> None:
    wide = problem((1000,) * 7, memory=30)
    found = [solve(wide, strategies.load("random_cut"), seed=seed) for seed in range(20)]
    assert {len(s.plan.stages) for s in found} == {3}  # of 8 operators 3 fit: 0.8 of it is all
    assert len({path(s) for s in found}) > 5
    loose = [
        solve(wide, strategies.load("random_cut", {"fill": 0.0}), seed=seed) for seed in range(20)
    ]
    assert {len(s.plan.stages) for s in loose} > {3}


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_plan(method: str) -> None:
    plans = [solve(problem(), method, seed=5).plan for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("method", METHODS)
def test_what_fits_on_one_device_stays_there(method: str) -> None:
    found = solve(problem(memory=40), method)
    assert len(found.plan.stages) == 1
    assert found.value_s == 0


@pytest.mark.parametrize("method", METHODS)
def test_each_stage_keeps_what_it_takes_beside_its_operators(method: str) -> None:
    roomy = problem((1000, 500, 1000), memory=25)
    assert len(solve(roomy, method).plan.stages) == 2
    heavy = replace(roomy, graph=replace(roomy.graph, stage_memory_bytes=10))
    assert len(solve(heavy, method).plan.stages) == 4


@pytest.mark.parametrize("method", METHODS)
def test_a_part_over_the_smallest_device_names_both(method: str) -> None:
    small = problem(memory=9)
    with pytest.raises(InfeasibleError, match=rf"{method} finds no plan.*'o0' to 'o0'.*1 bytes"):
        solve(small, method)


@pytest.mark.parametrize("method", ["kpath", "greedy_joint"])
def test_a_partition_over_the_number_of_devices_is_given_up(method: str) -> None:
    with pytest.raises(InfeasibleError, match=r"at least 4 devices.*are 3 .*; add 1 device,"):
        solve(problem(rates={"ab": 1.0, "bc": 1.0, "ac": 1.0}), method)


def test_random_gives_up_after_its_draws() -> None:
    with pytest.raises(InfeasibleError, match="none of 100 random plans"):
        solve(problem(rates={"ab": 1.0, "bc": 1.0, "ac": 1.0}), "random_cut")


@pytest.mark.parametrize("method", ["kpath", "greedy_joint"])
def test_a_star_has_no_path_of_four_devices(method: str) -> None:
    star = problem(rates={"ab": 1.0, "ac": 1.0, "ad": 1.0, "ae": 1.0})
    with pytest.raises(InfeasibleError, match=rf"{method} finds no plan, though there may be one"):
        solve(star, method)


def test_no_way_from_the_source_is_named() -> None:
    base = problem(memory=40)
    cut_off = replace(base, cluster=Cluster(base.cluster.devices, (), "a", "b"))
    with pytest.raises(InfeasibleError, match="there is none"):
        solve(cut_off, "greedy_joint")


def test_devices_that_cannot_run_everything_are_left_out() -> None:
    base = problem()
    mixed = replace(
        base.cluster,
        devices=(*base.cluster.devices, Device("e", "other", memory_bytes=1)),
        default_link=Link("", "", 1e9, 0.0),
    )
    with_other = replace(base, cluster=mixed)
    for method in METHODS:
        assert "e" not in solve(with_other, method).plan.devices
    with pytest.raises(InfeasibleError, match="'o0' can run on no device"):
        solve(replace(base, cost=TableCost({})), "kpath")
    halves = TableCost({"any": {"o0": 1.0, "o1": 1.0}, "other": {"o2": 1.0, "o3": 1.0}})
    devices = tuple(replace(d, memory_bytes=math.inf) for d in mixed.devices)
    some = replace(base, cluster=replace(mixed, devices=devices), cost=halves)
    with pytest.raises(InfeasibleError, match=r"some plan fits.*run every operator, and none can"):
        solve(some, "kpath")


@pytest.mark.parametrize("method", METHODS)
def test_latency_is_not_covered(method: str) -> None:
    with pytest.raises(UnsupportedProblemError, match="throughput"):
        solve(replace(problem(), objective=Objective.LATENCY), method)


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [("kpath", "classes", 0), ("kpath", "longest_run", 0), ("random_cut", "fill", 1.5)],
)
def test_options_are_checked(method: str, option: str, value: float) -> None:
    with pytest.raises(UsageError, match=option):
        solve(problem(), strategies.load(method, {option: value}))


def test_time_that_is_over_is_no_proof_that_there_is_no_plan() -> None:
    full = problem(rates={a + b: 1.0 for a, b in itertools.combinations("abcd", 2)})
    with pytest.raises(PlanningError, match="time was over before kpath") as caught:
        strategies.load("kpath")(full, Budget(0.0))
    assert not isinstance(caught.value, InfeasibleError)


def test_classes_are_the_bins_of_the_candidates() -> None:
    candidates = np.array([0.0, 1.0, 5.0, 9.0, 10.0])
    assert list(classify(candidates, candidates, 2)) == [1, 1, 2, 2, 2]
    assert list(classify(candidates, np.array([0.0, 10.0]), 10)) == [1, 10]
    assert list(classify(np.array([3.0]), np.array([3.0]), 4)) == [3]


def test_runs_are_maximal() -> None:
    assert runs(np.array([2, 2, 1, 2]), 2) == [(0, 2), (3, 4)]
    assert runs(np.array([1, 1]), 2) == []


def test_long_runs_are_placed_piece_by_piece() -> None:
    names = "abcdefghij"
    full = {a + b: 1.0 + (i * 7 % 11) for i, (a, b) in enumerate(itertools.combinations(names, 2))}
    long = problem((1000,) * 9, rates=full)
    for longest in (1, 4, 10):
        found = solve(long, strategies.load("kpath", {"classes": 1, "longest_run": longest}))
        assert sorted(path(found)) == list(names)
        assert math.isfinite(found.value_s)
