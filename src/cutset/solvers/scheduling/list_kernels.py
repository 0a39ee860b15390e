"""List scheduling, compiled: upward ranks, and the earliest finish time with insertion.

Imported only where it is called: this module imports numba. `m` is a LatencyModel.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.latency.latency_model import LatencyModel


@njit(cache=True, nogil=True)
def upward_ranks(m: LatencyModel) -> Floats:
    """Seconds from an operator's start to the end of the request, costs averaged over the devices
    that can run it and over the links that there are (Topcuoglu et al. 2002, eq. 3).

    inf for an operator that no device can run, and for what leads to it.
    """
    devices, operators = len(m.memory_limit), len(m.memory)
    links, wire, latency = 0, 0.0, 0.0
    for a in range(devices):
        for b in range(devices):
            if m.bandwidth_bps[a, b] > 0:
                links += 1
                wire += 8 / m.bandwidth_bps[a, b]
                latency += m.latency_s[a, b]
    if links:
        wire = wire / links + m.send_s_per_byte.mean() + m.recv_s_per_byte.mean()
        latency /= links
    rank = np.zeros(operators)
    for i in range(operators - 1, -1, -1):
        after = 0.0
        for q in range(m.outputs_at[i], m.outputs_at[i + 1]):
            t = m.outputs[q]
            seconds = latency + m.bytes_[t] * wire
            if m.is_output[t]:
                after = max(after, seconds)
            for k in range(m.readers_at[t], m.readers_at[t + 1]):
                after = max(after, seconds + rank[m.readers[k]])
        total, able = 0.0, 0
        for d in range(devices):
            if m.compute_s[d, i] < np.inf:
                total += m.compute_s[d, i]
                able += 1
        rank[i] = (total / able if able else np.inf) + after
    return rank


@njit(cache=True, nogil=True)
def ranks_on(m: LatencyModel, device: Ints) -> Floats:
    """Upward ranks of an assignment: its own compute and transfer times, without waiting."""
    rank = np.zeros(len(m.memory))
    for i in range(len(m.memory) - 1, -1, -1):
        after = 0.0
        home = device[i]
        for q in range(m.outputs_at[i], m.outputs_at[i + 1]):
            t = m.outputs[q]
            if m.is_output[t]:
                after = max(after, transfer_s(m, t, home, m.sink))
            for k in range(m.readers_at[t], m.readers_at[t + 1]):
                j = m.readers[k]
                after = max(after, transfer_s(m, t, home, device[j]) + rank[j])
        rank[i] = m.compute_s[home, i] + after
    return rank


@njit(cache=True, nogil=True)
def transfer_s(m: LatencyModel, t: int, a: int, b: int) -> float:
    """Seconds from the end of a tensor's stage on `a` to its arrival on `b`; inf without a link."""
    if a == b:
        return 0.0
    if m.bandwidth_bps[a, b] == 0.0:
        return np.inf
    costs: float = m.send_s_per_byte[a] + 8 / m.bandwidth_bps[a, b] + m.recv_s_per_byte[b]
    seconds: float = m.latency_s[a, b] + m.bytes_[t] * costs
    return seconds


