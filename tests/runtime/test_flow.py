"""Requests through many stages: bounded under a flood, whole after a stall, right in any order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import local_cluster
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, transfers
from cutset.runtime.message_parts import Payload
from cutset.runtime.messages import Activation

SIZE = 64
DEVICES = ("pi", "edge", "server", "hub")


def graph_of(reads: Sequence[Sequence[str]], outputs: Sequence[str], inputs: int = 1) -> Graph:
    """Operator i makes t{i} of what it reads; tensors hold SIZE integers."""
    operators = tuple(
        Operator(f"op{i}", "Sum", tuple(read), (f"t{i}",)) for i, read in enumerate(reads)
    )
    names = [f"x{i}" for i in range(inputs)] + [f"t{i}" for i in range(len(reads))]
    return Graph(
        "g",
        operators,
        {n: Tensor(n, 8 * SIZE, (SIZE,), "int64") for n in names},
        tuple(f"x{i}" for i in range(inputs)),
        tuple(outputs),
    )


CHAIN = graph_of([["x0"], ["t0"], ["t1"], ["t2"]], ["t3"])
PIPELINE = Plan(
    (
        Stage("s0", "pi", ("op0",)),
        Stage("s1", "edge", ("op1",)),
        Stage("s2", "server", ("op2",)),
        Stage("s3", "pi", ("op3",)),
    )
)


def request(number: int, graph: Graph = CHAIN) -> dict[str, np.ndarray]:
    return {name: np.arange(SIZE) * (number + k) for k, name in enumerate(graph.inputs)}


def answer(number: int, graph: Graph = CHAIN) -> dict[str, np.ndarray]:
    names = [op.name for op in graph.operators]
    found = local_cluster.computed(graph, names, request(number, graph))
    return {name: found[name] for name in graph.outputs}


def bound(window: int) -> int:
    """Tensors that a window's requests can be at once, in host, outbox and transport of each of
    three devices, with an acknowledgement for each that travels; nothing in it grows with load."""
    tensors = len(CHAIN.tensors)
    moves = len(transfers(PIPELINE, CHAIN, "pi", "pi"))
    return window * (3 * tensors + 3 * moves)


@pytest.mark.parametrize("window", [1, 4])
def test_a_flood_holds_no_more_than_the_window(window: int) -> None:
    count = 60 * window
    most = [0]
    with local_cluster.deployed(
        PIPELINE, CHAIN, ("pi", "edge", "server"), window=window, stalled=["server"]
    ) as found:
        futures = []
        full = threading.Event()

        def flood() -> None:
            for i in range(count):
                if i == window:
                    full.set()  # the next one waits for room
                futures.append(found.session.submit(request(i), deadline_s=60))
                most[0] = max(most[0], found.held())

        thread = threading.Thread(target=flood)
        thread.start()
        assert full.wait(20)
        # All that is admitted stands before the stalled device.
        most[0] = max(most[0], found.held())
        assert len(futures) <= window
        found.gates["server"].set()
        thread.join(60)
        for i, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(60)["t3"], answer(i)["t3"])
        local_cluster.drained(found)
        assert found.held() <= 3 * len(transfers(PIPELINE, CHAIN, "pi", "pi"))  # late acks
    assert len(futures) == count
    assert 0 < most[0] <= bound(window)


def test_a_stall_of_ten_seconds_loses_nothing() -> None:
    """The receiver's thread stands still while senders try again; then all goes on."""
    window = 6
    with local_cluster.deployed(PIPELINE, CHAIN, ("pi", "edge", "server"), window=window) as found:
        host = found.workers["server"].host
        receive = host.receive
        go_on, arrived = threading.Event(), threading.Event()

        def stall(message: Activation, payload: Payload, came_s: float) -> None:
            arrived.set()
            assert go_on.wait(60)
            receive(message, payload, came_s)

        host.receive = stall  # type: ignore[method-assign]
        futures = [found.session.submit(request(i), deadline_s=1000) for i in range(window)]
        assert arrived.wait(20)
        for _ in range(10):
            found.pass_time(1.0)
        assert found.resent.wait(20)
        assert found.held() <= bound(window)
        go_on.set()
        for i, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(60)["t3"], answer(i)["t3"])
        stats = found.session.stats()
        assert (stats.answered, stats.failed) == (window, 0)
        # What was sent again is computed once.
        assert all(s.requests == window for d in stats.devices.values() for s in d.stages)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Graph, Plan]:
    """A random graph with joins and shared tensors, cut into stages on up to four devices."""
    count = draw(st.integers(1, 9))
    inputs = draw(st.integers(1, 2))
    names = [f"x{i}" for i in range(inputs)]
    reads: list[list[str]] = []
    for i in range(count):
        known = names + [f"t{j}" for j in range(i)]
        reads.append(draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)))
    unread = {f"t{i}" for i in range(count)} - {t for read in reads for t in read}
    more = draw(st.sets(st.integers(0, count - 1), max_size=2))
    outputs = sorted(unread | {f"t{i}" for i in more})
    graph = graph_of(reads, outputs, inputs)
    edges = sorted(draw(st.sets(st.integers(1, count - 1), max_size=5))) if count > 1 else []
    stages = [
        Stage(f"s{k}", draw(st.sampled_from(DEVICES)), tuple(f"op{i}" for i in range(a, b)))
        for k, (a, b) in enumerate(zip([0, *edges], [*edges, count], strict=True))
    ]
    return graph, Plan(tuple(stages))


def receives_something(plan: Plan, graph: Graph) -> bool:
    """A device that awaits nothing from elsewhere is refused: nothing would start its stages."""
    targets = {move.target_device for move in transfers(plan, graph, "pi", "pi")}
    return all(device == "pi" or device in targets for device in plan.devices)


@given(plans(), st.integers(1, 5), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_any_stages_answer_every_request_once_and_send_each_tensor_once(
    made: tuple[Graph, Plan], window: int, count: int
) -> None:
    graph, plan = made
    assume(receives_something(plan, graph))
    with local_cluster.deployed(plan, graph, DEVICES, window=window) as found:
        ended: Counter[int] = Counter()
        futures = []
        for i in range(count):
            future = found.session.submit(request(i, graph), deadline_s=60)
            future.add_done_callback(lambda _, i=i: ended.update([i]))  # type: ignore[misc]
            futures.append(future)
        for i, future in enumerate(futures):
            result = future.result(30)
            for name, expected in answer(i, graph).items():
                np.testing.assert_array_equal(result[name], expected)
        assert ended == Counter(range(count))
        local_cluster.drained(found)
        stats = found.session.stats()
    assert (stats.answered, stats.failed, stats.duplicates) == (count, 0, 0)
    assert all(s.requests == count for d in stats.devices.values() for s in d.stages)
    moves = transfers(plan, graph, "pi", "pi")
    assert found.sent == Counter(
        {(i, m.tensor, f"at-{m.target_device}"): 1 for i in range(count) for m in moves}
    )
