"""The envelope against min-cuts, brute force and itself through JSON."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.errors import InfeasibleError, InvalidFileError, UnsupportedProblemError
from cutset.problem import Budget, Problem
from cutset.solvers.one_stage import value_of
from cutset.solvers.two_way.break_even import offload_grid
from cutset.solvers.two_way.cut_table import all_cuts
from cutset.solvers.two_way.envelope import Envelope, additive_row, build_envelope
from cutset.solvers.two_way.hull import lower_hull
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats
from cutset.solvers.two_way.search import search
from cutset.solvers.two_way.two_stage import Pair
from cutset.testing import graphs
from cutset.testing.problems import random_problem, two_stage_plans


def problem_of(name: str, operators: int, seed: int) -> Problem:
    graph, cost = graphs.GENERATORS[name](operators, seed)
    return Problem(graph, graphs.two_devices(latency_s=0.0), cost)


def min_cut_s(problem: Problem, oracle: CutOracle, prices: Floats) -> float:
    best = math.inf
    for first, second in (("pi", "server"), ("server", "pi")):
        pair = Pair(problem, first, second)
        row = additive_row(pair, "pi", "server", prices)
        cut = oracle.minimise(pair.first_s * row.first, pair.second_s * row.second, row.roles)
        assert cut is not None
        best = min(best, cut.value)
    return best


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("chain", 200),
        ("skip_connections", 200),
        ("series_parallel", 120),
        ("layered", 30),
        ("layered", 200),
        ("wide", 10),
        ("wide", 30),
    ],
)
def test_equals_min_cut_everywhere(name: str, operators: int) -> None:
    problem = problem_of(name, operators, 1)
    envelope = build_envelope(problem)
    assert envelope.exact
    oracle = CutOracle(problem.graph)
    rng = np.random.default_rng(0)
    for _ in range(40):
        up, down = 10 ** rng.uniform(5.5, 9.5, 2)
        prices = Envelope.prices(up, down, load=10 ** rng.uniform(-1, 2))
        found = envelope.values_s(prices)[envelope.best(prices)]
        assert found == pytest.approx(min_cut_s(problem, oracle, prices), rel=1e-9)


def test_listing_and_oracle_find_the_same_hull() -> None:
    problem = problem_of("layered", 40, 4)
    listed = build_envelope(problem)
    asked = build_envelope(problem, max_cuts_per_block=1)
    assert all_cuts(problem.graph, 1).open_blocks
    rng = np.random.default_rng(1)
    for _ in range(200):
        up, down = 10 ** rng.uniform(5, 10, 2)
        prices = Envelope.prices(up, down, load=10 ** rng.uniform(-2, 2), up_latency_s=0.01)
        assert asked.values_s(prices).min() == pytest.approx(
            listed.values_s(prices).min(), rel=1e-9
        )


@given(st.integers(0, 10**6))
@settings(max_examples=120, deadline=None)
def test_asking_finds_all_that_listing_does(seed: int) -> None:
    problem = random_problem(seed, max_devices=2)
    try:
        listed = build_envelope(problem)
        asked = build_envelope(problem, max_cuts_per_block=1)
    except (UnsupportedProblemError, InfeasibleError):
        return
    if not asked.exact:  # memory limits
        return
    rng = np.random.default_rng(seed)
    for _ in range(30):
        up, down = 10 ** rng.uniform(2, 11, 2)
        latencies = 10 ** rng.uniform(-4, 0, 2) * rng.integers(0, 2, 2)
        prices = Envelope.prices(
            up,
            down,
            load=10 ** rng.uniform(-3, 3),
            up_latency_s=latencies[0],
            down_latency_s=latencies[1],
        )
        wanted = listed.values_s(prices).min()
        assert asked.values_s(prices).min() == pytest.approx(wanted, rel=1e-9, abs=1e-15)


def test_few_questions_leave_it_unproven() -> None:
    problem = problem_of("layered", 40, 4)
    few = build_envelope(problem, max_cuts_per_block=1, max_oracle_calls=20)
    assert not few.exact
    assert len(few.points) > 2


@given(st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_points_are_plans_that_run(seed: int) -> None:
    problem = random_problem(seed, max_devices=2)
    try:
        envelope = build_envelope(problem)
    except (UnsupportedProblemError, InfeasibleError):
        return
    for i in range(len(envelope.points)):
        plan = envelope.plan(problem.graph, i)
        assert plan in list(two_stage_plans(problem))
        assert math.isfinite(value_of(problem, plan)) or set(problem.graph.inputs) & set(
            problem.graph.outputs
        )


def test_memory_limits_prune_the_hull() -> None:
    problem = problem_of("series_parallel", 60, 2)
    graph = problem.graph
    total = sum(op.memory_bytes for op in graph.operators)
    small = graphs.two_devices()
    devices = (small.devices[0], type(small.devices[1])("server", graphs.FAST, total // 3))
    cluster = type(small)(devices, small.links, "pi", "pi")
    tight = Problem(graph, cluster, problem.cost)
    envelope = build_envelope(tight)
    for i, point in enumerate(envelope.points):
        if point.first != "pi" or point.second != "pi":
            here = [s for s in envelope.plan(graph, i).stages if s.device == "server"]
            names = {name for stage in here for name in stage.operators}
            used = sum(op.memory_bytes for op in graph.operators if op.name in names)
            assert used <= total // 3
    assert len(envelope.points) > 2


def test_one_search_is_no_better_than_the_envelope_where_nothing_overlaps() -> None:
    problem = problem_of("skip_connections", 60, 3)
    proposal = search(problem, Budget())
    envelope = build_envelope(problem)
    prices = Envelope.prices(20e6, 20e6)
    best = min(
        value_of(problem, envelope.plan(problem.graph, i)) for i in range(len(envelope.points))
    )
    assert value_of(problem, proposal.plan) == pytest.approx(best, rel=1e-9)
    assert envelope.values_s(prices).min() == pytest.approx(best, rel=1e-9)


def test_json_round_trip() -> None:
    envelope = build_envelope(problem_of("chain", 20, 1))
    assert Envelope.from_json(json.loads(json.dumps(envelope.to_json()))) == envelope
    with pytest.raises(InvalidFileError, match="not an envelope"):
        Envelope.from_json({"points": [{"first": "pi"}]})


def test_needs_one_server() -> None:
    problem = problem_of("chain", 5, 1)
    alone = type(problem.cluster)(problem.cluster.devices[:1], (), "pi", "pi")
    with pytest.raises(UnsupportedProblemError, match="one device and one server"):
        build_envelope(Problem(problem.graph, alone, problem.cost))


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=1, max_size=60), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_hull_keeps_a_cheapest_point_for_any_prices(
    points: list[tuple[int, int, int]], seed: int
) -> None:
    table = np.array(points, dtype=np.float64)
    kept = table[lower_hull(table)]
    rng = np.random.default_rng(seed)
    for prices in (*rng.dirichlet((0.3, 0.3, 0.3), 20), *np.eye(3)):
        assert (kept @ prices).min() == pytest.approx((table @ prices).min(), rel=1e-9, abs=1e-9)


def test_hull_drops_what_is_never_cheapest() -> None:
    corners = np.array([(0.0, 9.0), (2.0, 2.0), (9.0, 0.0)])
    above = np.array([(3.0, 3.0), (1.0, 8.0), (8.0, 1.5)])
    assert lower_hull(np.concatenate((above, corners))).tolist() == [3, 4, 5]


def test_offload_grid() -> None:
    graph, cost = graphs.chain(30, 2)
    rows = offload_grid(graph, cost.seconds[graphs.SLOW], latency_s=0.001)
    least = [row.least_bandwidth_bps for row in rows]
    known = [bps for bps in least if bps is not None]
    assert known == sorted(known, reverse=True)  # a faster server pays earlier
    local_s = sum(cost.seconds[graphs.SLOW].values())
    for row in rows:
        assert row.least_bandwidth_bps is not None
        at = Envelope.prices(
            row.least_bandwidth_bps,
            row.least_bandwidth_bps,
            load=1 / row.speedup,
            up_latency_s=0.001,
            down_latency_s=0.001,
        )
        cluster = graphs.two_devices()
        same = {name: dict(cost.seconds[graphs.SLOW]) for name in (graphs.SLOW, graphs.FAST)}
        envelope = build_envelope(Problem(graph, cluster, type(cost)(same)))
        others = [
            value
            for value, point in zip(envelope.values_s(at), envelope.points, strict=True)
            if not point.first == point.second == "pi"
        ]
        assert min(others) == pytest.approx(local_s, rel=1e-9)
    gains = [row.gain[1e9][0] for row in rows]
    assert gains == sorted(gains)
