"""solve(): golden plans, certification, verdicts, break-evens, limits; and what must not matter."""

import math
import threading
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Device, Link
from cutset.cost import LoadedCost, TableCost
from cutset.errors import InfeasibleError, PlanningError, UnsupportedProblemError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.scopes import FULL
from cutset.solvers.two_way.break_even import with_bandwidth
from cutset.testing import graphs
from cutset.testing.problems import random_problem
from cutset.testing.variations import scaled, with_faster_device, with_faster_links

EVERY = frozenset(Objective)


def toy(**cluster: object) -> Problem:
    """Two operators in a chain: the first shrinks 10 kB to 1 kB, the second is heavy."""
    graph = Graph(
        "toy",
        (
            Operator("small", "Conv", ("x",), ("mid",), memory_bytes=100),
            Operator("heavy", "Conv", ("mid",), ("y",), memory_bytes=1000),
        ),
        {"x": Tensor("x", 10_000), "mid": Tensor("mid", 1_000), "y": Tensor("y", 125)},
        ("x",),
        ("y",),
    )
    cost = TableCost(
        {"slow": {"small": 0.01, "heavy": 0.2}, "fast": {"small": 0.001, "heavy": 0.02}}
    )
    network = graphs.two_devices(bandwidth_bps=1e6, latency_s=0.003)
    return Problem(graph, replace(network, **cluster), cost)  # type: ignore[arg-type]


def test_golden_split() -> None:
    solution = solve(toy())
    assert [(s.device, s.operators) for s in solution.plan.stages] == [
        ("pi", ("small",)),
        ("server", ("heavy",)),
    ]
    # 10 ms, 8 kbit at 1 Mbit/s and 3 ms, 20 ms, 1 kbit and 3 ms.
    assert solution.value_s == pytest.approx(0.010 + 0.008 + 0.003 + 0.020 + 0.001 + 0.003)
    assert (solution.proof, solution.scope, solution.gap) == ("optimal", "full", 0)
    assert solution.verdict is not None
    assert solution.verdict.split
    assert solution.verdict.best_single_device == "server"
    assert solution.verdict.best_single_value_s == pytest.approx(0.08 + 0.003 + 0.021 + 0.004)
    assert solution.verdict.gain == pytest.approx(1 - 0.045 / 0.108)


def test_golden_break_evens() -> None:
    flips = {(b.change, b.then): b.below or b.above for b in solve(toy()).break_even}
    # Below: 0.036 + 8000/b + 1/1000 = 0.21. Above: 1 ms on the server + 80 kbit = 10 ms + 8 kbit.
    assert flips["link:pi>server", "pi alone"] == pytest.approx(8000 / (0.21 - 0.037), rel=1e-3)
    assert flips["link:pi>server", "server alone"] == pytest.approx(72_000 / 0.009, rel=1e-3)
    assert flips["device:server.load", "pi alone"] == pytest.approx((0.2 - 0.015) / 0.02, rel=1e-3)


def test_golden_throughput() -> None:
    solution = solve(replace(toy(), objective=Objective.THROUGHPUT))
    assert solution.estimate.bottleneck == "device:server"
    assert solution.value_s == pytest.approx(0.02)
    assert solution.proof == "optimal"
    # The server alone waits 80 kbit at 1 Mbit/s for its input: as long as pi's 10 ms, 8 times.
    (flip,) = (f for f in solution.break_even if f.change == "device:pi.load")
    assert (flip.then, flip.scope) == ("server alone", None)
    assert flip.above == pytest.approx(8, rel=1e-3)


def test_break_evens_are_where_the_verdict_flips() -> None:
    graph, cost = graphs.series_parallel(40, 3)
    problem = Problem(graph, graphs.two_devices(), cost)
    solution = solve(problem, "envelope")  # exact among plans of at most two stages
    assert len(solution.break_even) >= 4
    for flip in solution.break_even:
        place = flip.below or flip.above
        assert place is not None

        def family(factor: float, change: str = flip.change, place: float = place) -> str:
            """The best family on one side of the flip."""
            if change.startswith("link:"):
                link = problem.cluster.link(*change.removeprefix("link:").split(">"))
                assert link is not None
                changed = with_bandwidth(problem, link, place * factor)
            else:
                name, what = change.removeprefix("device:").split(".")
                load = place * factor if what == "load" else 1 / (place * factor)
                changed = replace(problem, cost=LoadedCost(cost, {name: load}))
            plan = solve(changed, "envelope").plan
            return "split" if len(plan.devices) > 1 else f"{plan.devices[0]} alone"

        behind, ahead = (0.99, 1.01) if flip.above else (1.01, 0.99)
        assert family(behind) != flip.then
        assert family(ahead) == flip.then


