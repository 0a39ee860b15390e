"""Requests are sent in order, timed, compared; failures are counted; a lost device ends the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

import numpy as np
import pytest

from cutset.errors import CutsetError, DeadlineExceeded, WorkerLostError
from cutset.ports import Array
from cutset.runner import run_requests

FEEDS = [{"x": np.full((1, 2), float(i), np.float32)} for i in range(5)]
EXPECTED = [{"y": 2 * feeds["x"]} for feeds in FEEDS]

Answer = Callable[[int, Mapping[str, Array]], dict[str, Array]]


class FakeSession:
    """Answers at once by a function of (how many came before, feeds), which may raise."""

    def __init__(self, answer: Answer = lambda i, feeds: {"y": 2 * feeds["x"]}) -> None:
        self.seen: list[float] = []
        self._answer = answer

    def submit(
        self, feeds: Mapping[str, Array], deadline_s: float | None = None
    ) -> Future[dict[str, Array]]:
        self.seen.append(float(feeds["x"][0, 0]))
        future: Future[dict[str, Array]] = Future()
        try:
            future.set_result(self._answer(len(self.seen) - 1, feeds))
        except CutsetError as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("in_flight", [1, 3, 20])
def test_inputs_are_cycled_through_in_order(in_flight: int) -> None:
    session, told = FakeSession(), []
    record = run_requests(
        session,
        FEEDS,
        requests=12,
        in_flight=in_flight,
        expected=EXPECTED,
        keep_outputs=True,
        first_sent=lambda: told.append(1),
    )
    assert session.seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert (record.requests, record.answered, record.failed) == (12, 12, 0)
    assert record.comparison is not None
    assert record.comparison.bit_equal
    assert sorted(record.outputs) == [0, 1, 2, 3, 4]
    assert record.outputs[3]["y"][0, 0] == 6
    assert record.answered_at_s == sorted(record.answered_at_s)
    assert all(latency >= 0 for latency in record.latencies_s)
    assert told == [1]


def test_a_swapped_answer_is_found() -> None:
    # Requests 1 and 2 get each other's answers.
    swapped = {1: 2, 2: 1}
    session = FakeSession(lambda i, feeds: EXPECTED[swapped.get(i, i)])
    record = run_requests(session, FEEDS, requests=5, in_flight=4, expected=EXPECTED)
    assert record.comparison is not None
    assert not record.comparison.equal()
    assert record.comparison.max_abs == 2


def test_failures_are_counted_and_the_rest_goes_on() -> None:
    def answer(i: int, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if i in (1, 3):
            raise DeadlineExceeded("late")
        return {"y": 2 * feeds["x"]}

    record = run_requests(FakeSession(answer), FEEDS, requests=6, in_flight=2, expected=EXPECTED)
    assert (record.requests, record.answered, record.failed) == (6, 4, 2)
    assert record.errors == {"late": 2}
    assert isinstance(record.first_error, DeadlineExceeded)
    assert record.comparison is not None
    assert record.comparison.equal()


def test_a_lost_worker_ends_the_run() -> None:
    def answer(i: int, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if i >= 2:
            raise WorkerLostError("gone")
        return {"y": feeds["x"]}

    session = FakeSession(answer)
    record = run_requests(session, FEEDS, requests=1000, in_flight=1)
    assert len(session.seen) == record.requests == 3
    assert isinstance(record.first_error, WorkerLostError)
    assert record.comparison is None


def test_a_worker_lost_at_submission_ends_the_run() -> None:
    class Gone(FakeSession):
        def submit(
            self, feeds: Mapping[str, Array], deadline_s: float | None = None
        ) -> Future[dict[str, Array]]:
            self.seen.append(0)
            raise WorkerLostError("gone")

    session = Gone()
    record = run_requests(session, FEEDS, duration_s=1000, in_flight=4)
    assert len(session.seen) == record.requests == record.failed == 1


@pytest.mark.parametrize("after", [0, 2])
def test_an_interrupt_keeps_what_was_measured(after: int) -> None:
    def answer(i: int, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if i == after:
            raise KeyboardInterrupt
        return {"y": feeds["x"]}

    if after == 0:
        with pytest.raises(KeyboardInterrupt):
            run_requests(FakeSession(answer), FEEDS, requests=5)
        return
    record = run_requests(FakeSession(answer), FEEDS, requests=5)
    assert record.interrupted
    assert record.answered == after
