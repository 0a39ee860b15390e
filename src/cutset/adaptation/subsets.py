"""The subset of the cuts that fits and loses least at given points: exact, by integer programs.

Two questions, both covers. Worst loss at most z: at every point one of the cuts that lose at most
z there is taken; the least z is one of the losses, found by bisection. Smallest mean loss among
those: at a point the loss rises by a step wherever none of the cuts up to that step is taken, so
that steps with the same set of cuts share a variable (the radius formulation of the p-median
problem: Cornuéjols, Nemhauser, Wolsey 1980).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from cutset.solvers.two_way.roles import Floats

Flags = NDArray[np.bool_]

#: Losses closer than this are the same: rounding of costs.
SAME_LOSS = 1e-9

# What the objective's parts weigh: bytes decide between means closer than a hundred-thousandth of
# their scale, the order between bytes closer than a thousandth. HiGHS ends within 1e-6 of the best,
# which is less than any step of the order among 64 cuts.
_MEAN, _BYTES, _ORDER = 1e6, 10.0, 1e-2


@dataclass(frozen=True)
class Room:
    """What subsets fit. `needs` by device: bytes of each cut; `limits` bytes, finite; `always` is
    a cut that must be taken. At most `most` are."""

    needs: Mapping[str, tuple[int, ...]]
    limits: Mapping[str, float]
    most: int
    always: int | None = None

    def short(self, taken: tuple[int, ...]) -> str | None:
        """A device on which these do not fit together; None where they fit."""
        return next(
            (d for d, limit in self.limits.items() if sum(self.needs[d][i] for i in taken) > limit),
            None,
        )

    def fits(self, taken: tuple[int, ...]) -> bool:
        return len(taken) <= self.most and self.short(taken) is None


def least_loss(table: Floats, room: Room, least: float = 0.0) -> float | None:
    """The smallest worst loss at the points (`table`: a row a point, a column a cut) of all
    non-empty subsets that fit; None where none fits. It is known to be `least` or more."""
    if room.always is not None:
        table = np.minimum(table, table[:, [room.always]])
    levels = np.unique(np.append(table[table > least], least))
    low, high = 0, len(levels) - 1
    if _covering(table, float(levels[high]), room) is None:
        return None
    if _covering(table, least, room) is not None:  # most often, where points were added
        return least
    while high - low > 1:  # `low` is out of reach, `high` is not
        middle = (low + high) // 2
        if _covering(table, float(levels[middle]), room) is None:
            low = middle
        else:
            high = middle
    return float(levels[high])


def least_mean(table: Floats, among: Floats, room: Room, worst: float) -> tuple[int, ...] | None:
    """The subset that fits, loses at most `worst` at the points of `table`, and the least on
    average at those of `among`; then that of fewer bytes, then of earlier cuts. None: there is
    none."""
    steps: dict[bytes, float] = {}
    sets: dict[bytes, Flags] = {}
    for row in among:
        order = np.argsort(row, kind="stable")
        taken = np.zeros(len(row), dtype=np.bool_)
        for here, after in itertools.pairwise(order):
            taken[here] = True
            rise = min(row[after], worst) - min(row[here], worst)
            if here == room.always or row[here] >= worst:
                break
            if rise > 0:
                key = np.packbits(taken).tobytes()
                sets.setdefault(key, taken.copy())
                steps[key] = steps.get(key, 0.0) + float(rise)
    weights = np.array([steps[key] for key in sets]) / max(len(among), 1)
    soft = np.array(list(sets.values()), dtype=np.bool_).reshape(-1, table.shape[1])
    return _covering(table, worst, room, soft, weights)


def _covering(
    table: Floats,
    worst: float,
    room: Room,
    soft: Flags | None = None,
    weights: Floats | None = None,
) -> tuple[int, ...] | None:
    """A subset that fits with a cut in every row's set of those at most `worst`; with `soft`, the
    one for which the weights of the soft sets that it misses, and then bytes and order, are least.
    """
    count = table.shape[1]
    hard = _minimal(table <= worst + SAME_LOSS, room.always)
    if not hard.any(axis=1).all():
        return None
    least, most = np.zeros(count), np.ones(count)
    for i in range(count):
        most[i] = room.fits((i,))
    if room.always is not None:
        least[room.always] = 1.0
    missed = 0 if soft is None else len(soft)
    costs = np.zeros(count + missed)
    if soft is not None and weights is not None:
        total = np.sum([room.needs[d] for d in room.needs], axis=0, dtype=np.float64)
        costs[:count] = _BYTES * total / (total.sum() or 1.0)
        costs[:count] += _ORDER * np.arange(count) / count**2
        costs[count:] = _MEAN * weights / (weights.sum() or 1.0)
    rows = [np.hstack((hard, np.zeros((len(hard), missed)))), _row(range(count), count + missed)]
    low, high = [*np.ones(len(hard)), 1.0], [*np.full(len(hard), np.inf), float(room.most)]
    if soft is not None and missed:
        rows.append(np.hstack((soft, np.eye(missed))))
        low, high = [*low, *np.ones(missed)], [*high, *np.full(missed, np.inf)]
    for device, limit in room.limits.items():
        scale = max(limit, 1.0)
        sizes = np.array(room.needs[device], dtype=np.float64) / scale
        rows.append(np.concatenate((sizes, np.zeros(missed)))[None, :])
        low, high = [*low, -np.inf], [*high, limit / scale]
    while True:
        solved = milp(
            costs,
            constraints=LinearConstraint(np.vstack(rows), low, high),
            bounds=Bounds(
                np.concatenate((least, np.zeros(missed))), np.concatenate((most, np.ones(missed)))
            ),
            integrality=np.concatenate((np.ones(count), np.zeros(missed))),
            options={"mip_rel_gap": 0.0},
        )
        assert solved.status in (0, 2), solved.message  # optimal or infeasible: there is no limit
        if solved.x is None:
            return None
        taken = tuple(np.flatnonzero(solved.x[:count] > 0.5).tolist())
        short = room.short(taken)
        if short is None:
            return taken
        # The solver takes a millionth too much for none; bytes are counted. Such sets are few.
        over = _shrunk(taken, room, short)
        rows.append(_row(over, count + missed))
        low, high = [*low, -np.inf], [*high, len(over) - 1.0]


def _shrunk(taken: tuple[int, ...], room: Room, device: str) -> tuple[int, ...]:
    """A part that is still too much for the device, and no longer so without any one of it."""
    needs, limit = room.needs[device], room.limits[device]
    for i in taken:
        rest = tuple(j for j in taken if j != i)
        if sum(needs[j] for j in rest) > limit:
            taken = rest
    return taken


def _row(ones: range | tuple[int, ...], length: int) -> Floats:
    row = np.zeros((1, length))
    row[0, list(ones)] = 1.0
    return row


def _minimal(sets: Flags, always: int | None) -> Flags:
    """Those rows that hold no other row, once each, without those that `always` is in."""
    if always is not None:
        sets = sets[~sets[:, always]]
    sets = np.unique(sets, axis=0)
    sets = sets[np.argsort(sets.sum(axis=1), kind="stable")]
    kept = np.zeros((0, sets.shape[1]), dtype=np.bool_)
    for row in sets:
        if not (kept <= row).all(axis=1).any():
            kept = np.vstack((kept, row))
    return kept
