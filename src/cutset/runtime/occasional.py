"""What goes wrong often is counted always and logged seldom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

LOG_EVERY_S: Final = 1.0


class OccasionalLog:
    """Calls `log` at most once in LOG_EVERY_S, with the count of all that were to be logged."""

    def __init__(
        self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = float("-inf")
        self.count = 0

    def __call__(self, line: str) -> None:
        with self._lock:
            self.count += 1
            now_s, count = self._clock(), self.count
            if now_s < self._next_s:
                return
            self._next_s = now_s + LOG_EVERY_S
        self._log(f"{line} ({count} in all)")
