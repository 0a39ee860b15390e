"""Stages of known length under the engine's pacing, in a process on a device of the lab."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Final

from cutset.engine import Paced
from cutset.ports import Array

#: Lengths in seconds, and how often each is run; the median counts.
STAGES: Final = ((0.001, 101), (0.01, 31), (0.1, 7), (1.0, 2))


class _Work:
    """Takes a given time of a processor's."""

    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __init__(self, cpu_s: float) -> None:
        self._cpu_s = cpu_s

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        end = time.thread_time() + self._cpu_s
        while time.thread_time() < end:
            pass
        return {}


def measure(share: float) -> list[float]:
    """Median seconds of each of STAGES on a share of a core."""
    found = []
    for stage_s, runs in STAGES:
        paced = Paced(_Work(stage_s * share), share)
        took = []
        for _ in range(runs):
            start = time.perf_counter()
            paced.run({})
            took.append(time.perf_counter() - start)
        found.append(statistics.median(took))
    return found


def main() -> int:
    share = float(json.loads(sys.stdin.readline())["share"])
    print(json.dumps(measure(share)), flush=True)
    return 0
