"""Which cuts are cheapest at some prices, among all that are listed.

A cut is never needed where a mixture of others takes no more of anything: at any prices, one of
those in the mixture is as cheap. That is one small linear program for each cut.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy.optimize import linprog

from cutset.solvers.two_way.roles import Floats

#: Relative: what a mixture may take more of than a cut that is left out for it. It covers the
#: rounding of sums, so that of cuts that cost the same one is left.
_SAME = 1e-9


def sometimes_best(amounts: Floats, always: Collection[int] = ()) -> tuple[int, ...]:
    """The rows of `amounts` (a row a cut, none negative) of which the cheapest is the cheapest of
    all at any prices that are not negative; ascending. Of equal rows the first stays.

    `always` are kept whatever they cost.
    """
    kept = list(range(len(amounts)))
    for i in reversed(range(len(amounts))):
        others = [j for j in kept if j != i]
        if i not in always and others and _beaten(amounts[i], amounts[others]):
            kept = others
    return tuple(kept)


def _beaten(row: Floats, others: Floats) -> bool:
    """Whether a mixture of others takes no more of anything."""
    zero = row == 0
    others = others[(others[:, zero] == 0).all(axis=1)]  # a mixture takes some if any of it does
    if not len(others):
        return False
    shares = others[:, ~zero] / row[~zero]
    if (shares <= 1 + _SAME).all(axis=1).any():
        return True
    count = len(shares)
    found = linprog(
        np.array([*[0.0] * count, 1.0]),
        A_ub=np.hstack((shares.T, -np.ones((shares.shape[1], 1)))),
        b_ub=np.zeros(shares.shape[1]),
        A_eq=np.array([[*[1.0] * count, 0.0]]),
        b_eq=np.ones(1),
        bounds=[*[(0.0, None)] * count, (None, None)],
        method="highs",
    )
    if found.x is None:  # numerically out of hand: keeping the cut is safe
        return False
    # The solver's own tolerance is wider than ours: what it found is checked.
    mixture = np.maximum(found.x[:count], 0.0)
    return bool((mixture / mixture.sum() @ shares <= 1 + _SAME).all())
