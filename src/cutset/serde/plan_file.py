"""The plan file (JSON): stages, and what is claimed and proven of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from cutset.cluster import Cluster
from cutset.errors import InvalidFileError, choices
from cutset.graph import Graph
from cutset.plan import Plan, Stage, transfers
from cutset.problem import BreakEven, Estimate, Solution
from cutset.serde.common import decode, read_text, to_json, write_text
from cutset.units import check_number

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
    finished: bool = True
    verdict: VerdictDocument | None = None
    break_even: list[BreakEvenDocument] | None = None
    stays_best: list[BreakEvenDocument] | None = None
    estimate: EstimateDocument | None = None
    transfers: list[TransferDocument] | None = None


def read_plan(path: str | Path) -> Plan:
    """The plan of a file; its claims are not believed, they are evaluated again.

    Raises InvalidFileError.
    """
    return plan_of(read_plan_document(path))


def read_plan_document(path: str | Path) -> PlanDocument:
    """A plan file with all that it claims. Raises InvalidFileError."""
    document = decode(read_text(path), PlanDocument, SCHEMA, str(path))
    try:
        _check_claims(document)
        _check_stages(document)
    except InvalidFileError as error:
        raise error.located(file=str(path)) from None
    return document


def _check_claims(document: PlanDocument) -> None:
    """Raise InvalidFileError for a number that no plan can have. Whether it is true of this plan
    is for `cutset evaluate` to say."""
    numbers: list[tuple[str, float | None, str]] = [
        (name, getattr(document, name), "seconds")
        for name in ("value_s", "bound_s", "full_bound_s", "elapsed_s")
    ]
    if document.verdict is not None:
        single_s = document.verdict.best_single_value_s
        numbers.append(("verdict.best_single_value_s", single_s, "seconds"))
    for name in ("break_even", "stays_best"):
        for i, flip in enumerate(getattr(document, name) or ()):
            numbers += [
                (f"{name}[{i}].below", flip.below, ""),
                (f"{name}[{i}].above", flip.above, ""),
            ]
    if (found := document.estimate) is not None:
        numbers += [
            ("estimate.latency_s", found.latency_s, "seconds"),
            ("estimate.period_s", found.period_s, "seconds"),
        ]
        numbers += [
            (f"estimate.memory_bytes.{k}", v, "bytes") for k, v in found.memory_bytes.items()
        ]
        numbers += [(f"estimate.busy_s.{k}", v, "seconds") for k, v in found.busy_s.items()]
    for i, move in enumerate(document.transfers or ()):
        numbers.append((f"transfers[{i}].bytes", move.bytes, "bytes"))
    for field, value, unit in numbers:
        if value is not None:
            check_number(value, unit, field=field)
    if document.gap is not None and not 0 <= document.gap <= 1:
        raise InvalidFileError(
            "a gap is from 0 to 1",
            field="gap",
            value=document.gap,
            remedy="it is (value - bound)/value; leave it out in a plan written by hand",
        )


def _check_stages(document: PlanDocument) -> None:
    """Raise InvalidFileError for rows that are none, and transfers that lead nowhere."""
    for i, stage in enumerate(document.stages):
        for tensor, rows in (stage.tile or {}).items():
            _check_rows(rows, f"stages[{i}].tile.{tensor}")
    for i, move in enumerate(document.transfers or ()):
        where = f"transfers[{i}]"
        if move.source == move.target:
            raise InvalidFileError(
                "the transfer leads from a stage to itself" if move.source else "it has no stage",
                field=where,
                value=move.tensor,
                remedy="leave it out, or all of them: transfers follow from the stages",
            )
        if move.rows is not None:
            _check_rows(move.rows, f"{where}.rows")


def _check_rows(rows: tuple[int, int], field: str) -> None:
    if not 0 <= rows[0] < rows[1]:
        raise InvalidFileError(
            "the rows are none",
            field=field,
            value=list(rows),
            remedy="write [begin, end) with 0 <= begin < end",
        )


def check_transfers(document: PlanDocument, graph: Graph) -> None:
    """Raise InvalidFileError where a transfer that the file lists is none of this plan of this
    graph: a plan is run and scored by its stages, so that such a file says two things."""
    stage_of = {name: stage.name for stage in document.stages for name in stage.operators}
    names = [stage.name for stage in document.stages]

    def wrong(i: int, field: str, message: str, value: object) -> InvalidFileError:
        remedy = "plan again, or leave `transfers` out: they follow from the stages"
        return InvalidFileError(
            message, field=f"transfers[{i}].{field}", value=value, remedy=remedy
        )

    for i, move in enumerate(document.transfers or ()):
        for end, name in (("from", move.source), ("to", move.target)):
            if name is not None and name not in names:
                raise InvalidFileError(
                    "the plan has no such stage",
                    field=f"transfers[{i}].{end}",
                    value=repr(name),
                    remedy=choices(name, names, "stages"),
                )
        if move.tensor not in graph.tensors:
            raise wrong(i, "tensor", "the graph has no such tensor", repr(move.tensor))
        producer = graph.producers.get(move.tensor)
        maker = None if producer is None else stage_of.get(graph.operators[producer].name)
        if move.source != maker:
            made = "is the request's own input" if producer is None else f"is made by {maker!r}"
            raise wrong(i, "from", f"tensor {move.tensor!r} {made}", repr(move.source))
        readers: set[str | None] = {
            stage_of.get(graph.operators[j].name) for j in graph.consumers[move.tensor]
        }
        if move.tensor in graph.outputs:
            readers.add(None)
        if move.target not in readers:
            said = "is no result" if move.target is None else "is not read by this stage"
            raise wrong(i, "to", f"tensor {move.tensor!r} {said}", repr(move.target))
        size = graph.tensors[move.tensor].size_bytes
        if move.rows is None and move.bytes != size:
            raise wrong(
                i, "bytes", f"tensor {move.tensor!r} has {size} bytes", f"{move.bytes} bytes"
            )


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
    """A solution as a plan file's document; a plan of an exported workload is one of the model."""
    verdict = solution.verdict
    return PlanDocument(
        schema=SCHEMA,
        graph_digest=graph.model_digest or graph.digest,
        strategy=solution.strategy,
        objective=solution.objective.value,
        value_s=solution.value_s,
        bound_s=solution.bound_s,
        gap=solution.gap,
        proof=solution.proof,
        proof_scope=solution.scope,
        full_bound_s=solution.full_bound_s,
        elapsed_s=solution.elapsed_s,
        finished=solution.finished,
        verdict=None
        if verdict is None
        else VerdictDocument(
            verdict.split,
            verdict.best_single_device,
            _finite(verdict.best_single_value_s),
            _finite(verdict.gain),
        ),
        break_even=_break_evens(solution.break_even),
        stays_best=_break_evens(solution.stays_best),
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


def _break_evens(found: Sequence[BreakEven]) -> list[BreakEvenDocument]:
    return [BreakEvenDocument(b.change, b.then, b.below, b.above, b.scope) for b in found]


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def _tile(tile: Mapping[str, tuple[int, int]] | None) -> dict[str, tuple[int, int]] | None:
    return None if tile is None else dict(tile)


def write_plan(path: str | Path, solution: Solution, graph: Graph, cluster: Cluster) -> None:
    write_text(path, to_json(plan_document(solution, graph, cluster)))
