"""Why no plan exists, for any number of devices, and the least that is known to change it.

`impossible` names what rules out every plan. Where none of that applies and still nothing fits,
`infeasible` names a device and the bytes with which a plan exists that has been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cutset.cluster import Cluster
from cutset.errors import InfeasibleError, NoPlanFoundError, PlanningError
from cutset.estimate import estimate
from cutset.plan import Plan
from cutset.problem import Budget, Problem
from cutset.solvers.filling import filled_plans, parts_of, room, runs
from cutset.solvers.scopes import FULL

_WHOLE = 0.5  # bytes: memory is counted in whole ones


@dataclass(frozen=True, order=True)
class Way:
    """A plan that would fit with `short_bytes` more in all: the bytes that those devices need which
    have less, by name."""

    short_bytes: float
    needs: tuple[tuple[str, float], ...]


def way(problem: Problem, needed_bytes: Mapping[str, float]) -> Way:
    """What is short for a plan that needs so many bytes on its devices."""
    limits = {name: problem.device(name).memory_bytes for name in needed_bytes}
    short = {name: n - limits[name] for name, n in needed_bytes.items() if n > limits[name]}
    worst_first = sorted(short, key=lambda name: (-short[name], name))
    return Way(math.fsum(short.values()), tuple((n, needed_bytes[n]) for n in worst_first))


def infeasible(
    problem: Problem,
    scope: str,
    ways: Iterable[Way] = (),
    blocked: InfeasibleError | None = None,
    *,
    tried_all: bool = True,
    least: bool = True,
) -> InfeasibleError:
    """The error to raise where no plan of `scope` exists ("plans of one stage", …).

    `ways` are known in this scope, with `least` those that are short of least in all; `blocked`
    says what stops plans whatever the memory; without `tried_all` the message admits that not every
    plan was looked at. What rules out every plan is said as `no_plan` says it.
    """
    reason = impossible(problem)
    if reason is not None and not _of_memory(reason):
        return reason
    admitted = "" if tried_all else " (not every plan was tried)"
    own = min((known for known in ways if known.needs), default=None)
    any_ = min(ways_with_more_memory(problem), default=None)
    others = ""
    if any_ is not None and any_.short_bytes <= 0:
        others = "use the strategy auto: some plan fits these devices"
    elif any_ is not None and (own is None or any_.short_bytes < own.short_bytes):
        others = f"use the strategy auto, for which it is enough if {_parts(any_)}"
    cause = f"the model fits in none of the {scope}" if reason is None else reason.message
    if own is not None:
        return _short(problem, cause, own, least and tried_all, admitted, others)
    if blocked is not None:
        remedy = "; or ".join(text for text in (blocked.remedy, others) if text)
        return InfeasibleError(
            blocked.message, field=blocked.field, value=blocked.value, remedy=remedy
        )
    return reason or _no_links(f"none of the {scope} can run{admitted}", others)


def no_plan(
    problem: Problem,
    ways: Iterable[Way] = (),
    blocked: InfeasibleError | None = None,
    *,
    proven: bool = False,
    least_bytes: float = 0.0,
) -> PlanningError:
    """The error of methods that look at any plan: the same for all, whatever the objective.

    `ways` are added to those known here, `blocked` is as for `infeasible`; every plan is short of
    `least_bytes` in all or more. An InfeasibleError of scope "full" where no plan exists: `proven`
    or `least_bytes` say so, or something here does; otherwise a NoPlanFoundError.
    """
    reason = impossible(problem)
    if reason is not None and not _of_memory(reason):
        reason.scope = FULL
        return reason
    known = [w for w in (*ways, *ways_with_more_memory(problem)) if w.needs]
    proven = proven or reason is not None or least_bytes > 0
    least = min(known, default=None)
    if least is None:
        said = "no plan can run" if proven else "no plan was found that can run, though one may"
        if math.isinf(least_bytes):  # so more memory would not help
            reason = None
        error = reason or blocked or _no_links(said, "")
    else:
        cause = "no plan keeps the devices' memory limits" if reason is None else reason.message
        if not proven:
            cause = (
                "no plan was found that keeps the devices' memory limits, though there may be one"
            )
        error = _short(problem, cause, least, least.short_bytes < least_bytes + _WHOLE, "", "")
    if proven:
        error.scope = FULL
        return error
    return NoPlanFoundError(
        error.message, field=error.field, value=error.value, remedy=error.remedy
    )


def out_of_time(budget: Budget) -> PlanningError:
    """The error of a search that time ended before it knew of a plan."""
    return PlanningError(
        "no plan was found in the time; there may be one, as none was ruled out",
        field="time_limit_s",
        value=f"{budget.time_limit_s:g} s",
        remedy="give it more time, or the devices more memory",
    )


def _of_memory(error: PlanningError) -> bool:
    return (error.field or "").endswith(".memory")


def _no_links(message: str, others: str) -> InfeasibleError:
    add = "add links between the devices, or costs for the operators"
    return InfeasibleError(message, field="links", remedy=f"{others}; or {add}" if others else add)


def _parts(least: Way) -> str:
    return " and ".join(f"device {name!r} has {n:.0f} bytes" for name, n in least.needs)


def _short(
    problem: Problem, cause: str, way: Way, least: bool, admitted: str, others: str
) -> InfeasibleError:
    """What is short, with the devices that need more by name. Only where it is the `least` in all
    is it called that: what is known to be enough need not be needed."""
    limits = {name: problem.device(name).memory_bytes for name, _ in way.needs}
    shorts = " and ".join(f"{n - limits[name]:.0f} bytes" for name, n in way.needs)
    several = len(way.needs) > 1
    worst = way.needs[0][0]
    if least:
        parts = " and ".join(f"device {name!r} needs {n:.0f} bytes" for name, n in way.needs)
        said = f"at best {parts} for {'their parts' if several else 'its part'}"
        more = f"{'they are' if several else 'it is'} {shorts} short"
    else:
        said = f"it is enough if {_parts(way)}, though less may do"
        more = f"that is {shorts} more"
    more += ": state more memory, or add a device"
    return InfeasibleError(
        f"{cause}: {said}{admitted}",
        field=f"devices.{worst}.memory",
        value=f"{limits[worst]:.0f} bytes",
        remedy=f"{more}; or {others}" if others else more,
    )


def impossible(problem: Problem) -> InfeasibleError | None:
    """What rules out every plan on any number of devices; None where these reasons do not.

    An operator or a colocate group that no device can run or hold; the sum of memory; no links by
    which an operator could get what the source has, or give what the sink wants.
    """
    passed = _passed_on(problem)
    if passed is not None:
        return passed
    parts = parts_of(problem)
    for check in (_nowhere_to_run, _nowhere_to_fit, _out_of_reach):
        for name, operators in parts:
            error = check(problem, name, operators)
            if error is not None:
                return error
    cut_off = _cut_off(problem, parts)
    if cut_off is not None:
        return cut_off
    graph, devices = problem.graph, problem.cluster.devices
    total = sum(op.memory_bytes for op in graph.operators)
    held = sum(room(problem, d) for d in devices)
    if total <= held:
        return None
    each = (
        f" beside {graph.stage_memory_bytes} bytes for a stage" if graph.stage_memory_bytes else ""
    )
    largest = max(devices, key=lambda d: d.memory_bytes)
    return InfeasibleError(
        f"the operators take {total} bytes, and the {_count(len(devices), 'device')} together"
        f" {'has' if len(devices) == 1 else 'have'} {held:.0f}{each}",
        field=f"devices.{largest.name}.memory",
        value=f"{largest.memory_bytes:.0f} bytes",
        remedy=f"they are {total - held:.0f} bytes short: state more memory, or add a device",
    )


def ways_with_more_memory(problem: Problem) -> list[Way]:
    """For each device, what it needs to take what the others do not hold (filling.py); the least
    first. Only plans that could run are counted, so each is enough; less may do."""
    found = (_way(problem, plan, device) for device, plan in filled_plans(problem))
    return sorted(known for known in found if known is not None)


def _way(problem: Problem, plan: Plan, device: str) -> Way | None:
    try:
        memory = estimate(problem, plan).memory_bytes
    except InfeasibleError:
        return None
    for name, needed in memory.items():
        if name != device and needed > problem.device(name).memory_bytes:
            return None  # a device of several stages
    return way(problem, {device: float(memory.get(device, 0))})


def _nowhere_to_run(
    problem: Problem, name: str, operators: Sequence[int]
) -> InfeasibleError | None:
    devices, graph = problem.cluster.devices, problem.graph
    if any(runs(problem, d.name, operators) for d in devices):
        return None
    kinds = ", ".join(sorted({d.kind for d in devices}))
    for i in operators:
        if not any(runs(problem, d.name, [i]) for d in devices):
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
    able = [d for d in problem.cluster.devices if runs(problem, d.name, operators)]
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


def _passed_on(problem: Problem) -> InfeasibleError | None:
    """A graph input that is a result too goes from the source to the sink in every plan."""
    graph, cluster = problem.graph, problem.cluster
    both = [t for t in graph.outputs if t in graph.inputs]
    if not both or cluster.source == cluster.sink or cluster.link(cluster.source, cluster.sink):
        return None
    return InfeasibleError(
        f"no link from {cluster.source!r} to {cluster.sink!r}, and the graph input {both[0]!r} is a"
        " graph output too",
        field="links",
        value=f"{cluster.source}>{cluster.sink}",
        remedy="add the link or a default_link to the cluster file",
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
        if not runs(problem, device.name, operators) or needed > device.memory_bytes:
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


def _cut_off(
    problem: Problem, parts: Sequence[tuple[str, Sequence[int]]]
) -> InfeasibleError | None:
    """Operators that work on what the source has, though after others, can be on no device that
    links lead to from it; or from no device that can run them links lead to the sink."""
    graph, cluster = problem.graph, problem.cluster
    inputs, results = set(graph.inputs), set(graph.outputs)
    fed: set[int] = set()
    for i, op in enumerate(graph.operators):
        if inputs.intersection(op.inputs) or fed.intersection(graph.predecessors[i]):
            fed.add(i)
    wanted: set[int] = set()
    for i in reversed(range(len(graph.operators))):
        if i in wanted or results.intersection(graph.operators[i].outputs):
            wanted.update((i, *graph.predecessors[i]))
    ahead, back = _led_to(cluster, cluster.source, 1), _led_to(cluster, cluster.sink, -1)
    for name, operators in parts:
        able = [d.name for d in cluster.devices if runs(problem, d.name, operators)]
        for those, reached, way_ in (
            (fed, ahead, f"{cluster.source!r} to {{}}"),
            (wanted, back, f"{{}} to {cluster.sink!r}"),
        ):
            if those.intersection(operators) and not reached.intersection(able):
                way_ = way_.format(" or ".join(map(repr, able[:3])))
                return InfeasibleError(
                    f"no links lead from {way_}, where alone {name} can run",
                    field="links",
                    value=", ".join(f"{link.source}>{link.target}" for link in cluster.links[:5])
                    or "none",
                    remedy="add the links or a default_link to the cluster file",
                )
    return None


def _led_to(cluster: Cluster, start: str, step: int) -> set[str]:
    """The devices that links lead to from one (`step` 1), or from which they lead to it (-1)."""
    found, pending = {start}, [start]
    while pending:
        here = pending.pop()
        for other in cluster.by_name:
            ends = (here, other)[::step]
            if other not in found and cluster.link(*ends) is not None:
                found.add(other)
                pending.append(other)
    return found


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("s" if number != 1 else "")
