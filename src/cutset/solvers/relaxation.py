"""Why no plan exists, for any number of devices, and the least that is known to change it.

`impossible` names what rules out every plan. Where none of that applies and still nothing fits,
`infeasible` names a device and the bytes with which a plan exists that has been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cutset.cluster import Device
from cutset.errors import InfeasibleError
from cutset.estimate import estimate
from cutset.plan import Plan
from cutset.problem import Problem
from cutset.solvers.period_model import placement_plan


@dataclass(frozen=True, order=True)
class Way:
    """A plan that would fit if `device` had `short_bytes` more than it has: `needed_bytes`.

    Where another device is short too, `also` is its part, and `short_bytes` the sum of both.
    """

    short_bytes: float
    device: str
    needed_bytes: float
    also: tuple[Way, ...] = ()


def together(parts: Iterable[Way]) -> Way:
    """One way of what several devices lack: that of the one that lacks most, and the others'."""
    worst, *others = sorted(parts, key=lambda part: (-part.short_bytes, part.device))
    short = tuple(part for part in others if part.short_bytes > 0)
    total = worst.short_bytes + sum(part.short_bytes for part in short)
    return Way(total, worst.device, worst.needed_bytes, short)


def infeasible(
    problem: Problem,
    scope: str,
    ways: Iterable[Way] = (),
    blocked: InfeasibleError | None = None,
    *,
    tried_all: bool = True,
) -> InfeasibleError:
    """The error to raise where no plan of `scope` exists ("plans of one stage a device", …).

    `ways` are the least known in this scope, `blocked` says what stops plans whatever the memory;
    without `tried_all` the message admits that not every plan was looked at.
    """
    reason = impossible(problem)
    memory = reason is not None and str(reason.field).endswith(".memory")
    if reason is not None and not memory:
        return reason
    admitted = "" if tried_all else " (not every plan was tried)"
    found = sorted(ways)
    others = ways_with_more_memory(problem)
    if others and others[0].short_bytes <= 0:
        others_fit = "use a strategy of more stages: some plan fits these devices"
    else:
        others_fit = ""
    if not found and not others_fit:
        found = others
    if not found:
        if reason is not None:
            return reason
        if blocked is not None and not others_fit:
            return blocked
        return InfeasibleError(
            f"none of the {scope} can run{admitted}",
            field="links",
            remedy=others_fit or "add links between the devices, or costs for the operators",
        )
    way = found[0]
    own = way.short_bytes - sum(part.short_bytes for part in way.also)
    lacks = [own, *(part.short_bytes for part in way.also)]
    more = f"it is {' and '.join(f'{lack:.0f} bytes' for lack in lacks)} short: state more memory,"
    more += " or add a device"
    needs = " and ".join(
        f"device {part.device!r} needs {part.needed_bytes:.0f} bytes for its part"
        for part in (way, *way.also)
    )
    # What rules out every plan is the least that has to change, a way is what is enough.
    why = f"the model fits in none of the {scope}" if reason is None else reason.message
    return InfeasibleError(
        f"{why}: at best {needs}{admitted}",
        field=f"devices.{way.device}.memory",
        value=f"{problem.device(way.device).memory_bytes:.0f} bytes",
        remedy=f"{more}; or {others_fit}" if others_fit else more,
    )


def impossible(problem: Problem) -> InfeasibleError | None:
    """What rules out every plan on any number of devices; None where these reasons do not.

    An operator or a colocate group that no device can run or hold; the sum of memory; no link by
    which an operator could get what the source has, or give what the sink wants.
    """
    parts = _parts(problem)
    for name, operators in parts:
        error = _nowhere_to_run(problem, name, operators)
        if error is None:
            error = _nowhere_to_fit(problem, name, operators)
        if error is None:
            error = _out_of_reach(problem, name, operators)
        if error is not None:
            return error
    graph, devices = problem.graph, problem.cluster.devices
    total = sum(op.memory_bytes for op in graph.operators)
    room = sum(_room(problem, d) for d in devices)
    if total <= room:
        return None
    each = (
        f" beside {graph.stage_memory_bytes} bytes for a stage" if graph.stage_memory_bytes else ""
    )
    largest = max(devices, key=lambda d: d.memory_bytes)
    ways = ways_with_more_memory(problem)
    way = ways[0] if ways else None
    name = way.device if way is not None else largest.name
    with_more = (
        f"; with {way.short_bytes:.0f} bytes more on {way.device!r} a plan exists" if way else ""
    )
    return InfeasibleError(
        f"the operators take {total} bytes, and the {_count(len(devices), 'device')} together"
        f" {'has' if len(devices) == 1 else 'have'} {room:.0f}{each}",
        field=f"devices.{name}.memory",
        value=f"{problem.device(name).memory_bytes:.0f} bytes",
        remedy=f"they are {total - room:.0f} bytes short{with_more}: state more memory, or add a"
        " device",
    )


def ways_with_more_memory(problem: Problem) -> list[Way]:
    """For each device, what it needs if the others are filled in the order of the graph and the
    rest is put there; the least first. Only plans that could run are counted, so each is enough;
    less may do."""
    devices = problem.cluster.devices
    found = []
    for last in range(len(devices)):
        placement = _filled(problem, last)
        if placement is None:
            continue
        plan = placement_plan(problem, placement)
        way = _way(problem, plan, devices[last].name)
        if way is not None:
            found.append(way)
    return sorted(found)


