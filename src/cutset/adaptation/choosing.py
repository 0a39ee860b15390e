"""Which cuts are held loaded where not all of them fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.hull_cuts import hull_cuts
from cutset.adaptation.ranges import Interval, Range, expected_range
from cutset.adaptation.subsets import SAME_LOSS, Room, least_loss, least_mean
from cutset.adaptation.worst_case import losses, worst_points
from cutset.errors import InfeasibleError, UsageError
from cutset.units import format_bytes

__all__ = ["Chosen", "Interval", "Range", "choose_cuts", "expected_range", "hull_cuts"]

#: Cuts that are held at most, whatever memory there is: each is two loaded submodels.
MOST_CUTS = 64

#: Fraction: a proven worst loss is within this of the least that is possible.
CLOSED = 1e-6

_ROUNDS = 60  # each adds the worst points of a subset that looked best; a handful is usual


@dataclass(frozen=True)
class Chosen:
    """`held` are positions in `cuts`, ascending; `left_out` names the others.

    `worst_loss` is the largest fraction by which the cheapest held cut costs more than the cheapest
    of all `cuts`, anywhere in `range` (all of it, not a grid), and `worst_at` is where; None where
    nothing is lost. `bound` is proven: no subset that fits, with the local cut where that fits, has
    a smaller worst loss.
    """

    cuts: Cuts
    held: tuple[int, ...]
    left_out: tuple[str, ...]
    worst_loss: float
    worst_at: Conditions | None
    range: Range
    bound: float = 0.0

    @property
    def held_cuts(self) -> Cuts:
        """The held ones alone: their positions count from 0."""
        return replace(self.cuts, cuts=tuple(self.cuts.cuts[i] for i in self.held))


def choose_cuts(
    cuts: Cuts,
    memory_bytes: Mapping[str, float],
    expected: Range,
    *,
    most: int = MOST_CUTS,
) -> Chosen:
    """All cuts where they fit the devices' memory together (every cut is stages of its own), and
    are at most `most`; otherwise the subset that fits whose worst loss in the range is least.

    A device that `memory_bytes` does not name has no limit. The local cut is among them wherever it
    fits by itself: it is what remains when the server is lost. Of subsets whose worst loss is the
    same, that with the smaller mean loss over `expected.grid()` is taken, then the one of fewer
    bytes, then of earlier cuts.

    The worst loss is the least possible within `CLOSED`: the subset that is best at some points is
    tried on the whole range, the points where it loses most are added, and so on until it loses
    no more than at the points, which bounds every subset (cutting planes for a semi-infinite
    program). Where that takes too many rounds, `bound` stays below `worst_loss`.

    Raises InfeasibleError where no cut fits by itself.
    """
    if most < 1:
        raise UsageError(
            "at least one cut must be held", field="most", value=most, remedy="state 1 or more"
        )
    everything = tuple(range(len(cuts.cuts)))
    room = _room(cuts, memory_bytes, most)
    if room.fits(everything):
        return Chosen(cuts, everything, (), 0.0, None, expected)
    if not any(room.fits((i,)) for i in everything):
        raise _nothing_fits(cuts, memory_bytes)
    grid = losses(cuts, expected.grid())
    table, bound = grid, 0.0
    best: tuple[float, Conditions | None, tuple[int, ...]] = (math.inf, None, ())
    for _ in range(_ROUNDS):
        level = least_loss(table, room, bound)
        assert level is not None  # one cut fits by itself
        held = least_mean(table, grid, room, level)
        assert held is not None
        bound = level
        worst = worst_points(cuts, held, expected, SAME_LOSS)
        loss, at = worst[0] if worst else (0.0, None)
        if not best[2] or loss < best[0]:
            best = (loss, at, held)
        if loss <= bound + CLOSED:
            break
        table = np.vstack((table, losses(cuts, [at for loss, at in worst if loss > bound])))
    loss, at, held = best
    left_out = tuple(cut.name for i, cut in enumerate(cuts.cuts) if i not in held)
    return Chosen(cuts, held, left_out, loss, at, expected, min(bound, loss))


def _room(cuts: Cuts, memory_bytes: Mapping[str, float], most: int) -> Room:
    devices = (cuts.device, cuts.server)
    needs = {d: tuple(cut.memory_bytes.get(d, 0) for cut in cuts.cuts) for d in devices}
    limits = {d: memory_bytes[d] for d in devices if math.isfinite(memory_bytes.get(d, math.inf))}
    room = Room(needs, limits, max(most, 1))
    local = cuts.local
    return replace(room, always=local) if local is not None and room.fits((local,)) else room


def _nothing_fits(cuts: Cuts, memory_bytes: Mapping[str, float]) -> InfeasibleError:
    """Names the cut that is short of the fewest bytes, and where."""
    short = []
    for cut in cuts.cuts:
        over = {d: n - memory_bytes.get(d, math.inf) for d, n in cut.memory_bytes.items()}
        short.append(
            (sum(max(o, 0.0) for o in over.values()), cut, max(over, key=over.__getitem__))
        )
    total, cut, device = min(short, key=lambda item: item[0])
    limit, needed = memory_bytes[device], cut.memory_bytes[device]
    return InfeasibleError(
        f"no cut fits the memory: the nearest, {cut.name!r}, takes {needed} bytes on {device!r},"
        f" {needed - limit:.0f} bytes more than there are",
        field=f"devices.{device}.memory",
        value=f"{limit:.0f} bytes",
        remedy=f"state {total:.0f} bytes more ({format_bytes(total)})"
        if total == needed - limit
        else f"state {needed - limit:.0f} bytes more here, and {total - needed + limit:.0f} more"
        " on the other device",
    )
