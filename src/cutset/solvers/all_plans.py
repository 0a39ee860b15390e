"""Every plan of a scope, for problems so small that they can all be tried.

A plan is a *placement* (a device for each operator) and a *listing* (each device's operators cut
into stages, all stages in one topological order). Placements that cannot run whatever the listing
(a cost or a link is missing, the operators alone exceed a memory limit, a colocate group is torn
apart) are left out, and so are listings whose stages exceed a memory limit: none of them has a
value. What is left is deduplicated up to what the evaluator can tell apart.

Latency. Given a placement, the evaluator sees which operators each stage has, the order of the
stages on each device, and, where transfers are ready at the same time, the position of the stages
that produce them. Transfers influence each other through what they share: a link or an egress
(then one device sends both, and its own order decides) or an ingress (then both go to the same
device). So the order of two neighbours in the list can only matter where they are on one device,
one reads from the other, or both send to the same device; by induction over the turns of the
transfers, all times stay the same when other neighbours change places. Two lists that differ by
such exchanges are one trace (Mazurkiewicz), and each trace has exactly one list in lexicographic
normal form: no stage stands behind one of a later device that it could be moved before, past
stages that are all independent of it (Anisimov and Knuth 1979). Those lists are made here.

Throughput. Period and memory depend on the placement and on how many stages each device has, and
neither falls when a device has more. Runs that take all operators that they can need no more
stages than any other list: follow that list, let each of its stages be such a run, and leave out
those with nothing left to do; what is done is then always a superset. So only such runs are
listed, and one list for each vector of counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Objective, Problem
from cutset.solvers.one_stage import single_stage

_FEW = 500  # plans: some 50 ms, less than the first call of anything compiled


def untiled_plans(problem: Problem) -> Iterator[Plan]:
    """Every plan that can have a value, in a fixed order, up to what the evaluator can tell apart
    for the problem's objective; exponential in the operators."""
    latency = problem.objective is Objective.LATENCY
    for placed in _placements(problem):
        listings = placed.listings() if latency else placed.fewest_stages()
        yield from (placed.plan(listing) for listing in listings)


def few_plans(problem: Problem, most: int = _FEW) -> list[Plan] | None:
    """All of `untiled_plans` where they are at most `most`; None where they are more."""
    if placement_count(problem) > 2 * most:  # placements may drop out, so more than plans
        return None
    plans = list(itertools.islice(untiled_plans(problem), most + 1))
    return plans if len(plans) <= most else None


def stage_per_device_plans(problem: Problem) -> Iterator[Plan]:
    """Every plan of at most one stage a device, with the same omissions."""
    for placed in _placements(problem):
        yield from (placed.plan(listing) for listing in placed.listings(whole=True))


def pipeline_plans(problem: Problem) -> Iterator[Plan]:
    """Every plan whose stages are runs of whole blocks, each on a device of its own."""
    graph = problem.graph
    names = [d.name for d in problem.cluster.devices]
    blocks = graph.blocks
    for count in range(1, min(len(blocks), len(names)) + 1):
        for inner in itertools.combinations(range(1, len(blocks)), count - 1):
            begins = [blocks[b][0] for b in (0, *inner)]
            ends = [*begins[1:], len(graph.operators)]
            for path in itertools.permutations(names, count):
                yield _plan(graph, zip(path, map(range, begins, ends), strict=True))


def one_stage_plans(problem: Problem) -> Iterator[Plan]:
    """The whole graph on each device."""
    return (single_stage(problem, device.name) for device in problem.cluster.devices)


def placement_count(problem: Problem) -> int:
    """How many placements there are before links and memory are looked at."""
    return math.prod(len(devices) for devices in _choices(problem)[1])


@dataclass(frozen=True)
class _Letter:
    """A stage in a listing. All but `device` are bit masks: of operators, of devices for `to`."""

    device: int
    operators: int
    before: int  # predecessors of its operators
    to: int  # the devices it sends to

    def independent(self, earlier: _Letter) -> bool:
        """Whether it may change places with a stage that stands before it in the list."""
        return (
            self.device != earlier.device
            and not self.before & earlier.operators
            and not self.to & earlier.to
        )