@njit(cache=True, nogil=True)
def schedule(
    m: LatencyModel, order: Ints, allowed: Bools, limit: Floats, contended: bool
) -> tuple[Ints, Floats, Floats, int]:
    """Each operator in turn on the device where it ends first, in the earliest gap that holds it.

    `order` is a topological order. A tensor moves once to a device; `contended` also makes
    transfers wait for link, egress and ingress, in the order in which they are decided. An
    operator that makes a graph output counts as ended when that is at the sink. `limit` [D] bytes
    of operators, each device's first stage included. A colocate group goes where its first
    operator goes.

    Returns (device, start, end, −1), or with the first operator that has no device left.
    """
    devices, operators, tensors = len(m.memory_limit), len(order), len(m.bytes_)
    device = np.full(operators, -1, np.int64)
    start = np.zeros(operators)
    end = np.zeros(operators)
    groups = 0
    for g in m.group:
        groups = max(groups, g + 1)
    group_device = np.full(groups, -1, np.int64)
    group_memory = np.zeros(groups)
    group_able = np.ones((groups, devices), np.bool_)
    for i in range(operators):
        if m.group[i] >= 0:
            group_memory[m.group[i]] += m.memory[i]
            for d in range(devices):
                if m.compute_s[d, i] == np.inf:
                    group_able[m.group[i], d] = False
    used = np.zeros(devices)
    slot_start = np.zeros((devices, operators))
    slot_end = np.zeros((devices, operators))
    slots = np.zeros(devices, np.int64)
    there = np.full((tensors, devices), np.inf)  # when a tensor is on a device; inf: not sent
    link_free = np.zeros((devices, devices))
    egress_free = np.zeros(devices)
    ingress_free = np.zeros(devices)
    for t in range(tensors):
        if m.producer[t] < 0:
            there[t, m.source] = 0.0
    for i in order:
        g = m.group[i]
        best, best_end = -1, np.inf
        best_start, best_slot = 0.0, 0
        for d in range(devices):
            if not allowed[d] or m.compute_s[d, i] == np.inf:
                continue
            if g >= 0 and (not group_able[g, d] or (group_device[g] >= 0 and group_device[g] != d)):
                continue
            new = 0.0 if g >= 0 and group_device[g] >= 0 else m.memory[i]
            if g >= 0 and group_device[g] < 0:
                new = group_memory[g]
            if used[d] == 0.0 and slots[d] == 0:
                new += m.stage_memory
            if used[d] + new > limit[d]:
                continue
            ready, linked = 0.0, True
            ingress = ingress_free[d]
            for q in range(m.inputs_at[i], m.inputs_at[i + 1]):
                t = m.inputs[q]
                if there[t, d] < np.inf:
                    ready = max(ready, there[t, d])
                    continue
                a = m.source if m.producer[t] < 0 else device[m.producer[t]]
                if m.bandwidth_bps[a, d] == 0.0:
                    linked = False
                    break
                if contended:
                    begin = there[t, a] + m.bytes_[t] * m.send_s_per_byte[a]
                    begin = max(begin, link_free[a, d], egress_free[a], ingress)
                    ingress = begin + 8 * m.bytes_[t] / m.bandwidth_bps[a, d]
                    arrive = ingress + m.latency_s[a, d] + m.bytes_[t] * m.recv_s_per_byte[d]
                else:
                    arrive = there[t, a] + transfer_s(m, t, a, d)
                ready = max(ready, arrive)
            if not linked:
                continue
            home = 0.0  # until the results that it makes are at the sink
            for q in range(m.outputs_at[i], m.outputs_at[i + 1]):
                if m.is_output[m.outputs[q]]:
                    home = max(home, transfer_s(m, m.outputs[q], d, m.sink))
            if home == np.inf:
                continue
            seconds = m.compute_s[d, i]
            low, high = 0, slots[d]  # the first slot that ends after `ready`
            while low < high:
                middle = (low + high) // 2
                if slot_end[d, middle] > ready:
                    high = middle
                else:
                    low = middle + 1
            begin = ready
            while low < slots[d] and begin + seconds > slot_start[d, low]:
                begin = max(begin, slot_end[d, low])
                low += 1
            total = begin + seconds + home
            if total < best_end:
                best, best_end, best_start, best_slot = d, total, begin, low
        if best < 0:
            return device, start, end, i
        device[i] = best
        d = device[i]  # not `best`, which is a literal to numba at first, and compiled for again
        new_memory = m.memory[i]
        if g >= 0:
            new_memory = group_memory[g] if group_device[g] < 0 else 0.0
            group_device[g] = d
        if used[d] == 0.0 and slots[d] == 0:
            new_memory += m.stage_memory
        used[d] += new_memory
        for q in range(m.inputs_at[i], m.inputs_at[i + 1]):
            t = m.inputs[q]
            if there[t, d] < np.inf:
                continue
            a = m.source if m.producer[t] < 0 else device[m.producer[t]]
            if contended:
                begin = there[t, a] + m.bytes_[t] * m.send_s_per_byte[a]
                begin = max(begin, link_free[a, d], egress_free[a], ingress_free[d])
                until = begin + 8 * m.bytes_[t] / m.bandwidth_bps[a, d]
                link_free[a, d] = egress_free[a] = ingress_free[d] = until
                there[t, d] = until + m.latency_s[a, d] + m.bytes_[t] * m.recv_s_per_byte[d]
            else:
                there[t, d] = there[t, a] + transfer_s(m, t, a, d)
        start[i] = best_start
        end[i] = best_start + m.compute_s[d, i]
        for k in range(slots[d], best_slot, -1):
            slot_start[d, k] = slot_start[d, k - 1]
            slot_end[d, k] = slot_end[d, k - 1]
        slot_start[d, best_slot] = start[i]
        slot_end[d, best_slot] = end[i]
        slots[d] += 1
        for q in range(m.outputs_at[i], m.outputs_at[i + 1]):
            there[m.outputs[q], d] = end[i]
    return device, start, end, -1
