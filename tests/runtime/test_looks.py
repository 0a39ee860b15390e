"""Looking at a link and at a server: two transfers behind one another, a segment that is run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import local_cluster
import pytest
import toy

from cutset.errors import TransportError
from cutset.runtime import probing
from cutset.runtime.local_transport import LocalNetwork
from cutset.runtime.measuring_messages import Look, Looked, Probe, ProbeBack, Timed, TimeStage
from cutset.runtime.messages import Failure
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.probing import Prober
from cutset.runtime.shaping import LinkRate
from cutset.runtime.transport import Arrival, arrived
from cutset.runtime.worker import Worker


@pytest.fixture
def pair() -> Iterator[tuple[Worker, Worker]]:
    network = LocalNetwork()
    workers = [
        Worker(name, network.join(f"at-{name}"), SimpleNamespace())  # type: ignore[arg-type]
        for name in ("pi", "server")
    ]
    for worker in workers:
        worker.start()
    yield workers[0], workers[1]
    for worker in workers:
        worker.close()


def test_a_look_shows_the_rate_of_a_link_and_not_its_latency(pair: tuple[Worker, Worker]) -> None:
    """Each way by itself: 3000 bytes take 24 ms at 1 Mbit/s, whatever the way back does."""
    pi, server = pair
    pi.outbox.set_rate("at-server", LinkRate(1e6, 1.0))
    server.outbox.set_rate("at-pi", LinkRate(1e5, 0.0))
    found = pi.look("at-server", 500, 3000)
    assert 0.02 <= found.gap_s < 1.0
    assert 3000 <= found.gap_bytes < 3200  # with its header
    assert found.whole_s > found.gap_s
    answer = server.execute(Look("at-pi", 500, 3000))
    assert isinstance(answer, Looked), answer
    assert answer.gap_s >= 0.2


def test_a_ping_takes_the_latency_both_ways(pair: tuple[Worker, Worker]) -> None:
    pi, server = pair
    pi.outbox.set_rate("at-server", LinkRate(1e6, 0.05))
    server.outbox.set_rate("at-pi", LinkRate(1e6, 0.1))
    assert pi.ping("at-server") >= 0.15


def test_a_look_that_nobody_answers_ends(
    pair: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "CROSSING_TIMEOUT_S", 0.1)
    pi, server = pair
    server.close()
    with pytest.raises(TransportError, match="not answered"):
        pi.look("at-server", 3000, 3000)
    answer = pi.execute(Look("at-nobody", 10, 10))
    assert isinstance(answer, Failure)


class _Wire:
    """A transport that keeps what is sent."""

    address = "at-pi"


def test_only_a_probe_right_behind_another_of_the_same_sender_tells_a_gap() -> None:
    posted: list[Parcel] = []
    outbox: Any = SimpleNamespace(post=lambda parcel, **_: posted.append(parcel))
    prober = Prober("pi", _Wire(), outbox)  # type: ignore[arg-type]
    for probe in (
        Probe(2, "a", True, 1),  # the first of the two was lost
        Probe(3, "a", True, 0),
        Probe(4, "b", True, 3),  # not the same sender's
        Probe(4, "a", True, 3),
    ):
        prober.receive(probe, arrived(3000))
    gaps = [
        (p.message.gap_s, p.message.gap_bytes) for p in posted if isinstance(p.message, ProbeBack)
    ]
    assert gaps[:3] == [(0.0, 0)] * 3
    assert gaps[3][0] > 0
    assert gaps[3][1] == 3000


@pytest.mark.parametrize(
    ("first", "second", "gap"),
    [
        (Arrival(5.0, 5.0, 3000), Arrival(5.02, 5.03, 3000), (0.02, 3000)),
        # Nothing of it had come when the first was read, however late that was.
        (Arrival(5.0, 5.01, 3000), Arrival(5.02, 5.03, 3000), (0.02, 3000)),
        # What came while nobody read is not timed.
        (Arrival(5.0, 5.01, 3000, 1000), Arrival(5.02, 5.09, 3000), (0.01, 2000)),
        (Arrival(5.0, 5.1, 3000, 3000), Arrival(5.02, 5.11, 3000), (0.0, 0)),
        # Something else was between the two.
        (Arrival(5.0, 5.1, 3000, 9000), Arrival(5.12, 5.12, 3000), (0.02, 0)),
    ],
)
def test_a_gap_is_of_what_had_not_come_when_the_first_was_read(
    first: Arrival, second: Arrival, gap: tuple[float, int]
) -> None:
    posted: list[Parcel] = []
    outbox: Any = SimpleNamespace(post=lambda parcel, **_: posted.append(parcel))
    prober = Prober("pi", _Wire(), outbox)  # type: ignore[arg-type]
    prober.receive(Probe(3, "a", True), first)
    prober.receive(Probe(4, "a", True, 3), second)
    answer = posted[-1].message
    assert isinstance(answer, ProbeBack)
    assert (answer.gap_s, answer.gap_bytes) == (pytest.approx(gap[0]), gap[1])


def test_a_loaded_stage_is_timed_between_requests() -> None:
    plan, _ = toy.plan([("pi", 0, 1), ("server", 2, 3)])
    with local_cluster.deployed(plan, toy.graph(), ("pi", "server"), window=1) as found:
        server = found.workers["server"]
        session, epoch = found.key
        answer = server.execute(TimeStage(session, epoch, "s1", 3, 5.0))
        assert isinstance(answer, Timed), answer
        assert len(answer.seconds) == 3
        assert min(answer.seconds) > 0
        assert answer.queue_s >= 0
        answer = server.execute(TimeStage(session, epoch, "s0", 1, 1.0))
        assert isinstance(answer, Failure)
        assert "no such stage" in answer.message
        answer = server.execute(TimeStage(session, epoch + 1, "s1", 1, 1.0))
        assert isinstance(answer, Failure)


def test_what_is_not_wanted_leaves_an_emulated_link_at_once(pair: tuple[Worker, Worker]) -> None:
    """A request that was given up must not hold up what is sent after it."""
    pi, _ = pair
    outbox: Outbox = pi.outbox
    outbox.set_rate("at-server", LinkRate(1e4, 0.0))
    key = ("at-pi", 1, 7, "t", "at-server")
    probe = Probe(1, "at-pi", True)
    outbox.post(Parcel("at-server", probe, bytes(10_000_000), key))  # for more than two hours
    outbox.post(Parcel("at-server", probe, bytes(10_000_000), (*key[:2], 8, "t", "at-server")))
    assert len(outbox) == 2
    outbox.forget(lambda k: k[2] in (7, 8))
    assert len(outbox) == 0
    assert pi.ping("at-server") < 60