def test_memory_prunes_cuts() -> None:
    roomy = toy()
    cluster = roomy.cluster
    server = replace(cluster.by_name["server"], memory_bytes=500)
    tight = replace(roomy, cluster=replace(cluster, devices=(cluster.devices[0], server)))
    solution = solve(tight)
    assert solution.plan.devices == ("pi",)
    assert solution.verdict is not None
    assert solution.verdict.best_single_device == "pi"
    pi = replace(cluster.by_name["pi"], memory_bytes=990)
    with pytest.raises(InfeasibleError) as caught:
        solve(replace(roomy, cluster=replace(cluster, devices=(pi, server))))
    assert caught.value.field == "devices.pi.memory"
    assert "10 bytes short" in str(caught.value)


def test_infeasible_names_operator_or_link() -> None:
    problem = toy()
    with pytest.raises(InfeasibleError, match=r"operator 'heavy' can run on no device"):
        solve(replace(problem, cost=TableCost({"slow": {"small": 1.0}, "fast": {"small": 1.0}})))
    with pytest.raises(InfeasibleError, match="no link from"):
        solve(replace(problem, cluster=replace(problem.cluster, links=(), sink="server")))


def test_one_device_is_proven_in_full() -> None:
    problem = toy()
    alone = replace(problem.cluster, devices=problem.cluster.devices[:1], links=())
    solution = solve(replace(problem, cluster=alone))
    assert (solution.proof, solution.scope) == ("optimal", "full")
    assert solution.verdict is not None
    assert not solution.verdict.split


def test_third_device_is_used_when_it_is_best() -> None:
    problem = toy()
    devices = (*problem.cluster.devices, Device("gpu", "gpu"))
    links = (*problem.cluster.links, Link("pi", "gpu", 1e9, 0.0), Link("gpu", "pi", 1e9, 0.0))
    cost = TableCost({**dict(problem.cost.seconds), "gpu": {"small": 0.5, "heavy": 0.001}})  # type: ignore[attr-defined]
    solution = solve(
        replace(problem, cluster=replace(problem.cluster, devices=devices, links=links), cost=cost)
    )
    assert solution.plan.devices == ("pi", "gpu")


def test_graph_outputs_may_be_wanted_elsewhere() -> None:
    solution = solve(toy(sink="server"))
    assert solution.value_s == pytest.approx(0.010 + 0.008 + 0.003 + 0.020)


def test_unsupported() -> None:
    problem = toy()
    throughput = replace(problem, objective=Objective.THROUGHPUT)
    for name in ("dads", "loadpart", "neurosurgeon"):
        with pytest.raises(UnsupportedProblemError, match="objective"):
            solve(throughput, name)
    small = replace(problem.cluster.devices[1], memory_bytes=500)
    cluster = replace(problem.cluster, devices=(problem.cluster.devices[0], small))
    with pytest.raises(UnsupportedProblemError, match="no memory limits"):
        solve(replace(problem, cluster=cluster), "dads")


@dataclass(frozen=True)
class Scripted:
    """Returns what it is told to."""

    plan: Plan
    bound_s: float = 0.0
    interrupt: bool = False
    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        if self.interrupt:
            budget.report(self.plan, self.bound_s, "what was tried")
            raise KeyboardInterrupt
        return Proposal(self.plan, self.bound_s)


@dataclass(frozen=True)
class Waits:
    """Finds nothing until it is told to stop."""

    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        while not budget.stopped:
            threading.Event().wait(0.01)
        raise RuntimeError("stopped")


def test_a_bound_above_the_value_is_the_strategys_bug() -> None:
    problem = toy()
    plan = single_stage(problem, "pi")
    with pytest.raises(PlanningError, match=r"'test_planner' claims a lower bound above"):
        solve(problem, Scripted(plan, 0.3))
    with pytest.raises(PlanningError, match="claims a lower bound"):
        solve(problem, Scripted(plan, math.nan))


def test_an_invalid_plan_is_the_strategys_bug() -> None:
    with pytest.raises(PlanningError, match="returned a plan that cannot run"):
        solve(toy(), Scripted(Plan((Stage("s0", "pi", ("small",)),))))


def test_interrupted_strategies_yield_what_they_reported() -> None:
    problem = toy()
    solution = solve(problem, Scripted(single_stage(problem, "pi"), 0.1, interrupt=True))
    assert solution.plan.devices == ("pi",)
    assert (solution.proof, solution.bound_s, solution.scope) == ("bound", 0.1, "what was tried")
    assert (solution.finished, solution.interrupted) == (False, True)
    assert solve(problem, Scripted(solution.plan)).finished


def test_a_strategy_that_ends_because_time_is_over_has_not_finished() -> None:
    """It returns by itself, and what it returns proves nothing."""
    problem = toy()
    early = solve(problem, Scripted(single_stage(problem, "pi"), 0.1), time_limit_s=0.0)
    assert (early.finished, early.interrupted) == (False, False)
    graph, cost = graphs.layered(80, 2)
    assert not solve(Problem(graph, graphs.two_devices(), cost), time_limit_s=0.0).finished


