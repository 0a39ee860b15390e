"""Noticing that planning compiles its kernels, which takes half a minute the first time.

What is compiled is told by numba's own events: none comes for what its cache has. numba is not
imported for this, but asked once something else has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

COMPILING = "compiling the planner's kernels (once; cached)"
PLANNING = "planning"
_EVENT = "numba:compile"


class CompileNotes:
    """Notes when compiling begins and when it is over. Mutable: a listener, and how deep it is."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.depth = 0
        self.close: Callable[[], None] = lambda: None
        self.listening = False

    def watch(self) -> None:
        """Listen from now on, once numba is there; to be called again and again."""
        event: Any = sys.modules.get("numba.core.event")
        if self.listening or not hasattr(event, "install_recorder"):  # its last definitions
            return
        self.listening = True
        outer = self

        class Told(event.Listener):  # type: ignore[misc]
            def on_start(self, _event: object) -> None:
                outer.changed(1)

            def on_end(self, _event: object) -> None:
                outer.changed(-1)

        listener = Told()
        event.register(_EVENT, listener)
        self.close = lambda: event.unregister(_EVENT, listener)

    def changed(self, step: int) -> None:
        """One kernel more, or less, that is being compiled; those that it calls are inside."""
        before, self.depth = self.depth, max(self.depth + step, 0)
        if bool(before) != bool(self.depth):
            self.note(COMPILING if self.depth else PLANNING)
