"""Closing what a program left open as it ends: an open transport would keep it from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

WATCH_S: Final = 0.2  # how often it is looked whether the program is over
#: Threads that a Zenoh session calls back by; they end with it, and the program with them.
_ZENOH: Final = "pyo3"
_NAME: Final = "cutset-program-end"


def close_at_end(close: Callable[[], None], closed: threading.Event) -> None:
    """Call `close` when nothing of the program runs any more, unless `closed` is set before.

    `atexit` comes too late: Python first waits for all threads, and a transport's end by `close`.
    It waits for this one too, which must have returned before the interpreter ends.
    """

    def watch() -> None:
        while not closed.wait(WATCH_S):
            if _is_over():
                close()
                return

    threading.Thread(target=watch, name=_NAME, daemon=False).start()


def _is_over() -> bool:
    main = threading.main_thread()
    return not main.is_alive() and all(
        thread.daemon or thread is main or thread.name == _NAME or _ZENOH in thread.name
        for thread in threading.enumerate()
    )
