"""What an adapter tells each second: requests that were answered, whole, however often begun."""

from __future__ import annotations

import pytest

from cutset.adaptation import live
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.live import Adapter, Line
from cutset.adaptation.observations import Asked, Observation, RoundTrip, Transfer
from cutset.adaptation.policies import Following, LoadAware
from cutset.adaptation.policy import Decision
from cutset.errors import CutsetError
from cutset.plan import Plan, Stage


def cut(name: str, device_s: float, up_bytes: float, server_s: float, *devices: str) -> Cut:
    remote = "server" in devices
    stages = tuple(Stage(f"s{i}", device, ()) for i, device in enumerate(devices))
    return Cut(name, Plan(stages), device_s, 0.0, up_bytes, 0.0, server_s, remote, remote, False)


CUTS = Cuts(
    "pi", "server", (cut("local", 0.1, 0, 0, "pi"), cut("offload", 0.0, 1e4, 0.01, "server"))
)
STATED = Conditions(80e6, 80e6)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def told() -> list[Line]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def adapter(told: list[Line], clock: Clock) -> Adapter:
    return Adapter(LoadAware(), CUTS, STATED, on_line=told.append, clock=clock)


def test_a_request_that_began_anew_counts_once_from_its_first_beginning(
    adapter: Adapter, told: list[Line], clock: Clock
) -> None:
    adapter.began(7, 1)
    clock.now_s += 0.4
    adapter.ended(7, answered=False)
    adapter.began(7, 0)
    clock.now_s += 0.1
    adapter.ended(7, answered=True)
    adapter._tell()
    (line,) = told
    assert (line.requests, line.latency_s) == (1, pytest.approx(0.5))
    assert line.beside is not None
    assert (line.beside.requests, line.beside.taken_s) == (1, pytest.approx(0.1))
    assert adapter.requests == (1, 1)


def test_requests_that_were_given_up_are_no_answers(
    adapter: Adapter, told: list[Line], clock: Clock
) -> None:
    adapter.began(1, 0)
    clock.now_s += 0.2
    adapter.ended(1, answered=False)
    adapter.ended(1, answered=True)  # late: nobody waits for it
    adapter.ended(2, answered=True)  # never heard of
    adapter._tell()
    assert (told[0].requests, told[0].latency_s, told[0].p50_s) == (0, None, None)
    assert told[0].beside is not None
    assert told[0].beside.requests == 0


def test_lines_are_of_their_interval_alone(
    adapter: Adapter, told: list[Line], clock: Clock
) -> None:
    for request, took_s in enumerate((0.1, 0.2, 0.6)):
        adapter.began(request, 0)
        clock.now_s += took_s
        adapter.ended(request, answered=True)
    adapter._tell()
    clock.now_s += 1.0
    adapter._tell()
    first, second = told
    assert (first.requests, first.latency_s) == (3, pytest.approx(0.3))
    assert first.p50_s == pytest.approx(0.2)
    assert (second.requests, second.latency_s) == (0, None)
    assert second.beside is not None
    assert second.beside.static_s == (0.0, 0.0)


def test_what_the_fallback_answered_is_among_the_answers_and_not_among_what_cuts_took(
    adapter: Adapter, told: list[Line], clock: Clock
) -> None:
    adapter.began(1, 0)
    clock.now_s += 0.1
    adapter.ended(1, answered=True)
    for request in (2, 3):
        adapter.began(request, 1)
    clock.now_s += 0.6
    adapter.ended(2, answered=False)
    adapter.fell_back(0.7)
    adapter._tell()
    (line,) = told
    assert (line.requests, line.fallbacks, line.fallbacks_s) == (2, 1, 0.7)
    assert line.latency_s == pytest.approx(0.4)
    assert line.waiting_s == pytest.approx(0.6)
    assert line.beside is not None
    assert line.beside.requests == 1


def test_beginnings_of_requests_without_an_end_are_forgotten(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_BEGUN", 10)
    for request in range(50):
        adapter.began(request, 0)
        adapter.ended(request, answered=False)
    assert len(adapter._first_s) == 10


def test_what_a_listener_raises_is_raised_at_the_end_and_ends_no_thread(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Line] = []

    def listen(line: Line) -> None:
        heard.append(line)
        raise ValueError(f"line {len(heard)}")

    monkeypatch.setattr(adapter, "_on_line", listen)
    adapter._tell()
    adapter._tell()
    assert len(heard) == 2
    with pytest.raises(ValueError, match="line 1"):
        adapter.stop()
    adapter.stop()  # it was told


def test_what_a_policy_raises_when_it_is_told_is_raised_at_the_end_and_ends_no_thread(
    adapter: Adapter,
) -> None:
    class Fails(LoadAware):
        def step(self, state: Following, observation: Observation) -> tuple[Following, Decision]:
            if not isinstance(observation, Asked):
                raise ValueError(type(observation).__name__)
            return super().step(state, observation)

    adapter.renew(Fails())
    adapter.told(RoundTrip(100.0, 0.01))
    adapter.lost(CutsetError("gone"))
    assert adapter.seen.pings == (0.01,)
    assert adapter.select() is not None
    with pytest.raises(ValueError, match="RoundTrip"):
        adapter.stop()


def test_a_policy_that_cannot_say_whether_a_request_is_stuck_leaves_it_on_its_way(
    adapter: Adapter,
) -> None:
    class Fails(LoadAware):
        def step(self, state: Following, observation: Observation) -> tuple[Following, Decision]:
            raise ValueError("no idea")

    adapter.renew(Fails())
    offload = adapter.cuts.offload
    assert offload is not None
    adapter.began(1, offload)
    for _ in range(2):
        adapter.told(Transfer(100.0, True, 10_000, 10.0, unfinished=True))
    assert adapter._passages.stuck(adapter.believed(), 200.0) == [1]
    assert adapter._late(200.0) == []
    with pytest.raises(ValueError, match="no idea"):
        adapter.stop()
