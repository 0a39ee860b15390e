"""Which points are best for some prices: the lower convex hull in a few dimensions.

A price vector is not negative; a point is worth keeping iff it is the cheapest for some prices.
Rounding may keep a few points too many (harmless), and may lose points that are better than the
rest by less than about 1e-12 of the range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from cutset.solvers.two_way.roles import Floats

_FAR = 1e3  # where the helper points stand that make all other facets look upward


def lower_hull(points: Floats) -> NDArray[np.int64]:
    """Rows of `points` (one a row) that may be the cheapest for some prices; ascending."""
    scaled, _ = _scaled(points)
    dimensions = scaled.shape[1]
    if dimensions < 2:
        return np.argmin(scaled, axis=0) if dimensions else np.arange(len(points))[:1]
    hull = _hull(scaled) if len(points) > 2 else None
    rows = np.arange(len(points))
    if hull is not None:
        rows = np.sort(hull.vertices[hull.vertices < len(points)]).astype(np.int64)
    rows = rows[_distinct(points[rows])]
    return np.asarray(rows[_undominated(points[rows])])


def lower_facets(points: Floats) -> list[tuple[Floats, frozenset[int]]] | None:
    """Prices (each summing to 1) at which points tie for the cheapest, and which points these are.

    Among them, -1-c stands for all that is dear in coordinate c: its price is 0. With the cheapest
    points of each single coordinate known, facets are where a missing point would show. There are
    none where one coordinate varies at most, and None stands for a hull that cannot be computed.
    """
    scaled, scale = _scaled(points)
    varying = np.flatnonzero(scale > 0)
    if len(varying) < 2:
        return []
    hull = _hull(scaled)
    if hull is None:
        return None
    normals = -hull.equations[:, :-1]
    # Facets at the helper points lean outward by about 1/_FAR: they stand for prices of 0.
    lean = -4 / _FAR * normals.max(axis=1, initial=0.0, keepdims=True)
    low = np.flatnonzero((normals >= lean).all(axis=1) & (normals > 0).any(axis=1))
    prices = np.zeros((len(low), points.shape[1]))
    prices[:, varying] = np.maximum(normals[low], 0.0) / scale[varying]
    prices /= prices.sum(axis=1, keepdims=True)
    names = np.concatenate((np.arange(len(points)), -1 - varying))
    return [
        (price, frozenset(ends))
        for price, ends in zip(prices, names[hull.simplices[low]].tolist(), strict=True)
    ]


def _scaled(points: Floats) -> tuple[Floats, Floats]:
    """The coordinates that vary, from 0 to 1, and the range of every coordinate."""
    low, scale = points.min(axis=0), np.ptp(points, axis=0)
    scale = np.where(scale > 1e-12 * np.abs(points).max(axis=0), scale, 0.0)
    varying = scale > 0
    return (points[:, varying] - low[varying]) / scale[varying], scale


def _hull(scaled: Floats) -> ConvexHull | None:
    dimensions = scaled.shape[1]
    helpers = 1.0 + _FAR * np.eye(dimensions)
    try:
        return ConvexHull(np.concatenate((scaled, helpers)))
    except QhullError:  # flat: no volume
        return None


def _distinct(points: Floats) -> NDArray[np.int64]:
    _, first = np.unique(points, axis=0, return_index=True)
    return np.sort(first)


def _undominated(points: Floats) -> NDArray[np.int64]:
    """Rows that no other row beats or equals in every coordinate (points are distinct)."""
    if len(points) > 2_000:
        return np.arange(len(points))
    no_worse = np.ones((len(points), len(points)), dtype=np.bool_)
    for column in points.T:
        no_worse &= column[:, None] <= column[None, :]
    np.fill_diagonal(no_worse, False)
    return np.flatnonzero(~no_worse.any(axis=0))
