"""Stages of known length under the engine's pacing, in a process on a device of the lab."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Final

from cutset.pacing import Paced
from cutset.ports import Array

#: Lengths in seconds, and how often each is run.
STAGES: Final = ((0.001, 200), (0.01, 40), (0.1, 10), (1.0, 2))


class _Work:
    """Takes a given time of a processor's."""

    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __init__(self, cpu_s: float) -> None:
        self._cpu_s = cpu_s

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        start_s = time.thread_time()
        while time.thread_time() - start_s < self._cpu_s:
            pass
        return {}


def measure(share: float) -> list[float]:
    """Seconds of each of STAGES on a share of a core, as they come one after another.

    The mean without the longest quarter: it sees a guard that brakes often, as a median would not,
    and does not see what else this machine was busy with for a moment.
    """
    found = []
    for stage_s, runs in STAGES:
        paced = Paced(_Work(stage_s * share), share)
        took_s = []
        for _ in range(runs):
            start_s = time.perf_counter()
            paced.run({})
            took_s.append(time.perf_counter() - start_s)
        found.append(statistics.fmean(sorted(took_s)[: -(-3 * runs // 4)]))
    return found


def main() -> int:
    share = float(json.loads(sys.stdin.readline())["share"])
    print(json.dumps(measure(share)), flush=True)
    return 0
