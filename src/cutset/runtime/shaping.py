"""Emulated links: when a transfer ends, by the evaluator's own rules. Pure: time enters as `now_s`.

A device sends one transfer at a time (each holds the device's egress). A transfer lasts
8·bytes/bandwidth; the link's latency delays it and occupies nothing. What a device takes in from
several senders at once is not held to its ingress: each link is held to the lesser of both.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class LinkRate:
    """`bandwidth_bps` inf is an unshaped link."""

    bandwidth_bps: float = math.inf
    latency_s: float = 0.0


@dataclass(frozen=True)
class Due(Generic[T]):
    """A transfer that has arrived; `start_s` is when it took its turn."""

    item: T
    start_s: float


class Shaper(Generic[T]):
    """The egress of one device. Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self._rates: dict[str, LinkRate] = {}
        self._waiting: deque[tuple[float, T, str, int]] = deque()  # (ready, item, target, bytes)
        self._current: tuple[T, str, float] | None = None  # (item, target, start)
        self._left_bits = 0.0
        self._since_s = 0.0  # when `_left_bits` was true
        self._free_s = -math.inf
        self._flying: list[tuple[float, int, Due[T]]] = []
        self._count = 0

    def rate(self, target: str) -> LinkRate:
        return self._rates.get(target, LinkRate())

    def shapes(self, target: str) -> bool:
        """Whether the link to a target is emulated."""
        return target in self._rates

    def set_rate(self, now_s: float, target: str, rate: LinkRate) -> None:
        """Change a link; a transfer that is on it goes on at the new rate."""
        self._advance(now_s)
        if self._current is not None and self._current[1] == target:
            elapsed_s = now_s - self._since_s
            self._left_bits -= self._rate_now() * elapsed_s if elapsed_s > 0 else 0.0
            self._left_bits = max(0.0, self._left_bits)
            self._since_s = now_s
        self._rates[target] = rate

    def add(self, now_s: float, item: T, target: str, size_bytes: int) -> None:
        """A transfer becomes ready; it takes its turn after those that came before."""
        self._waiting.append((now_s, item, target, size_bytes))
        self._advance(now_s)

    def discard(self, now_s: float, matches: Callable[[T], bool]) -> None:
        """Drop what is not wanted any more, also from the link: what followed it moves up."""
        self._advance(now_s)
        self._waiting = deque(w for w in self._waiting if not matches(w[1]))
        if self._current is not None and matches(self._current[0]):
            self._current = None
            self._free_s = now_s
            self._advance(now_s)

    def __len__(self) -> int:
        """Transfers that wait, are on the link, or fly."""
        return len(self._waiting) + (self._current is not None) + len(self._flying)

    def poll(self, now_s: float) -> list[Due[T]]:
        """What has arrived by now, in order."""
        self._advance(now_s)
        found: list[Due[T]] = []
        while self._flying and self._flying[0][0] <= now_s:
            found.append(heapq.heappop(self._flying)[2])
        return found

    def next_s(self) -> float:
        """When to poll next; inf when nothing is under way."""
        end_s = self._end_s() if self._current is not None else math.inf
        return min(end_s, self._flying[0][0] if self._flying else math.inf)

    def _rate_now(self) -> float:
        assert self._current is not None
        rate = self.rate(self._current[1]).bandwidth_bps
        return rate if math.isfinite(rate) else 1e18

    def _end_s(self) -> float:
        return self._since_s + self._left_bits / self._rate_now()

    def _advance(self, now_s: float) -> None:
        while True:
            if self._current is not None:
                end_s = self._end_s()
                if end_s > now_s:
                    return
                item, target, start_s = self._current
                self._current = None
                self._free_s = end_s
                arrive_s = end_s + self.rate(target).latency_s
                heapq.heappush(self._flying, (arrive_s, self._count, Due(item, start_s)))
                self._count += 1
            if not self._waiting:
                return
            ready_s, item, target, size_bytes = self._waiting.popleft()
            start_s = max(ready_s, self._free_s)
            self._current = (item, target, start_s)
            self._left_bits, self._since_s = 8.0 * size_bytes, start_s