@dataclass(frozen=True)
class _Placed:
    """A placement that can run; `most_stages` is how many each device has memory for."""

    graph: Graph
    names: tuple[str, ...]
    device_of: tuple[int, ...]
    to: tuple[int, ...]  # for each operator, the mask of devices that it sends to
    most_stages: tuple[float, ...]

    @cached_property
    def _parts(self) -> tuple[int, ...]:
        masks = [0] * len(self.names)
        for i, device in enumerate(self.device_of):
            masks[device] |= 1 << i
        return tuple(masks)

    @cached_property
    def _before(self) -> tuple[int, ...]:
        return tuple(sum(1 << j for j in before) for before in self.graph.predecessors)

    def plan(self, listing: Sequence[_Letter]) -> Plan:
        return _plan(self.graph, ((self.names[s.device], bits(s.operators)) for s in listing))

    def listings(self, whole: bool = False) -> Iterator[tuple[_Letter, ...]]:
        """Every trace of stages once, in its normal form; one stage a device if `whole`."""
        everything = (1 << len(self.device_of)) - 1

        def extend(done: int, listed: tuple[_Letter, ...]) -> Iterator[tuple[_Letter, ...]]:
            if done == everything:
                yield listed
                return
            for device, part in enumerate(self._parts):
                left = part & ~done
                if not left or self._full(device, listed):
                    continue
                for operators in (left,) if whole else submasks(self._run(device, done)):
                    letter = self._letter(device, operators)
                    if not letter.before & ~(done | operators) and _normal(listed, letter):
                        yield from extend(done | operators, (*listed, letter))

        return extend(0, ())

    def fewest_stages(self) -> Iterator[tuple[_Letter, ...]]:
        """Lists of runs that take all they can, one for each vector of stages by device."""
        everything = (1 << len(self.device_of)) - 1
        seen: set[tuple[int, ...]] = set()

        def extend(done: int, listed: tuple[_Letter, ...]) -> Iterator[tuple[_Letter, ...]]:
            if done == everything:
                counts = tuple(
                    sum(s.device == device for s in listed) for device in range(len(self.names))
                )
                if counts not in seen:
                    seen.add(counts)
                    yield listed
                return
            for device in range(len(self.names)):
                operators = self._run(device, done)
                if operators and not self._full(device, listed):
                    letter = self._letter(device, operators)
                    yield from extend(done | operators, (*listed, letter))

        return extend(0, ())

    def _run(self, device: int, done: int) -> int:
        """The operators that the device can run one after another once `done` are done."""
        run = 0
        for i in bits(self._parts[device] & ~done):
            if not self._before[i] & ~(done | run):
                run |= 1 << i
        return run

    def _full(self, device: int, listed: tuple[_Letter, ...]) -> bool:
        return sum(s.device == device for s in listed) >= self.most_stages[device]

    def _letter(self, device: int, operators: int) -> _Letter:
        before = to = 0
        for i in bits(operators):
            before |= self._before[i]
            to |= self.to[i]
        return _Letter(device, operators, before & ~operators, to)


def _normal(listed: tuple[_Letter, ...], letter: _Letter) -> bool:
    """Whether a list in normal form stays so when the stage is added at its end."""
    for earlier in reversed(listed):
        if not letter.independent(earlier):
            return True
        if earlier.device > letter.device:
            return False
    return True


def _choices(problem: Problem) -> tuple[list[list[int]], list[list[int]]]:
    """Operators that share a device, and the devices that each such set can run on."""
    together: dict[str | int, list[int]] = {}
    for i, op in enumerate(problem.graph.operators):
        together.setdefault(i if op.colocate is None else op.colocate, []).append(i)
    seconds = [problem.compute_s(d.name) for d in problem.cluster.devices]
    sets = list(together.values())
    allowed = [
        [d for d, row in enumerate(seconds) if all(math.isfinite(row[i]) for i in operators)]
        for operators in sets
    ]
    return sets, allowed


def _placements(problem: Problem) -> Iterator[_Placed]:
    graph, cluster = problem.graph, problem.cluster
    names = tuple(d.name for d in cluster.devices)
    sets, allowed = _choices(problem)
    device_of = [0] * len(graph.operators)
    for choice in itertools.product(*allowed):
        for operators, device in zip(sets, choice, strict=True):
            for i in operators:
                device_of[i] = device
        to = _receivers(problem, device_of, names)
        most = _most_stages(problem, device_of, names)
        if to is not None and most is not None:
            yield _Placed(graph, names, tuple(device_of), to, most)


def _receivers(
    problem: Problem, device_of: Sequence[int], names: Sequence[str]
) -> tuple[int, ...] | None:
    """For each operator the mask of devices that it sends to; None where a link is missing."""
    graph, cluster = problem.graph, problem.cluster
    to = [0] * len(device_of)
    for tensor in graph.tensors:
        wanted = {device_of[i] for i in graph.consumers[tensor]}
        if tensor in graph.outputs:
            wanted.add(names.index(cluster.sink))
        made_by = graph.producers.get(tensor)
        home = names.index(cluster.source) if made_by is None else device_of[made_by]
        wanted.discard(home)
        if any(cluster.link(names[home], names[device]) is None for device in wanted):
            return None
        if made_by is not None:
            for device in wanted:
                to[made_by] |= 1 << device
    return tuple(to)


def _most_stages(
    problem: Problem, device_of: Sequence[int], names: Sequence[str]
) -> tuple[float, ...] | None:
    """How many stages each device has memory for; None where its operators need more than it has,
    counting one stage."""
    graph = problem.graph
    used = [0] * len(names)
    for op, device in zip(graph.operators, device_of, strict=True):
        used[device] += op.memory_bytes
    most: list[float] = []
    for device, name in enumerate(names):
        free = problem.device(name).memory_bytes - used[device]
        per_stage = graph.stage_memory_bytes
        most.append(free // per_stage if per_stage else math.inf if free >= 0 else -1)
        if device in device_of and most[-1] < 1:
            return None
    return tuple(most)


def _plan(graph: Graph, stages: Iterable[tuple[str, Iterable[int]]]) -> Plan:
    return Plan(
        tuple(
            Stage(f"s{i}", device, tuple(graph.operators[o].name for o in operators))
            for i, (device, operators) in enumerate(stages)
        ),
        graph.digest,
    )


def bits(mask: int) -> Iterator[int]:
    """The positions of the bits that are set, ascending."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def submasks(mask: int) -> Iterator[int]:
    """Every mask of some of the bits, but not of none, in a fixed order."""
    part = mask
    while part:
        yield part
        part = (part - 1) & mask
