"""When the local fallback begins."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import pytest

from cutset.ports import Array
from cutset.runtime.message_parts import TensorSpec
from cutset.runtime.messages import Stats
from cutset.runtime.session import Session

FEEDS = {"x": np.zeros(1, np.float32)}


class Silent:
    """Devices that never answer."""

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None: ...

    def cancel(self, request: int, *, answered_s: float | None = None) -> None:
        self.answered_s = answered_s

    def stats(self) -> Mapping[str, Stats]:
        return {}


def test_the_fallback_begins_early_enough_for_a_thread_that_wakes_late() -> None:
    """A share of what it takes is next to nothing where that is short."""
    now_s = [100.0]
    begun = threading.Event()

    def answer(feeds: Mapping[str, Array]) -> dict[str, Array]:
        begun.set()
        return dict(feeds)

    devices = Silent()
    with Session(
        devices,
        {"x": TensorSpec("float32", (1,))},
        ("x",),
        window=1,
        fallback=answer,
        fallback_s=0.015,
        clock=lambda: now_s[0],
    ) as session:
        future = session.submit(FEEDS, 60.0)
        for at_s, expected in ((159.5, False), (159.94, True)):
            now_s[0] = at_s
            with session._condition:  # wakes the thread that watches deadlines
                session._condition.notify_all()
            assert begun.wait(10.0 if expected else 0.2) == expected
        assert set(future.result(10.0)) == {"x"}
        assert session.stats().fallbacks == 1
        assert devices.answered_s == pytest.approx(59.94)
