"""The simulator beside the evaluator, which it shares no formula with, and against its rules."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import CutsetError, InfeasibleError, InvalidFileError, UsageError
from cutset.estimate import estimate
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, transfers
from cutset.problem import Estimate, Problem
from cutset.simulation import simulate
from cutset.simulation.activities import network
from cutset.simulation.events import play
from cutset.simulation.stream import Dispatch
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem

Case = tuple[Problem, Plan, Estimate]
some = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@st.composite
def cases(draw: st.DrawFn, overlap: bool | None = None, devices: int = 3) -> Case:
    """A random problem with a random plan that can run."""
    seed = draw(st.integers(0, 10**6))
    problem = random_problem(seed, max_operators=9, max_devices=devices)
    if devices > 3:
        problem = widened(problem, devices, seed)
    if overlap is not None:
        all_devices = tuple(replace(d, overlap=overlap) for d in problem.cluster.devices)
        problem = replace(problem, cluster=replace(problem.cluster, devices=all_devices))
    if draw(st.booleans()):
        problem = replace(problem, cluster=replace(problem.cluster, multicast=True))
    plan = random_plan(problem, seed, merge=draw(st.sampled_from([0.2, 0.6])))
    try:
        return problem, plan, estimate(problem, plan)
    except InfeasibleError:
        assume(False)
        raise


def widened(problem: Problem, count: int, seed: int) -> Problem:
    """The same on `count` devices like those it has, any of which can talk to any other."""
    rng = random.Random(seed)
    names = [f"d{i}" for i in range(count)]
    devices = tuple(replace(rng.choice(problem.cluster.devices), name=name) for name in names)
    links = tuple(
        Link(a, b, rng.choice((1e6, 5e6, 2e7)), rng.choice((0.0, 0.001)))
        for a, b in itertools.permutations(names, 2)
    )
    return replace(problem, cluster=Cluster(devices, links, names[0], rng.choice(names)))


def has_rivals_at_both_ends(problem: Problem, plan: Plan) -> bool:
    """Whether some transfer's sender sends elsewhere too, and its receiver is sent to by others."""
    cluster = problem.cluster
    moves = transfers(plan, problem.graph, cluster.source, cluster.sink)
    pairs = {(m.source_device, m.target_device) for m in moves}
    return any(
        any(x == a and y != b for x, y in pairs) and any(x != a and y == b for x, y in pairs)
        for a, b in pairs
    )


@settings(some, max_examples=300)
@given(cases())
def test_one_request_alone_takes_what_the_evaluator_says(case: Case) -> None:
    problem, plan, scored = case
    found = play(network(problem, plan, loaded=False), 1, 1).answered[0]
    assert found == pytest.approx(scored.latency_s, rel=1e-9, abs=1e-15)


@settings(some, max_examples=100)
@given(cases(devices=5))
def test_one_request_alone_on_five_devices(case: Case) -> None:
    problem, plan, scored = case
    found = play(network(problem, plan, loaded=False), 1, 1).answered[0]
    assert found == pytest.approx(scored.latency_s, rel=1e-9, abs=1e-15)


@some
@given(cases(), st.integers(1, 9), st.sampled_from(["oldest", "listed"]))
def test_the_period_is_never_below_the_evaluators(
    case: Case, in_flight: int, dispatch: Dispatch
) -> None:
    problem, plan, scored = case
    found = simulate(problem, plan, requests=5, in_flight=in_flight, dispatch=dispatch)
    assert found.period_s >= scored.period_s * (1 - 1e-12)
    for resource, busy_s in scored.busy_s.items():
        expected = busy_s / found.period_s if found.period_s else 0.0
        used = found.utilisation.get(resource, 0.0)  # what only sends need not do anything
        assert used == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(some, max_examples=60)
@given(cases(devices=5), st.integers(1, 9))
def test_never_below_on_five_devices(case: Case, in_flight: int) -> None:
    problem, plan, scored = case
    found = simulate(problem, plan, requests=5, in_flight=in_flight)
    assert found.period_s >= scored.period_s * (1 - 1e-12)


@some
@given(cases(overlap=True), st.sampled_from([2, 6, 24]))
def test_the_period_comes_down_to_the_evaluators(case: Case, in_flight: int) -> None:
    problem, plan, scored = case
    assume(not has_rivals_at_both_ends(problem, plan))
    alone_s = simulate(problem, plan, requests=1, in_flight=1).period_s
    found = simulate(problem, plan, requests=5, in_flight=in_flight)
    assert found.period_s <= scored.period_s * (1 + 1e-9) + 2 * alone_s / in_flight


