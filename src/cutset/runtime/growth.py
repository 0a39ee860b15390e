"""How much resident memory something takes in this process: its peak, where the system tells it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cutset import engine
from cutset.engine import Submodel
from cutset.pacing import Runnable, warm_up
from cutset.ports import Array
from cutset.runtime.machine_info import rss_bytes

_RESET = "5"  # written to clear_refs, it sets the peak back to what is resident now


class Growth:
    """From when it is made. On Linux it follows the peak, elsewhere what is resident when asked.

    Memory that was freed before is given back to the system first, where its allocator can: it
    would be taken again unseen.
    """

    def __init__(self) -> None:
        _give_back()
        try:
            Path("/proc/self/clear_refs").write_text(_RESET)
            self._follows_peak = True
        except OSError:
            self._follows_peak = False
        self._before = rss_bytes()

    def bytes(self) -> int:
        """At least 0."""
        now = (_peak_bytes() or rss_bytes()) if self._follows_peak else rss_bytes()
        return max(0, now - self._before)


@dataclass(frozen=True)
class Grown:
    """Bytes by which the process grew: by a model of next to nothing, by loading the model, and by
    loading and running it."""

    stage_bytes: int
    load_bytes: int
    run_bytes: int


def by_loading(
    load: Callable[[Submodel], Runnable],
    get: Callable[[], Submodel],
    use: Callable[[Runnable], None],
) -> Grown:
    """Load what `get` fetches, and `use` it. The engine's own start is not counted."""
    first = load(engine.TINY)
    growth = Growth()
    second = load(engine.TINY)
    stage = growth.bytes()
    del first, second
    growth = Growth()
    runnable = load(get())
    loaded = growth.bytes()
    use(runnable)
    return Grown(stage, loaded, growth.bytes())


def runs(feeds: Mapping[str, Array], times: int = 2) -> Callable[[Runnable], None]:
    """Something to `use` a runnable for: a few runs."""
    return lambda runnable: warm_up(runnable, feeds, times)


def _peak_bytes() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except (OSError, IndexError, ValueError):
        pass
    return None


def _give_back() -> None:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # another libc than glibc
            ctypes.CDLL(None).malloc_trim(0)
