"""Whatever arrives, a worker counts it, says so at most once a second, and lives on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import local_cluster
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutset.errors import RemoteProtocolError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage
from cutset.runtime.codec import decode, encode, pack_tensors, unpack_tensors
from cutset.runtime.drops import Drops, Reason
from cutset.runtime.local_transport import LocalTransport
from cutset.runtime.messages import Ack, Activation, Failure, RequestFailed
from cutset.runtime.transport import arrived

GRAPH = Graph(
    "g",
    (Operator("a", "Sum", ("x",), ("t",)), Operator("b", "Sum", ("t",), ("y",))),
    {n: Tensor(n, 32, (4,), "int64") for n in ("x", "t", "y")},
    ("x",),
    ("y",),
)
PLAN = Plan((Stage("s0", "pi", ("a",)), Stage("s1", "server", ("b",))))
X = np.arange(4)
PAYLOAD = bytes(32)


@dataclass
class Lab:
    found: local_cluster.Deployed
    stranger: LocalTransport
    lines: list[str]
    request: int = 10_000

    def frame(self, **changes: object) -> Activation:
        """What pi would send to server for a request of its own."""
        self.request += 1
        frame = Activation("at-pi", 1, self.request, "t", "int64", (4,), "at-pi", 5.0)
        return msgspec.structs.replace(frame, **changes)

    def good(self) -> None:
        (y,) = self.found.session.run(None, {"x": X}, deadline_s=20)
        np.testing.assert_array_equal(y, local_cluster.computed(GRAPH, ["a", "b"], {"x": X})["y"])

    def dropped(self) -> dict[str, int]:
        """After a good request: frames keep their order for each peer."""
        self.good()
        return dict(self.found.workers["server"].drops.counts())


@contextlib.contextmanager
def opened() -> Iterator[Lab]:
    lines: list[str] = []
    names = ("pi", "server")
    with local_cluster.deployed(PLAN, GRAPH, names, window=64, log=lines.append) as found:
        stranger = found.network.join("stranger")
        stranger.start(lambda header, payload: None, lambda address: None)
        try:
            yield Lab(found, stranger, lines)
        finally:
            stranger.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    with opened() as lab:
        yield lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with opened() as lab:
        yield lab


@pytest.mark.parametrize(
    ("reason", "changes", "payload"),
    [
        ("epoch", {"epoch": 2}, PAYLOAD),
        ("epoch", {"session": "at-elsewhere"}, PAYLOAD),
        ("tensor", {"tensor": "x"}, PAYLOAD),
        ("tensor", {"tensor": "y"}, PAYLOAD),
        ("sender", {"sender": "stranger"}, PAYLOAD),
        ("dtype", {"dtype": "float64"}, PAYLOAD),
        ("dtype", {"dtype": "object"}, PAYLOAD),
        ("shape", {"shape": (2, 2)}, PAYLOAD),
        ("size", {}, PAYLOAD[:-1]),
        ("size", {}, PAYLOAD + b"x"),
        ("size", {}, b""),
        ("malformed", {"remaining_s": float("inf")}, PAYLOAD),
        ("malformed", {"remaining_s": float("nan")}, PAYLOAD),
    ],
)
def test_a_frame_that_does_not_fit_is_counted_and_dropped(
    reason: str, changes: dict[str, object], payload: bytes, lab: Lab
) -> None:
    lab.stranger.send("at-server", encode(lab.frame(**changes)), payload)
    assert lab.dropped() == {reason: 1}
    stats = lab.found.session.stats().devices["server"]
    assert stats.dropped == {reason: 1}
    assert stats.stages[0].requests == 1  # the good one
    assert len(lab.lines) == 1
    assert reason in lab.lines[0]


def test_a_bad_frame_ends_no_request_and_a_good_one_still_arrives(lab: Lab) -> None:
    # Of the very request that runs next, from the device that will send the right one.
    for changes in ({"dtype": "float32"}, {"shape": (8,)}, {"sender": "stranger"}):
        frame = lab.frame(request=0, **changes)
        lab.stranger.send("at-server", encode(frame), PAYLOAD)
    failure = RequestFailed("at-pi", 1, 0, "server", "stranger", Failure("runtime", "not yours"))
    lab.stranger.send("at-pi", encode(failure))
    lab.good()
    assert lab.found.session.stats().failed == 0
    assert lab.found.workers["pi"].drops.counts() == {"sender": 1}


def test_only_a_member_can_fail_a_request(lab: Lab) -> None:
    lab.found.session.close()
    heard: list[int] = []

    class Listens:
        def result(self, request: int, tensor: str, array: object) -> None: ...

        def failed(self, request: int, error: Exception) -> None:
            heard.append(request)

    pi = lab.found.workers["pi"]
    pi.attach(lab.found.key, Listens())
    for sender, request in (("stranger", 1), ("at-server", 2)):
        message = RequestFailed("at-pi", 1, request, "x", sender, Failure("runtime", "no"))
        pi._receive(encode(message), b"", arrived(0))
    assert heard == [2]


def test_a_stages_own_wrong_output_fails_its_request_at_once(lab: Lab) -> None:
    pi = lab.found.workers["pi"]
    (epoch,) = pi.host.epochs()
    inner = epoch.runnables[0]

    class Odd:
        input_names, output_names = inner.input_names, inner.output_names

        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"t": np.zeros((5,), np.int64)}

    epoch.runnables = (Odd(),)
    error = lab.found.session.submit({"x": X}, deadline_s=20).exception(20)
    assert "'t' other than its model says" in str(error)
    epoch.runnables = (inner,)
    lab.good()


def test_lines_come_at_most_once_a_second_and_say_how_many_were_not_said() -> None:
    lines: list[str] = []
    clock = local_cluster.Clock()
    drops = Drops(lines.append, clock)
    for _ in range(5):
        drops.add(Reason.SIZE, "short")
    assert len(lines) == 1
    clock.now_s += 1
    drops.add(Reason.EPOCH, "old")
    assert lines[1].endswith("(4 more since the last such line)")
    assert drops.counts() == {"size": 5, "epoch": 1}
    assert drops.since({"size": 5}) == {"epoch": 1}


def valid() -> list[bytes]:
    return [
        encode(Activation("at-pi", 1, 7, "t", "int64", (4,), "at-pi", 5.0)),
        encode(Ack("at-pi", 1, 7, "t", "at-server")),
        encode(RequestFailed("at-pi", 1, 7, "d", "at-x", Failure("runtime", "m"))),
        pack_tensors({"x": X, "h": X.astype(np.float16)}),
    ]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Arbitrary bytes, or a valid frame cut short, lengthened, or with some bits flipped."""
    data = bytearray(draw(st.one_of(st.binary(max_size=200), st.sampled_from(valid()))))
    kind = draw(st.sampled_from(("cut", "grow", "flip", "as it is")))
    if kind == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    if kind == "grow":
        return bytes(data) + draw(st.binary(min_size=1, max_size=20))
    if kind == "flip" and data:
        for _ in range(draw(st.integers(1, 4))):
            bit = draw(st.integers(0, 8 * len(data) - 1))
            data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@given(damaged())
@settings(max_examples=600)
def test_reading_raises_nothing_but_a_protocol_error(data: bytes) -> None:
    for read in (decode, unpack_tensors):
        with contextlib.suppress(RemoteProtocolError):
            read(data)


@given(st.lists(st.tuples(damaged(), st.binary(max_size=40)), min_size=1, max_size=8))
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_worker_lives_on(shared: Lab, frames: list[tuple[bytes, bytes]]) -> None:
    for header, payload in frames:
        for target in ("at-pi", "at-server"):
            shared.stranger.send(target, header, payload)
    shared.good()
