"""The least latency over any number of devices, block by block.

A plan's stages, run operator by operator, are a schedule: every operator on one device, one at a
time, a tensor's transfer after its producer and before its readers elsewhere, one at a time on
each link, egress and ingress. The search is over such schedules, with transfers in any order and
a stage's overhead counted once on a device that a block comes to, and after each arrival. So no
plan is better than the best schedule: the evaluator's order of transfers is one of the orders, and
stages only delay what their operators made.

Where only tensors of one operator cross a position (`latency_blocks`), all before has ended when
that operator ends, and all after begins later: the latency is the sum of what the blocks take, and
a block's time depends only on the devices of its entry and its exit. So the best schedule is a
shortest path over (block, device). A cell of a block (entry on d, exit on e) has a lower bound
first (critical path, each operator wherever it is best for each path); only cells on the shortest
path by bounds are solved, by branch and bound (`branching_kernels`), until it has solved
cells only.
The evaluator scores the plan it leads to; where both values agree it is proven best of all plans.
Side tensors of few bytes (masks) and what is made of them alone, early results, memory limits and
colocation of operators in different blocks are left out of the bound, which can only lower it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cutset.errors import InfeasibleError
from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers import scopes
from cutset.solvers.arrays import ClusterArrays, Floats, cluster_arrays
from cutset.solvers.few_plans import best_of_few
from cutset.solvers.fitting import fitting_plan, no_plan, searched_plan
from cutset.solvers.latency.block_search import BlockSearch
from cutset.solvers.latency.chain_plans import chain_plans
from cutset.solvers.latency.incumbents import improving_plans
from cutset.solvers.latency.latency_blocks import LARGE, Block, latency_blocks
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.relaxation import out_of_time
from cutset.solvers.scheduling.balancing import starts
from cutset.solvers.scheduling.list_schedule import Schedule
from cutset.solvers.scheduling.stages_of import stages_of

_ROUNDING = 1e-12  # relative: a plan of the same value is not better
_CLOSED = 1e-10  # relative: bounds are sums in another order than the evaluator's
_NEAR = 0.01  # of a gap that a better plan would hardly make easier to close
_FIRST_NODES, _MORE = 8_000, 16  # of the search of a cell; how many times as many if it stays open


@dataclass
class _Search:
    """The shortest path over blocks. Mutable: bounds rise and the best plan improves."""

    problem: Problem
    budget: Budget
    blocks: list[BlockSearch]  # one for all blocks that are the same
    positions: list[tuple[int, ...]]  # of each block's operators in the graph
    plan: Plan | None = None
    value_s: float = math.inf
    bound_s: float = 0.0

    @property
    def low(self) -> list[Floats]:
        return [search.low for search in self.blocks]

    @property
    def high(self) -> list[Floats]:
        return [search.high for search in self.blocks]

    def offer(self, plan: Plan) -> None:
        """Keep the plan if it is the best so far; one that tears a group apart is none."""
        groups: dict[str, str] = {}
        positions, operators = self.problem.graph.positions, self.problem.graph.operators
        for stage in plan.stages:
            for name in stage.operators:
                group = operators[positions[name]].colocate
                if group is not None and groups.setdefault(group, stage.device) != stage.device:
                    return
        value = value_of(self.problem, plan)
        if value < self.value_s * (1 - _ROUNDING) or (self.plan is None and value < math.inf):
            self.plan, self.value_s = plan, value
            self.budget.report(plan)

    def raise_bound(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = min(bound_s, self.value_s)
            if self.plan is not None:
                self.budget.report(self.plan, self.bound_s, scopes.FULL)

    def closed(self) -> bool:
        return self.bound_s >= self.value_s * (1 - _CLOSED)


def makespan(problem: Problem, budget: Budget, *, max_nodes: int = 2_000_000) -> Proposal:
    """The plan of least latency that was found, and a bound on any untiled plan.

    Raises what `search.no_plan` returns where there is none, or none was found.
    """
    cluster = cluster_arrays(problem)
    run = _Search(problem, budget, [], [])
    known = budget.best is not None  # a plan that whoever asks has from other methods
    if budget.best is not None:
        run.offer(budget.best.plan)
    for name in cluster.names:
        run.offer(single_stage(problem, name))
    for plan in chain_plans(problem, budget):
        run.offer(plan)
    blocks = latency_blocks(problem.graph)
    begun = _start(run)
    if run.plan is None and (fitting := fitting_plan(problem)) is not None:
        run.offer(fitting)
    if blocks:
        large = max(b.count for b in blocks) > LARGE
        _prepare(run, blocks, cluster)
        _offer_path(run, *_ends(run))
        early = large or _short_of_memory(problem)
        if early:  # the search may not end, and needs a good plan to be short
            _improve(run, min(_FIRST_NODES, max_nodes))
            if run.bound_s >= run.value_s * (1 - _NEAR):
                _improve(run, min(_FIRST_NODES * _MORE, max_nodes))
            _offer_more(run, begun, known)
        _improve(run, max_nodes)
        if not early:
            _offer_more(run, begun, known)
    else:
        run.raise_bound(0.0)
        _offer_more(run, begun, known)
    if run.plan is None:
        _offer_any(run, begun)
    assert run.plan is not None
    if not run.closed() and (few := best_of_few(problem, budget)) is not None:
        if few.best.plan is not None:
            run.offer(few.best.plan)
        run.raise_bound(few.least_s)
    _joined(run)
    bound = run.value_s if run.closed() else run.bound_s
    budget.report(run.plan, bound, scopes.FULL)
    return Proposal(run.plan, bound, scopes.FULL)


def _short_of_memory(problem: Problem) -> bool:
    """Whether a device could not hold all, so that blocks are not independent."""
    needed = sum(op.memory_bytes for op in problem.graph.operators)
    least = min(device.memory_bytes for device in problem.cluster.devices)
    return needed + problem.graph.stage_memory_bytes > least


def _start(run: _Search) -> list[Schedule]:
    """Offer what `balance` begins with."""
    begun = []
    try:
        for schedule, plan in starts(run.problem, run.budget):
            begun.append(schedule)
            run.offer(plan)
    except InfeasibleError:
        pass
    return begun


def _offer_more(run: _Search, begun: list[Schedule], known: bool) -> None:
    """Offer what all other methods find, unless the best plan is proven."""
    found = improving_plans(run.problem, run.budget, begun, lambda: run.plan, two_way=not known)
    while not run.closed() and (plan := next(found, None)) is not None:
        run.offer(plan)


def _offer_any(run: _Search, begun: list[Schedule]) -> None:
    """Offer the first plan that fits, and what is made of it. Raises where there is none."""
    plan, none = searched_plan(run.problem, run.budget)
    if plan is not None:
        run.offer(plan)
    if run.plan is None and run.budget.exhausted() and not none:
        raise out_of_time(run.budget)
    if run.plan is None:
        raise no_plan(run.problem, proven=none)
    _offer_more(run, begun, known=True)


def _joined(run: _Search) -> None:
    """The best plan in fewer stages, where the evaluator says that this costs nothing."""
    plan, graph = run.plan, run.problem.graph
    if plan is None or run.budget.exhausted() or len(plan.stages) == 1:
        return
    names = [d.name for d in run.problem.cluster.devices]
    order, device = [], [0] * len(graph.operators)
    for stage in plan.stages:
        members = sorted(graph.positions[name] for name in stage.operators)
        order += members
        for i in members:
            device[i] = names.index(stage.device)
    fewer = stages_of(run.problem, device, order, run.budget)
    value = value_of(run.problem, fewer)
    if len(fewer.stages) < len(plan.stages) and value <= run.value_s * (1 + _ROUNDING):
        run.plan, run.value_s = fewer, min(value, run.value_s)


def _prepare(run: _Search, blocks: Iterable[Block], cluster: ClusterArrays) -> None:
    """A search for each block; blocks that are the same share it."""
    known: dict[bytes, BlockSearch] = {}
    for block in blocks:
        compute = np.zeros((block.count, len(cluster.names)))
        for k, position in enumerate(block.positions):
            if block.real[k]:
                compute[k] = cluster.compute_s[:, position]
        if block.last:
            compute[-1] = np.inf
            compute[-1, cluster.sink] = 0.0
        key = block.key + compute.tobytes()
        if key not in known:
            known[key] = BlockSearch(block, cluster, compute)
        run.blocks.append(known[key])
        run.positions.append(block.positions)


def _forward(costs: list[Floats], source: int) -> list[Floats]:
    """found[k][d]: least time from the request's start to block k's entry on d."""
    at = np.full(len(costs[0]), np.inf)
    at[source] = 0.0
    found = [at]
    for cost in costs:
        found.append((found[-1][:, None] + cost).min(axis=0))
    return found


def _backward(costs: list[Floats], sink: int) -> list[Floats]:
    at = np.full(len(costs[0]), np.inf)
    at[sink] = 0.0
    found = [at]
    for cost in reversed(costs):
        found.append((cost + found[-1][None, :]).min(axis=1))
    return found[::-1]


def _path(costs: list[Floats], ahead: list[Floats], source: int) -> list[int]:
    """The devices at the ends of the blocks on a shortest path; ties to the first device."""
    devices = [source]
    for k, cost in enumerate(costs):
        devices.append(int(np.argmin(cost[devices[-1]] + ahead[k + 1])))
    return devices


def _ends(run: _Search) -> tuple[int, int]:
    cluster = run.blocks[0].cluster
    return cluster.source, cluster.sink


def _offer_path(run: _Search, source: int, sink: int) -> None:
    """Offer the plan of the best schedules known."""
    costs = run.high
    ahead = _backward(costs, sink)
    if math.isfinite(ahead[0][source]):
        devices = _path(costs, ahead, source)
        for plan in _plans(run, devices):
            run.offer(plan)


def _improve(run: _Search, max_nodes: int) -> None:
    """Solve the cells of the shortest path by bounds until it is proven or time is up.

    With little work for each at first, as one that is hard must not keep all others from being
    solved.
    """
    source, sink = _ends(run)
    limit = min(_FIRST_NODES, max_nodes)
    while True:
        behind, ahead = _forward(run.low, source), _backward(run.low, sink)
        run.raise_bound(float(ahead[0][source]))
        if run.closed() or run.budget.exhausted() or math.isinf(ahead[0][source]):
            return
        devices = _path(run.low, ahead, source)
        open_cells = False
        for k, (d, e) in enumerate(itertools.pairwise(devices)):
            search = run.blocks[k]
            if search.solved(d, e) or run.budget.exhausted():
                continue
            before = search.low[d, e]
            rest = float(run.value_s - behind[k][d] - ahead[k + 1][e])
            search.solve(d, e, rest, run.budget, limit)
            open_cells |= bool(search.low[d, e] > before) or search.solved(d, e)
        _offer_path(run, source, sink)
        if not open_cells and limit >= max_nodes:
            return
        if not open_cells:
            limit = min(limit * _MORE, max_nodes)


def _plans(run: _Search, devices: list[int]) -> Iterator[Plan]:
    """Plans of the blocks' schedules along a path of devices, by where side operators are."""
    problem = run.problem
    names = run.blocks[0].cluster.names
    stages: list[tuple[str, list[int]]] = []
    ends = itertools.pairwise(devices)
    for search, positions, (d, e) in zip(run.blocks, run.positions, ends, strict=True):
        cell = search.schedule(d, e)
        # The entry's operator is in the stage listed last: all stages before it lead to it.
        listed = {0: len(stages) - 1}
        steps = sorted((int(cell.place[k]), k) for k in range(1, search.block.count))
        for _, k in steps:
            if search.block.real[k]:
                label = int(cell.label[k])
                if label not in listed:
                    listed[label] = len(stages)
                    stages.append((names[int(cell.device[k])], []))
                stages[listed[label]][1].append(positions[k])
    for found in _with_side(problem, stages):
        ordered = _in_order(problem.graph, found)
        yield _named(problem, _with_dead(problem, ordered))


