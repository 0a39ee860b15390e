"""The plan file (JSON): stages, and what is claimed and proven of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from cutset.cluster import Cluster
from cutset.graph import Graph
from cutset.plan import Plan, Stage, transfers
from cutset.problem import Estimate, Solution
from cutset.serde.common import decode, read_text, to_json, write_text

SCHEMA: Final = "cutset/plan/1"


class StageDocument(msgspec.Struct):
    name: str
    device: str
    operators: list[str]
    tile: dict[str, tuple[int, int]] | None = None


class TransferDocument(msgspec.Struct):
    """`from` and `to` are stages; null is the request's input, or the result at the sink."""

    tensor: str
    rows: tuple[int, int] | None
    source: str | None = msgspec.field(name="from")
    target: str | None = msgspec.field(name="to")
    bytes: int


class EstimateDocument(msgspec.Struct):
    latency_s: float
    period_s: float
    memory_bytes: dict[str, int]
    busy_s: dict[str, float]
    bottleneck: str


class VerdictDocument(msgspec.Struct):
    split: bool
    best_single_device: str | None
    best_single_value_s: float | None
    gain: float | None


class BreakEvenDocument(msgspec.Struct, omit_defaults=True):
    change: str
    then: str
    below: float | None = None
    above: float | None = None
    scope: str | None = None


class PlanDocument(msgspec.Struct, omit_defaults=True):
    """`schema` and `stages` are all that a plan written by hand needs."""

    schema: Literal["cutset/plan/1"]
    stages: list[StageDocument]
    graph_digest: str = ""
    strategy: str | None = None
    objective: Literal["latency", "throughput"] | None = None
    value_s: float | None = None
    bound_s: float | None = None
    gap: float | None = None
    proof: Literal["optimal", "bound", "none"] | None = None
    proof_scope: str | None = None
    full_bound_s: float | None = None
    elapsed_s: float | None = None
    verdict: VerdictDocument | None = None
    break_even: list[BreakEvenDocument] | None = None
    estimate: EstimateDocument | None = None
    transfers: list[TransferDocument] | None = None


def read_plan(path: str | Path) -> Plan:
    """The plan of a file; its claims are not believed, they are evaluated again.

    Raises InvalidFileError.
    """
    return plan_of(read_plan_document(path))


def read_plan_document(path: str | Path) -> PlanDocument:
    """A plan file with all that it claims. Raises InvalidFileError."""
    return decode(read_text(path), PlanDocument, SCHEMA, str(path))


def plan_of(document: PlanDocument) -> Plan:
    """The plan itself, without the claims."""
    return Plan(
        tuple(
            Stage(
                s.name,
                s.device,
                tuple(s.operators),
                None if s.tile is None else {t: (a, b) for t, (a, b) in s.tile.items()},
            )
            for s in document.stages
        ),
        document.graph_digest,
    )


def estimate_document(estimate: Estimate) -> EstimateDocument:
    return EstimateDocument(
        estimate.latency_s,
        estimate.period_s,
        dict(estimate.memory_bytes),
        dict(estimate.busy_s),
        estimate.bottleneck,
    )


def plan_document(solution: Solution, graph: Graph, cluster: Cluster) -> PlanDocument:
    """A solution as a plan file's document."""
    verdict = solution.verdict
    return PlanDocument(
        schema=SCHEMA,
        graph_digest=graph.digest,
        strategy=solution.strategy,
        objective=solution.objective.value,
        value_s=solution.value_s,
        bound_s=solution.bound_s,
        gap=solution.gap,
        proof=solution.proof,
        proof_scope=solution.scope,
        full_bound_s=solution.full_bound_s,
        elapsed_s=solution.elapsed_s,
        verdict=None
        if verdict is None
        else VerdictDocument(
            verdict.split,
            verdict.best_single_device,
            _finite(verdict.best_single_value_s),
            _finite(verdict.gain),
        ),
        break_even=[
            BreakEvenDocument(b.change, b.then, b.below, b.above, b.scope)
            for b in solution.break_even
        ],
        estimate=estimate_document(solution.estimate),
        stages=[
            StageDocument(s.name, s.device, list(s.operators), _tile(s.tile))
            for s in solution.plan.stages
        ],
        transfers=[
            TransferDocument(t.tensor, None, t.source_stage, t.target_stage, t.bytes)
            for t in transfers(solution.plan, graph, cluster.source, cluster.sink)
        ],
    )


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def _tile(tile: Mapping[str, tuple[int, int]] | None) -> dict[str, tuple[int, int]] | None:
    return None if tile is None else dict(tile)


def write_plan(path: str | Path, solution: Solution, graph: Graph, cluster: Cluster) -> None:
    write_text(path, to_json(plan_document(solution, graph, cluster)))
