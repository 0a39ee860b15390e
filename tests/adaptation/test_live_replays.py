"""A replay's loop on a session that is made up: what is noted, told and made on time."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from cut_cases import CUTS, LOCAL, OFFLOAD, STATED

from cutset.adaptation import live_looks, probing
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.lab_replay import Mover, play_live
from cutset.adaptation.live import Adapter
from cutset.adaptation.live_looks import Gap
from cutset.adaptation.observations import DeviceRun, Lost, Transfer, Truth
from cutset.adaptation.policies import LoadAware, Oracle, Static
from cutset.adaptation.traces import Moment, Trace
from cutset.errors import CutsetError, DeadlineExceeded, RuntimeFault, TransportError

SLOW = Conditions(1e5, 1e5)
FAST = Conditions(1e10, 1e10)
FEEDS = ({"x": np.ones(1, np.float32)},)


class Answers:
    """A session that answers each request at once, by its adapter's cut; `fails` counts those
    that get no answer, `alone` those that the fallback answers, from the first one on."""

    def __init__(self, adapter: Adapter, fails: int = 0, alone: int = 0) -> None:
        self.adapter, self.fails, self.alone, self.fallbacks, self.sent = (
            adapter,
            fails,
            alone,
            0,
            0,
        )

        self.submitted = threading.Condition()

    def submit(self, feeds: Any, deadline_s: float | None = None) -> Future[Any]:
        self.adapter.began(self.sent, self.adapter.select())
        future: Future[Any] = Future()
        with self.submitted:
            self.sent += 1
            self.submitted.notify_all()
        if self.sent <= self.alone:
            self.fallbacks += 1
        if self.sent <= self.fails:
            future.set_exception(DeadlineExceeded("late"))
        else:
            future.set_result(dict(feeds))
        return future


class Holds:
    """An emulation that makes what it is asked for, and says when the last moment was made."""

    def __init__(self, last: int = 0) -> None:
        self.made: list[Conditions] = []
        self._last, self.done = last, threading.Event()

    def make(self, conditions: Conditions) -> Conditions:
        self.made.append(conditions)
        if len(self.made) == self._last:
            self.done.set()
        return conditions


def play(trace: Trace, policy: Any, session: Answers, emulation: Any) -> Any:
    return play_live(
        trace, policy, session, session.adapter, emulation, FEEDS, FEEDS, deadline_s=1.0
    )


def lasting(*held: Conditions, step_s: float = 0.05) -> Trace:
    moments = tuple(Moment(i * step_s, each) for i, each in enumerate(held))
    return Trace("t", moments, len(held) * step_s)


def test_requests_are_noted_and_answers_compared() -> None:
    adapter = Adapter(LoadAware(), CUTS, STATED)
    session = Answers(adapter, fails=2, alone=3)
    played, record = play(lasting(STATED), Static("offload"), session, Holds())
    assert played.policy == "static offload"
    assert len(played.requests) == record.requests == session.sent > 3
    assert [r.latency_s for r in played.requests[:2]] == [math.inf, math.inf]
    assert [r.fallback for r in played.requests[:4]] == [False, False, True, False]
    assert {r.cut for r in played.requests} == {OFFLOAD}
    starts = [r.at_s for r in played.requests]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert record.comparison is not None
    assert record.comparison.bit_equal
    assert record.failed == 2


class Seen(Holds):
    """Goes on when requests were sent under what was made before; `all_seen`: each time."""

    def __init__(self, session: Answers) -> None:
        super().__init__()
        self.session, self.all_seen = session, True

    def make(self, conditions: Conditions) -> Conditions:
        if self.made:
            with self.session.submitted:
                wanted = self.session.sent + 2
                enough = lambda: self.session.sent >= wanted  # noqa: E731
                self.all_seen &= self.session.submitted.wait_for(enough, 1.0)
        return super().make(conditions)


def test_the_oracle_is_told_what_is_made() -> None:
    adapter = Adapter(LoadAware(), CUTS, STATED)
    session = Answers(adapter)
    emulation = Seen(session)
    played, _ = play(lasting(SLOW, FAST, SLOW), Oracle(), session, emulation)
    assert emulation.made[0] == SLOW
    assert played.requests[0].cut == LOCAL
    # A machine that stands still leaves moments out, or requests.
    if len(emulation.made) == 3 and emulation.all_seen:
        assert CUTS.best(FAST) in {r.cut for r in played.requests}
        assert len(played.switches) >= 1


def test_what_the_lab_refuses_ends_the_replay() -> None:
    class Refuses(Holds):
        def make(self, conditions: Conditions) -> Conditions:
            if self.made:
                raise RuntimeFault("the lab is gone")
            return super().make(conditions)

    adapter = Adapter(LoadAware(), CUTS, STATED)
    trace = Trace("t", (Moment(0.0, STATED), Moment(0.01, SLOW)), 60.0)
    with pytest.raises(RuntimeFault, match="gone"):
        play(trace, LoadAware(), Answers(adapter), Refuses())


def test_what_is_late_is_followed_by_the_newest_alone() -> None:
    held = [Conditions(1e6 + i, 1e6) for i in range(5)]
    emulation = Holds(last=2)
    trace = Trace("t", tuple(Moment(float(i), each) for i, each in enumerate(held)), 5.0)
    now_s = [3.5]
    with Mover(trace, emulation.make, 0.0, lambda: now_s[0]) as mover:
        while not emulation.made:
            mover.check()
        now_s[0] = 4.5
        assert emulation.done.wait(30)
    assert emulation.made == held[3:]


def test_a_stopped_mover_makes_nothing_more() -> None:
    emulation = Holds()
    with Mover(
        Trace("t", (Moment(0.0, FAST), Moment(1e6, SLOW)), 2e6), emulation.make, 0.0, lambda: 0.0
    ):
        pass
    assert emulation.made == []


def test_a_renewed_adapter_has_seen_nothing() -> None:
    now_s = [10.0]
    adapter = Adapter(LoadAware(), CUTS, STATED, clock=lambda: now_s[0])
    stated = adapter.believed()
    for i in range(20):
        now_s[0] += 0.1
        adapter.told(Transfer(now_s[0], True, 100_000, 8.0))
        adapter.told(DeviceRun(now_s[0], LOCAL, 0.5))
        adapter.began(i, adapter.select())
    assert adapter.believed() != stated
    assert adapter.switches
    now_s[0] = 20.0
    assert adapter.renew(Static("offload")) == 20.0
    assert adapter.believed() == stated
    assert (adapter.switches, adapter.cut, sum(adapter.requests)) == ((), None, 0)
    assert adapter.select() == OFFLOAD
    assert adapter.policy == Static("offload")


def test_a_renewed_adapter_knows_that_the_server_is_lost() -> None:
    adapter = Adapter(Static("offload"), CUTS, STATED)
    adapter.lost(CutsetError("gone"))
    adapter.renew(LoadAware())
    assert adapter.believed().lost
    assert adapter.select() == LOCAL
    adapter.back()
    adapter.renew(LoadAware())
    assert not adapter.believed().lost


def test_a_look_from_before_says_nothing() -> None:
    adapter = Adapter(LoadAware(), CUTS, STATED)

    class Renews:
        """Looks during which another policy begins."""

        def ping(self) -> float:
            adapter.renew(LoadAware())
            return 5.0

    adapter._act(Renews(), probing.Ping(), adapter._beginnings)
    assert adapter.believed().up_latency_s == STATED.up_latency_s
    assert adapter.seen.pings == ()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "action", [probing.LookUp(), probing.LookDown(), probing.LookServer(OFFLOAD)]
)
def test_a_look_behind_a_request_that_finds_no_answer_says_nothing(
    action: probing.Action, before: bool
) -> None:
    """On a slow link the call waits for as long as the request's tensors take up."""
    now_s = [0.0]
    adapter = Adapter(LoadAware(), CUTS, STATED, clock=lambda: now_s[0])
    believed = adapter.believed()

    class Unanswered:
        def up(self, *_: int) -> Gap:
            if not before:
                adapter.began(1, OFFLOAD)
            now_s[0] += 3.0
            raise TransportError("no answer")

        down = run = up

    if before:
        adapter.began(1, OFFLOAD)
    for _ in range(2):
        adapter._act(Unanswered(), action, adapter._beginnings)
    assert adapter.believed() == believed
    adapter.ended(1, answered=True)
    before = True  # so that none begins
    for _ in range(2):
        adapter._act(Unanswered(), action, adapter._beginnings)
    assert adapter.believed() != believed


