"""A client's stream of requests, on the source device: each ends once, by a result or an error."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, Protocol

import numpy as np

from cutset.errors import CutsetError, DeadlineExceeded, LocalProtocolError, UsageError
from cutset.ports import Array, Port, check_feeds
from cutset.runtime.message_parts import TensorSpec
from cutset.runtime.messages import Stats

Results = dict[str, Array]
Fallback = Callable[[Mapping[str, Array]], Results]

DEFAULT_DEADLINE_S: Final = 120.0
MAX_DEADLINE_S: Final = 1e6  # a timer cannot wait for ever

#: The fallback begins so many times what it takes before a deadline, and so many seconds earlier
#: still (at most that part of the deadline): a thread may be woken tens of milliseconds late.
_FALLBACKS, _LATE_S, _LATE_PART = 1.5, 0.1, 0.1


class Backend(Protocol):
    """What carries requests: a deployment. One that is cancelled is waited for no more: it failed,
    or the fallback has answered it, `answered_s` after it was submitted."""

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None: ...

    def cancel(self, request: int, *, answered_s: float | None = None) -> None: ...

    def stats(self) -> Mapping[str, Stats]: ...


@dataclass(frozen=True)
class SessionStats:
    """Counts since the session began, and each device's stages and outgoing links.

    `retries` are tensors that were sent again, `duplicates` those that arrived again;
    `fallbacks` are requests that the local fallback answered.
    """

    requests: int
    answered: int
    failed: int
    fallbacks: int
    retries: int
    duplicates: int
    devices: Mapping[str, Stats]


@dataclass
class _Pending:
    future: Future[Results]
    feeds: Mapping[str, Array]
    since_s: float
    expires_s: float
    results: Results = field(default_factory=dict)
    falling_back: bool = False


class Session:
    """Requests to one deployment, at most `window` under way; submit waits for room.

    `inputs` describes what a request needs, `outputs` what it gets. With a `fallback`, requests
    that the devices cannot answer (one is lost, a stage fails, or the deadline is near) are
    answered by it; it takes about `fallback_s` seconds. Safe to use from several threads.
    """

    def __init__(
        self,
        backend: Backend,
        inputs: Mapping[str, TensorSpec],
        outputs: Sequence[str],
        *,
        window: int,
        fallback: Fallback | None = None,
        fallback_s: float = 0.0,
        deadline_s: float = DEFAULT_DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inputs = inputs
        self._ports = [Port(name, spec.dtype, spec.shape) for name, spec in inputs.items()]
        self.outputs = tuple(outputs)
        self.window = window
        self._backend = backend
        self._fallback = fallback
        self._fallback_s = fallback_s
        self._deadline_s = _checked(deadline_s)
        self._clock = clock
        self._condition = threading.Condition()
        self._pending: dict[int, _Pending] = {}
        self._ids = itertools.count()
        self._alarms: list[tuple[float, int]] = []
        self._error: CutsetError | None = None  # why no device answers any more
        self._closed = False
        self._counts = {"requests": 0, "answered": 0, "failed": 0, "fallbacks": 0}
        self._to_fallback: SimpleQueue[int | None] = SimpleQueue()
        self._timer = threading.Thread(target=self._watch, name="cutset-timer", daemon=True)
        self._timer.start()
        self._local: threading.Thread | None = None
        if fallback is not None:
            self._local = threading.Thread(
                target=self._answer_locally, name="cutset-fallback", daemon=True
            )
            self._local.start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the client's side

    def submit(
        self, feeds: Mapping[str, Array], deadline_s: float | None = None
    ) -> Future[Results]:
        """A request; the future gets all outputs by name, or the error that ended it.

        Waits while the window is full. `deadline_s` counts from now. Raises UsageError where the
        feeds or the deadline do not fit, DeadlineExceeded where there was no room in time, and what
        ended the deployment where no device answers any more (without a fallback).
        """
        check_feeds(self._ports, feeds)
        limit_s = self._deadline_s if deadline_s is None else _checked(deadline_s)
        since_s = self._clock()
        expires_s = since_s + limit_s
        # The caller may change its arrays while ours are still on their way.
        copied = {k: np.array(v) for k, v in feeds.items()}
        pending = _Pending(Future(), copied, since_s, expires_s)
        pending.future.set_running_or_notify_cancel()
        with self._condition:
            while len(self._pending) >= self.window and not self._closed:
                left_s = expires_s - self._clock()
                if left_s <= 0:
                    raise _late(limit_s, "waiting for room in the window")
                self._condition.wait(left_s)
            if self._closed:
                raise LocalProtocolError("the session is closed")
            if self._error is not None and self._fallback is None:
                raise self._error
            request = next(self._ids)
            self._pending[request] = pending
            self._counts["requests"] += 1
            alarm_s = expires_s
            if self._fallback is not None:
                early_s = _FALLBACKS * self._fallback_s + min(_LATE_S, _LATE_PART * limit_s)
                alarm_s = max(self._clock(), expires_s - early_s)
            heapq.heappush(self._alarms, (alarm_s, request))
            if self._alarms[0][1] == request:
                self._condition.notify_all()
            lost = self._error
        if lost is not None:
            self.failed(request, lost)
            return pending.future
        try:
            self._backend.feed(request, pending.feeds, expires_s)
        except CutsetError as error:
            self.failed(request, error)
        return pending.future

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, Array],
        deadline_s: float | None = None,
    ) -> list[Array]:
        """The named outputs (all for None) for one request, as ONNX Runtime's `run`.

        Raises what `submit` raises, and the error that ended the request.
        """
        names = self.outputs if output_names is None else tuple(output_names)
        for name in names:
            if name not in self.outputs:
                raise UsageError(
                    "the model has no such output",
                    field="outputs",
                    value=name,
                    remedy=f"outputs are {', '.join(self.outputs)}",
                )
        results = self.submit(feeds, deadline_s).result()
        return [results[name] for name in names]

    def stats(self) -> SessionStats:
        """Counts, and what the devices measured."""
        devices = self._backend.stats()
        with self._condition:
            return SessionStats(
                **self._counts,
                retries=sum(link.retries for s in devices.values() for link in s.links),
                duplicates=sum(s.duplicates for s in devices.values()),
                devices=devices,
            )

    @property
    def fallbacks(self) -> int:
        """How many requests the local fallback has answered."""
        with self._condition:
            return self._counts["fallbacks"]

    def close(self) -> None:
        """End the session: what is under way fails."""
        with self._condition:
            if self._closed:
                return
            self._closed = True
            waiting = list(self._pending)
            self._condition.notify_all()
        for request in waiting:
            self._finish(request, LocalProtocolError("the session was closed"))
        self._to_fallback.put(None)
        for thread in (self._timer, self._local):
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    # --- the devices' side

    def result(self, request: int, tensor: str, array: Array) -> None:
        """An output is here; the last one answers the request."""
        with self._condition:
            pending = self._pending.get(request)
            if pending is None or tensor not in self.outputs:
                return
            pending.results[tensor] = array
            if len(pending.results) < len(self.outputs):
                return
            results = {name: pending.results[name] for name in self.outputs}
        self._finish(request, results)

    def failed(self, request: int, error: CutsetError) -> None:
        """The devices will not answer this request: the fallback does, or it fails."""
        if self._fallback is None or self._closed:
            self._finish(request, error)
        else:
            self._fall_back(request)

    def lost(self, error: CutsetError) -> None:
        """The deployment is gone: all requests under way and all that come fail or fall back."""
        with self._condition:
            if self._error is None:
                self._error = error
            waiting = list(self._pending)
        for request in waiting:
            self.failed(request, error)

    # --- inside

    def _fall_back(self, request: int) -> None:
        with self._condition:
            pending = self._pending.get(request)
            if pending is None or pending.falling_back:
                return
            pending.falling_back = True
        self._to_fallback.put(request)

    def _answer_locally(self) -> None:
        assert self._fallback is not None
        while (request := self._to_fallback.get()) is not None:
            with self._condition:
                pending = self._pending.get(request)
            if pending is None:
                continue  # the devices answered after all
            start_s = self._clock()
            try:
                found: Results | CutsetError = dict(self._fallback(pending.feeds))
            except CutsetError as error:
                found = error
            except Exception as error:  # whatever it raises ends this request only
                found = CutsetError(f"the local fallback failed: {' '.join(str(error).split())}")
            self._fallback_s = max(self._fallback_s, self._clock() - start_s)
            self._finish(request, found, local=True)

    def _finish(self, request: int, outcome: Results | CutsetError, *, local: bool = False) -> None:
        with self._condition:
            pending = self._pending.pop(request, None)
            if pending is None:
                return
            good = not isinstance(outcome, CutsetError)
            self._counts["answered" if good else "failed"] += 1
            if good and local:
                self._counts["fallbacks"] += 1
            self._condition.notify_all()
        if not good or local:
            answered_s = self._clock() - pending.since_s if good else None
            self._backend.cancel(request, answered_s=answered_s)
        if isinstance(outcome, CutsetError):
            pending.future.set_exception(outcome)
        else:
            pending.future.set_result(outcome)

    def _watch(self) -> None:
        while True:
            with self._condition:
                while True:
                    if self._closed:
                        return
                    while self._alarms and self._alarms[0][1] not in self._pending:
                        heapq.heappop(self._alarms)
                    now_s = self._clock()
                    if self._alarms and self._alarms[0][0] <= now_s:
                        break
                    self._condition.wait(self._alarms[0][0] - now_s if self._alarms else None)
                _, request = heapq.heappop(self._alarms)
                pending = self._pending[request]
                early = now_s < pending.expires_s
                if early:
                    heapq.heappush(self._alarms, (pending.expires_s, request))
            if early:
                self._fall_back(request)
            else:
                self._finish(request, _late(None, "waiting for the answer"))


def _checked(deadline_s: float) -> float:
    if not 0 < deadline_s <= MAX_DEADLINE_S:
        raise UsageError(
            f"a deadline must be more than 0 s and at most {MAX_DEADLINE_S:g} s",
            field="deadline_s",
            value=deadline_s,
            remedy="state the seconds within which the answer is of use",
        )
    return deadline_s


def _late(limit_s: float | None, doing: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the request's deadline passed {doing}",
        field="deadline",
        value=None if limit_s is None else f"{limit_s:g} s",
        remedy="allow more time, or plan for the links and loads as they are now",
    )
