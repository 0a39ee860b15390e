"""Sends requests through a session, times them, and compares each answer with what it must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from cutset.errors import CutsetError, WorkerLostError
from cutset.ports import Array
from cutset.verify import Comparison, compare, worse

Feeds = Mapping[str, Array]
Results = Mapping[str, Array]


class Submits(Protocol):
    def submit(self, feeds: Feeds, deadline_s: float | None = None) -> Future[dict[str, Array]]: ...


#: Waits are short: where the system gives Ctrl-C to another thread, a long one would not end.
_POLL_S = 0.2


@dataclass
class RunRecord:
    """What a run measured; seconds. Lists are in the order of the requests.

    `comparison` is None where no answer was compared. `outputs` holds the first answer to each
    distinct input, where they were asked for. `errors` counts failures by their text.
    `interrupted` says that Ctrl-C ended the run.
    """

    requests: int = 0
    latencies_s: list[float] = field(default_factory=list)
    answered_at_s: list[float] = field(default_factory=list)
    comparison: Comparison | None = None
    outputs: dict[int, Results] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    first_error: CutsetError | None = None
    interrupted: bool = False

    @property
    def answered(self) -> int:
        return len(self.latencies_s)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass
class _Sent:
    input: int
    at_s: float
    done_s: float = 0.0


def run_requests(
    session: Submits,
    feeds: Sequence[Feeds],
    *,
    requests: int | None = None,
    duration_s: float | None = None,
    in_flight: int = 1,
    deadline_s: float | None = None,
    expected: Sequence[Results] | None = None,
    keep_outputs: bool = False,
    first_sent: Callable[[], None] = lambda: None,
    progress: Callable[[int, float], None] = lambda done, elapsed_s: None,
) -> RunRecord:
    """Cycle through `feeds`, `in_flight` at a time, until `requests` were sent or `duration_s` is
    over, then wait for the rest.

    `expected` are the unsplit model's outputs for each of `feeds`. A request that fails is counted;
    a lost worker ends the run, as no later request could be answered either. Ctrl-C ends it too:
    what was measured until then is returned, as `interrupted`; with no answer yet it is raised.
    """
    record = RunRecord()
    under_way: dict[Future[dict[str, Array]], _Sent] = {}
    start_s = time.perf_counter()
    lost = False

    def more() -> bool:
        if lost or (requests is not None and record.requests >= requests):
            return False
        return duration_s is None or time.perf_counter() - start_s < duration_s

    try:
        while more() or under_way:
            while more() and len(under_way) < in_flight:
                index = record.requests % len(feeds)
                sent = _Sent(index, time.perf_counter())
                try:
                    future = session.submit(feeds[index], deadline_s)
                except CutsetError as error:
                    record.requests += 1
                    lost |= _failed(record, error)
                    continue
                under_way[future] = sent
                future.add_done_callback(lambda _, s=sent: _stamp(s))  # type: ignore[misc]
                record.requests += 1
                if record.requests == 1:
                    first_sent()
            if not under_way:
                break
            done, _ = wait(under_way, _POLL_S, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda f: under_way[f].at_s):
                sent = under_way.pop(future)
                failure = future.exception()
                if isinstance(failure, CutsetError):
                    lost |= _failed(record, failure)
                elif failure is not None:
                    raise failure
                else:
                    _answered(record, sent, future.result(), expected, keep_outputs)
            progress(record.answered + record.failed, time.perf_counter() - start_s)
    except KeyboardInterrupt:
        if not record.answered:
            raise
        record.interrupted = True
    return record


def _stamp(sent: _Sent) -> None:
    sent.done_s = time.perf_counter()


def _failed(record: RunRecord, error: CutsetError) -> bool:
    """Count a failure; whether the devices are gone."""
    record.errors[str(error)] = record.errors.get(str(error), 0) + 1
    record.first_error = record.first_error or error
    return isinstance(error, WorkerLostError)


def _answered(
    record: RunRecord,
    sent: _Sent,
    results: Results,
    expected: Sequence[Results] | None,
    keep_outputs: bool,
) -> None:
    # The future may be seen as done a moment before its callback has run.
    done_s = sent.done_s or time.perf_counter()
    record.latencies_s.append(done_s - sent.at_s)
    record.answered_at_s.append(done_s)
    if expected is not None:
        found = compare(results, expected[sent.input])
        record.comparison = found if record.comparison is None else worse(record.comparison, found)
    if keep_outputs:
        record.outputs.setdefault(sent.input, results)
