"""Branch and bound in a block, compiled: on operators' devices, then on what shares a stage.

`narrowing_kernels` says what a block is and what `c`, `head` and `tail` are. Both searches keep
their stack in arrays and count work, not time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.latency.block_arrays import Known, Net, Shape
from cutset.solvers.latency.narrowing_kernels import move_s, narrow, one_machine, only
from cutset.solvers.latency.ordering_kernels import schedule
from cutset.solvers.latency.staging_kernels import schedule_stages

INF = np.inf
LEFT, ENDED, ASSIGNED = 0.0, 1.0, 2.0  # why `probe` ended


@njit(cache=True, nogil=True)
def _senders(device: Ints, b: Shape) -> Bools:
    """[K] which operators make a tensor that goes to another device."""
    found = np.zeros(len(device), np.bool_)
    for v in range(len(device)):
        for k in range(b.tin_at[v], b.tin_at[v + 1]):
            u = b.tprod[b.tin_t[k]]
            if device[u] != device[v]:
                found[u] = True
    return found


@njit(cache=True, nogil=True)
def _may_join(v: int, s: int, device: Ints, label: Ints, b: Shape, net: Net, sends: Bools) -> bool:
    """Whether operator v may join stage s of the operators before it, which have `label` [K]: it is
    on its device, and no path leaves the stage and comes back.

    Where a stage costs nothing it has to be of use, too: what `sends` [K] nothing and needs none of
    the stage could run in one of its own just before it, and all that is sent would be ready when
    it was.
    """
    if b.real[v] == 0 or (s == 0 and b.first):
        return False
    held = s == 0 and device[0] == device[v]
    begun = sends[0]  # whether what the stage began with sends
    follows = sends[v] or s == 0
    for u in range(v - 1, 0, -1):
        if label[u] == s:
            held = device[u] == device[v]
            begun = sends[0] if s == 0 else sends[u]
            follows = follows or b.reach[u, v]
    if not held or (net.ov[device[v]] == 0 and not (begun and follows)):
        return False
    for u in range(1, v):
        if label[u] != s and b.reach[u, v]:
            for w in range(u):
                if label[w] == s and b.reach[w, u]:
                    return False
    return True


@njit(cache=True, nogil=True)
def _next_option(option: int, stages: int, joins_first: bool) -> int:
    """What to try after `option` (−2: nothing yet): a stage to join, −1 for a new one; −2 at the
    end. With overheads the newest stage comes first and a new one last, else the reverse."""
    if joins_first:
        if option == -1:
            return -2
        return stages - 1 if option == -2 else option - 1
    if option == -2:
        return -1
    return option + 1 if option + 1 < stages else -2


@njit(cache=True, nogil=True)
def _serial(
    v: int,
    device: Ints,
    label: Ints,
    arrived: Floats,
    c: Floats,
    b: Shape,
    net: Net,
    head: Floats,
    tail: Floats,
    jobs: Floats,
) -> float:
    """A bound (s) by what v's device does one after another: its stages of the operators up to v,
    none before what it reads has come (`arrived` [S] s), and each operator behind v by itself.

    After a stage comes what it is sent for, and what the last of its operators leads to. `jobs`
    [3, K + 1] is room to work.
    """
    y, count = device[v], len(device)
    h, p, q = jobs[0], jobs[1], jobs[2]
    total = 0
    for w in range(1, count):
        if device[w] != y or b.real[w] == 0:
            continue
        if w > v:
            h[total], p[total], q[total] = head[w, y], c[w, y], tail[w, y]
            total += 1
            continue
        s = label[w]
        new = True
        for u in range(1, w):
            new = new and (label[u] != s or b.real[u] == 0)
        if not new:
            continue
        h[total], p[total] = arrived[s], 0.0 if s == 0 else net.ov[y]
        last, sent = INF, 0.0
        for u in range(w, v + 1):
            if label[u] != s:
                continue
            p[total] += c[u, y]
            last = min(last, tail[u, y])
            for k in range(b.out_at[u], b.out_at[u + 1]):
                x = b.out_w[k]
                z = device[x]
                if z != y:
                    after = net.ov[z] * b.real[x] + c[x, z] + tail[x, z]
                    sent = max(sent, move_s(y, z, b.out_b[k], net) + after)
        q[total] = max(last, sent)
        total += 1
    return float(one_machine(h[:total], p[:total], q[:total]))


@njit(cache=True, nogil=True)
def realise(
    device: Ints,
    b: Shape,
    c: Floats,
    net: Net,
    head: Floats,
    tail: Floats,
    cutoff: float,
    bound: float,
    max_tries: int,
    max_nodes: int,
    best_label: Ints,
    best_place: Ints,
) -> tuple[float, float, int]:
    """The best stages for operators that have devices [K]: (value, open bound, tries), in s.

    Every operator begins a stage or joins one on its device, such that stages stay convex and are
    of use (`_may_join`); what is tried first has fewer overheads. `bound` (s) is known for all of
    them; `max_nodes` limits the search of one set of stages. `best_label` and `best_place` [K] are
    as in `schedule_stages`.
    """
    count = len(device)
    label = np.zeros(count, np.int64)
    option = np.full(count + 1, -2, np.int64)  # stage joined; -1: a new one; -2: none tried yet
    stages_at = np.zeros(count + 1, np.int64)  # stages before the operator is placed
    stage_end = np.zeros((count + 1, count + 1))
    stage_work = np.zeros((count + 1, count + 1))
    arrived = np.zeros((count + 1, count + 1))
    jobs = np.empty((3, count + 1))
    place = np.zeros(count, np.int64)
    nothing = np.empty(0)
    paid = bool(np.any(net.ov > 0))
    sends = _senders(device, b)
    best, open_ = INF, INF
    tries = 0
    stages_at[1] = 1
    v = stages_at[1]  # not 1: a literal would be compiled for once more
    option[1] = -2
    while v > 0:
        if tries > max_tries:
            open_ = min(open_, bound)
            break
        y = device[v]
        n = stages_at[v]
        nxt = _next_option(option[v], n, paid)
        while nxt >= 0 and not _may_join(v, nxt, device, label, b, net, sends):
            nxt = _next_option(nxt, n, paid)
        if nxt == -2:
            option[v] = -2
            v -= 1
            continue
        option[v] = nxt
        s = n if nxt == -1 else nxt
        label[v] = s
        for r in range(count + 1):
            stage_end[v + 1, r] = stage_end[v, r]
            stage_work[v + 1, r] = stage_work[v, r]
            arrived[v + 1, r] = arrived[v, r]
        if nxt == -1:
            stage_work[v + 1, s] = net.ov[y] * b.real[v] if s > 0 else 0.0
            stage_end[v + 1, s] = stage_work[v + 1, s]
            arrived[v + 1, s] = 0.0
        before = stage_end[v + 1, s]
        begin = 0.0
        local = before
        for k in range(b.in_at[v], b.in_at[v + 1]):
            u = b.in_u[k]
            if label[u] == s:
                continue
            at = stage_end[v, label[u]]
            if device[u] != y:
                at += move_s(device[u], y, b.in_b[k], net)
            begin = max(begin, at)
        done = max(local, begin + stage_work[v + 1, s]) + c[v, y]
        stage_work[v + 1, s] += c[v, y]
        stage_end[v + 1, s] = done
        arrived[v + 1, s] = max(arrived[v + 1, s], begin)
        low = done + tail[v, y]
        if paid and low < cutoff and b.real[v] > 0:
            low = _serial(v, device, label, arrived[v + 1], c, b, net, head, tail, jobs)
        if low >= cutoff:
            tries += 1 if v > count - 3 else 0
            continue
        stages_at[v + 1] = n + 1 if nxt == -1 else n
        if v < count - 1:
            v += 1
            option[v] = -2
            continue
        tries += 1
        stages = stages_at[v + 1]
        # The exit's stage gets the last number.
        shown = np.empty(count, np.int64)
        for w in range(count):
            if label[w] == label[count - 1]:
                shown[w] = stages - 1
            elif label[w] > label[count - 1]:
                shown[w] = label[w] - 1
            else:
                shown[w] = label[w]
        if label[count - 1] == 0 and stages > 1:
            continue  # the entry's stage holds the exit, so it holds all
        value, left, nodes = schedule_stages(
            shown, stages, device, c, b, net, cutoff, max_nodes, nothing, place
        )
        tries += nodes // 8
        open_ = min(open_, left)
        if value < best:
            best = value
            for w in range(count):
                best_label[w] = shown[w]
                best_place[w] = place[w]
            cutoff = min(cutoff, value)
            if best <= bound * (1 + 1e-12):
                open_ = INF
                break
    return best, open_, tries


@njit(cache=True, nogil=True)
def _forbid(c: Floats, v: int, y: int, kin: Ints) -> None:
    """Forbid operator v the device y, and those of its class that `c` [K, D] treats alike."""
    for z in range(c.shape[1]):
        alike = z != y and kin[y] >= 0 and kin[z] == kin[y]
        for w in range(c.shape[0]):
            alike = alike and c[w, y] == c[w, z]
        if alike:
            c[v, z] = INF
    c[v, y] = INF


@njit(cache=True, nogil=True)
def _fixed(c: Floats, device: Ints) -> int:
    """Sets device [K] of the operators that have one device left, −1 for the others; how many."""
    left = 0
    for v in range(len(device)):
        device[v] = -1
        if only(c, v):
            for y in range(c.shape[1]):
                if c[v, y] < INF:
                    device[v] = y
        else:
            left += 1
    return left


@njit(cache=True, nogil=True)
def _heaviest(
    c: Floats, device: Ints, head: Floats, tail: Floats, bound: float, cutoff: float
) -> tuple[int, int]:
    """The operator to branch on (without a device; on the critical path if one is; the heaviest),
    and its best device."""
    chosen, weight = -1, -1.0
    for v in range(len(device)):
        if device[v] >= 0:
            continue
        through, lightest = INF, INF
        for y in range(c.shape[1]):
            if c[v, y] < INF:
                through = min(through, head[v, y] + c[v, y] + tail[v, y])
                lightest = min(lightest, c[v, y])
        if through >= bound * (1 - 1e-9):
            lightest += cutoff
        if lightest > weight:
            weight, chosen = lightest, v
    best, through = -1, INF
    for y in range(c.shape[1]):
        if c[chosen, y] < INF:
            at = head[chosen, y] + c[chosen, y] + tail[chosen, y]
            if at < through:
                best, through = y, at
    return chosen, best


@njit(cache=True, nogil=True)
def _copy(a: Floats, b: Floats) -> None:
    for v in range(a.shape[0]):
        for y in range(a.shape[1]):
            b[v, y] = a[v, y]


@njit(cache=True, nogil=True)
def probe(
    levels: Floats,
    done: Ints,
    b: Shape,
    known: Known,
    net: Net,
    cutoff: float,
    max_nodes: int,
    glance: int,
    look: int,
    state: Floats,
    device: Ints,
    head: Floats,
    tail: Floats,
    starts: Floats,
    late: Floats,
) -> None:
    """Search by narrowing, in pieces: fix the heaviest operator on its best device, then forbid it.

    Ends at each assignment whose best schedule is below the cutoff (s), after `max_nodes`, or at
    the end. `state` = [depth + 1, why it ended (`LEFT`, `ENDED`, `ASSIGNED`), least bound of what a
    limit left out, what is known of the assignment, nodes]. Of an assignment: `device` [K], `head`
    and `tail` [K, D] and two orders, `starts` and `late` [K] in s, as `schedule` gives them; its
    compute times are levels[depth + 1].

    `levels` [depth, K, D] are the compute times allowed at each depth; `done` [depth, 3]: 0 not
    looked at, or 1 + the number of branches taken, then the operator and its device. Every bound is
    that of `narrow`; of the operators that have one device left, the best schedule must be below
    the cutoff as well (in `glance` nodes; once all have one, in `look`).
    """
    depth = int(state[0]) - 1
    nodes = 0
    paid = bool(np.any(net.ov > 0))
    state[1] = LEFT
    while depth >= 0 and nodes < max_nodes and state[1] == LEFT:
        c = levels[depth]
        if done[depth, 0] == 2:
            done[depth, 0] = 0
            depth -= 1
            continue
        if done[depth, 0] == 1:  # the second branch: not on that device, nor on one like it
            done[depth, 0] = 2
            _copy(c, levels[depth + 1])
            _forbid(levels[depth + 1], done[depth, 1], done[depth, 2], net.kin)
            depth += 1
            done[depth, 0] = 0
            continue
        nodes += 1
        bound = narrow(c, b, known, net, cutoff, head, tail)
        if bound >= cutoff:
            depth -= 1
            continue
        unfixed = _fixed(c, device)
        limit = glance if unfixed else look
        value, proven, taken = schedule(device, c, b, head, tail, net, cutoff, limit, starts, late)
        nodes += taken // 4
        if unfixed == 0:
            depth -= 1
            if value < cutoff or (paid and not proven):  # overheads may say what orders do not
                state[1] = ASSIGNED
                state[3] = value if proven else bound
            elif not proven:
                state[2] = min(state[2], bound)
            continue
        if proven and value >= cutoff:
            depth -= 1
            continue
        if depth + 1 >= len(levels):  # no room to go deeper
            state[2] = min(state[2], bound)
            depth -= 1
            continue
        v, y = _heaviest(c, device, head, tail, bound, cutoff)
        done[depth, 0], done[depth, 1], done[depth, 2] = 1, v, y
        below = levels[depth + 1]
        _copy(c, below)
        for z in range(c.shape[1]):
            if z != y:
                below[v, z] = INF
        depth += 1
        done[depth, 0] = 0
    if depth < 0 and state[1] == LEFT:
        state[1] = ENDED
    state[0] = depth + 1
    state[4] = nodes
