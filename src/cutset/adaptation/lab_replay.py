"""A trace played against a policy on real processes: a thread makes the conditions on time, while
requests run one after another through an adaptive session."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from cutset.adaptation import lab_moments
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.live import Adapter
from cutset.adaptation.observations import Truth
from cutset.adaptation.policy import Policy, Switch
from cutset.adaptation.simulated import Played, Request
from cutset.adaptation.traces import Trace
from cutset.errors import CutsetError
from cutset.lab.competitors import count_for
from cutset.lab.state import LabSpec
from cutset.ports import Array
from cutset.runner import Feeds, Results, RunRecord, run_requests

#: Runs of a segment from which the load of so many competitors is known: at least so many, and for
#: so long, as the scheduler's turns are a few milliseconds; but not more than that.
LEAST_RUNS, RUNS_S, MOST_RUNS = 7, 1.0, 200


class SetsLinks(Protocol):
    """A lab."""

    def set(self, *changes: str) -> None: ...


class SetsLoad(Protocol):
    """Competitors."""

    def set(self, count: int) -> None: ...


class Session(Protocol):
    """An adaptive session, and how many requests its local fallback has answered."""

    def submit(self, feeds: Feeds, deadline_s: float | None = None) -> Future[dict[str, Array]]: ...

    @property
    def fallbacks(self) -> int: ...


class Emulation:
    """Makes conditions hold between a device and a server of a lab, and puts its links back.

    `spec` is what the lab is before; `loads` is k by the number of competitors, as measured.
    """

    def __init__(
        self,
        lab: SetsLinks,
        spec: LabSpec,
        ends: tuple[str, str],
        competitors: SetsLoad,
        *,
        loads: Mapping[int, float] | None = None,
        stated: Conditions | None = None,
    ) -> None:
        self._lab, self._spec, self._competitors = lab, spec, competitors
        self._share = spec.devices[spec.index(ends[1])].cpu_share
        self._before = self._links = lab_moments.links_of(spec, *ends)
        self.loads: dict[int, float] = dict(loads or {})
        self._slowdown = stated.slowdown if stated is not None else 1.0

    def make(self, conditions: Conditions) -> Conditions:
        """Make them hold; what really holds then. Raises what the lab raises."""
        self._set(lab_moments.links_at(conditions, self._links))
        count = count_for(conditions.load, self._share)
        self._competitors.set(count)
        load = lab_moments.load_at(count, self.loads)
        return lab_moments.truth(self._spec, self._links, load, self._slowdown)

    def put_back(self) -> None:
        """The links as they were, and no competitor at work. Raises what the lab raises."""
        try:
            self._competitors.set(0)
        finally:
            self._set(self._before)

    def measure(self, counts: Sequence[int], run: Callable[[], float]) -> None:
        """Learn k for each of the numbers of competitors: `run` gives the seconds of one run of the
        server's work. Nothing is learnt of a number with which a run fails."""

        def usual_s() -> float:
            found: list[float] = []
            while len(found) < LEAST_RUNS or (sum(found) < RUNS_S and len(found) < MOST_RUNS):
                found.append(run())
            return statistics.fmean(found)

        try:
            self._competitors.set(0)
            alone_s = usual_s()
            self.loads[0] = 1.0
            for count in sorted(set(counts) - {0}):
                self._competitors.set(count)
                try:
                    self.loads[count] = max(1.0, usual_s() / alone_s)
                except CutsetError:
                    continue
        except CutsetError:
            return
        finally:
            self._competitors.set(0)

    def _set(self, links: tuple[Any, Any]) -> None:
        changes = lab_moments.changes(self._links, links)
        if changes:
            self._lab.set(*changes)
        self._links = links