def _in_order(graph: Graph, stages: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    """The stages in topological order, as near to the given one as can be.

    Schedules list stages by their starts; of those that start at one time and take none, one may
    stand before what it reads.
    """
    stage_of = {i: k for k, (_, members) in enumerate(stages) for i in members}
    needs = [
        {stage_of[j] for i in members for j in graph.predecessors[i] if j in stage_of} - {k}
        for k, (_, members) in enumerate(stages)
    ]
    ordered: list[int] = []
    waiting = list(range(len(stages)))
    while waiting:
        ready = next((k for k in waiting if needs[k] <= set(ordered)), waiting[0])
        waiting.remove(ready)
        ordered.append(ready)
    return [stages[k] for k in ordered]


def _with_side(
    problem: Problem, stages: list[tuple[str, list[int]]]
) -> Iterator[list[tuple[str, list[int]]]]:
    """The stages with the side operators that no block holds: each in that of its first reader; or
    all on the source, in its first stage, or in one of their own at the front or after that.

    They need nothing but each other, so stages stay convex, and can stand in a topological order.
    """
    graph, source = problem.graph, problem.cluster.source
    found = [(device, list(members)) for device, members in stages]
    home = {i: k for k, (_, members) in enumerate(found) for i in members}
    side: list[int] = []
    for i in range(len(graph.operators) - 1, -1, -1):
        readers = [home[j] for j in graph.successors[i] if j in home]
        if i in home or not readers:
            continue
        home[i] = min(readers)
        found[home[i]][1].append(i)
        side.append(i)
    yield [(device, sorted(members)) for device, members in found]
    if not side:
        return
    side.sort()
    yield [(source, side), *stages]
    first = min((home[i] for i in side), default=0)
    for k, (device, members) in enumerate(stages[: first + 1]):
        if device == source:
            yield [*stages[:k], (device, sorted([*members, *side])), *stages[k + 1 :]]
            if k < first:
                yield [*stages[: k + 1], (source, side), *stages[k + 1 :]]
            return


def _with_dead(
    problem: Problem, stages: list[tuple[str, list[int]]]
) -> list[tuple[str, list[int]]]:
    """The stages, and at the end those of operators that no output needs.

    Each goes where its group is, or else where what it reads is made and it can run.
    """
    graph, cluster = problem.graph, problem.cluster
    device_of = {i: d for d, members in stages for i in members}
    groups = {graph.operators[i].colocate: d for i, d in device_of.items()}
    stages = list(stages)
    for i, op in enumerate(graph.operators):
        if i in device_of:
            continue
        near = [device_of[j] for j in graph.predecessors[i]]
        able = [
            d
            for d in (*near, cluster.source, *cluster.by_name)
            if math.isfinite(problem.compute_s(d)[i])
        ]
        device_of[i] = (able or [cluster.source])[0]
        if op.colocate is not None:
            device_of[i] = groups.setdefault(op.colocate, device_of[i])
        if stages and stages[-1][0] == device_of[i]:
            stages[-1] = (device_of[i], [*stages[-1][1], i])
        else:
            stages.append((device_of[i], [i]))
    return stages


def _named(problem: Problem, stages: list[tuple[str, list[int]]]) -> Plan:
    operators = problem.graph.operators
    return Plan(
        tuple(
            Stage(f"s{k}", d, tuple(operators[i].name for i in members))
            for k, (d, members) in enumerate(stages)
        ),
        problem.graph.digest,
    )
