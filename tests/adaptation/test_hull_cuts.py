"""The cuts that adaptation chooses from, against the evaluator and every plan of two stages."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.hull_cuts import hull_cuts
from cutset.adaptation.never_best import sometimes_best
from cutset.errors import InfeasibleError, InvalidFileError, UnsupportedProblemError
from cutset.estimate import estimate
from cutset.plan import Plan, check_plan, transfers
from cutset.problem import Problem, check_memory
from cutset.solvers.two_way.envelope import build_envelope
from cutset.solvers.two_way.two_stage import two_stage_plan
from cutset.testing import graphs
from cutset.testing.problems import random_problem, two_stage_plans


def problem_of(name: str, operators: int, seed: int, **costs: float) -> Problem:
    graph, cost = graphs.GENERATORS[name](operators, seed)
    cluster = graphs.two_devices()
    devices = tuple(replace(d, **costs) for d in cluster.devices)
    return Problem(graph, replace(cluster, devices=devices), cost)


def drawn_conditions(rng: np.random.Generator) -> Conditions:
    up, down = 10 ** rng.uniform(3, 10, 2)
    up_latency_s, down_latency_s = 10 ** rng.uniform(-4, -1, 2) * rng.integers(0, 2, 2)
    return Conditions(
        up,
        down,
        up_latency_s,
        down_latency_s,
        load=10 ** rng.uniform(-1, 2),
        queue_s=rng.integers(0, 2) * 10 ** rng.uniform(-4, 0),
        slowdown=10 ** rng.uniform(-1, 2),
    )


def cost_s(problem: Problem, plan: Plan, at: Conditions) -> float:
    """By the definitions, operator by operator and transfer by transfer; inf where it cannot run.

    Graph inputs that are wanted as they are move in every plan and are left out.
    """
    graph, cluster = problem.graph, problem.cluster
    device = cluster.source
    try:
        check_plan(plan, graph, cluster)
        check_memory(problem, estimate(problem, plan).memory_bytes)
    except (InvalidFileError, InfeasibleError):
        return math.inf
    total, up, down = 0.0, False, False
    for stage in plan.stages:
        seconds = sum(problem.compute_s(stage.device)[graph.positions[n]] for n in stage.operators)
        total += seconds * (at.slowdown if stage.device == device else at.load)
        total += problem.device(stage.device).stage_overhead_s or 0.0
    for move in transfers(plan, graph, cluster.source, cluster.sink):
        sender, receiver = (problem.device(n) for n in (move.source_device, move.target_device))
        total += move.bytes * ((sender.send_s_per_byte or 0.0) + (receiver.recv_s_per_byte or 0.0))
        upwards = move.source_device == device
        total += 8 * move.bytes / (at.up_bps if upwards else at.down_bps)
        up, down = up or upwards, down or not upwards
    total += at.up_latency_s * up + at.down_latency_s * down
    return total + at.queue_s * any(stage.device != device for stage in plan.stages)


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_the_cheapest_is_the_cheapest_of_all_plans_at_any_conditions(seed: int) -> None:
    problem = random_problem(seed, max_devices=2)
    if set(problem.graph.inputs) & set(problem.graph.outputs):
        return
    try:
        cuts = hull_cuts(problem)
    except (UnsupportedProblemError, InfeasibleError):
        return
    rng = np.random.default_rng(seed)
    plans = list(two_stage_plans(problem))
    for at in [drawn_conditions(rng) for _ in range(6)]:
        wanted = min(cost_s(problem, plan, at) for plan in plans)
        assert cuts.values_s(at).min() == pytest.approx(wanted, rel=1e-8, abs=1e-15)
        for cut, value in zip(cuts.cuts, cuts.values_s(at), strict=True):
            assert value == pytest.approx(cost_s(problem, cut.plan, at), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", sorted(graphs.GENERATORS))
def test_reduction_loses_nothing_that_the_envelope_has(name: str) -> None:
    problem = problem_of(name, 14, 3)
    cuts, envelope = hull_cuts(problem), build_envelope(problem)
    assert len(cuts.cuts) <= len(envelope.points) + 2
    rng = np.random.default_rng(0)
    for _ in range(200):
        at = replace(drawn_conditions(rng), slowdown=1.0, queue_s=0.0)
        prices = envelope.prices(
            at.up_bps,
            at.down_bps,
            load=at.load,
            up_latency_s=at.up_latency_s,
            down_latency_s=at.down_latency_s,
        )
        assert cuts.values_s(at).min() == pytest.approx(envelope.values_s(prices).min(), rel=1e-8)


def test_a_slow_device_has_cuts_that_the_envelope_leaves_out() -> None:
    problem = problem_of("chain", 25, 2, recv_s_per_byte=2e-7, stage_overhead_s=0.002)
    at = Conditions(20e9, 20e9, slowdown=40.0)
    cuts = hull_cuts(problem)
    wanted = min(cost_s(problem, plan, at) for plan in two_stage_plans_of_a_chain(problem))
    assert cuts.values_s(at).min() == pytest.approx(wanted, rel=1e-9)


def two_stage_plans_of_a_chain(problem: Problem) -> list[Plan]:
    count = len(problem.graph.operators)
    return [
        two_stage_plan(problem.graph, first, second, range(i))
        for first, second in (("pi", "server"), ("server", "pi"))
        for i in range(count + 1)
    ]


def test_seconds_and_memory_are_the_evaluators() -> None:
    problem = problem_of("chain", 20, 1, send_s_per_byte=1e-9, stage_overhead_s=0.001)
    cuts = hull_cuts(problem)
    at = Conditions(20e6, 20e6, 0.003, 0.003)
    assert len(cuts.cuts) > 4
    for cut, value in zip(cuts.cuts, cuts.values_s(at), strict=True):
        scored = estimate(problem, cut.plan)
        assert value == pytest.approx(scored.latency_s, rel=1e-9)
        assert cut.memory_bytes == scored.memory_bytes
        assert cut.other_s >= 0


def test_names_and_order() -> None:
    problem = problem_of("series_parallel", 40, 1)
    cuts = hull_cuts(problem)
    names = [cut.name for cut in cuts.cuts]
    assert names == ["local", *(f"cut {i + 1}" for i in range(len(names) - 2)), "offload"]
    assert (cuts.local, cuts.offload) == (0, len(names) - 1)
    seconds = [cut.server_s for cut in cuts.cuts]
    assert seconds == sorted(seconds)
    assert hull_cuts(problem) == cuts


def test_local_and_offload_are_there_though_never_best() -> None:
    graph, cost = graphs.chain(6, 1)
    even = type(cost)(
        {kind: dict(cost.seconds[graphs.SLOW]) for kind in (graphs.SLOW, graphs.FAST)}
    )
    free = {op.name: 0.0 for op in graph.operators}
    for slow, fast in ((free, even.seconds[graphs.FAST]), (even.seconds[graphs.SLOW], free)):
        table = type(cost)({graphs.SLOW: slow, graphs.FAST: fast})
        cuts = hull_cuts(Problem(graph, graphs.two_devices(), table))
        assert {"local", "offload"} <= {cut.name for cut in cuts.cuts}


def test_what_does_not_fit_by_itself_is_left_out() -> None:
    problem = problem_of("chain", 20, 1)
    total = sum(op.memory_bytes for op in problem.graph.operators)
    pi, server = problem.cluster.devices
    devices = (replace(pi, memory_bytes=total // 2), server)
    cuts = hull_cuts(replace(problem, cluster=replace(problem.cluster, devices=devices)))
    assert cuts.local is None
    assert cuts.cuts[0].name == "cut 1"
    assert all(cut.memory_bytes.get("pi", 0) <= total // 2 for cut in cuts.cuts)


@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=25), st.integers(0, 10**6)
)
@settings(max_examples=150, deadline=None)
def test_a_cheapest_row_stays_at_any_prices(rows: list[tuple[int, ...]], seed: int) -> None:
    amounts = np.array(rows, dtype=np.float64)
    kept = amounts[list(sometimes_best(amounts))]
    rng = np.random.default_rng(seed)
    for prices in (*rng.dirichlet([0.3] * 4, 30), *np.eye(4)):
        assert (kept @ prices).min() == pytest.approx((amounts @ prices).min(), rel=1e-8, abs=1e-12)
    for i in range(len(kept)):  # and nothing that stays could be left out
        others = np.delete(kept, i, axis=0)
        assert not len(others) or not (others <= kept[i]).all(axis=1).any()


def test_a_row_that_only_a_mixture_beats_goes() -> None:
    amounts = np.array([(0.0, 4.0), (2.1, 2.1), (4.0, 0.0), (1.0, 2.9)])
    assert sometimes_best(amounts) == (0, 2, 3)
    assert sometimes_best(amounts, always=[1]) == (0, 1, 2, 3)