class Mover:
    """A thread that makes each of a trace's moments on time, from `start_s` on the clock.

    What took longer than the next moments are away is followed by the newest of them alone.
    """

    def __init__(
        self,
        trace: Trace,
        make: Callable[[Conditions], None],
        start_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trace, self._make, self._start_s, self._clock = trace, make, start_s, clock
        self._stopping = threading.Event()
        self._error: CutsetError | None = None
        self._thread = threading.Thread(target=self._move, name="cutset-mover", daemon=True)

    def __enter__(self) -> Mover:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what ended it."""
        if self._error is not None:
            raise self._error

    def _move(self) -> None:
        moments = self._trace.moments
        i = 1  # the first was made before the start
        try:
            while i < len(moments):
                wait_s = self._start_s + moments[i].at_s - self._clock()
                if wait_s > 0 and self._stopping.wait(wait_s):
                    return
                now_s = self._clock() - self._start_s
                while i + 1 < len(moments) and moments[i + 1].at_s <= now_s:
                    i += 1
                if self._stopping.is_set():
                    return
                self._make(moments[i].conditions)
                i += 1
        except CutsetError as error:
            self._error = error


def play_live(
    trace: Trace,
    policy: Policy[Any],
    session: Session,
    adapter: Adapter,
    emulation: Emulation,
    feeds: Sequence[Feeds],
    expected: Sequence[Results] | None,
    *,
    deadline_s: float,
    progress: Callable[[float], None] = lambda at_s: None,
) -> tuple[Played, RunRecord]:
    """Play the whole trace with one policy, which begins as if nothing had been seen.

    Requests follow one another. Ctrl-C ends it: what was measured is returned, as `interrupted`;
    with no answer yet it is raised. Raises what the lab raises.
    """
    held = emulation.make(trace.moments[0].conditions)
    start_s = adapter.renew(policy)
    adapter.told(Truth(start_s, held))
    noting = _Noting(session, adapter, start_s)

    def make(conditions: Conditions) -> None:
        holds = emulation.make(conditions)
        adapter.told(Truth(time.monotonic(), holds))

    with Mover(trace, make, start_s) as mover:

        def step(done: int, elapsed_s: float) -> None:
            mover.check()
            progress(min(elapsed_s, trace.duration_s))

        record = run_requests(
            noting,
            feeds,
            duration_s=trace.duration_s,
            deadline_s=deadline_s,
            expected=expected,
            progress=step,
        )
    looked = adapter.looked
    played = Played(
        policy.name,
        noting.requests(),
        tuple(Switch(s.at_s, s.before, s.after, s.reason) for s in adapter.switches),
        trace.duration_s,
        looked.up_bytes,
        looked.down_bytes,
        looked.server_s,
    )
    return played, record


@dataclass
class _Noted:
    at_s: float
    cut: int
    believed: Conditions
    latency_s: float | None = None  # inf: no answer in time; None: it is under way
    fallback: bool = False


class _Noting:
    """A session that notes when each request began, by which cut, and what it took."""

    def __init__(self, session: Session, adapter: Adapter, start_s: float) -> None:
        self._session, self._adapter, self._start_s = session, adapter, start_s
        self._noted: list[_Noted] = []

    def submit(self, feeds: Feeds, deadline_s: float | None = None) -> Future[dict[str, Array]]:
        began_s = time.monotonic()
        before = self._session.fallbacks
        noted = _Noted(began_s - self._start_s, 0, self._adapter.believed(), math.inf)
        self._noted.append(noted)
        inner = self._session.submit(feeds, deadline_s)
        # It was asked for its cut within submit, and requests follow one another.
        noted.cut = self._adapter.cut or 0
        noted.latency_s = None
        outer: Future[dict[str, Array]] = Future()

        def done(found: Future[dict[str, Array]]) -> None:
            error = found.exception()
            took_s = time.monotonic() - began_s
            noted.latency_s = took_s if error is None else math.inf
            noted.fallback = error is None and self._session.fallbacks > before
            if error is None:
                outer.set_result(found.result())
            else:
                outer.set_exception(error)

        inner.add_done_callback(done)
        return outer

    def requests(self) -> tuple[Request, ...]:
        """Those that have ended."""
        return tuple(
            Request(n.at_s, n.cut, n.latency_s, None, n.fallback, n.believed)
            for n in self._noted
            if n.latency_s is not None
        )
