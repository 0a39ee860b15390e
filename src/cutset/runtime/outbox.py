"""What a device sends: one thread that shapes, sends, and sends again what is not acknowledged."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from cutset.errors import CutsetError, LocalProtocolError
from cutset.ports import Array
from cutset.runtime.codec import encode, tensor_view
from cutset.runtime.measuring_messages import Probe, ProbeBack
from cutset.runtime.messages import Ack, Activation, LinkStats, Message
from cutset.runtime.shaping import LinkRate, Shaper
from cutset.runtime.transport import Transport, Wanted, always
from cutset.runtime.turns import Turns

Key = tuple[str, int, int, str, str]  # session, epoch, request, tensor, target

_DATA: Final = (Activation, Ack, Probe, ProbeBack)
RETRY_S: Final = 2.0  # the least time before a tensor is sent again; doubles each time


@dataclass
class Parcel:
    """Something to send. With a `key` it is sent again until it is acknowledged or expires.

    An acknowledgement says by how much it is later than `came_s` (time.perf_counter), if any.
    """

    target: str
    message: Message
    body: Array | bytes = b""
    key: Key | None = None
    expires_s: float = float("inf")
    shaped: bool = True
    came_s: float | None = None
    attempt: int = 0
    start_s: float = 0.0
    sent_s: float = 0.0  # when it was last handed to the transport
    retry_at_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.nbytes

    @property
    def is_data(self) -> bool:
        """What goes between stages, measures their links, or is large; the rest is control."""
        return isinstance(self.message, _DATA) or self.size_bytes > 0


@dataclass
class _Link:
    name: str
    bandwidth_bps: float | None = None
    seen_bps: float | None = None
    delay_s: float = 0.0  # what of a transfer's time to its acknowledgement occupies nothing
    stats: dict[tuple[str, int], LinkStats] = field(default_factory=dict)  # by (session, epoch)
    free_s: float = 0.0  # until when the acknowledged transfers held it


class Outbox:
    """The sending side of a device. `on_error` gets parcels that could not be encoded or sent.

    What it holds is bounded by what its users hold: a window of requests per epoch, one reply per
    call and one probe per measurement.
    """

    def __init__(
        self,
        transport: Transport,
        on_error: Callable[[Parcel, CutsetError], None] = lambda parcel, error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._on_error = on_error
        self._clock = clock
        self._condition = threading.Condition()
        self._urgent: deque[Parcel] = deque()
        self._plain: deque[Parcel] = deque()
        self._shaper: Shaper[Parcel] = Shaper()
        self._turns: Turns[Parcel] = Turns()
        self._unacknowledged: dict[Key, Parcel] = {}
        self._links: dict[str, _Link] = {}
        self._egress_free_s = 0.0
        self._egress_busy_s: dict[tuple[str, int], float] = {}
        self._closed = False
        #: Hears of each acknowledged parcel and for how many seconds it held its link.
        self.on_acknowledged: Callable[[Parcel, float], None] = lambda parcel, held_s: None
        self._thread = threading.Thread(target=self._loop, name="cutset-send", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __len__(self) -> int:
        """Parcels held: to be sent, on an emulated link, or not acknowledged yet."""
        with self._condition:
            waiting = len(self._urgent) + len(self._plain) + len(self._shaper) + len(self._turns)
            return max(waiting, len(self._unacknowledged))

    def close(self) -> None:
        """Send what is due at once (acknowledgements, replies), drop the rest, end the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def post(self, *parcels: Parcel, urgent: bool = False) -> None:
        """Send when it is their turn, and each right behind the one before. Urgent ones pass no
        emulated link."""
        with self._condition:
            if self._closed:
                return
            for parcel in parcels:
                if parcel.key is not None:
                    self._unacknowledged[parcel.key] = parcel
                    parcel.retry_at_s = float("inf")
                if urgent:
                    self._urgent.append(parcel)
                else:
                    self._queue(parcel)
            self._condition.notify()

    def acknowledged(self, key: Key, late_s: float = 0.0) -> None:
        """The receiver has it, and had it for `late_s` when it said so; what cannot be counts as
        nothing."""
        with self._condition:
            parcel = self._unacknowledged.pop(key, None)
            if parcel is None:
                return
            self._turns.acknowledged(parcel.target)
            if len(self._turns):
                self._condition.notify()
            link = self._link(parcel.target)
            now_s = self._clock()
            start_s = parcel.start_s or now_s
            came_s = now_s - late_s if 0 <= late_s < now_s - start_s else now_s
            took_s = max(0.0, came_s - start_s)
            # Transfers under way together hold the link once: count from the end of the last.
            end_s = max(start_s, came_s - link.delay_s)
            busy_s = max(0.0, end_s - max(start_s, link.free_s))
            link.free_s = max(link.free_s, end_s)
            held_s = max(0.0, end_s - max(start_s, self._egress_free_s))
            self._egress_free_s = max(self._egress_free_s, end_s)
            self._egress_busy_s[key[:2]] = self._egress_busy_s.get(key[:2], 0.0) + held_s
            s = link.stats.get(key[:2]) or LinkStats("", 0, 0, 0.0, 0)
            link.stats[key[:2]] = LinkStats(
                s.name,
                s.tensors + 1,
                s.bytes + parcel.size_bytes,
                s.transfer_s + took_s,
                s.retries + parcel.attempt,
                s.busy_s + busy_s,
            )
        self.on_acknowledged(parcel, busy_s)

    def under_way(self, key: tuple[str, int], request: int) -> tuple[int, float]:
        """Of an epoch's request: bytes not acknowledged, and for how long they hold the link."""
        with self._condition:
            held = [p for k, p in self._unacknowledged.items() if k[:3] == (*key, request)]
            begun = [p.start_s for p in held if p.start_s]
            return sum(p.size_bytes for p in held), self._clock() - min(begun) if begun else 0.0

    def forget(self, matches: Callable[[Key], bool]) -> None:
        """Stop sending (again) what matches: the request has ended, or the receiver is lost."""
        with self._condition:
            for key in [k for k in self._unacknowledged if matches(k)]:
                # Nobody will tell that it has arrived: its turn ends with it.
                self._turns.acknowledged(self._unacknowledged.pop(key).target)

            # On a slow link they would wait for their turn, and more of them with every request.
            def unwanted(parcel: Parcel) -> bool:
                return parcel.key is not None and matches(parcel.key)

            self._turns.discard(unwanted)
            self._shaper.discard(self._clock(), unwanted)
            self._condition.notify()

    def set_rate(self, target: str, rate: LinkRate) -> None:
        """Emulate the link to a target from now on."""
        with self._condition:
            self._shaper.set_rate(self._clock(), target, rate)
            self._condition.notify()

    def rate(self, target: str) -> LinkRate:
        with self._condition:
            return self._shaper.rate(target)

    def describe(
        self, target: str, name: str, bandwidth_bps: float | None, delay_s: float = 0.0
    ) -> None:
        """Name a link for the statistics, and say how fast it is for the retry timer.

        `delay_s` is how much later than the end of a transfer its acknowledgement is expected.
        """
        with self._condition:
            link = self._link(target)
            link.name, link.bandwidth_bps, link.delay_s = name, bandwidth_bps, delay_s
            self._turns.set_rate(target, bandwidth_bps)

    def expect_rate(self, target: str, bandwidth_bps: float) -> None:
        """What the link was seen to carry, where that differs from what was stated: a transfer that
        is still on its way is no lost one."""
        with self._condition:
            self._link(target).seen_bps = bandwidth_bps

    def stats(self, session: str, epoch: int) -> tuple[LinkStats, ...]:
        """Sums over the epoch's acknowledged tensors, by link."""
        with self._condition:
            return tuple(
                msgspec.structs.replace(
                    link.stats[session, epoch], name=link.name, path=self._transport.path(target)
                )
                for target, link in self._links.items()
                if link.name and (session, epoch) in link.stats
            )

    def egress_busy_s(self, session: str, epoch: int) -> float:
        """Seconds for which the epoch's acknowledged tensors held this device's egress."""
        with self._condition:
            return self._egress_busy_s.get((session, epoch), 0.0)

    def forget_epoch(self, session: str, epoch: int) -> None:
        """Drop what is to be sent for an epoch, and its statistics."""
        self.forget(lambda key: key[:2] == (session, epoch))
        with self._condition:
            for link in self._links.values():
                link.stats.pop((session, epoch), None)
            self._egress_busy_s.pop((session, epoch), None)

    def _link(self, target: str) -> _Link:
        return self._links.setdefault(target, _Link(""))

    def _queue(self, parcel: Parcel) -> None:
        if parcel.key is not None and not self._shaper.shapes(parcel.target):
            self._turns.add(parcel, parcel.target, parcel.size_bytes)
        elif parcel.shaped:
            self._shaper.add(self._clock(), parcel, parcel.target, parcel.size_bytes)
        else:
            self._plain.append(parcel)

    def _loop(self) -> None:
        while True:
            with self._condition:
                batch = self._due()
                while not batch:
                    if self._closed:
                        return
                    wait_s = self._next_s() - self._clock()
                    self._condition.wait(None if wait_s == float("inf") else max(0.0, wait_s))
                    batch = self._due()
            for parcel, urgent in batch:
                self._send(parcel, urgent)

    def _due(self) -> list[tuple[Parcel, bool]]:
        now_s = self._clock()
        found = [(p, True) for p in self._urgent]
        found += [(p, False) for p in self._plain]
        self._urgent.clear()
        self._plain.clear()
        if self._closed:
            return found
        for due in self._shaper.poll(now_s):
            due.item.start_s = due.item.start_s or due.start_s
            found.append((due.item, False))
        for parcel in self._turns.poll(now_s):
            parcel.start_s = parcel.start_s or now_s
            found.append((parcel, False))
        for parcel in self._late(now_s):
            parcel.retry_at_s = float("inf")
            parcel.attempt += 1
            # A copy: the first may still be in the hands of the transport.
            self._queue(replace(parcel))
        return found

    def _late(self, now_s: float) -> Iterable[Parcel]:
        for key, parcel in list(self._unacknowledged.items()):
            if parcel.retry_at_s <= now_s:
                patient_s = parcel.sent_s + self._patience_s(parcel)
                if parcel.expires_s <= now_s:
                    del self._unacknowledged[key]
                    self._turns.acknowledged(parcel.target)
                elif patient_s > now_s:  # the link was seen to be slower since
                    parcel.retry_at_s = patient_s
                else:
                    yield parcel

    def _next_s(self) -> float:
        retries = (p.retry_at_s for p in self._unacknowledged.values())
        next_s = min(self._shaper.next_s(), self._turns.next_s())
        return min(next_s, min(retries, default=float("inf")))

    def _send(self, parcel: Parcel, urgent: bool) -> None:
        key = parcel.key
        if key is not None:
            with self._condition:
                if key not in self._unacknowledged:
                    return  # acknowledged or given up while it waited
        message = parcel.message
        if isinstance(message, Activation):
            left_s = max(0.0, parcel.expires_s - self._clock())
            message = msgspec.structs.replace(message, remaining_s=left_s)
        elif isinstance(message, Ack) and parcel.came_s is not None:
            late_s = max(0.0, time.perf_counter() - parcel.came_s)
            message = msgspec.structs.replace(message, late_s=late_s)
        try:
            self._transport.send(
                parcel.target,
                encode(message),
                parcel.body if isinstance(parcel.body, bytes) else tensor_view(parcel.body),
                urgent=urgent,
                data=parcel.is_data,
                wanted=self._wanted(parcel),
            )
        except LocalProtocolError as error:
            self._drop(parcel, error)
        except CutsetError as error:
            if key is None:  # what has a key is sent again
                self._on_error(parcel, error)
        if key is not None:
            with self._condition:
                held = self._unacknowledged.get(key)
                if held is not None:
                    held.sent_s = self._clock()
                    held.retry_at_s = held.sent_s + self._patience_s(held)

    def _wanted(self, parcel: Parcel) -> Wanted:
        """Until it is acknowledged or given up, or sent again: of those only the last."""
        key, attempt = parcel.key, parcel.attempt
        if key is None:
            return always

        def wanted() -> bool:
            held = self._unacknowledged.get(key)
            return held is not None and held.attempt == attempt

        return wanted

    def _patience_s(self, parcel: Parcel) -> float:
        """How long to wait for an acknowledgement: four times what is under way to the target."""
        under_way = sum(
            p.size_bytes for p in self._unacknowledged.values() if p.target == parcel.target
        )
        link = self._link(parcel.target)
        known = min((bps for bps in (link.bandwidth_bps, link.seen_bps) if bps), default=None)
        transfer_s = 8 * under_way / known if known else 0.0
        return float((RETRY_S + 4 * transfer_s) * 2 ** min(parcel.attempt, 6))

    def _drop(self, parcel: Parcel, error: CutsetError) -> None:
        if parcel.key is not None:
            with self._condition:
                if self._unacknowledged.pop(parcel.key, None) is not None:
                    self._turns.acknowledged(parcel.target)
                    self._condition.notify()
        if not self._closed:
            self._on_error(parcel, error)
