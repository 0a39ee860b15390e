"""The evaluator against a second one, written from docs/formats.md by another method."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, InvalidFileError, UnsupportedProblemError
from cutset.estimate import estimate
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, transfers
from cutset.problem import Objective, Problem, check_memory


def second_opinion(problem: Problem, plan: Plan) -> tuple[float, dict[str, float], dict[str, int]]:
    """Latency, busy times and memory by repeated correction of a guessed timeline.

    All times start at 0; each round orders every transfer by the times of the round before and
    plays the whole request again, until nothing changes. (`estimate` never guesses: it takes
    transfers from a heap as they become ready.)
    """
    graph, cluster = problem.graph, problem.cluster
    device = {d.name: d for d in cluster.devices}
    stage_of = {name: i for i, s in enumerate(plan.stages) for name in s.operators}
    maker = {t: stage_of[op.name] for op in graph.operators for t in op.outputs}
    needs: list[set[str]] = [set() for _ in plan.stages]
    for op in graph.operators:
        for t in op.inputs:
            if maker.get(t) != stage_of[op.name]:
                needs[stage_of[op.name]].add(t)

    def home(t: str) -> str:
        return plan.stages[maker[t]].device if t in maker else cluster.source

    wanted = {(t, plan.stages[i].device) for i in range(len(plan.stages)) for t in needs[i]}
    wanted |= {(t, cluster.sink) for t in graph.outputs}
    moves = sorted((t, to) for t, to in wanted if home(t) != to)

    def wire_s(t: str, to: str) -> float:
        a = home(t)
        link = next((x for x in cluster.links if (x.source, x.target) == (a, to)), None)
        rate = (link or cluster.default_link).bandwidth_bps
        rate = min(rate, device[a].egress_bps, device[to].ingress_bps)
        return 8 * graph.tensors[t].size_bytes / rate

    def delay_s(t: str, to: str) -> float:
        a = home(t)
        link = next((x for x in cluster.links if (x.source, x.target) == (a, to)), None)
        return (link or cluster.default_link).latency_s

    size = {t: graph.tensors[t].size_bytes for t in graph.tensors}
    length = [
        device[s.device].stage_overhead_s
        + sum(problem.cost.seconds[device[s.device].kind][n] for n in s.operators)
        for s in plan.stages
    ]
    end = [0.0] * len(plan.stages)
    arrive: dict[tuple[str, str], float] = {}
    while True:
        before = (list(end), dict(arrive))

        def ready(t: str) -> float:
            made = end[maker[t]] if t in maker else 0.0
            return made + size[t] * device[home(t)].send_s_per_byte

        order = sorted(moves, key=lambda m: (ready(m[0]), maker.get(m[0], -1), m[0], m[1]))
        free: dict[str, float] = {}
        done: set[tuple[str, str]] = set()
        for t, to in order:
            if (t, to) in done:
                continue
            together = [m for m in order if m[0] == t] if cluster.multicast else [(t, to)]
            a = home(t)
            busy = [f"out {a}"] + [f"in {b}" for _, b in together]
            busy += [f"{a} {b}" for _, b in together]
            start = max([ready(t)] + [free.get(x, 0.0) for x in busy])
            for _, b in together:
                free[f"in {b}"] = free[f"{a} {b}"] = start + wire_s(t, b)
                arrive[t, b] = start + wire_s(t, b) + delay_s(t, b)
                arrive[t, b] += size[t] * device[b].recv_s_per_byte
                done.add((t, b))
            free[f"out {a}"] = start + max(wire_s(t, b) for _, b in together)
        for i, s in enumerate(plan.stages):
            previous = [end[j] for j in range(i) if plan.stages[j].device == s.device]
            arrivals = [arrive[t, s.device] for t in needs[i] if home(t) != s.device]
            end[i] = max([0.0, *previous, *arrivals]) + length[i]
        if (end, arrive) == before:
            break
    latency = max(
        arrive[t, cluster.sink]
        if home(t) != cluster.sink
        else (end[maker[t]] if t in maker else 0.0)
        for t in graph.outputs
    )

    load: dict[str, float] = {}

    def add(key: str, seconds: float) -> None:
        load[key] = load.get(key, 0.0) + seconds

    for s, seconds in zip(plan.stages, length, strict=True):
        add(f"device:{s.device}", seconds)
    for t in {t for t, _ in moves}:
        a, receivers = home(t), [to for u, to in moves if u == t]
        times = [wire_s(t, b) for b in receivers]
        held = max(times) if cluster.multicast else sum(times)
        sends = 1 if cluster.multicast else len(receivers)
        add(f"egress:{a}", held)
        add(f"device:{a}", sends * size[t] * device[a].send_s_per_byte)
        add(f"device:{a}", 0.0 if device[a].overlap else held)
        for b, seconds in zip(receivers, times, strict=True):
            add(f"link:{a}>{b}", seconds)
            add(f"ingress:{b}", seconds)
            add(f"device:{b}", size[t] * device[b].recv_s_per_byte)
            add(f"device:{b}", 0.0 if device[b].overlap else seconds)
    memory: dict[str, int] = {}
    for s in plan.stages:
        memory[s.device] = memory.get(s.device, 0) + graph.stage_memory_bytes
        for op in graph.operators:
            memory[s.device] += op.memory_bytes if op.name in s.operators else 0
    return latency, load, memory


# Small integers make ties common, which is where the order of turns shows.
seconds = st.one_of(st.integers(0, 4).map(float), st.floats(0, 3))
rates = st.one_of(st.sampled_from([8.0, 16.0, 64.0]), st.floats(1, 100))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    tensors = {"x0": Tensor("x0", draw(st.integers(0, 6)))}
    inputs = ["x0"]
    if draw(st.booleans()):
        tensors["x1"] = Tensor("x1", draw(st.integers(0, 6)))
        inputs.append("x1")
    operators = []
    for i in range(draw(st.integers(1, 8))):
        reads = draw(st.lists(st.sampled_from(sorted(tensors)), max_size=3))
        makes = [f"t{i}{c}" for c in "ab"[: draw(st.integers(1, 2))]]
        operators.append(
            Operator(
                f"op{i}",
                "",
                tuple(reads),
                tuple(makes),
                memory_bytes=draw(st.integers(0, 9)),
            )
        )
        tensors |= {t: Tensor(t, draw(st.integers(0, 6))) for t in makes}
    outputs = draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3, unique=True))
    return Graph(
        "g",
        tuple(operators),
        tensors,
        tuple(inputs),
        tuple(outputs),
        stage_memory_bytes=draw(st.integers(0, 3)),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    names = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    cost = st.sampled_from([0.0, 0.5, 1.0])
    limit = st.one_of(st.just(math.inf), rates)
    devices = tuple(
        Device(
            name,
            kind=draw(st.sampled_from(["fast", "slow"])),
            egress_bps=draw(limit),
            ingress_bps=draw(limit),
            overlap=draw(st.booleans()),
            stage_overhead_s=draw(seconds),
            send_s_per_byte=draw(cost),
            recv_s_per_byte=draw(cost),
        )
        for name in names
    )
    links = tuple(
        Link(a, b, draw(rates), draw(seconds))
        for a in names
        for b in names
        if a != b and draw(st.booleans())
    )
    return Cluster(
        devices,
        links,
        source=draw(st.sampled_from(names)),
        sink=draw(st.sampled_from(names)),
        multicast=draw(st.booleans()),
        default_link=Link("", "", draw(rates), draw(seconds)),
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, Plan]:
    graph, cluster = draw(graphs()), draw(clusters())
    cost = TableCost(
        {k: {op.name: draw(seconds) for op in graph.operators} for k in ("fast", "slow")}
    )
    # Any topological order cut into runs is a valid list of stages.
    names = [op.name for op in graph.operators]
    cuts = sorted(draw(st.sets(st.integers(1, len(names)), max_size=len(names))) | {len(names)})
    stages, begin = [], 0
    for i, cut in enumerate(cuts):
        device = draw(st.sampled_from([d.name for d in cluster.devices]))
        stages.append(Stage(f"s{i}", device, tuple(names[begin:cut])))
        begin = cut
    return Problem(graph, cluster, cost), Plan(tuple(stages))


@settings(max_examples=400, deadline=None)
@given(problems())
def test_agrees_with_the_second_opinion(case: tuple[Problem, Plan]) -> None:
    problem, plan = case
    latency, load, memory = second_opinion(problem, plan)
    found = estimate(problem, plan)
    assert found.latency_s == pytest.approx(latency, rel=1e-9, abs=1e-12)
    assert dict(found.busy_s) == pytest.approx(load, rel=1e-9, abs=1e-12)
    assert found.period_s == pytest.approx(max(load.values()), rel=1e-9, abs=1e-12)
    assert found.busy_s[found.bottleneck] == found.period_s
    assert dict(found.memory_bytes) == memory


@settings(max_examples=150, deadline=None)
@given(problems())
def test_the_timeline_keeps_the_rules(case: tuple[Problem, Plan]) -> None:
    problem, plan = case
    found = estimate(problem, plan)
    for name in plan.devices:  # one stage at a time, in the listed order
        row = [t for t in found.stages if t.device == name]
        assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(row))
    held: dict[str, list[tuple[float, float, str]]] = {}
    for t in found.transfers:
        assert t.start_s >= t.ready_s
        move = t.transfer
        span = (t.start_s, t.end_s, move.tensor)
        held.setdefault(f"link {move.source_device} {move.target_device}", []).append(span)
        held.setdefault(f"in {move.target_device}", []).append(span)
        if not problem.cluster.multicast:
            held.setdefault(f"out {move.source_device}", []).append(span)
    for spans in held.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    moves = transfers(plan, problem.graph, problem.cluster.source, problem.cluster.sink)
    assert sorted((m.tensor, m.target_device) for m in moves) == sorted(
        {(t.transfer.tensor, t.transfer.target_device) for t in found.transfers}
    )


def two_devices(**pi: object) -> Problem:
    """x (100 B) -> conv -> t (50 B) -> fc -> y (10 B); 800 bit/s both ways, 0.25 s of latency."""
    tensors = {n: Tensor(n, b) for n, b in (("x", 100), ("t", 50), ("y", 10))}
    graph = Graph(
        "toy",
        (
            Operator("conv", "Conv", ("x",), ("t",), memory_bytes=1000),
            Operator("fc", "Gemm", ("t",), ("y",), memory_bytes=3000),
        ),
        tensors,
        ("x",),
        ("y",),
        stage_memory_bytes=10,
    )
    base = Device("pi", "arm", stage_overhead_s=0.0, send_s_per_byte=0.0, recv_s_per_byte=0.0)
    cluster = Cluster(
        (replace(base, **pi), replace(base, name="server", kind="x86")),
        (Link("pi", "server", 800.0, 0.25), Link("server", "pi", 800.0, 0.25)),
        source="pi",
        sink="pi",
    )
    cost = TableCost({"arm": {"conv": 1.0, "fc": 8.0}, "x86": {"conv": 0.1, "fc": 0.5}})
    return Problem(graph, cluster, cost)


SPLIT = Plan((Stage("s0", "pi", ("conv",)), Stage("s1", "server", ("fc",))))


def test_a_split_by_hand() -> None:
    found = estimate(two_devices(), SPLIT)
    # 1 s conv, 0.5 s + 0.25 s for t, 0.5 s fc, 0.1 s + 0.25 s for y
    assert found.latency_s == pytest.approx(2.6)
    assert found.period_s == 1.0
    assert found.bottleneck == "device:pi"
    assert dict(found.busy_s) == pytest.approx(
        {
            "device:pi": 1.0,
            "device:server": 0.5,
            "link:pi>server": 0.5,
            "link:server>pi": 0.1,
            "egress:pi": 0.5,
            "egress:server": 0.1,
            "ingress:pi": 0.1,
            "ingress:server": 0.5,
        }
    )
    assert found.memory_bytes == {"pi": 1010, "server": 3010}
    assert found.value_s(Objective.THROUGHPUT) == 1.0


def test_send_cost_overhead_and_no_overlap_by_hand() -> None:
    problem = two_devices(
        stage_overhead_s=0.125, send_s_per_byte=0.01, recv_s_per_byte=0.1, overlap=False
    )
    found = estimate(problem, SPLIT)
    # 0.125 more to compute, 50 B · 0.01 before t leaves, 10 B · 0.1 after y is there
    assert found.latency_s == pytest.approx(2.6 + 0.125 + 0.5 + 1.0)
    # stage, sending's CPU time, t's 0.5 s on the wire, y's 0.1 s, receiving's CPU time
    assert found.busy_s["device:pi"] == pytest.approx(1.125 + 0.5 + 0.5 + 0.1 + 1.0)


def test_multicast_holds_the_sender_once_for_the_slowest() -> None:
    tensors = {n: Tensor(n, b) for n, b in (("x", 10), ("y", 0), ("z", 0))}
    graph = Graph(
        "fork",
        (Operator("left", "", ("x",), ("y",)), Operator("right", "", ("x",), ("z",))),
        tensors,
        ("x",),
        ("y", "z"),
    )
    devices = tuple(Device(n, "k", send_s_per_byte=0.1) for n in "abc")
    links = (Link("a", "b", 80.0, 0.0), Link("a", "c", 20.0, 0.0))
    back = Link("", "", 80.0, 0.0)
    cost = TableCost({"k": {"left": 0.0, "right": 0.0}})
    plan = Plan((Stage("s0", "b", ("left",)), Stage("s1", "c", ("right",))))
    cluster = Cluster(devices, links, "a", "a", default_link=back)
    one = estimate(Problem(graph, cluster, cost), plan)
    many = estimate(Problem(graph, replace(cluster, multicast=True), cost), plan)
    assert (one.busy_s["egress:a"], many.busy_s["egress:a"]) == (5.0, 4.0)
    assert (one.busy_s["device:a"], many.busy_s["device:a"]) == (2.0, 1.0)
    assert (one.latency_s, many.latency_s) == (6.0, 5.0)


def test_a_transfer_waits_its_turn_also_on_an_unlimited_interface() -> None:
    tensors = {n: Tensor(n, b) for n, b in (("x1", 10), ("x2", 10), ("y", 0), ("z", 0))}
    graph = Graph(
        "pair",
        (Operator("left", "", ("x1",), ("y",)), Operator("right", "", ("x2",), ("z",))),
        tensors,
        ("x1", "x2"),
        ("y", "z"),
    )
    devices = tuple(Device(n, "k") for n in "abc")
    cluster = Cluster(devices, (), "a", "a", default_link=Link("", "", 80.0, 0.0))
    cost = TableCost({"k": {"left": 0.0, "right": 0.0}})
    plan = Plan((Stage("s0", "b", ("left",)), Stage("s1", "c", ("right",))))
    found = estimate(Problem(graph, cluster, cost), plan)
    starts = {t.transfer.tensor: t.start_s for t in found.transfers}
    assert starts["x1"] == 0.0
    assert starts["x2"] == 1.0  # links differ, but a's egress carries one transfer at a time


def test_what_cannot_run_or_talk_is_said() -> None:
    problem = two_devices()
    cost = TableCost({"arm": {"conv": 1.0, "fc": 8.0}, "x86": {"conv": 0.1}})
    with pytest.raises(InfeasibleError, match=r"'fc' cannot run on device 'server'.*x86"):
        estimate(replace(problem, cost=cost), SPLIT)
    one_way = replace(problem.cluster, links=problem.cluster.links[:1])
    with pytest.raises(InfeasibleError, match="no link from 'server' to 'pi'"):
        estimate(replace(problem, cluster=one_way), SPLIT)
    tiled = Plan((replace(SPLIT.stages[0], tile={"t": (0, 5)}), SPLIT.stages[1]))
    with pytest.raises(UnsupportedProblemError, match="tile"):
        estimate(problem, tiled)
    with pytest.raises(InvalidFileError, match="topological order"):
        estimate(problem, Plan(SPLIT.stages[::-1]))


def test_memory_says_what_is_short_and_by_how_much() -> None:
    problem = two_devices(memory_bytes=1000.0)
    found = estimate(problem, SPLIT)
    with pytest.raises(InfeasibleError, match=r"'pi' needs 1010 bytes.*has 1000.*10 bytes short"):
        check_memory(problem, found.memory_bytes)
    check_memory(two_devices(memory_bytes=1010.0), found.memory_bytes)


def test_stages_of_convex_sets_that_form_a_cycle_are_refused() -> None:
    tensors = {n: Tensor(n, 1) for n in ("x", "a", "b", "c", "d")}
    graph = Graph(
        "x",
        (
            Operator("1", "", ("x",), ("a",)),
            Operator("2", "", ("a",), ("b",)),
            Operator("3", "", ("x",), ("c",)),
            Operator("4", "", ("c",), ("d",)),
        ),
        tensors,
        ("x",),
        ("b", "d"),
    )
    device = Device("pi", "k")
    problem = Problem(
        graph,
        Cluster((device,), (), "pi", "pi"),
        TableCost({"k": dict.fromkeys("1234", 0.0)}),
    )
    plan = Plan((Stage("s0", "pi", ("1", "4")), Stage("s1", "pi", ("2", "3"))))
    with pytest.raises(InvalidFileError, match="cycle"):
        estimate(problem, plan)
