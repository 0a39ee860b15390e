"""What one device does for the requests of one epoch: pure bookkeeping, no I/O and no clock.

The device runs the stages of a request in exactly the plan's order (docs/formats.md); of several
requests that could go on, the oldest does. Duplicates are recognised also after a request has
ended, so that a tensor that was sent again is never computed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from cutset.ports import Array
from cutset.runtime.messages import StageSpec


class Arrival(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"  # acknowledge again, keep nothing
    FULL = "full"  # no room: not acknowledged, so that the sender tries again later


@dataclass
class _Request:
    expires_s: float
    tensors: dict[str, Array] = field(default_factory=dict)
    next_stage: int = 0
    awaited: set[str] = field(default_factory=set)
    running: bool = False
    ready_s: float = 0.0


class Flow:
    """The requests of one epoch on one device.

    `receives` are the tensors that come from elsewhere. At most `capacity` requests are held;
    the last `remembered` ended ones are recognised.
    """

    def __init__(
        self,
        stages: Sequence[StageSpec],
        receives: Iterable[str],
        capacity: int,
        remembered: int = 4096,
    ) -> None:
        self.stages = tuple(stages)
        self._receives = frozenset(receives)
        self._capacity = capacity
        self._requests: dict[int, _Request] = {}
        self._ended: set[int] = set()
        self._ended_order: deque[int] = deque()
        self._remembered = remembered

    def __len__(self) -> int:
        return len(self._requests)

    def open(self, request: int, now_s: float, expires_s: float) -> Arrival:
        """Make room for a request; expired ones give way. NEW also where it is open already."""
        if request in self._ended:
            return Arrival.DUPLICATE
        if request in self._requests:
            return Arrival.NEW
        if len(self._requests) >= self._capacity:
            for old in [r for r, state in self._requests.items() if state.expires_s < now_s]:
                self.end(old)
            if len(self._requests) >= self._capacity:
                return Arrival.FULL
        self._requests[request] = _Request(expires_s, awaited=set(self._receives), ready_s=now_s)
        return Arrival.NEW

    def expires_s(self, request: int) -> float | None:
        """When the request's deadline passes here; None where it has ended."""
        state = self._requests.get(request)
        return None if state is None else state.expires_s

    def arrive(
        self, request: int, tensor: str, array: Array, now_s: float, expires_s: float
    ) -> Arrival:
        """A tensor comes from elsewhere (or a graph input from the session)."""
        opened = self.open(request, now_s, expires_s)
        if opened is not Arrival.NEW:
            return opened
        state = self._requests[request]
        if tensor in state.tensors:
            return Arrival.DUPLICATE
        state.tensors[tensor] = array
        state.awaited.discard(tensor)
        state.ready_s = now_s
        self._close_if_done(request)
        return Arrival.NEW

    def next_ready(self) -> tuple[int, int, float] | None:
        """The oldest request whose next stage can run: (request, stage, ready since)."""
        best: int | None = None
        for request, state in self._requests.items():
            if (
                not state.running
                and state.next_stage < len(self.stages)
                and (best is None or request < best)
                and all(t in state.tensors for t in self.stages[state.next_stage].inputs)
            ):
                best = request
        if best is None:
            return None
        state = self._requests[best]
        return best, state.next_stage, state.ready_s

    def take(self, request: int) -> Mapping[str, Array]:
        """Begin the request's next stage: its feeds."""
        state = self._requests[request]
        state.running = True
        return {t: state.tensors[t] for t in self.stages[state.next_stage].inputs}

    def finish(self, request: int, outputs: Mapping[str, Array], now_s: float) -> bool:
        """The stage has run; False where the request was given up meanwhile."""
        state = self._requests.get(request)
        if state is None:
            return False
        state.tensors.update(outputs)
        state.running = False
        state.next_stage += 1
        state.ready_s = now_s
        self._close_if_done(request)
        return True

    def end(self, request: int) -> None:
        """Forget a request (answered, cancelled, failed); its late tensors are duplicates."""
        self._requests.pop(request, None)
        if request not in self._ended:
            self._ended.add(request)
            self._ended_order.append(request)
            if len(self._ended_order) > self._remembered:
                self._ended.discard(self._ended_order.popleft())

    def _close_if_done(self, request: int) -> None:
        state = self._requests[request]
        if state.next_stage >= len(self.stages) and not state.awaited:
            self.end(request)
