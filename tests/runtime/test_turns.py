"""Turns on a device's egress: one target at a time, nothing overtaken, nothing held for ever."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cutset.runtime.turns import MOST_S, Turns


def turns(**rates_bps: float) -> Turns[str]:
    made: Turns[str] = Turns()
    for target, rate in rates_bps.items():
        made.set_rate(target, rate)
    return made


def test_transfers_to_one_target_follow_without_a_gap() -> None:
    t = turns(b=8e6)
    t.add("x", "b", 1_000_000)
    t.add("y", "b", 1_000_000)
    assert t.poll(0.0) == ["x", "y"]
    assert t.next_s() == math.inf


def test_another_target_waits_for_the_acknowledgement() -> None:
    t = turns(b=8e6, c=8e6)
    t.add("x", "b", 1_000_000)
    t.add("y", "c", 1_000_000)
    assert t.poll(0.0) == ["x"]
    assert t.poll(0.5) == []
    t.acknowledged("b")
    assert t.poll(0.6) == ["y"]


def test_another_target_waits_no_longer_than_the_rate_says() -> None:
    t = turns(b=8e6, c=8e6)
    t.add("x", "b", 1_000_000)
    t.add("y", "c", 1_000_000)
    assert t.poll(0.0) == ["x"]
    assert t.next_s() == 1.0
    assert t.poll(1.0) == ["y"]


def test_a_silent_target_of_unknown_rate_does_not_hold_the_others_for_ever() -> None:
    t = turns()
    t.add("x", "b", 10)
    t.add("y", "c", 10)
    assert t.poll(0.0) == ["x"]
    assert t.poll(MOST_S) == ["y"]


def test_a_target_that_is_gone_holds_the_egress_for_what_it_owes_only() -> None:
    """Not for all that was ever sent to it without a gap."""
    t = turns()
    for i in range(100):
        t.add(f"{i}", "b", 10)
        assert t.poll(0.1 * i) == [f"{i}"]
        if i:
            t.acknowledged("b")
    t.add("y", "c", 10)
    assert t.poll(10.0) == []
    assert t.next_s() <= 10.0 + MOST_S
    assert t.poll(10.0 + MOST_S) == ["y"]


def test_an_acknowledgement_of_an_earlier_turn_frees_nothing() -> None:
    t = turns(b=8e6, c=8e6)
    t.add("x", "b", 1_000_000)
    t.add("y", "c", 1_000_000)
    t.add("z", "b", 1_000_000)
    assert t.poll(0.0) == ["x"]
    assert t.poll(1.0) == ["y"]
    t.acknowledged("b")  # late: it is c's turn
    assert t.poll(1.1) == []
    t.acknowledged("c")
    assert t.poll(1.2) == ["z"]


@given(
    st.lists(st.tuples(st.sampled_from("bcd"), st.integers(0, 10**6)), max_size=30),
    st.dictionaries(st.sampled_from("bcd"), st.floats(1e4, 1e10)),
    st.booleans(),
)
def test_all_is_sent_once_in_order(
    transfers: list[tuple[str, int]], rates: dict[str, float], answered: bool
) -> None:
    t = turns(**rates)
    for i, (target, size) in enumerate(transfers):
        t.add(f"{i}", target, size)
    now_s, sent = 0.0, []
    while len(sent) < len(transfers):
        batch = t.poll(now_s)
        sent += batch
        if answered:
            for item in batch:
                t.acknowledged(transfers[int(item)][0])
        elif t.next_s() < math.inf:
            assert t.next_s() > now_s or batch
            now_s = max(now_s, t.next_s())
    assert sent == [f"{i}" for i in range(len(transfers))]
