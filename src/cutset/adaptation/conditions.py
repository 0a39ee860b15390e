"""What decides which cut is best at a moment: links, server, device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cutset.solvers.two_way.roles import Floats


@dataclass(frozen=True)
class Conditions:
    """What holds at a moment, or is believed to.

    `up_bps` and `down_bps` are bits per second of payload from device to server and back, the
    latencies one-way seconds. `load` is the server's factor k (LoADPart): a segment takes `load`
    times what it takes there without load. `queue_s` (q) is what a request waits at the server
    before it runs. `slowdown` is the same factor for the device. `lost`: the server cannot be
    reached.
    """

    up_bps: float
    down_bps: float
    up_latency_s: float = 0.0
    down_latency_s: float = 0.0
    load: float = 1.0
    queue_s: float = 0.0
    slowdown: float = 1.0
    lost: bool = False

    def prices(self) -> Floats:
        """What one unit of each of a cut's amounts (cuts.Cut.amounts) costs, seconds.

        A link that carries nothing costs inf; so does a server that is lost.
        """
        return np.array(
            (
                self.slowdown,
                1.0,
                _per_bit_s(self.up_bps),
                _per_bit_s(self.down_bps),
                self.load,
                math.inf if self.lost else self.queue_s,
                self.up_latency_s,
                self.down_latency_s,
            )
        )


def _per_bit_s(rate_bps: float) -> float:
    return 1 / rate_bps if rate_bps > 0 else math.inf