def test_truth_is_for_the_oracle_only() -> None:
    adapter = Adapter(LoadAware(), CUTS, STATED)
    adapter.told(Truth(0.0, SLOW))
    assert adapter.believed() == Adapter(LoadAware(), CUTS, STATED).believed()
    adapter.renew(Oracle())
    adapter.told(Truth(0.0, SLOW))
    assert adapter.select() == LOCAL
    adapter.told(Lost(0.0))


@pytest.mark.parametrize("crosses", [0, 100, 2000])
def test_a_look_that_much_of_an_answer_crossed_says_nothing(crosses: int) -> None:
    """What came between its two transfers took time on the link that is not theirs."""
    adapter = Adapter(LoadAware(), CUTS, STATED)
    adapter.began(1, OFFLOAD)

    class Crosses:
        def down(self, lead_bytes: int, size_bytes: int) -> Gap:
            if crosses:
                adapter.arrived(1, OFFLOAD, crosses, 0.0, 1e-9)
            return Gap(size_bytes, 8 * size_bytes / 1e5, 1.0)

    for _ in range(2):
        adapter._act(Crosses(), probing.LookDown(3000), adapter._beginnings)  # type: ignore[arg-type]
    expected = STATED.down_bps if crosses > 300 else 1e5
    assert adapter.believed().down_bps == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gap", "seen"),
    [
        (Gap(3040, 1e-3, 5e-3), Transfer(1.0, True, 3040, 1e-3, look=True)),
        (Gap(3000, 0.2, 0.3), Transfer(1.0, True, 3000, 0.2, look=True)),
        # Its reader was late: too little is left to be timed, or nothing, or too short a time.
        (Gap(2899, 1e-3, 5e-3), Transfer(1.0, True, 6000, 5e-3, look=True, at_most=True)),
        (Gap(0, 0.0, 5e-3), Transfer(1.0, True, 6000, 5e-3, look=True, at_most=True)),
        (Gap(3040, 1e-4, 5e-3), Transfer(1.0, True, 6000, 5e-3, look=True, at_most=True)),
    ],
)
def test_a_look_that_was_read_late_shows_speed_only(gap: Gap, seen: Transfer) -> None:
    assert live_looks.transfer(1.0, True, 3000, gap) == seen


def test_requests_that_go_another_way_than_decided_are_told() -> None:
    """A session sends what a lost server cannot answer by the cut that is left."""
    adapter = Adapter(Static("offload"), CUTS, STATED)
    adapter.began(0, adapter.select())
    assert adapter.cut == OFFLOAD
    adapter.lost(CutsetError("gone"))
    adapter.select()
    adapter.began(1, LOCAL)
    adapter.began(2, LOCAL)
    assert adapter.cut == LOCAL
    adapter.back()
    adapter.select()
    adapter.began(3, LOCAL)  # it is back, and not loaded yet
    adapter.began(4, adapter.select())
    told = [(s.before, s.after, s.reason) for s in adapter.switches]
    assert told == [
        (OFFLOAD, LOCAL, "server lost"),
        (LOCAL, OFFLOAD, "its cut is loaded again"),
    ]
