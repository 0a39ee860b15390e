"""The evaluator, compiled: latency and period of operators on devices, in an order, in stages.

Same rules and the same arithmetic as `estimate` (sums of a stage are carried in two doubles, as
its fsum is exact); the tests hold the two together. Imported only where it is called: this module
imports numba.

Arguments: `m` a LatencyModel, `device` [O] of each operator, `order` a topological order of the
operators, `stage` [O] of each operator, where stages are numbered in the order in which a plan
lists them.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.latency.latency_model import LatencyModel


@njit(cache=True, nogil=True)
def moves(m: LatencyModel, device: Ints, order: Ints) -> tuple[Ints, Ints, Bools, Bools, bool]:
    """The transfers of an assignment, in compressed rows by tensor, receivers by name.

    Returns (rows' begins, receivers, which operators are the first on their device to read a
    tensor from elsewhere, which operators send, whether every link exists).
    """
    tensors, operators = len(m.bytes_), len(order)
    position = np.empty(operators, np.int64)
    for i in range(operators):
        position[order[i]] = i
    at = np.zeros(tensors + 1, np.int64)
    targets = np.empty(len(m.readers) + tensors, np.int64)
    receives = np.zeros(operators, np.bool_)
    sends = np.zeros(operators, np.bool_)
    first = np.full(len(m.memory_limit), -1, np.int64)  # of this tensor's readers on a device
    linked = True
    count = 0
    for t in range(tensors):
        producer = m.producer[t]
        home = m.source if producer < 0 else device[producer]
        begin = count
        for k in range(m.readers_at[t], m.readers_at[t + 1]):
            reader = m.readers[k]
            d = device[reader]
            if d == home:
                continue
            if first[d] < 0:
                targets[count] = d
                count += 1
                first[d] = reader
            elif position[reader] < position[first[d]]:
                first[d] = reader
        if m.is_output[t] and m.sink != home and first[m.sink] < 0:
            targets[count] = m.sink
            count += 1
        for k in range(begin, count):
            d = targets[k]
            if first[d] >= 0:
                receives[first[d]] = True
                first[d] = -1
            if m.bandwidth_bps[home, d] == 0.0:
                linked = False
            j = k
            while j > begin and m.device_rank[targets[j - 1]] > m.device_rank[d]:
                targets[j] = targets[j - 1]
                j -= 1
            targets[j] = d
        if count > begin and producer >= 0:
            sends[producer] = True
        at[t + 1] = count
    return at, targets[:count], receives, sends, linked


@njit(cache=True, nogil=True)
def memory_kept(m: LatencyModel, device: Ints, stage: Ints) -> bool:
    """Whether every device holds its operators and stages."""
    if not np.any(m.memory_limit < np.inf):
        return True
    return not np.any(memory_used(m, device, stage) > m.memory_limit)


@njit(cache=True, nogil=True)
def memory_used(m: LatencyModel, device: Ints, stage: Ints) -> Floats:
    """Bytes on each device: its operators' and its stages'."""
    used = np.zeros(len(m.memory_limit))
    seen = np.zeros(len(stage), np.bool_)
    for i in range(len(stage)):
        used[device[i]] += m.memory[i]
        if not seen[stage[i]]:
            seen[stage[i]] = True
            used[device[i]] += m.stage_memory
    return used


@njit(cache=True, nogil=True)
def _stages(
    m: LatencyModel, device: Ints, order: Ints, stage: Ints
) -> tuple[int, Ints, Ints, Ints, Floats]:
    """Number of stages, their operators in compressed rows, their devices and durations."""
    count = 0
    for s in stage:
        count = max(count, s + 1)
    at = np.zeros(count + 1, np.int64)
    for s in stage:
        at[s + 1] += 1
    for s in range(count):
        at[s + 1] += at[s]
    fill = at[:count].copy()
    held = np.empty(len(order), np.int64)
    on = np.empty(count, np.int64)
    total = np.zeros(count)
    rest = np.zeros(count)
    for i in order:
        s = stage[i]
        if fill[s] == at[s]:
            on[s] = device[i]
            total[s] = m.overhead_s[device[i]]
        held[fill[s]] = i
        fill[s] += 1
        x = m.compute_s[device[i], i]
        y = total[s] + x
        if y < np.inf:
            z = y - total[s]
            rest[s] += (total[s] - (y - z)) + (x - z)
        total[s] = y
    for s in range(count):
        total[s] += rest[s]
    return count, at, held, on, total


@njit(cache=True, nogil=True)
def timeline(
    m: LatencyModel, device: Ints, order: Ints, stage: Ints, at: Ints, targets: Ints
) -> tuple[float, Floats, Ints, Ints, int]:
    """Latency of one request, inf where an operator cannot run or stages wait for each other.

    With it: each stage's end; what each stage and each transfer waited for last, and what the
    latency did (a stage by its number, a transfer by −2 − its number, −1 for nothing).
    `at`, `targets`: as `moves` returns them; every link must exist.
    """
    devices = len(m.memory_limit)
    count, held_at, held, on, duration = _stages(m, device, order, stage)
    end = np.zeros(count)
    stage_why = np.full(count, -1, np.int64)
    move_why = np.full(len(targets), -1, np.int64)
    for s in range(count):
        if duration[s] == np.inf:
            return np.inf, end, stage_why, move_why, -1
    awaited = np.zeros(count, np.int64)
    for t in range(len(m.bytes_)):
        home = m.source if m.producer[t] < 0 else device[m.producer[t]]
        for k in range(m.readers_at[t], m.readers_at[t + 1]):
            if device[m.readers[k]] != home:
                awaited[stage[m.readers[k]]] += 1
    following = np.full(count, -1, np.int64)  # the next stage on the same device
    upcoming = np.full(devices, -1, np.int64)
    for s in range(count - 1, -1, -1):
        following[s] = upcoming[on[s]]
        upcoming[on[s]] = s
    arrived = np.zeros(count)
    device_free = np.zeros(devices)
    device_last = np.full(devices, -1, np.int64)
    link_free = np.zeros((devices, devices))
    egress_free = np.zeros(devices)
    ingress_free = np.zeros(devices)
    link_last = np.full((devices, devices), -1, np.int64)
    egress_last = np.full(devices, -1, np.int64)
    ingress_last = np.full(devices, -1, np.int64)
    heap = [(0.0, 0, 0, 0, 0, 0)]  # (ready, stage, rank of the tensor, of the receiver, t, move)
    heap.pop()
    for t in range(len(m.bytes_)):
        if m.producer[t] < 0 and at[t] < at[t + 1]:
            ready = 0.0 + m.bytes_[t] * m.send_s_per_byte[m.source]
            for k in range(at[t], at[t + 1]):
                heapq.heappush(heap, (ready, -1, m.tensor_rank[t], m.device_rank[targets[k]], t, k))
                if m.multicast:
                    break
    latest, why = 0.0, -1
    done = 0
    todo = np.empty(devices, np.int64)
    waiting = 0
    for d in range(devices):
        todo[waiting] = d
        waiting += 1
    while True:
        while waiting > 0:
            waiting -= 1
            d = todo[waiting]
            while upcoming[d] >= 0 and awaited[upcoming[d]] == 0:
                s = upcoming[d]
                upcoming[d] = following[s]
                start = arrived[s]
                if device_free[d] >= start and device_last[d] >= 0:
                    start = device_free[d]
                    stage_why[s] = device_last[d]
                end[s] = start + duration[s]
                device_free[d] = end[s]
                device_last[d] = s
                done += 1
                for j in range(held_at[s], held_at[s + 1]):
                    i = held[j]
                    for q in range(m.outputs_at[i], m.outputs_at[i + 1]):
                        t = m.outputs[q]
                        if m.is_output[t] and d == m.sink and end[s] > latest:
                            latest, why = end[s], s
                        ready = end[s] + m.bytes_[t] * m.send_s_per_byte[d]
                        for k in range(at[t], at[t + 1]):
                            move_why[k] = s
                            rank = m.device_rank[targets[k]]
                            if not m.multicast or k == at[t]:
                                heapq.heappush(heap, (ready, s, m.tensor_rank[t], rank, t, k))
        if len(heap) == 0:
            break
        ready, _, _, _, t, k = heapq.heappop(heap)
        home = m.source if m.producer[t] < 0 else device[m.producer[t]]
        last = at[t + 1] if m.multicast else k + 1
        start, cause = ready, move_why[k]
        if egress_free[home] > start:
            start, cause = egress_free[home], egress_last[home]
        for j in range(k, last):
            d = targets[j]
            if link_free[home, d] > start:
                start, cause = link_free[home, d], link_last[home, d]
            if ingress_free[d] > start:
                start, cause = ingress_free[d], ingress_last[d]
        slowest = 0.0
        for j in range(k, last):
            d = targets[j]
            seconds = 8 * m.bytes_[t] / m.bandwidth_bps[home, d]
            slowest = max(slowest, seconds)
            arrive = start + seconds + m.latency_s[home, d] + m.bytes_[t] * m.recv_s_per_byte[d]
            link_free[home, d] = start + seconds
            ingress_free[d] = start + seconds
            link_last[home, d] = -2 - j
            ingress_last[d] = -2 - j
            move_why[j] = cause
            if m.is_output[t] and d == m.sink and arrive > latest:
                latest, why = arrive, -2 - j
            for q in range(m.readers_at[t], m.readers_at[t + 1]):
                if device[m.readers[q]] == d:
                    s = stage[m.readers[q]]
                    awaited[s] -= 1
                    if arrive > arrived[s]:
                        arrived[s] = arrive
                        stage_why[s] = -2 - j
            todo[waiting] = d
            waiting += 1
        egress_free[home] = start + slowest
        egress_last[home] = -2 - k
    if done < count:
        return np.inf, end, stage_why, move_why, -1
    return latest, end, stage_why, move_why, why


@njit(cache=True, nogil=True)
def busy(
    m: LatencyModel, device: Ints, order: Ints, stage: Ints, at: Ints, targets: Ints
) -> tuple[float, int, int]:
    """The period, and the devices at both ends of its bottleneck (the same one for a device).

    An egress or ingress has its device at both ends. Every link must exist.
    """
    devices = len(m.memory_limit)
    count, _, _, on, duration = _stages(m, device, order, stage)
    device_s = np.zeros(devices)
    link_s = np.zeros((devices, devices))
    egress_s = np.zeros(devices)
    ingress_s = np.zeros(devices)
    for s in range(count):
        device_s[on[s]] += duration[s]
    for t in range(len(m.bytes_)):
        if at[t] == at[t + 1]:
            continue
        home = m.source if m.producer[t] < 0 else device[m.producer[t]]
        total = slowest = 0.0
        for k in range(at[t], at[t + 1]):
            d = targets[k]
            seconds = 8 * m.bytes_[t] / m.bandwidth_bps[home, d]
            total += seconds
            slowest = max(slowest, seconds)
            link_s[home, d] += seconds
            ingress_s[d] += seconds
            device_s[d] += m.bytes_[t] * m.recv_s_per_byte[d]
            if not m.overlap[d]:
                device_s[d] += seconds
        copies = 1 if m.multicast else at[t + 1] - at[t]
        sent = slowest if m.multicast else total
        egress_s[home] += sent
        device_s[home] += copies * m.bytes_[t] * m.send_s_per_byte[home]
        if not m.overlap[home]:
            device_s[home] += sent
    period, a, b = 0.0, -1, -1
    for d in range(devices):
        worst = max(device_s[d], egress_s[d], ingress_s[d])
        if worst > period:
            period, a, b = worst, d, d
        for e in range(devices):
            if link_s[d, e] > period:
                period, a, b = link_s[d, e], d, e
    return period, a, b


@njit(cache=True, nogil=True)
def value_s(m: LatencyModel, device: Ints, order: Ints, stage: Ints, for_latency: bool) -> float:
    """Latency or period in seconds, whatever memory it takes; inf where the plan cannot run."""
    at, targets, _, _, linked = moves(m, device, order)
    if not linked:
        return np.inf
    if for_latency:
        return timeline(m, device, order, stage, at, targets)[0]
    return busy(m, device, order, stage, at, targets)[0]
