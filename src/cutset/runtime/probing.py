"""Measuring a link from this device: transfers of known size, and their answers."""

from __future__ import annotations

import queue
import time
from typing import Final

from cutset.errors import TransportError
from cutset.runtime.messages import Measure, Measured, Probe, ProbeBack
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.transport import PEER_TIMEOUT_S, Transport

PROBE_TIMEOUT_S: Final = 120.0


class Prober:
    """Sends probes, one at a time, and answers those of others. `name` is the device's."""

    def __init__(self, name: str, transport: Transport, outbox: Outbox) -> None:
        self._name = name
        self._transport = transport
        self._outbox = outbox
        self._answers: queue.SimpleQueue[ProbeBack] = queue.SimpleQueue()
        self._id = 0

    def receive(self, message: Probe | ProbeBack) -> None:
        """A probe of another device, or the answer to ours."""
        if isinstance(message, ProbeBack):
            self._answers.put(message)
        else:
            answer = ProbeBack(message.id, time.process_time())
            self._outbox.post(Parcel(message.sender, answer, shaped=message.shaped))

    def measure(self, body: Measure) -> Measured:
        """Round trips to a device. Raises TransportError where it does not answer."""
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
        end_s = time.monotonic() + PROBE_TIMEOUT_S
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                back = self._answers.get(timeout=left_s)
            except queue.Empty:
                break
            if back.id == self._id:
                return back
        raise TransportError("a probe was not answered", field="links", value=f"{body.bytes} bytes")
