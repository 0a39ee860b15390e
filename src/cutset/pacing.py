"""A loaded submodel, and one that is slowed to a share of a core, as devices are emulated."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cutset.errors import UsageError
from cutset.ports import Array


class Runnable(Protocol):
    """A loaded submodel. Not thread-safe: one thread runs it at a time."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs for one request, by name."""
        ...


#: The end of a paced wait that is spun, as `time.sleep` oversleeps by about this much: where
#: timers are sharp, and elsewhere. Spinning takes a core's time that the device does not have.
_SHARP_SPIN_S, _SPIN_S = 0.00005, 0.0003
_PR_SET_TIMERSLACK = 29
_timers = threading.local()


def sharpen_timers() -> bool:
    """Let this thread's sleeps end when they should, not up to 50 us later; whether that works."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0) == 0)


def _spin_s() -> float:
    found: float | None = getattr(_timers, "spin_s", None)
    if found is None:
        _timers.spin_s = found = _SHARP_SPIN_S if sharpen_timers() else _SPIN_S
    return found


#: A run may take so many times what it usually does, or that part of it, by this machine's noise.
MORE, LESS = 3.0, 0.5
FEW_RUNS = 8
#: The second shortest of the last runs lowers what was learnt, from so many on: a cut's segment is
#: timed nine times at the most, and most of these must not be at the pace of a slow moment.
LAST_RUNS, LEAST_LAST_RUNS = 15, 4
#: Runs in a row from which it is learnt what one usually takes; fewer where they are long.
LEARNING_RUNS, LEAST_LEARNING_RUNS, LEARNING_S = 9, 3, 0.5


@dataclass
class Paced:
    """A runnable that takes the time it would take on a device with `share` of one core.

    A run ends at its start + CPU time/share: right for runs of any length, without privileges, and
    it absorbs other load on this machine up to 1/share. One thread's CPU time is measured where
    the engine runs in the calling thread, the process's where it has threads of its own.

    A run's CPU time is also what interrupts it (network traffic of all emulated devices, which the
    kernel counts as the thread's), and caches that went cold while it waited, which differ by half
    from one second to the next. So what a run usually takes is learnt from the shortest of some
    runs in a row (`learn`), and lowered where the last runs are shorter. From `LESS` to `MORE`
    times that, a run counts as usual; what lies outside is its own work.
    """

    inner: Runnable
    share: float
    threads: int = 1
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    cpu_clock: Callable[[], float] | None = None
    input_names: tuple[str, ...] = field(init=False)
    output_names: tuple[str, ...] = field(init=False)
    _usual_s: float = field(init=False, default=math.inf, repr=False)
    _last_s: deque[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._last_s = deque(maxlen=LAST_RUNS)
        if not 0 < self.share <= 1:
            raise UsageError(
                "the share of a core must be more than 0 and at most 1",
                field="cpu",
                value=self.share,
                remedy="state one such as 0.25",
            )
        self.input_names = self.inner.input_names
        self.output_names = self.inner.output_names
        if self.cpu_clock is None:
            self.cpu_clock = time.thread_time if self.threads == 1 else time.process_time

    def learn(self, feeds: Mapping[str, Array]) -> None:
        """Learn what a run of such feeds usually takes, from some in a row that are not paced."""
        if self.share == 1:
            return
        taken_s: list[float] = []
        self._timed(feeds)  # what it needs is in the caches afterwards
        while len(taken_s) < LEARNING_RUNS:
            taken_s.append(self._timed(feeds)[1])
            if len(taken_s) >= LEAST_LEARNING_RUNS and sum(taken_s) >= LEARNING_S:
                break
        self._usual_s = _usual(taken_s)
        self._last_s.clear()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self.share == 1:  # nothing is left to wait for
            return self.inner.run(feeds)
        spin_s = _spin_s()
        start = self.clock()
        results, cpu_s = self._timed(feeds)
        end = start + self._counted_s(cpu_s) / self.share
        while (left := end - self.clock()) > 0:
            if left > spin_s:
                self.sleep(left - spin_s)
        return results

    def _timed(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], float]:
        assert self.cpu_clock is not None
        start_s = self.cpu_clock()
        results = self.inner.run(feeds)
        return results, self.cpu_clock() - start_s

    def _counted_s(self, cpu_s: float) -> float:
        self._last_s.append(cpu_s)
        usual_s = self._usual_s
        if len(self._last_s) >= LEAST_LAST_RUNS:
            usual_s = min(usual_s, sorted(self._last_s)[1])
        elif math.isinf(usual_s):
            usual_s = min(self._last_s)
        if cpu_s < LESS * usual_s:
            return cpu_s
        return max(usual_s, cpu_s - (MORE - 1) * usual_s)


def _usual(taken_s: Collection[float]) -> float:
    """The least but for one in eight: a single one may be too short, as when a core runs faster for
    a moment."""
    return sorted(taken_s)[len(taken_s) // FEW_RUNS]


def warm_up(runnable: Runnable, feeds: Mapping[str, Array], runs: int = 2) -> None:
    """Run without looking: the first runs allocate, and page the weights in. They are not paced."""
    bare = runnable.inner if isinstance(runnable, Paced) else runnable
    for _ in range(runs):
        bare.run(feeds)
