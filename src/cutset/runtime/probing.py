"""Measuring a link from this device: transfers of known size, and their answers."""

from __future__ import annotations

import queue
import threading
import time
from typing import Final

from cutset.errors import TransportError
from cutset.runtime.measuring_messages import Look, Looked, Measure, Measured, Probe, ProbeBack
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.transport import PEER_TIMEOUT_S, Arrival, Transport

PROBE_TIMEOUT_S: Final = 120.0
CROSSING_TIMEOUT_S: Final = 2.0  # what takes longer says enough of the link
_MOST_SENDERS: Final = 1024


class Prober:
    """Sends probes, for one measurement at a time, and answers those of others.

    `name` is the device's. Safe to use from several threads.
    """

    def __init__(self, name: str, transport: Transport, outbox: Outbox) -> None:
        self._name = name
        self._transport = transport
        self._outbox = outbox
        self._answers: queue.SimpleQueue[ProbeBack] = queue.SimpleQueue()
        self._id = 0
        self._measuring = threading.Lock()
        self._came: dict[str, tuple[int, Arrival]] = {}  # the last probe of each sender, and when

    def receive(self, message: Probe | ProbeBack, arrival: Arrival) -> None:
        """A probe of another device, or the answer to ours."""
        if isinstance(message, ProbeBack):
            self._answers.put(message)
            return
        before, first = self._came.get(message.sender, (0, arrival))
        if message.sender in self._came or len(self._came) < _MOST_SENDERS:
            self._came[message.sender] = (message.id, arrival)
        gap_s, gap_bytes = 0.0, 0
        if message.after and message.after == before:
            # This thread may have read the first one late: what had come by then says nothing.
            # Where nothing had, the link was busy with the second since the first had come.
            since_s = first.read_s if first.behind_bytes else first.at_s
            gap_s = max(0.0, arrival.at_s - since_s)
            gap_bytes = max(0, arrival.bytes - first.behind_bytes)
        answer = ProbeBack(message.id, time.process_time(), gap_s, gap_bytes)
        self._outbox.post(Parcel(message.sender, answer, shaped=message.shaped))

    def look(self, body: Look) -> Looked:
        """Two transfers right behind one another: the second arrives later by what it takes on the
        link, however long its latency. Raises TransportError where they do not arrive in time."""
        with self._measuring:
            self._id += 2
            first, second = self._id - 1, self._id
            address = self._transport.address
            lead = Parcel(body.target, Probe(first, address, True), bytes(body.lead_bytes))
            timed = Parcel(body.target, Probe(second, address, True, first), bytes(body.bytes))
            start_s = time.perf_counter()
            self._outbox.post(lead, timed)
            back = self._answer(second, CROSSING_TIMEOUT_S, body.bytes)
            return Looked(back.gap_s, back.gap_bytes, time.perf_counter() - start_s)

    def ping(self, target: str) -> float:
        """Seconds of an empty round trip over the link. Raises TransportError as `look` does."""
        with self._measuring:
            self._id += 1
            start_s = time.perf_counter()
            probe = Probe(self._id, self._transport.address, True)
            self._outbox.post(Parcel(target, probe))
            self._answer(self._id, CROSSING_TIMEOUT_S, 0)
            return time.perf_counter() - start_s

    def measure(self, body: Measure) -> Measured:
        """Round trips to a device. Raises TransportError where it does not answer."""
        with self._measuring:
            return self._measure(body)

    def _measure(self, body: Measure) -> Measured:
        if not self._transport.wait_for(body.target, PEER_TIMEOUT_S):
            raise TransportError(f"device {self._name!r} cannot reach the device to measure")
        payload = bytes(body.bytes)
        round_trips: list[float] = []
        first_cpu_s = self._probe(body, b"").cpu_s
        cpu_s = time.process_time()
        last = None
        for _ in range(body.count):
            if body.pause_s:
                time.sleep(body.pause_s)
            start_s = time.perf_counter()
            last = self._probe(body, payload)
            round_trips.append(time.perf_counter() - start_s)
        spent_s = time.process_time() - cpu_s
        assert last is not None
        return Measured(tuple(round_trips), spent_s, max(0.0, last.cpu_s - first_cpu_s))

    def _probe(self, body: Measure, payload: bytes) -> ProbeBack:
        self._id += 1
        probe = Probe(self._id, self._transport.address, body.shaped)
        self._outbox.post(Parcel(body.target, probe, payload, shaped=body.shaped))
        return self._answer(self._id, PROBE_TIMEOUT_S, body.bytes)

    def _answer(self, number: int, timeout_s: float, size_bytes: int) -> ProbeBack:
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                back = self._answers.get(timeout=left_s)
            except queue.Empty:
                break
            if back.id == number:
                return back
        raise TransportError("a probe was not answered", field="links", value=f"{size_bytes} bytes")
