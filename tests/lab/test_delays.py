"""The relay's delays, in virtual time."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.lab import relay
from cutset.lab.relay import Delays

A, B = "10.77.0.1", "10.77.0.2"


def frame(source: str, target: str, text: bytes = b"", size: int = 0) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return bytes(10 + 14 + 12) + ends + text + bytes(size)


def test_each_way_waits_its_own_time() -> None:
    delays = Delays()
    delays.set({f"{A}>{B}": 0.010, f"{B}>{A}": 0.002})
    there, back, other = frame(A, B), frame(B, A), frame(A, A)
    for sent in (there, back, other):
        delays.add(1.0, sent)
    assert delays.due(1.0) == [other]  # no delay is stated for it
    assert delays.wait_s(1.0) == pytest.approx(0.002)
    assert delays.due(1.0015) == []
    assert delays.due(1.0020001) == [back]
    assert delays.due(2.0) == [there]
    assert delays.wait_s(2.0) is None


@given(st.lists(st.floats(min_value=0, max_value=5), min_size=1, max_size=30))
def test_frames_of_a_pair_keep_their_order(times: list[float]) -> None:
    delays = Delays()
    delays.set({f"{A}>{B}": 0.5})
    sent = [frame(A, B, bytes([i])) for i in range(len(times))]
    for now_s, one in zip(sorted(times), sent, strict=True):
        delays.add(now_s, one)
    assert delays.due(6.0) == sent


def test_what_is_under_way_is_bounded() -> None:
    delays = Delays()
    delays.set({f"{A}>{B}": 1.0})
    size = 65000
    for _ in range(2 * relay.HELD_BYTES // size):
        delays.add(0.0, frame(A, B, size=size))
    held = delays.due(1.0)
    assert relay.HELD_BYTES - 2 * size < sum(map(len, held)) <= relay.HELD_BYTES
    delays.add(2.0, frame(A, B))
    assert len(delays.due(3.0)) == 1
