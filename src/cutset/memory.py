"""What operators take on a device: the one formula, and the numbers that measuring puts into it.

memory_bytes of an operator = weight factor × its weight bytes + its output bytes, and a stage takes
`stage_bytes` beside its operators (docs/formats.md, memory).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cutset.graph import Graph
from cutset.profiles import MemoryMeasurement, Profile


@dataclass(frozen=True)
class MemoryCost:
    """What a stage takes beside its operators, and what a byte of weights becomes in a device."""

    stage_bytes: int
    weight_factor: float


#: Where nothing was measured: ONNX Runtime on x86, right after loading.
ASSUMED = MemoryCost(20_000_000, 2.9)

#: A session of next to nothing grows the process by less than one of some dozens of operators does
#: beside its weights: allocator's steps, arenas, buffers of its first run.
LEAST_STAGE_BYTES = 4_000_000


def operator_bytes(weight_bytes: int, output_bytes: int, cost: MemoryCost = ASSUMED) -> int:
    """`memory_bytes` of an operator."""
    return round(cost.weight_factor * weight_bytes) + output_bytes


def with_memory(graph: Graph, cost: MemoryCost) -> Graph:
    """The graph of a model with its memory numbers at another cost; the digest stays."""
    if cost == ASSUMED:
        return graph
    operators = tuple(
        replace(op, memory_bytes=operator_bytes(op.weight_bytes, _outputs(graph, op.outputs), cost))
        for op in graph.operators
    )
    return replace(graph, operators=operators, stage_memory_bytes=cost.stage_bytes)


def cost_for(profile: Profile | None, kinds: Iterable[str]) -> MemoryCost:
    """The largest measured numbers of these kinds of device; assumed ones for a kind without."""
    measured: dict[str, list[MemoryMeasurement]] = {}
    for m in profile.memory if profile is not None else ():
        measured.setdefault(m.kind, []).append(m)
    costs = []
    for kind in kinds:
        found = [MemoryCost(m.stage_bytes, m.weight_factor) for m in measured.get(kind, ())]
        costs += found or [ASSUMED]
    if not costs:
        return ASSUMED
    return MemoryCost(max(c.stage_bytes for c in costs), max(c.weight_factor for c in costs))


def attributed(graph: Graph, stage_bytes: int, load_bytes: int, run_bytes: int) -> MemoryCost:
    """The cost that explains how much a process grew by the whole model.

    `stage_bytes` is what a model of next to nothing took, `load_bytes` the peak of loading,
    `run_bytes` the peak of loading and running. All of loading beside the stage is charged to the
    weights, and what running takes beyond that and the outputs too: activations share memory, so
    that their sum is the most they take. Never below 1: the weights themselves.
    """
    stage = max(LEAST_STAGE_BYTES, stage_bytes)
    weights = sum(op.weight_bytes for op in graph.operators)
    if not weights:
        return MemoryCost(stage, ASSUMED.weight_factor)
    outputs = sum(_outputs(graph, op.outputs) for op in graph.operators)
    taken = max(load_bytes, run_bytes - outputs) - stage_bytes
    return MemoryCost(stage, max(1.0, taken / weights))


def _outputs(graph: Graph, names: Iterable[str]) -> int:
    return sum(graph.tensors[name].size_bytes for name in names)
