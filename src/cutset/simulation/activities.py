"""A plan as activities that hold resources: what the simulator plays for every request.

Written from docs/formats.md (What the numbers mean), without the evaluator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import groupby
from typing import Literal

from cutset.errors import InfeasibleError
from cutset.plan import Plan, Transfer, check_plan, check_untiled, transfers
from cutset.problem import Problem

Kind = Literal["admit", "stage", "send", "transfer", "receive", "answer"]


@dataclass(frozen=True)
class Effect:
    """What happens some time after an activity starts.

    `delays` are added to the start one after the other, so that times are rounded as they pass.
    Then `resources` are free again, and each of `successors` awaits one thing less (those of the
    request after this one where `ahead`).
    """

    delays: tuple[float, ...]
    resources: tuple[int, ...] = ()
    successors: tuple[int, ...] = ()
    ahead: bool = False


@dataclass(frozen=True)
class Activity:
    """One piece of work of every request; it holds `resources` from its start until its effects.

    `place` is the producing stage's position in the plan (-1: a graph input), `moves` what a
    transfer carries. Activities without resources take no time of their own.
    """

    kind: Kind
    name: str
    place: int
    awaits: int
    effects: tuple[Effect, ...]
    moves: tuple[Transfer, ...] = ()

    @property
    def resources(self) -> tuple[int, ...]:
        return tuple(r for effect in self.effects for r in effect.resources)


@dataclass(frozen=True)
class Network:
    """Activities in the order in which those that are ready at one time take their turns.

    The first is the request's admission, the last its answer. `per_second` is the length of a
    second in the units of all delays: 1 in seconds, a power of ten in ticks.
    """

    resources: tuple[str, ...]
    activities: tuple[Activity, ...]
    per_second: int = 1

    def in_ticks(self) -> Network:
        """The same with whole numbers of ticks, so that sums are exact and states can recur.

        A tick is so short that the longest delay has at least 15 digits.
        """
        longest = max((d for a in self.activities for e in a.effects for d in e.delays), default=0)
        digits = max(0, 15 - math.floor(math.log10(longest))) if longest > 0 else 0

        def ticks(seconds: float) -> int:
            # Decimal digits as they are printed: 0.003 is three times 0.001 then.
            return round(Decimal(repr(float(seconds))).scaleb(digits))

        activities = tuple(
            replace(
                a, effects=tuple(replace(e, delays=tuple(map(ticks, e.delays))) for e in a.effects)
            )
            for a in self.activities
        )
        return Network(self.resources, activities, 10**digits)


def network(problem: Problem, plan: Plan, *, loaded: bool, strict: bool = False) -> Network:
    """The plan's activities. Times are seconds.

    `loaded` False is one request on an idle cluster: what transfers cost a processor delays them
    and holds nothing. `loaded` True is a cluster with many: the same costs are work that the
    device does between its stages, and a device without overlap is held by its transfers.
    `strict`: a device takes up a request when it has done all stages of the one before.

    Raises InvalidFileError where the plan does not fit the graph, InfeasibleError where an
    operator cannot run on its device or two devices that must talk have no link.
    """
    check_plan(plan, problem.graph, problem.cluster)
    check_untiled(plan)
    return _Builder(problem, plan, loaded).build(strict)


class _Builder:
    """Collects activities by key, then numbers them in the order of their turns.

    A key is (place, class, rank): within a place stages, sends, transfers, receives; the rank is
    the position in `transfers`, which is by tensor and receiver.
    """

    def __init__(self, problem: Problem, plan: Plan, loaded: bool) -> None:
        self.problem, self.plan, self.loaded = problem, plan, loaded
        self.names: dict[str, int] = {}  # resource -> number
        self.effects: dict[Key, list[tuple[tuple[float, ...], tuple[str, ...], Key | None]]] = {}
        self.labels: dict[Key, tuple[Kind, str, tuple[Transfer, ...]]] = {}
        self.ahead: dict[Key, Key] = {}

    def build(self, strict: bool) -> Network:
        plan, graph, cluster = self.plan, self.problem.graph, self.problem.cluster
        self._add(_ADMIT, "admit", "admitted")
        self._add(_ANSWER, "answer", "answered")
        self._after(_ADMIT, (), _ANSWER)
        moves = transfers(plan, graph, cluster.source, cluster.sink)
        home = {op: i for i, stage in enumerate(plan.stages) for op in stage.operators}
        reads: list[set[str]] = [set() for _ in plan.stages]
        for op in graph.operators:
            reads[home[op.name]].update(op.inputs)
        takes = [self._stage_s(i) for i in range(len(plan.stages))]
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        for i, stage in enumerate(plan.stages):
            self._add(_stage(i), "stage", stage.name)
            self._hold(_stage(i), (takes[i],), f"device:{stage.device}")
            if stage.device in last:
                before = last[stage.device]
                self._after(_stage(before), (takes[before],), _stage(i))
            else:
                self._after(_ADMIT, (), _stage(i))
                first[stage.device] = i
            last[stage.device] = i
        if strict:
            self.ahead = {_stage(last[d]): _stage(first[d]) for d in first}
        for tensor in graph.outputs:
            producer = graph.producers.get(tensor)
            if producer is not None:
                i = home[graph.operators[producer].name]
                if plan.stages[i].device == cluster.sink:
                    self._after(_stage(i), (takes[i],), _ANSWER)
        position = {stage.name: i for i, stage in enumerate(plan.stages)}
        numbered = list(enumerate(moves))
        for (maker, _), same in groupby(numbered, key=lambda m: (m[1].source_stage, m[1].tensor)):
            group = list(same)
            for batch in [group] if cluster.multicast else [[one] for one in group]:
                place = -1 if maker is None else position[maker]
                made_after = () if maker is None else (takes[place],)
                self._transfer(place, _ADMIT if maker is None else _stage(place), made_after, batch)
                for rank, move in batch:
                    readers = [
                        _stage(i)
                        for i, stage in enumerate(plan.stages)
                        if stage.device == move.target_device and move.tensor in reads[i]
                    ]
                    if move.tensor in graph.outputs and move.target_device == cluster.sink:
                        readers.append(_ANSWER)
                    self._arrival(place, batch[0][0], rank, move, readers)
        return self._numbered()

    def _transfer(
        self,
        place: int,
        maker: Key,
        made_after: tuple[float, ...],
        batch: list[tuple[int, Transfer]],
    ) -> None:
        rank, move = batch[0]
        key = (place, _TRANSFER, rank)
        sender = self.problem.device(move.source_device)
        cost_s = move.bytes * (sender.send_s_per_byte or 0.0)
        self._add(key, "transfer", move.tensor, tuple(m for _, m in batch))
        if self.loaded and cost_s > 0:
            send = (place, _SEND, rank)
            self._add(send, "send", move.tensor, tuple(m for _, m in batch))
            self._hold(send, (cost_s,), f"device:{sender.name}")
            self._after(maker, made_after, send)
            self._after(send, (cost_s,), key)
        else:
            self._after(maker, (*made_after, cost_s), key)
        slowest = max(self._wire_s(m) for _, m in batch)
        self._hold(key, (slowest,), f"egress:{sender.name}")
        if self.loaded and not sender.overlap:
            self._hold(key, (slowest,), f"device:{sender.name}")
        for _, m in batch:
            wire = (self._wire_s(m),)
            self._hold(key, wire, f"link:{m.source_device}>{m.target_device}")
            self._hold(key, wire, f"ingress:{m.target_device}")
            if self.loaded and not self.problem.device(m.target_device).overlap:
                self._hold(key, wire, f"device:{m.target_device}")

    def _arrival(
        self, place: int, carrier: int, rank: int, move: Transfer, readers: list[Key]
    ) -> None:
        key = (place, _TRANSFER, carrier)
        link = self.problem.cluster.link(move.source_device, move.target_device)
        assert link is not None  # `_wire_s` has looked
        there: tuple[float, ...] = (self._wire_s(move), link.latency_s or 0.0)
        receiver = self.problem.device(move.target_device)
        cost_s = move.bytes * (receiver.recv_s_per_byte or 0.0)
        if self.loaded and cost_s > 0:
            receive = (place, _RECEIVE, rank)
            self._add(receive, "receive", move.tensor, (move,))
            self._hold(receive, (cost_s,), f"device:{receiver.name}")
            self._after(key, there, receive)
            key, there = receive, ()
        for reader in readers:
            self._after(key, (*there, cost_s), reader)

    def _stage_s(self, index: int) -> float:
        stage = self.plan.stages[index]
        device = self.problem.device(stage.device)
        costs = self.problem.compute_s(stage.device)
        positions = self.problem.graph.positions
        for name in stage.operators:
            if math.isinf(costs[positions[name]]):
                raise InfeasibleError(
                    f"no cost is known for operator {name!r} on device {device.name!r} of kind"
                    f" {device.kind!r}",
                    field=f"stages[{index}].operators",
                    value=name,
                    remedy="profile the model there, or place the operator elsewhere",
                )
        own = [costs[positions[name]] for name in stage.operators]
        return math.fsum([device.stage_overhead_s or 0.0, *own])

    def _wire_s(self, move: Transfer) -> float:
        link = self.problem.cluster.link(move.source_device, move.target_device)
        if link is None or link.bandwidth_bps is None:
            raise InfeasibleError(
                f"tensor {move.tensor!r} must go from {move.source_device!r} to"
                f" {move.target_device!r}, and there is no link",
                field="links",
                value=f"{move.source_device}>{move.target_device}",
                remedy="add the link or a default_link to the cluster file, or plan again",
            )
        sender, receiver = (
            self.problem.device(move.source_device),
            self.problem.device(move.target_device),
        )
        slowest_bps = min(sender.egress_bps, link.bandwidth_bps, receiver.ingress_bps)
        return move.bytes * 8 / slowest_bps

    def _add(self, key: Key, kind: Kind, name: str, moves: tuple[Transfer, ...] = ()) -> None:
        self.labels[key] = (kind, name, moves)
        self.effects[key] = []

    def _hold(self, key: Key, delays: tuple[float, ...], resource: str) -> None:
        self.names.setdefault(resource, len(self.names))
        self.effects[key].append((delays, (resource,), None))

    def _after(self, key: Key, delays: tuple[float, ...], successor: Key) -> None:
        self.effects[key].append((delays, (), successor))

    def _numbered(self) -> Network:
        order = sorted(self.labels)
        number = {key: i for i, key in enumerate(order)}
        awaits = dict.fromkeys(order, 0)
        for found in self.effects.values():
            for _, _, successor in found:
                if successor is not None:
                    awaits[successor] += 1
        for successor in self.ahead.values():
            awaits[successor] += 1
        activities = []
        for key in order:
            at: dict[tuple[float, ...], tuple[list[int], list[int]]] = {}
            for delays, resources, successor in self.effects[key]:
                freed, told = at.setdefault(delays, ([], []))
                freed += [self.names[r] for r in resources]
                told += [] if successor is None else [number[successor]]
            effects = [Effect(d, tuple(freed), tuple(told)) for d, (freed, told) in at.items()]
            if key in self.ahead:
                held = next(e.delays for e in effects if e.resources)
                effects.append(Effect(held, (), (number[self.ahead[key]],), ahead=True))
            kind, name, moves = self.labels[key]
            activities.append(Activity(kind, name, key[0], awaits[key], tuple(effects), moves))
        return Network(tuple(self.names), tuple(activities))


Key = tuple[int, int, int]
_STAGE, _SEND, _TRANSFER, _RECEIVE = range(4)
_ADMIT: Key = (-2, 0, 0)
_ANSWER: Key = (1 << 62, 0, 0)


def _stage(position: int) -> Key:
    return (position, _STAGE, 0)
