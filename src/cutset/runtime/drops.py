"""Frames that are refused: counted by reason, and spoken of at most once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum


class Reason(StrEnum):
    MALFORMED = "malformed"  # no header of ours, or numbers beyond all sense
    EPOCH = "epoch"  # of no epoch that is here
    TENSOR = "tensor"  # that no stage here awaits
    SENDER = "sender"  # from elsewhere than the plan says
    DTYPE = "dtype"
    SHAPE = "shape"
    SIZE = "size"  # truncated or oversized
    GREETING = "greeting"  # a connection for data by one who may not, or that did not keep to it


LOG_INTERVAL_S = 1.0


class Drops:
    """Counts since it was made. Safe to use from several threads."""

    def __init__(
        self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._unsaid = 0
        self._speak_at_s = float("-inf")

    def add(self, reason: Reason, text: str) -> None:
        """Count a refused frame; log it unless another was logged less than a second ago."""
        with self._lock:
            self._counts[reason.value] = self._counts.get(reason.value, 0) + 1
            now_s = self._clock()
            if now_s < self._speak_at_s:
                self._unsaid += 1
                return
            self._speak_at_s = now_s + LOG_INTERVAL_S
            unsaid, self._unsaid = self._unsaid, 0
        others = f" ({unsaid} more since the last such line)" if unsaid else ""
        self._log(f"dropped a frame, wrong {reason.value}: {text}"[:500] + others)

    def counts(self) -> Mapping[str, int]:
        with self._lock:
            return dict(self._counts)

    def since(self, earlier: Mapping[str, int]) -> dict[str, int]:
        """The counts beyond earlier ones, without zeros."""
        now = self.counts()
        return {k: n - earlier.get(k, 0) for k, n in now.items() if n > earlier.get(k, 0)}
