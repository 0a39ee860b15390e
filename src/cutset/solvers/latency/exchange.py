"""Devices that are alike: exchanging them in a schedule of a block changes next to nothing.

What it may change is the order of names, which decides between transfers of one tensor. So a search
that tries one of several assignments that exchanges lead to must bound all: it leaves the order of
two devices open where an exchange can reverse it (`loose_order`), and of a whole assignment tries
every order that its devices can have by exchanges (`named`). A plan left out is an exchange of one
that was tried, with that one's times under one of these orders.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from cutset.solvers.arrays import Bools, ClusterArrays, Floats, Ints
from cutset.solvers.latency.block_arrays import Net, Shape

_ORDERS = 60  # of names that are tried of one assignment


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


def merged(partitions: Sequence[Ints], count: int) -> Ints:
    """[count] a number for the devices that classes, as `alike_classes` gives them, join."""
    group = np.arange(count)
    for classes in partitions:
        for k in np.unique(classes[classes >= 0]):
            members = np.isin(group, group[classes == k])
            group[members] = group[members].min()
    return group


def loose_order(group: Ints, rank: Ints) -> Bools:
    """[D, D] whether exchanging devices of one group may reverse the order of two devices' names.

    `group` as `merged` gives it, `rank` [D] places in that order.
    """
    low = np.array([rank[group == k].min() for k in group])
    high = np.array([rank[group == k].max() for k in group])
    apart = (high[:, None] < low[None, :]) | (high[None, :] < low[:, None])
    return ~apart & ~np.eye(len(group), dtype=np.bool_)


def named(device: Ints, net: Net, alike: Ints, b: Shape) -> list[tuple[Ints, Net]]:
    """The names that devices [K] of a block's operators can have by exchanges: [D] of each device
    whose it has, and the cluster with these.

    One for each order that can decide between transfers of one tensor; first those by `net.kin`,
    then what `alike` adds. Where there are too many, one whose order is loose.
    """
    count = len(net.rank)
    same = np.arange(count)
    if net.multicast:
        return [(same, net)]
    together = _receiving_together(device, b, count) & net.loose
    groups = merged([net.kin], count), merged([alike, net.kin], count)
    found = renamings(groups, net.rank, set(device.tolist()), together)
    if found is None:
        return [(same, net)]
    fixed = np.zeros_like(net.loose)
    return [(to, net._replace(rank=net.rank[to], loose=fixed)) for to in found]


def _receiving_together(device: Ints, b: Shape, count: int) -> Bools:
    """[count, count] the pairs of devices that one tensor is sent to, of operators on devices [K]:
    only between such do names decide which comes first."""
    found = np.zeros((count, count), dtype=np.bool_)
    to: dict[int, set[int]] = {}
    for v in range(len(device)):
        for t in b.tin_t[b.tin_at[v] : b.tin_at[v + 1]]:
            if device[b.tprod[t]] != device[v]:
                to.setdefault(int(t), set()).add(int(device[v]))
    for devices in to.values():
        members = sorted(devices)
        found[np.ix_(members, members)] = True
    np.fill_diagonal(found, False)
    return found


def renamings(
    groups: Sequence[Ints], rank: Ints, used: Collection[int], together: Bools
) -> list[Ints] | None:
    """Renamings [D] of the devices, each to one of its group, such that every order in which the
    names of devices `together` can stand is that of one of them; None where these are too many.

    First those within the groups of groups[0], then what is only possible within groups[1]. Each
    order is built from its first name on, always with the first name left of the device's group: a
    later one would leave no more to those that follow.
    """
    pairs = [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(together)), strict=True)]
    ordered = sorted({i for pair in pairs for i in pair})
    found: dict[tuple[bool, ...], Ints] = {}
    for group in groups:
        by_rank = [sorted(np.flatnonzero(group == group[i]), key=rank.__getitem__) for i in ordered]
        stack: list[dict[int, int]] = [{}]
        ended = 0
        while stack:
            to = stack.pop()
            if len(to) == len(ordered):
                ended += 1
                if ended > _ORDERS:
                    return None
                how = tuple(bool(rank[to[i]] < rank[to[j]]) for i, j in pairs)
                if how not in found:
                    found[how] = _completed(to, group, used)
                continue
            last = max((rank[y] for y in to.values()), default=-1)
            for i, names in reversed(list(zip(ordered, by_rank, strict=True))):
                free = [int(y) for y in names if rank[y] > last]
                if i not in to and free:
                    stack.append({**to, i: free[0]})
    return list(found.values())


def _completed(to: dict[int, int], group: Ints, used: Collection[int]) -> Ints:
    """[D] `to` with the devices that are used beside it, each to what is left of its group."""
    whole = np.arange(len(group))
    for i, y in to.items():
        whole[i] = y
    taken = set(to.values())
    for i in sorted(set(used) - set(to)):
        names = [i, *(int(y) for y in np.flatnonzero(group == group[i]))]
        whole[i] = next(y for y in names if y not in taken)
        taken.add(int(whole[i]))
    return whole
