"""How much memory something takes is seen also when it has been freed again."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import toy

from cutset.engine import TINY, Submodel, load
from cutset.pacing import Runnable
from cutset.runtime.growth import Growth, by_loading, runs

MB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's VmHWM")
def test_the_peak_counts_not_what_is_left() -> None:
    growth = Growth()
    np.ones(64 * MB, np.uint8)  # made and dropped
    assert growth.bytes() >= 60 * MB
    assert Growth().bytes() < 30 * MB


def test_the_engine_is_started_before_anything_is_counted() -> None:
    loaded: list[str] = []

    def spy(submodel: Submodel) -> Runnable:
        loaded.append(submodel.name)
        return load(submodel)

    grown = by_loading(
        spy, lambda: toy.submodel("whole", 0, 3), runs({"x": toy.inputs(1)[0]}, times=1)
    )
    assert loaded == [TINY.name, TINY.name, "whole"]
    assert 0 <= grown.load_bytes <= grown.run_bytes
