"""Which operators a picture of the graph shows as one box, so that large graphs stay readable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cutset.graph import Graph
from cutset.plan import Plan


@dataclass(frozen=True)
class Limits:
    """How many boxes, and how many one after another, a picture may have; `stages` is how many one
    after another where each is a stage, which cannot be drawn as less without losing its shape."""

    boxes: int
    layers: int
    stages: int


OVERVIEW = Limits(boxes=36, layers=8, stages=20)
DETAIL = Limits(boxes=110, layers=110, stages=110)


@dataclass(frozen=True)
class Group:
    """Operators (positions, ascending) on one device; `layer` is the column from the left."""

    operators: tuple[int, ...]
    device: str
    layer: int


def groups(graph: Graph, plan: Plan, limits: Limits) -> tuple[Group, ...]:
    """Boxes of a picture: the finest of operators, chains, blocks and stages that are few enough.

    Where even the stages are too many, what runs on one device in a range of depths is one box.
    """
    place = {name: i for i, stage in enumerate(plan.stages) for name in stage.operators}
    stage_of = [place[op.name] for op in graph.operators]
    devices = [plan.stages[i].device for i in stage_of]
    every = [[i] for i in range(len(graph.operators))]
    for members, most in (
        (every, limits.layers),
        (_chains(graph, stage_of), limits.layers),
        (_blocks(graph, stage_of, devices), limits.layers),
        (_by_key(stage_of), limits.stages),
    ):
        if len(members) > limits.boxes:
            continue
        layers = _layers(graph, members)
        if max(layers) < most:
            return tuple(
                Group(tuple(m), devices[m[0]], layer)
                for m, layer in zip(members, layers, strict=True)
            )
    return _bands(graph, devices, limits)


def edges(graph: Graph, boxes: Sequence[Group]) -> dict[tuple[int, int], tuple[str, ...]]:
    """Tensors between boxes by (maker, reader), in the order of the makers."""
    box_of = {i: b for b, box in enumerate(boxes) for i in box.operators}
    found: dict[tuple[int, int], dict[str, None]] = {}
    for tensor, maker in graph.producers.items():
        for reader in graph.consumers[tensor]:
            if box_of[maker] != box_of[reader]:
                found.setdefault((box_of[maker], box_of[reader]), {})[tensor] = None
    return {pair: tuple(tensors) for pair, tensors in found.items()}


def _chains(graph: Graph, stage_of: Sequence[int]) -> list[list[int]]:
    """Operators of a stage of which each reads the one before, and nothing else does."""
    chain_of: list[int] = []
    chains: list[list[int]] = []
    for i, before in enumerate(graph.predecessors):
        if (
            len(before) == 1
            and graph.successors[before[0]] == (i,)
            and stage_of[before[0]] == stage_of[i]
        ):
            chain = chain_of[before[0]]
        else:
            chain = len(chains)
            chains.append([])
        chain_of.append(chain)
        chains[chain].append(i)
    return chains


def _blocks(graph: Graph, stage_of: Sequence[int], devices: Sequence[str]) -> list[list[int]]:
    """Neighbouring blocks that are wholly on one device; the chains of those that are not."""
    members: list[list[int]] = []
    chains = {chain[0]: chain for chain in _chains(graph, stage_of)}
    whole: str | None = None  # the device of the block before, where it was wholly on one
    for begin, end in graph.blocks:
        used = set(devices[begin:end])
        if len(used) == 1 and whole == devices[begin]:
            members[-1] += range(begin, end)
            continue
        whole = devices[begin] if len(used) == 1 else None
        if whole is not None:
            members.append(list(range(begin, end)))
        else:
            heads = {h: c for h, c in chains.items() if any(begin <= i < end for i in c)}
            cut = [[i for i in chain if begin <= i < end] for chain in heads.values()]
            members += sorted(cut)
    return members


def _by_key(keys: Iterable[int]) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return [found[key] for key in sorted(found)]


def _layers(graph: Graph, members: Sequence[Sequence[int]]) -> list[int]:
    """The longest path to each box, over boxes (which must not form a cycle)."""
    box_of = {i: b for b, box in enumerate(members) for i in box}
    before: list[set[int]] = [
        {box_of[j] for i in box for j in graph.predecessors[i]} - {b}
        for b, box in enumerate(members)
    ]
    layers = [0] * len(members)
    waiting = [len(b) for b in before]
    after: list[list[int]] = [[] for _ in members]
    for b, sources in enumerate(before):
        for source in sources:
            after[source].append(b)
    ready = [b for b, count in enumerate(waiting) if not count]
    while ready:
        b = ready.pop()
        for reader in after[b]:
            layers[reader] = max(layers[reader], layers[b] + 1)
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    return layers


def _bands(graph: Graph, devices: Sequence[str], limits: Limits) -> tuple[Group, ...]:
    depth = [0] * len(devices)
    for i, before in enumerate(graph.predecessors):
        depth[i] = max((depth[j] + 1 for j in before), default=0)
    deepest = max(depth) + 1
    for bands in range(limits.layers, 0, -1):
        keys: dict[tuple[int, str], list[int]] = {}
        for i, device in enumerate(devices):
            band = depth[i] * bands // deepest
            keys.setdefault((band, device), []).append(i)
        if len(keys) <= limits.boxes or bands == 1:
            return tuple(
                Group(tuple(found), device, band) for (band, device), found in sorted(keys.items())
            )
    raise AssertionError("unreachable: one band is taken as it is")
