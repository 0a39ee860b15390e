"""Requests change over between plans that are held; lost ones are begun again and loaded again."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cutset.errors import CutsetError, InfeasibleError, RuntimeFault, WorkerLostError
from cutset.ports import Array
from cutset.runtime import held_plans
from cutset.runtime.held_plans import HeldPlans
from cutset.runtime.message_parts import TensorSpec

FEEDS = {"x": np.zeros(1, np.float32)}
GONE = WorkerLostError("device 'server' was lost", field="devices.server")


class Deployment:
    """What a held plan needs of one: it keeps what it is fed until it is told to answer."""

    inputs: Mapping[str, TensorSpec] = {"x": TensorSpec("float32", (1,))}
    outputs = ("y",)
    loaded: Mapping[str, Any] = {}
    stage_memory: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.fed: list[int] = []
        self.cancelled: list[int] = []
        self.error: CutsetError | None = None
        self.closed = False

    def serve(self, served: Any, watcher: Any) -> None:
        self.served, self.watcher = served, watcher

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None:
        if self.error is not None:
            raise self.error
        self.fed.append(request)

    def cancel(self, request: int) -> None:
        self.cancelled.append(request)

    def answer(self, request: int) -> None:
        self.served.result(request, "y", np.ones(1, np.float32))

    def lose(self) -> None:
        self.error = GONE
        self.served.lost(GONE)

    def stats(self) -> Mapping[str, Any]:
        return {}

    def close(self, *, drain_s: float = 0.0) -> None:
        self.closed = True


class Traffic:
    def __init__(self) -> None:
        self.plan = 0
        self.told: list[tuple[Any, ...]] = []
        self.is_back = threading.Event()

    def select(self) -> int:
        return self.plan

    def began(self, request: int, plan: int) -> None:
        self.told.append(("began", request, plan))

    def ended(self, request: int, *, answered: bool) -> None:
        self.told.append(("ended", request, answered))

    def fell_back(self, took_s: float) -> None:
        self.told.append(("fell back",))

    def lost(self, error: CutsetError) -> None:
        self.told.append(("lost",))

    def back(self) -> None:
        self.is_back.set()

    def ran(self, *what: Any) -> None: ...

    def sent(self, *what: Any) -> None: ...

    def arrived(self, *what: Any) -> None: ...


class Held:
    """Two plans: "local", and "split", which needs the server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        monkeypatch.setattr(held_plans, "REJOIN_S", 0.01)
        self.traffic = Traffic()
        self.local, self.split = Deployment(), Deployment()
        self.fresh = Deployment()
        self.reachable = threading.Event()
        self.refusal: CutsetError | None = None
        self.notes: list[str] = []
        self.plans = HeldPlans(
            {0: self.local, 1: self.split},  # type: ignore[dict-item]
            ("local", "split"),
            self.traffic,
            connect=self.connect,
            deploy=self.deploy,  # type: ignore[arg-type]
            window=4,
            note=self.notes.append,
        )
        self.session = self.plans.session(**options)

    def connect(self) -> None:
        if not self.reachable.is_set():
            raise GONE

    def deploy(self, plan: int) -> Deployment:
        assert plan == 1
        if self.refusal is not None:
            raise self.refusal
        return self.fresh


def test_each_request_takes_the_plan_that_holds_when_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(monkeypatch)
    first = held.session.submit(FEEDS)
    held.traffic.plan = 1
    second = held.session.submit(FEEDS)
    assert (held.local.fed, held.split.fed) == ([0], [1])
    held.split.answer(1)
    held.local.answer(0)
    assert second.result(5)["y"] == first.result(5)["y"] == 1
    assert ("ended", 0, True) in held.traffic.told
    held.plans.close(drain_s=0.0)
    assert held.local.closed
    assert held.split.closed


def test_what_a_lost_server_had_under_way_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.traffic.plan = 1
    future = held.session.submit(FEEDS)
    held.split.lose()
    assert held.local.fed == [0]
    held.split.answer(0)  # a late answer of the old way is no answer any more
    assert not future.done()
    held.local.answer(0)
    assert set(future.result(5)) == {"y"}
    assert held.traffic.told.count(("lost",)) == 1
    later = held.session.submit(FEEDS)  # the policy's wish cannot be met
    assert held.local.fed == [0, 1]
    held.local.answer(1)
    later.result(5)
    assert held.session.stats().failed == 0
    held.plans.close(drain_s=0.0)


def test_lost_plans_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.traffic.plan = 1
    held.split.lose()
    assert held.plans.usable() == (0,)
    held.reachable.set()
    assert held.traffic.is_back.wait(10)
    assert held.plans.usable() == (0, 1)
    assert held.split.closed
    held.session.submit(FEEDS)
    assert held.fresh.fed == [0]
    held.fresh.lose()  # and may be lost again
    assert held.local.fed == [0]
    held.plans.close(drain_s=0.0)


def test_a_plan_that_does_not_fit_any_more_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.refusal = InfeasibleError("too large", field="devices.server.memory")
    held.split.lose()
    held.reachable.set()
    assert held.traffic.is_back.wait(10)
    assert held.plans.usable() == (0,)
    assert any("too large" in text for text in held.notes)
    held.plans.close(drain_s=0.0)


def test_a_stage_that_fails_fails_its_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.traffic.plan = 1
    future = held.session.submit(FEEDS)
    held.split.served.failed(0, RuntimeFault("no such kernel"))
    with pytest.raises(RuntimeFault, match="no such kernel"):
        future.result(5)
    assert held.plans.usable() == (0, 1)
    assert held.split.cancelled == []  # it has ended there
    held.plans.close(drain_s=0.0)


def test_without_a_plan_that_is_left_the_fallback_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(monkeypatch, fallback=lambda feeds: {"y": np.zeros(1, np.float32)})
    held.local.lose()
    held.split.lose()
    assert held.session.run(None, FEEDS)[0] == 0
    assert held.session.stats().fallbacks == 1
    assert held.traffic.told.count(("fell back",)) == 1
    held.plans.close(drain_s=0.0)


def test_what_the_fallback_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch, fallback=lambda feeds: {"y": np.zeros(1, np.float32)})
    failing = held.session.submit(FEEDS)
    held.local.served.failed(0, RuntimeFault("no such kernel"))
    assert failing.result(5)["y"] == 0
    late = held.session.submit(FEEDS, deadline_s=0.05)
    assert late.result(5)["y"] == 0
    held.plans.close(drain_s=0.0)  # so that the last has been told
    assert held.traffic.told[1:] == [
        ("ended", 0, False),
        ("fell back",),
        ("began", 1, 0),
        ("ended", 1, False),
        ("fell back",),
    ]


def test_closing_ends_the_search_for_a_lost_device(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.split.lose()
    held.plans.close(drain_s=0.0)
    assert "cutset-rejoin" not in {t.name for t in threading.enumerate()}


def test_a_request_that_is_stuck_begins_anew_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.traffic.plan = 1
    future = held.session.submit(FEEDS)
    held.plans.reroute(0, 0)
    assert held.split.cancelled == [0]
    assert held.local.fed == [0]
    held.plans.reroute(0, 0)  # it is there already
    held.plans.reroute(9, 0)  # nobody knows of it
    assert held.local.fed == [0]
    held.split.answer(0)
    assert not future.done()
    held.local.answer(0)
    future.result(5)
    held.plans.reroute(0, 1)  # it has ended
    assert held.split.fed == [0]
    assert held.session.stats().answered == 1
    held.plans.close(drain_s=0.0)