@some
@given(cases(overlap=True))
def test_saturated_means_equal_to_the_evaluator(case: Case) -> None:
    problem, plan, scored = case
    found = simulate(problem, plan, requests=5)
    equal = found.period_s == pytest.approx(scored.period_s, rel=1e-9)
    assert found.saturated == (found.exact and equal)
    if found.saturated and found.period_s > 0:
        assert found.utilisation[found.bottleneck] == pytest.approx(1.0)


@st.composite
def narrow_cases(draw: st.DrawFn) -> Case:
    """Interfaces that carry less than the links at them, at a sender and at a receiver."""
    problem, plan, _ = draw(cases(devices=draw(st.sampled_from([3, 5]))))
    rates = st.sampled_from([2e5, 7e5, 3e6, math.inf])
    cluster = problem.cluster
    devices = tuple(
        replace(d, egress_bps=draw(rates), ingress_bps=draw(rates)) for d in cluster.devices
    )
    problem = replace(problem, cluster=replace(cluster, devices=devices))
    return problem, plan, estimate(problem, plan)


def slowed(case: Case) -> bool:
    """Whether an interface, not the link, says how long some transfer takes."""
    problem, plan, _ = case
    cluster = problem.cluster
    moves = transfers(plan, problem.graph, cluster.source, cluster.sink)
    links = {(link.source, link.target): link.bandwidth_bps or 0.0 for link in cluster.links}
    return any(
        m.bytes
        and min(
            problem.device(m.source_device).egress_bps, problem.device(m.target_device).ingress_bps
        )
        < links[m.source_device, m.target_device]
        for m in moves
    )


@some
@given(narrow_cases(), st.sampled_from([2, 6, 24]))
def test_agree_where_interfaces_are_narrower_than_links(case: Case, in_flight: int) -> None:
    problem, plan, scored = case
    assume(slowed(case))
    alone = play(network(problem, plan, loaded=False), 1, 1).answered[0]
    assert alone == pytest.approx(scored.latency_s, rel=1e-9, abs=1e-15)
    found = simulate(problem, plan, requests=5, in_flight=in_flight)
    assert found.period_s >= scored.period_s * (1 - 1e-12)
    for resource, busy_s in scored.busy_s.items():
        expected = busy_s / found.period_s if found.period_s else 0.0
        used = found.utilisation.get(resource, 0.0)
        assert used == pytest.approx(expected, rel=1e-9, abs=1e-12)
    overlapping = all(d.overlap for d in problem.cluster.devices)
    if overlapping and not has_rivals_at_both_ends(problem, plan):
        alone_s = simulate(problem, plan, requests=1, in_flight=1).period_s
        assert found.period_s <= scored.period_s * (1 + 1e-9) + 2 * alone_s / in_flight


@pytest.mark.parametrize("side", ["egress", "ingress"])
@pytest.mark.parametrize("multicast", [False, True])
def test_an_interface_that_two_links_share_sets_the_period(side: str, multicast: bool) -> None:
    """x goes from a to b and c, and y and z from there to d: a second each where a or d is slow."""
    tensors = {n: Tensor(n, 1) for n in ("x", "y", "z")}
    graph = Graph(
        "shared",
        tuple(Operator(f"to_{o}", "", ("x",), (o,)) for o in ("y", "z")),
        tensors,
        ("x",),
        ("y", "z"),
    )
    first, last = Device("a", "k"), Device("d", "k")
    if side == "egress":
        narrow = first = replace(first, egress_bps=8.0)
    else:
        narrow = last = replace(last, ingress_bps=8.0)
    devices = (first, Device("b", "k"), Device("c", "k"), last)
    cluster = Cluster(
        devices, (), "a", "d", multicast=multicast, default_link=Link("", "", 8e6, 0.0)
    )
    cost = TableCost({"k": {"to_y": 0.0, "to_z": 0.0}})
    problem = Problem(graph, cluster, cost)
    plan = Plan((Stage("s0", "b", ("to_y",)), Stage("s1", "c", ("to_z",))))
    once = side == "egress" and multicast  # the sender is held once for both
    found, scored = simulate(problem, plan), estimate(problem, plan)
    assert scored.busy_s[f"{side}:{narrow.name}"] == scored.period_s == (1.0 if once else 2.0)
    assert found.period_s == pytest.approx(scored.period_s, rel=1e-9)
    assert found.latency_s == pytest.approx(scored.latency_s, rel=1e-9)


@some
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_a_pipeline_reaches_the_evaluators_period(seed: int, count: int) -> None:
    """One stage a device along a simple path: equal, not only nearly."""
    rng = random.Random(seed)
    problem, plan = pipeline(rng, count)
    found = simulate(problem, plan, requests=5)
    assert found.period_s == pytest.approx(estimate(problem, plan).period_s, rel=1e-9)
    assert found.saturated