def test_no_plan_in_the_time_is_no_proof_that_there_is_none() -> None:
    problem = toy()
    small = tuple(replace(d, memory_bytes=1050) for d in problem.cluster.devices)
    tight = replace(problem, cluster=replace(problem.cluster, devices=small))
    with pytest.raises(PlanningError, match="no plan was found in the time; there may be one"):
        solve(tight, Waits(), time_limit_s=0.0)


def test_time_limit_leaves_an_honest_gap() -> None:
    graph, cost = graphs.layered(80, 2)
    problem = Problem(graph, graphs.two_devices(), cost)
    early = solve(problem, time_limit_s=0.0)
    best = solve(problem)
    assert early.bound_s <= best.value_s <= early.value_s
    assert best.proof == "optimal"
    assert best.break_even
    assert early.break_even == ()


@pytest.mark.parametrize("name", sorted(graphs.GENERATORS))
@pytest.mark.parametrize("objective", list(Objective))
def test_generated_graphs_are_solved_to_proof(name: str, objective: Objective) -> None:
    graph, cost = graphs.GENERATORS[name](300, 5)
    assert solve(Problem(graph, graphs.two_devices(), cost, objective), "envelope").gap < 1e-4


problems = st.integers(0, 10**6).map(random_problem)


def value(problem: Problem) -> float:
    try:
        return solve(problem, "envelope").value_s
    except InfeasibleError:
        return math.inf


@given(problems)
@settings(max_examples=60, deadline=None)
def test_names_do_not_matter(problem: Problem) -> None:
    graph = problem.graph
    rename = {name: f"z{i:03}" for i, name in enumerate(reversed(list(graph.tensors)))}
    operators = tuple(
        replace(
            op,
            name=f"{9999 - i}",
            inputs=tuple(rename[t] for t in op.inputs),
            outputs=tuple(rename[t] for t in op.outputs),
        )
        for i, op in enumerate(graph.operators)
    )
    other = Graph(
        "renamed",
        operators,
        {rename[n]: replace(t, name=rename[n]) for n, t in graph.tensors.items()},
        tuple(rename[t] for t in graph.inputs),
        tuple(rename[t] for t in graph.outputs),
        stage_memory_bytes=graph.stage_memory_bytes,
    )
    seconds = {
        d.name: {
            new.name: s
            for new, s in zip(operators, problem.compute_s(d.name), strict=True)
            if math.isfinite(s)
        }
        for d in problem.cluster.devices
    }
    renamed = replace(problem, graph=other, cost=TableCost(seconds))
    if problem.objective is Objective.THROUGHPUT or not _orders_by_name(problem):
        assert value(renamed) == pytest.approx(value(problem), rel=1e-9)


def _orders_by_name(problem: Problem) -> bool:
    """Transfers that are ready together go in the order of their names, by definition."""
    return any((d.send_s_per_byte or 0.0) == 0.0 for d in problem.cluster.devices) or (
        len({t.size_bytes for t in problem.graph.tensors.values()}) < len(problem.graph.tensors)
    )


@given(problems, st.sampled_from([0.25, 4.0]))
@settings(max_examples=60, deadline=None)
def test_scaling_all_times_scales_the_value(problem: Problem, factor: float) -> None:
    assert value(scaled(problem, factor)) == pytest.approx(value(problem) * factor, rel=1e-9)


@given(problems, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_faster_device_never_hurts(problem: Problem, which: int) -> None:
    assert value(with_faster_device(problem, which)) <= value(problem) * (1 + 1e-9)


@given(problems)
@settings(max_examples=60, deadline=None)
def test_faster_links_never_hurt_throughput(problem: Problem) -> None:
    problem = replace(problem, objective=Objective.THROUGHPUT)
    assert value(with_faster_links(problem)) <= value(problem) * (1 + 1e-9)


@dataclass(frozen=True)
class Overclaims:
    """The slower device alone, as if no plan could be better."""

    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        plans = [single_stage(problem, d.name) for d in problem.cluster.devices]
        worst = max(plans, key=lambda plan: value_of(problem, plan))
        return Proposal(worst, value_of(problem, worst), FULL)


def test_a_bound_that_the_best_device_disproves_is_refused() -> None:
    graph, cost = graphs.chain(4)
    problem = Problem(graph, graphs.two_devices(), cost)
    values = [value_of(problem, single_stage(problem, d.name)) for d in problem.cluster.devices]
    assert min(values) < max(values)
    with pytest.raises(PlanningError) as caught:
        solve(problem, Overclaims())
    assert "'test_planner'" in caught.value.message
    assert f"{max(values)!r} s" in caught.value.message
    assert f"alone takes {min(values)!r} s" in caught.value.message
    assert caught.value.field == "bound_s"
