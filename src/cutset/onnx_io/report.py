"""What `cutset inspect` tells: where a model can be cut, what crosses, and what cannot be cut."""

from __future__ import annotations

from dataclasses import dataclass

from cutset.onnx_io.model import Model


@dataclass(frozen=True)
class CutPoint:
    """An articulation: the order may be cut before `position`; `tensors` cross there."""

    position: int
    after: str
    tensors: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True)
class Uncut:
    """An operator that holds several kernels, and why it is not cut."""

    operator: str
    nodes: int
    reason: str


@dataclass(frozen=True)
class CutReport:
    """`blocks` are the operators' names between articulations, in topological order."""

    articulations: tuple[CutPoint, ...]
    blocks: tuple[tuple[str, ...], ...]
    uncut: tuple[Uncut, ...]


def cut_report(model: Model) -> CutReport:
    graph = model.graph
    points = []
    for position in graph.articulations:
        tensors = graph.crossing(position)
        points.append(
            CutPoint(
                position,
                graph.operators[position - 1].name,
                tensors,
                sum(graph.tensors[t].size_bytes for t in tensors),
            )
        )
    names = [op.name for op in graph.operators]
    return CutReport(
        tuple(points),
        tuple(tuple(names[a:b]) for a, b in graph.blocks),
        tuple(
            Uncut(name, len(model.members[name]), reason) for name, reason in model.regions.items()
        ),
    )