def pipeline(rng: random.Random, count: int) -> tuple[Problem, Plan]:
    names = [f"d{i}" for i in range(count)]
    tensors = {f"t{i}": Tensor(f"t{i}", rng.randint(1, 9999)) for i in range(count + 1)}
    operators = tuple(Operator(f"o{i}", "", (f"t{i}",), (f"t{i + 1}",)) for i in range(count))
    graph = Graph("chain", operators, tensors, ("t0",), (f"t{count}",))
    cluster = Cluster(
        tuple(Device(n, n, send_s_per_byte=rng.choice((0.0, 1e-7))) for n in names),
        (),
        names[0],
        names[0],
        default_link=Link("", "", 1e7, rng.choice((0.0, 0.001))),
    )
    seconds = {n: {op.name: rng.uniform(0, 0.01) for op in operators} for n in names}
    stages = tuple(Stage(f"s{i}", n, (f"o{i}",)) for i, n in enumerate(names))
    return Problem(graph, cluster, TableCost(seconds)), Plan(stages)


def ring(overlap: bool) -> tuple[Problem, Plan]:
    """Inputs x0, x1 at a: x0 to b, x1 to c, and b's result to c; each takes a second to move."""
    tensors = {n: Tensor(n, b) for n, b in (("x0", 1), ("x1", 1), ("t", 1), ("y", 0))}
    graph = Graph(
        "ring",
        (Operator("left", "", ("x0",), ("t",)), Operator("join", "", ("x1", "t"), ("y",))),
        tensors,
        ("x0", "x1"),
        ("y",),
    )
    devices = tuple(Device(n, "k", overlap=overlap) for n in "abc")
    cluster = Cluster(devices, (), "a", "c", default_link=Link("", "", 8.0, 0.0))
    cost = TableCost({"k": {"left": 0.0, "join": 0.0}})
    plan = Plan((Stage("s0", "b", ("left",)), Stage("s1", "c", ("join",))))
    return Problem(graph, cluster, cost), plan


def test_transfers_that_exclude_one_another_need_three_turns() -> None:
    problem, plan = ring(overlap=False)
    found = simulate(problem, plan, requests=10)
    assert estimate(problem, plan).period_s == 2.0  # every device is in two of the three
    assert (found.period_s, found.exact, found.saturated) == (3.0, True, False)
    assert found.latency_s == 3.0  # x0, then x1, and t after it: its turn comes later


def test_with_overlap_they_need_two() -> None:
    problem, plan = ring(overlap=True)
    found = simulate(problem, plan, requests=10)
    assert (found.period_s, found.saturated) == (2.0, True)


def test_a_device_that_is_used_twice_waits_when_requests_are_taken_one_by_one() -> None:
    """a, b, a with a second each: a could begin the next request while b works on this one."""
    tensors = {n: Tensor(n, 0) for n in ("x", "t", "u", "y")}
    names = (("p", "x", "t"), ("q", "t", "u"), ("r", "u", "y"))
    operators = tuple(Operator(n, "", (i,), (o,)) for n, i, o in names)
    graph = Graph("there-and-back", operators, tensors, ("x",), ("y",))
    cluster = Cluster(
        (Device("a", "k"), Device("b", "k")), (), "a", "a", default_link=Link("", "", 8.0, 0.0)
    )
    problem = Problem(graph, cluster, TableCost({"k": dict.fromkeys("pqr", 1.0)}))
    plan = Plan((Stage("s0", "a", ("p",)), Stage("s1", "b", ("q",)), Stage("s2", "a", ("r",))))
    assert simulate(problem, plan).period_s == estimate(problem, plan).period_s == 2.0
    assert simulate(problem, plan, dispatch="listed").period_s == 3.0


@some
@given(cases(), st.integers(1, 5), st.sampled_from(["oldest", "listed"]))
def test_nothing_is_held_twice_at_a_time(case: Case, in_flight: int, dispatch: Dispatch) -> None:
    problem, plan, _ = case
    found = simulate(problem, plan, requests=6, in_flight=in_flight, dispatch=dispatch)
    assert len(found.spans) == found.span_count
    held: dict[str, list[tuple[float, float]]] = {}
    for span in found.spans:
        held.setdefault(span.resource, []).append((span.start_s, span.end_s))
        for source in span.sources:
            giver = found.spans[source]
            assert giver.request == span.request
            assert giver.end_s <= span.start_s + 1e-12
    for row in held.values():
        row.sort()
        assert all(a[1] <= b[0] + 1e-12 for a, b in itertools.pairwise(row))
    under_way = sorted(
        [(begin, 1) for begin in found.admitted_s]
        + [
            (begin + takes - 1e-12, -1)
            for begin, takes in zip(found.admitted_s, found.latencies_s, strict=True)
        ]
    )
    assert max(itertools.accumulate(change for _, change in under_way)) <= in_flight


