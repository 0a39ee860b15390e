"""What a device sends, on a clock of the test's."""

from __future__ import annotations

import math
import queue
import time

import numpy as np
import pytest

from cutset.runtime.codec import decode
from cutset.runtime.local_transport import LocalNetwork
from cutset.runtime.messages import Ack, Activation
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.shaping import LinkRate


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def parcel(request: int, target: str = "b") -> Parcel:
    message = Activation("s", 1, request, "t", "float32", (25,), "a", 0.0)
    key = ("s", 1, request, "t", target)
    return Parcel(target, message, np.zeros(25, np.float32), key, expires_s=1e9)  # 100 bytes


def sent(outbox: Outbox) -> None:
    """One turn of the sending thread, which is not started here."""
    for item, urgent in outbox._due():
        outbox._send(item, urgent)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(clock: Clock) -> Outbox:
    return Outbox(LocalNetwork().join("a"), clock=clock)


def test_transfers_under_way_together_hold_a_link_once(outbox: Outbox, clock: Clock) -> None:
    outbox.describe("b", "a>b", None, delay_s=0.5)
    outbox.describe("c", "a>c", None)
    for target in "bc":
        outbox.set_rate(target, LinkRate())  # not real, so that no turns are taken
    for item in (parcel(1), parcel(2), parcel(1, "c")):
        outbox.post(item)
    sent(outbox)
    sent(outbox)
    clock.now_s = 101.5  # 1 s, and 0.5 s of delay
    outbox.acknowledged(("s", 1, 1, "t", "b"))
    clock.now_s = 102.5
    outbox.acknowledged(("s", 1, 2, "t", "b"))
    outbox.acknowledged(("s", 1, 1, "t", "c"))
    stats = {link.name: link for link in outbox.stats("s", 1)}
    assert stats["a>b"].transfer_s == pytest.approx(1.5 + 2.5)
    assert stats["a>b"].busy_s == pytest.approx(2.0)
    assert stats["a>c"].busy_s == pytest.approx(2.5)
    assert outbox.egress_busy_s("s", 1) == pytest.approx(2.5)
    outbox.forget_epoch("s", 1)
    assert outbox.egress_busy_s("s", 1) == 0.0


@pytest.mark.parametrize(
    ("late_s", "took_s"),
    [(0.0, 1.0), (0.25, 0.75), (1.0, 1.0), (7.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)],
)
def test_by_how_much_an_acknowledgement_is_late_is_no_time_of_the_link(
    outbox: Outbox, clock: Clock, late_s: float, took_s: float
) -> None:
    """As far as that can be."""
    held_s: list[float] = []
    outbox.on_acknowledged = lambda item, seconds: held_s.append(seconds)
    outbox.describe("b", "a>b", None)
    outbox.post(parcel(1))
    sent(outbox)
    clock.now_s = 101.0
    outbox.acknowledged(("s", 1, 1, "t", "b"), late_s)
    [stats] = outbox.stats("s", 1)
    assert [stats.transfer_s, stats.busy_s, *held_s] == pytest.approx([took_s] * 3)


def test_an_acknowledgement_says_by_how_much_it_is_late() -> None:
    network = LocalNetwork()
    outbox, other = Outbox(network.join("a")), network.join("b")
    acks: queue.SimpleQueue[object] = queue.SimpleQueue()
    other.start(lambda header, payload, arrival: acks.put(decode(header)), lambda address: None)
    ack = Ack("s", 1, 1, "t", "a")
    for came_s in (None, time.perf_counter() - 5.0, time.perf_counter() + 5.0):
        outbox.post(Parcel("b", ack, shaped=False, came_s=came_s), urgent=True)
    sent(outbox)
    late = [acks.get(timeout=10) for _ in range(3)]
    other.close()
    assert all(isinstance(message, Ack) for message in late)
    times = [message.late_s for message in late if isinstance(message, Ack)]
    assert times[0] == times[2] == 0.0
    assert times[1] >= 5.0


def test_an_idle_link_is_not_busy(outbox: Outbox, clock: Clock) -> None:
    outbox.describe("b", "a>b", None)
    for request in (1, 2):
        outbox.post(parcel(request))
        sent(outbox)
        clock.now_s += 1
        outbox.acknowledged(("s", 1, request, "t", "b"))
        clock.now_s += 10
    assert outbox.stats("s", 1)[0].busy_s == pytest.approx(2.0)


def test_what_is_given_up_leaves_the_emulated_link(outbox: Outbox, clock: Clock) -> None:
    outbox.set_rate("b", LinkRate(8.0))  # 100 s for each
    for request in range(50):
        outbox.post(parcel(request))
        outbox.forget(lambda key, request=request: key[2] == request)
    assert len(outbox) <= 1  # the one that is on the link


def test_on_real_links_one_target_is_sent_to_at_a_time(outbox: Outbox, clock: Clock) -> None:
    outbox.describe("b", "a>b", 800.0)  # 1 s for each
    outbox.describe("c", "a>c", 800.0)
    for item in (parcel(1), parcel(1, "c"), parcel(2)):
        outbox.post(item)
    assert [p.target for p, _ in outbox._due()] == ["b"]
    assert outbox._next_s() == pytest.approx(101.0)
    clock.now_s = 100.5
    outbox.acknowledged(("s", 1, 1, "t", "b"))
    assert [p.target for p, _ in outbox._due()] == ["c"]
    clock.now_s = 101.5
    assert [p.key and p.key[2] for p, _ in outbox._due()] == [2]


def test_what_expires_holds_no_turn(outbox: Outbox, clock: Clock) -> None:
    """Its target is gone, and nobody will tell that it has arrived."""
    outbox.describe("b", "a>b", 1.0)
    item = parcel(1)
    item.expires_s = 100.1
    outbox.post(item)
    sent(outbox)
    outbox.post(parcel(1, "c"))
    item.retry_at_s = clock.now_s = 100.2
    outbox._due()
    assert [p.target for p, _ in outbox._due()] == ["c"]


def test_what_is_given_up_takes_no_turn(outbox: Outbox) -> None:
    for item in (parcel(1), parcel(1, "c"), parcel(2, "c")):
        outbox.post(item)
    outbox.forget(lambda key: key[2] == 1)
    sent(outbox)
    assert [p.key and p.key[2] for p, _ in outbox._due()] == []
    assert len(outbox) == 1


def test_what_a_slow_link_still_carries_is_not_sent_again(outbox: Outbox, clock: Clock) -> None:
    """Stated 8 Mbit/s, 100 bytes are late after 2 s; on a link seen at 100 bit/s after 34 s."""
    outbox.describe("b", "a>b", 8e6)
    outbox.post(parcel(1))
    sent(outbox)
    key = parcel(1).key
    assert key is not None
    clock.now_s += 1
    outbox.expect_rate("b", 100.0)
    for at_s, attempts in ((102.5, 0), (133.0, 0), (135.0, 1)):
        clock.now_s = at_s
        sent(outbox)
        sent(outbox)
        assert outbox._unacknowledged[key].attempt == attempts
