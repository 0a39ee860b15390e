"""Devices that are alike: exchanging them in a schedule of a block changes next to nothing.

What it may change is the order of names, which decides between transfers of one tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cutset.solvers.arrays import Bools, ClusterArrays, Floats, Ints


def alike_classes(cluster: ClusterArrays, c: Floats, apart: Collection[int]) -> Ints:
    """[D] the first device that each is like, itself included; -1: no other, or `apart`.

    `c` [K, D] are the seconds of a block's operators, inf where they may not run.
    """
    count = len(cluster.names)
    kin = np.full(count, -1, dtype=np.int64)
    for i in range(count):
        if i in apart or kin[i] >= 0:
            continue
        for j in range(i + 1, count):
            if j not in apart and kin[j] < 0 and _alike(cluster, c, i, j):
                kin[i] = kin[j] = i
    return kin


def _alike(a: ClusterArrays, c: Floats, i: int, j: int) -> bool:
    if not np.array_equal(c[:, i], c[:, j]):
        return False
    for vector in (a.send_s_per_byte, a.recv_s_per_byte, a.overhead_s):
        if vector[i] != vector[j]:
            return False
    others = np.array([k not in (i, j) for k in range(len(a.names))])
    for m in (a.wire_s_per_byte, a.latency_s):
        if m[i, j] != m[j, i]:
            return False
        if not np.array_equal(m[i, others], m[j, others]):
            return False
        if not np.array_equal(m[others, i], m[others, j]):
            return False
    return True


def loose_order(partitions: Sequence[Ints], rank: Ints) -> Bools:
    """[D, D] whether exchanging devices of one class may reverse the order of two devices' names.

    `partitions` hold classes as `alike_classes` gives them, `rank` [D] places in that order.
    """
    group = np.arange(len(rank))
    for classes in partitions:
        for k in np.unique(classes[classes >= 0]):
            members = np.isin(group, group[classes == k])
            group[members] = group[members].min()
    low = np.array([rank[group == k].min() for k in group])
    high = np.array([rank[group == k].max() for k in group])
    apart = (high[:, None] < low[None, :]) | (high[None, :] < low[:, None])
    return ~apart & ~np.eye(len(group), dtype=np.bool_)
