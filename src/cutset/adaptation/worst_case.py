"""How much a few held cuts lose against all cuts, at the worst conditions of a whole range.

loss = (cheapest held cut)/(cheapest of all) − 1. Costs are linear in the prices of Conditions, and
a range is a box of prices. For each cut a that is not held, the worst ratio of the held cuts to a
over the box is a linear-fractional program, which Charnes and Cooper's substitution (1962) makes a
linear one: with y = t·prices scaled so that a costs 1, maximise z with every held cut costing at
least z. The largest over all a is exact: no grid can hide a worse point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.ranges import Interval, Range
from cutset.solvers.two_way.roles import Floats

#: Seconds that are nothing: every cost is taken that much longer, so that of two cuts that cost
#: nothing neither loses against the other.
NOTHING_S = 1e-9

_UP, _DOWN, _LOAD, _QUEUE, _SLOWDOWN = 2, 3, 4, 5, 0  # places in Conditions.prices
_VARYING = (_UP, _DOWN, _LOAD, _QUEUE, _SLOWDOWN)  # in the order of Range.at


def losses(cuts: Cuts, conditions: Sequence[Conditions]) -> Floats:
    """A row for each of the conditions, a column for each cut: what it costs over the cheapest of
    all, as a fraction of that."""
    prices = np.array([c.prices() for c in conditions]).reshape(-1, cuts.amounts.shape[1])
    values = prices @ cuts.amounts.T + NOTHING_S
    return np.asarray(values / values.min(axis=1, keepdims=True) - 1)


def worst_points(
    cuts: Cuts, held: Sequence[int], expected: Range, least: float = 0.0
) -> list[tuple[float, Conditions]]:
    """Where `held` lose the most against each of the other cuts, with what they lose there against
    all (a fraction), largest first; only those above `least`.

    The first is the largest loss of the whole range; none where that is not above `least`.
    """
    fixed = expected.at(1.0, 1.0, 0.0, 0.0, 0.0).prices()
    fixed[list(_VARYING)] = 0.0
    constants = cuts.amounts @ fixed + NOTHING_S
    low, high = _box(expected)
    varying = cuts.amounts[:, _VARYING] * high  # at the highest prices: all of them are seconds
    share = np.divide(low, high, out=np.ones_like(low), where=high > 0)
    table = np.column_stack((varying, constants))
    found = []
    for other in set(range(len(cuts.cuts))) - set(held):
        prices = _worst_prices(table[list(held)], table[other], share)
        if prices is None:
            continue
        # Within the range also where the solver's tolerance left it.
        at = _conditions(np.clip(prices, share, 1.0) * high, expected)
        loss = float(losses(cuts, [at])[0, list(held)].min())
        if loss > least:
            found.append((loss, at))
    return sorted(found, key=lambda item: -item[0])


def _worst_prices(held: Floats, other: Floats, share: Floats) -> Floats | None:
    """Prices as shares of the highest; None where the solver finds none."""
    count = len(share)  # variables: a price each, t, z
    least = np.hstack((-held, np.ones((len(held), 1))))
    above = np.hstack((-np.eye(count), share[:, None], np.zeros((count, 1))))
    below = np.hstack((np.eye(count), -np.ones((count, 1)), np.zeros((count, 1))))
    solved = linprog(
        np.array([*[0.0] * (count + 1), -1.0]),
        A_ub=np.vstack((least, above, below)),
        b_ub=np.zeros(len(held) + 2 * count),
        A_eq=np.array([[*other, 0.0]]),
        b_eq=np.ones(1),
        bounds=[(0.0, None)] * (count + 2),
        method="highs",
    )
    if solved.x is None or not solved.x[count] > 0:
        return None
    return np.asarray(solved.x[:count] / solved.x[count])


def _box(expected: Range) -> tuple[Floats, Floats]:
    """The lowest and the highest of the varying prices."""
    ends = []
    for i in (0, 1):
        up, down, load, queue, slowdown = (
            expected.up_bps[1 - i],  # a fast link is a cheap one
            expected.down_bps[1 - i],
            expected.load[i],
            expected.queue_s[i],
            expected.slowdown[i],
        )
        ends.append(expected.at(up, down, load, queue, slowdown).prices()[list(_VARYING)])
    return ends[0], ends[1]


def _conditions(prices: Floats, expected: Range) -> Conditions:
    """Of the varying prices; an end of the range that rounding missed is that end."""
    up, down, load, queue_s, slowdown = (float(p) for p in prices)
    values = (1 / up, 1 / down, load, queue_s, slowdown)
    intervals = (
        expected.up_bps,
        expected.down_bps,
        expected.load,
        expected.queue_s,
        expected.slowdown,
    )
    return expected.at(*(_snapped(v, i) for v, i in zip(values, intervals, strict=True)))


def _snapped(value: float, interval: Interval) -> float:
    for end in interval:
        if math.isclose(value, end, rel_tol=1e-9):
            return end
    return min(max(value, interval.low), interval.high)
