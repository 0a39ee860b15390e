"""What is observed and decided, in words: the line that a live session shows each second."""

from __future__ import annotations

import math

from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live import Line
from cutset.units import format_rate, format_time


def line_in_words(line: Line, cuts: Cuts) -> str:
    """Links and load as believed, the cut in use, and the requests of that second."""
    believed = line.believed
    parts = [f"{line.at_s:.0f} s"]
    if believed.lost:
        parts.append("server lost")
    else:
        parts += [
            f"up {_rate(believed.up_bps)}",
            f"down {_rate(believed.down_bps)}",
            f"load {believed.load:.1f}",
        ]
    # What is rare comes first: a narrow terminal cuts the line's end off.
    if line.waiting_s > WAITS_LONG_S:
        parts.append(f"one waits {line.waiting_s:.0f} s")
    if line.fallbacks:
        parts.append(f"{line.fallbacks} fell back")
    if believed.slowdown > SLOW:
        parts.append(f"device {believed.slowdown:.1f}x slower")
    parts.append(cuts.cuts[line.cut].name)
    parts.append(f"p50 {'–' if line.p50_s is None else format_time(line.p50_s)}")
    parts.append(f"{line.requests} request{'' if line.requests == 1 else 's'}")
    return "  ".join(parts)


#: A device that is slower than it was measured by more than this is worth a word.
SLOW = 1.2
#: A request that has waited so long is told while it waits.
WAITS_LONG_S = 3.0


def _rate(rate_bps: float) -> str:
    """Two digits: an estimate has no more."""
    return "unlimited" if math.isinf(rate_bps) else format_rate(float(f"{rate_bps:.2g}"))