def _way(problem: Problem, plan: Plan, device: str) -> Way | None:
    try:
        memory = estimate(problem, plan).memory_bytes
    except InfeasibleError:
        return None
    for name, needed in memory.items():
        if name != device and needed > problem.device(name).memory_bytes:
            return None  # a device of several stages
    needed = memory.get(device, 0)
    return Way(needed - problem.device(device).memory_bytes, device, float(needed))


def _filled(problem: Problem, last: int) -> list[int] | None:
    """Parts in the order of the graph, each on the device of the one before while it has room."""
    devices = problem.cluster.devices
    order = sorted(range(len(devices)), key=lambda d: (-_room(problem, devices[d]), d))
    left = {d: _room(problem, devices[d]) for d in order if d != last}
    placement = [last] * len(problem.graph.operators)
    here: int | None = None
    for _, operators in _parts(problem):
        needed = sum(problem.graph.operators[i].memory_bytes for i in operators)
        can = [d for d in order if _runs(problem, devices[d].name, operators)]
        fitting = [d for d in can if d != last and left[d] >= needed]
        if here in fitting:
            chosen = here
        elif fitting:
            chosen = fitting[0]
        elif last in can:
            chosen = last
        else:
            return None
        assert chosen is not None
        if chosen != last:
            left[chosen] -= needed
            here = chosen
        for i in operators:
            placement[i] = chosen
    return placement


def _parts(problem: Problem) -> list[tuple[str, list[int]]]:
    """Operators that share a device, with the words for them; single ones and colocate groups."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, op in enumerate(problem.graph.operators):
        key = ("operator", op.name) if op.colocate is None else ("group", op.colocate)
        found.setdefault(key, []).append(i)
    return [
        (f"operator {name!r}" if kind == "operator" else f"the colocate group {name!r}", operators)
        for (kind, name), operators in found.items()
    ]


def _runs(problem: Problem, device: str, operators: Sequence[int]) -> bool:
    seconds = problem.compute_s(device)
    return all(math.isfinite(seconds[i]) for i in operators)


def _room(problem: Problem, device: Device) -> float:
    return max(device.memory_bytes - problem.graph.stage_memory_bytes, 0.0)


def _nowhere_to_run(
    problem: Problem, name: str, operators: Sequence[int]
) -> InfeasibleError | None:
    devices, graph = problem.cluster.devices, problem.graph
    if any(_runs(problem, d.name, operators) for d in devices):
        return None
    kinds = ", ".join(sorted({d.kind for d in devices}))
    for i in operators:
        if not any(_runs(problem, d.name, [i]) for d in devices):
            return InfeasibleError(
                f"operator {graph.operators[i].name!r} can run on no device of the cluster",
                field=f"operators.{graph.operators[i].name}.compute_s",
                value=f"no cost for {kinds}",
                remedy="profile the model on the devices, or add a kind to its compute_s",
            )
    return InfeasibleError(
        f"no device of the cluster can run all of {name}",
        field=f"operators.{graph.operators[operators[0]].name}.colocate",
        value=f"kinds {kinds}",
        remedy="profile the model on the devices, add a kind to the operators' compute_s, or"
        " make the group smaller",
    )


def _nowhere_to_fit(
    problem: Problem, name: str, operators: Sequence[int]
) -> InfeasibleError | None:
    graph = problem.graph
    able = [d for d in problem.cluster.devices if _runs(problem, d.name, operators)]
    largest = max(able, key=lambda d: d.memory_bytes)
    needed = graph.stage_memory_bytes + sum(graph.operators[i].memory_bytes for i in operators)
    if needed <= largest.memory_bytes:
        return None
    return InfeasibleError(
        f"{name} alone needs {needed} bytes, more than any device that can run it has",
        field=f"devices.{largest.name}.memory",
        value=f"{largest.memory_bytes:.0f} bytes",
        remedy=f"it is {needed - largest.memory_bytes:.0f} bytes short: state more memory, or add"
        " a device that holds it",
    )


def _out_of_reach(problem: Problem, name: str, operators: Sequence[int]) -> InfeasibleError | None:
    """No device that runs and holds the operators has the links to the source and the sink that
    they need wherever the rest is."""
    graph, cluster = problem.graph, problem.cluster
    inputs = set(graph.inputs)
    results = set(graph.outputs)
    asks = any(t in inputs for i in operators for t in graph.operators[i].inputs)
    gives = any(t in results for i in operators for t in graph.operators[i].outputs)
    needed = graph.stage_memory_bytes + sum(graph.operators[i].memory_bytes for i in operators)
    missing: list[str] = []
    for device in cluster.devices:
        if not _runs(problem, device.name, operators) or needed > device.memory_bytes:
            continue
        pairs = [(cluster.source, device.name)] if asks else []
        pairs += [(device.name, cluster.sink)] if gives else []
        absent = [f"{a}>{b}" for a, b in pairs if a != b and cluster.link(a, b) is None]
        if not absent:
            return None
        missing.append(absent[0])
    source, _, target = missing[0].partition(">")
    return InfeasibleError(
        f"no link from {source!r} to {target!r}, and {name}, which"
        f" {'reads a graph input' if source == cluster.source and asks else 'makes a graph output'}"
        ", can be on no device that needs none",
        field="links",
        value=", ".join(missing[:5]),
        remedy="add the link or a default_link to the cluster file",
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number != 1 else "")