@some
@given(cases(), st.sampled_from(["oldest", "listed"]))
def test_stages_keep_the_listed_order_and_listed_dispatch_the_order_of_requests(
    case: Case, dispatch: Dispatch
) -> None:
    problem, plan, _ = case
    found = simulate(problem, plan, requests=5, in_flight=3, dispatch=dispatch)
    place = {stage.name: i for i, stage in enumerate(plan.stages)}
    for device in plan.devices:
        row = [s for s in found.spans if s.kind == "stage" and s.resource == f"device:{device}"]
        for request in range(5):
            own = sorted((place[s.name], s.start_s, s.end_s) for s in row if s.request == request)
            assert all(a[2] <= b[1] + 1e-12 for a, b in itertools.pairwise(own))
        if dispatch == "listed":
            row.sort(key=lambda s: (s.request, place[s.name]))
            assert all(a.end_s <= b.start_s + 1e-12 for a, b in itertools.pairwise(row))


def test_one_at_a_time_the_period_is_the_time_alone() -> None:
    problem, plan = ring(overlap=True)
    found = simulate(problem, plan, requests=4, in_flight=1)
    assert found.period_s == found.latency_s == 3.0
    assert found.latencies_s == (3.0,) * 4
    assert (found.makespan_s, found.exact) == (12.0, True)


def test_work_that_leads_nowhere_is_waited_for() -> None:
    """Answers come every second, but b has two seconds of work for each request."""
    tensors = {n: Tensor(n, 0) for n in ("x", "y", "z")}
    graph = Graph(
        "dead",
        (Operator("wanted", "", ("x",), ("y",)), Operator("not", "", ("x",), ("z",))),
        tensors,
        ("x",),
        ("y",),
    )
    cluster = Cluster(
        (Device("a", "k"), Device("b", "k")), (), "a", "a", default_link=Link("", "", 8.0, 0.0)
    )
    problem = Problem(graph, cluster, TableCost({"k": {"wanted": 1.0, "not": 2.0}}))
    plan = Plan((Stage("s0", "a", ("wanted",)), Stage("s1", "b", ("not",))))
    found = simulate(problem, plan, requests=5)
    assert (found.latency_s, found.period_s) == (1.0, 2.0)


def test_a_plan_that_takes_no_time() -> None:
    tensors = {n: Tensor(n, 0) for n in ("x", "y")}
    graph = Graph("nothing", (Operator("o", "", ("x",), ("y",)),), tensors, ("x",), ("y",))
    problem = Problem(
        graph, Cluster((Device("a", "k"),), (), "a", "a"), TableCost({"k": {"o": 0.0}})
    )
    found = simulate(problem, Plan((Stage("s0", "a", ("o",)),)), requests=3)
    assert (found.latency_s, found.period_s, found.makespan_s) == (0.0, 0.0, 0.0)
    assert found.utilisation == {"device:a": 0.0}


def test_the_same_simulation_twice() -> None:
    problem, plan = pipeline(random.Random(1), 4)
    assert simulate(problem, plan) == simulate(problem, plan)
    assert simulate(problem, plan).spans == simulate(problem, plan).spans


@pytest.mark.parametrize(
    "options",
    [{"requests": 0}, {"requests": 10**9}, {"in_flight": 0}, {"in_flight": 10**9}],
)
def test_counts_without_sense_are_refused(options: dict[str, int]) -> None:
    problem, plan = ring(overlap=True)
    with pytest.raises(UsageError) as refused:
        simulate(problem, plan, **options)  # type: ignore[arg-type]
    assert refused.value.field == next(iter(options))
    assert refused.value.remedy


def test_what_cannot_run_is_refused_as_by_the_evaluator() -> None:
    problem, plan = ring(overlap=True)
    alone = replace(problem, cluster=replace(problem.cluster, default_link=None))
    with pytest.raises(InfeasibleError, match="no link"):
        simulate(alone, plan)
    with pytest.raises(InfeasibleError, match=r"no cost is known for operator 'left'"):
        simulate(replace(problem, cost=TableCost({})), plan)
    with pytest.raises(InvalidFileError, match="in no stage"):
        simulate(problem, Plan(plan.stages[:1]))
    with pytest.raises(UsageError, match="no such dispatch"):
        simulate(problem, plan, dispatch="random")  # type: ignore[arg-type]
    tiled = Plan((replace(plan.stages[0], tile={"t": (0, 1)}), plan.stages[1]))
    with pytest.raises(CutsetError, match="tiles"):
        simulate(problem, tiled)
