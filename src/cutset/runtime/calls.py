"""Calls to other devices and their answers, over messages that may be lost."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from typing import Final

from cutset.errors import LocalProtocolError, TransportError, WorkerLostError
from cutset.runtime.failures import from_failure
from cutset.runtime.messages import Call, CallBody, Failure, Reply, ReplyBody
from cutset.runtime.outbox import Outbox, Parcel

RESEND_S: Final = 3.0
SLOWEST_BYTES_PER_S: Final = 50_000  # a payload may take this long before it is taken for lost


class Calls:
    """The calling side. Lost calls are sent again under the same id, which the callee knows."""

    def __init__(self, outbox: Outbox, address: str) -> None:
        self._outbox = outbox
        self._address = address
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[str, queue.SimpleQueue[ReplyBody | None]]] = {}

    def call(
        self, target: str, device: str, body: CallBody, payload: bytes = b"", *, timeout_s: float
    ) -> ReplyBody:
        """The answer of `device` at address `target`.

        Raises the error that the callee reports, WorkerLostError when it is lost meanwhile, and
        TransportError when no answer comes in time.
        """
        number = next(self._ids)
        answers: queue.SimpleQueue[ReplyBody | None] = queue.SimpleQueue()
        with self._lock:
            self._pending[number] = (target, answers)
        resend_s = RESEND_S + len(payload) / SLOWEST_BYTES_PER_S
        end_s = time.monotonic() + timeout_s
        try:
            while (left_s := end_s - time.monotonic()) > 0:
                message = Call(number, self._address, body)
                self._outbox.post(Parcel(target, message, payload, shaped=False))
                try:
                    answer = answers.get(timeout=min(resend_s, left_s))
                except queue.Empty:
                    continue
                if answer is None:
                    raise WorkerLostError(
                        f"device {device!r} was lost",
                        field=f"devices.{device}",
                        remedy="start its worker again, or plan without it",
                    )
                if isinstance(answer, Failure):
                    raise from_failure(answer)
                return answer
        finally:
            with self._lock:
                del self._pending[number]
        raise TransportError(
            f"device {device!r} did not answer {type(body).__name__} within {timeout_s:g} s",
            field=f"devices.{device}",
            remedy="check its load and the network, then try again",
        )

    def receive(self, reply: Reply) -> None:
        """An answer came; late and repeated ones are ignored."""
        with self._lock:
            waiting = self._pending.get(reply.id)
        if waiting is not None:
            waiting[1].put(reply.body)

    def lost(self, address: str | None) -> None:
        """A peer is lost (None: all are): its calls end."""
        with self._lock:
            for target, answers in self._pending.values():
                if address is None or target == address:
                    answers.put(None)


def answered_as(kind: type[ReplyBody], answer: ReplyBody) -> ReplyBody:
    """Raise LocalProtocolError where an answer is of another kind than its call's."""
    if not isinstance(answer, kind):
        raise LocalProtocolError(f"{kind.__name__} is expected", value=type(answer).__name__)
    return answer
