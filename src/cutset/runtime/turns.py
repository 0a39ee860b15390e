"""Whose turn it is on a device's egress, where links are real. Pure: time enters as `now_s`.

The evaluator lets a device send one transfer at a time (docs/formats.md). A network that carries
several at once shares its rate between them, so that the first arrives as late as the last: taking
turns is what makes predictions true, and it is better. Transfers to one target follow each other
without a gap; one to another target waits until those before it are acknowledged, or must have
left by the link's rate, so that a link's latency costs nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST_S: Final = 2.0  # a target holds the egress no longer for a transfer, whatever its link's rate


class Turns(Generic[T]):
    """The egress of one device. Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self._rates_bps: dict[str, float] = {}
        self._waiting: deque[tuple[T, str, int]] = deque()  # (item, target, bytes)
        self._holder: str | None = None
        self._under_way: deque[float] = deque()  # seconds, the holder's that are not acknowledged
        self._sent_s = -math.inf  # when the last of them was sent
        self._free_s = -math.inf  # when they must have left, if none left before it must have

    def set_rate(self, target: str, bandwidth_bps: float | None) -> None:
        """What the link carries, as stated; None where nothing is known of it."""
        if bandwidth_bps is None:
            self._rates_bps.pop(target, None)
        else:
            self._rates_bps[target] = bandwidth_bps

    def add(self, item: T, target: str, size_bytes: int) -> None:
        """A transfer becomes ready; it takes its turn after those that came before."""
        self._waiting.append((item, target, size_bytes))

    def discard(self, matches: Callable[[T], bool]) -> None:
        """Drop what waits for its turn and is not wanted any more."""
        self._waiting = deque(w for w in self._waiting if not matches(w[0]))

    def __len__(self) -> int:
        """Transfers that wait for their turn."""
        return len(self._waiting)

    def poll(self, now_s: float) -> list[T]:
        """What may be sent now, in order."""
        found: list[T] = []
        while self._waiting:
            item, target, size_bytes = self._waiting[0]
            if target != self._holder:
                if self._under_way and now_s < self._until_s:
                    break
                self._holder, self._free_s = target, now_s
                self._under_way.clear()
            self._waiting.popleft()
            rate = self._rates_bps.get(target)
            takes_s = MOST_S if rate is None else min(MOST_S, 8 * size_bytes / rate)
            self._free_s = max(now_s, self._free_s) + takes_s
            self._under_way.append(takes_s)
            self._sent_s = now_s
            found.append(item)
        return found

    def acknowledged(self, target: str) -> None:
        """The target has one of the transfers, or it is given up."""
        if target == self._holder and self._under_way:
            self._under_way.popleft()

    def next_s(self) -> float:
        """When to poll next, if nothing is acknowledged before; inf when nothing waits."""
        return self._until_s if self._waiting else math.inf

    @property
    def _until_s(self) -> float:
        """How long the holder keeps the egress for what is under way."""
        return min(self._free_s, self._sent_s + sum(self._under_way))
