"""Whether a placement can be listed in stages with no more of them on each device than allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cutset.plan import Plan, Stage
from cutset.problem import Problem

Listing = tuple[tuple[int, int], ...]  # devices and masks of operators


def listing(
    problem: Problem, placed: Sequence[int], most: Sequence[float], looks: int = 2_000
) -> tuple[Listing | None, bool]:
    """(stages of the placement with at most `most[d]` on device d, whether the answer is certain).

    Only stages that take all they can are tried: in any list each stage can be made to, and then
    what is done is at each point a superset, so no device needs more. Depth first; what was done
    before with no more stages of any device left is not looked at again. `looks` limits the work.
    """
    graph = problem.graph
    before = [sum(1 << j for j in needs) for needs in graph.predecessors]
    parts: dict[int, list[int]] = {}
    for i, d in enumerate(placed):
        parts.setdefault(d, []).append(i)
    devices = sorted(parts)
    everything = (1 << len(placed)) - 1
    seen: dict[int, list[tuple[float, ...]]] = {}
    stack: list[tuple[int, tuple[float, ...], Listing]] = [(0, tuple(most[d] for d in devices), ())]
    while stack:
        done, left, listed = stack.pop()
        if done == everything:
            return listed, True
        known = seen.setdefault(done, [])
        if any(all(a >= b for a, b in zip(other, left, strict=True)) for other in known):
            continue
        known.append(left)
        if looks == 0:
            return None, False
        looks -= 1
        options = []
        for k, d in enumerate(devices):
            if left[k] < 1:
                continue
            run = 0
            for i in parts[d]:
                if not done >> i & 1 and not before[i] & ~(done | run):
                    run |= 1 << i
            if run:
                rest = (*left[:k], left[k] - 1, *left[k + 1 :])
                options.append((run.bit_count(), -d, (done | run, rest, (*listed, (d, run)))))
        stack += [option for *_, option in sorted(options)]  # the longest run comes first
    return None, True


def listed_plan(problem: Problem, listed: Listing) -> Plan:
    graph, devices = problem.graph, problem.cluster.devices
    return Plan(
        tuple(
            Stage(
                f"s{k}",
                devices[d].name,
                tuple(op.name for i, op in enumerate(graph.operators) if mask >> i & 1),
            )
            for k, (d, mask) in enumerate(listed)
        ),
        graph.digest,
    )


def most_stages(
    load_s: float, overhead_s: float, value_s: float, held: float, stage: float, room: float
) -> float:
    """How many stages a device can have: seconds below `value_s`, bytes within `room`.

    `load_s` counts one stage's overhead, `held` are the bytes of its operators.
    """
    by_time = math.inf
    if overhead_s > 0 and math.isfinite(value_s):
        by_time = math.floor((value_s - load_s) / overhead_s + 1e-9) + 1
    by_memory = math.inf if stage == 0 or math.isinf(room) else (room - held) // stage
    return min(by_time, by_memory)
