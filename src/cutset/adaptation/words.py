"""What is observed and decided, in words: the line that a live session shows each second."""

from __future__ import annotations

import math

from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live import Line
from cutset.units import format_rate, format_time


def line_in_words(line: Line, cuts: Cuts) -> str:
    """Time, links as believed, load, the cut in use and the mean latency since the last line."""
    believed = line.believed
    parts = [f"{line.at_s:5.0f} s"]
    if believed.lost:
        parts.append("server lost")
    else:
        up, down = (
            "unlimited" if math.isinf(rate) else format_rate(_rounded(rate))
            for rate in (believed.up_bps, believed.down_bps)
        )
        parts += [f"up {up}", f"down {down}", f"k {believed.load:.1f}"]
    if believed.slowdown > 1.2:
        parts.append(f"device {believed.slowdown:.1f}x slower")
    parts.append(cuts.cuts[line.cut].name)
    parts.append("no answer yet" if line.latency_s is None else format_time(line.latency_s))
    return "  ".join(parts)


def _rounded(rate_bps: float) -> float:
    """Two digits: an estimate has no more."""
    return float(f"{rate_bps:.2g}")
