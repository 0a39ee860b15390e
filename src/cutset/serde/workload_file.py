"""The workload file (JSON): a graph with its costs, without ONNX."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from cutset.cost import TableCost
from cutset.errors import InvalidFileError
from cutset.graph import Graph, Operator, Tensor, topological
from cutset.serde.common import decode, read_text, to_json, write_text
from cutset.units import check_number

SCHEMA: Final = "cutset/workload/1"


class TensorDocument(msgspec.Struct, omit_defaults=True):
    bytes: int
    shape: list[int] | None = None
    dtype: str | None = None


class OperatorDocument(msgspec.Struct, omit_defaults=True):
    name: str
    inputs: list[str]
    outputs: list[str]
    compute_s: dict[str, float]
    memory_bytes: int = 0
    colocate: str | None = None
    op_type: str = ""
    flops: float = 0.0
    window: dict[str, list[int]] | None = None
    weight_bytes: int = 0


class WorkloadDocument(msgspec.Struct):
    schema: Literal["cutset/workload/1"]
    inputs: list[str]
    outputs: list[str]
    tensors: dict[str, int | TensorDocument]
    operators: list[OperatorDocument]
    name: str = "workload"
    # Unset, not 0 or "": the digest of a workload that does not state them stays what it was.
    stage_memory_bytes: int | msgspec.UnsetType = msgspec.UNSET
    model_digest: str | msgspec.UnsetType = msgspec.UNSET


def read_workload(path: str | Path) -> tuple[Graph, TableCost]:
    """Graph and costs of a workload file. Raises InvalidFileError."""
    return parse_workload(read_text(path), str(path))


def parse_workload(data: bytes, file: str = "workload") -> tuple[Graph, TableCost]:
    document = decode(data, WorkloadDocument, SCHEMA, file)
    try:
        return _graph(document, hashlib.sha256(msgspec.json.encode(document)).hexdigest())
    except InvalidFileError as error:
        raise error.located(file=file) from None


def _in_one_part(graph: Graph) -> None:
    """Refuse operators that share no tensor with the rest, directly or by others.

    They would be planned and paid for; but more often a tensor's name is misspelt.
    """
    if len(graph.parts) > 1:
        firsts = [graph.operators[part[0]].name for part in graph.parts]
        raise InvalidFileError(
            f"the operators form {len(firsts)} parts that share no tensor",
            field="operators",
            value=", ".join(repr(name) for name in firsts[:5]) + ", …" * (len(firsts) > 5),
            remedy="join the parts by a tensor (is one misspelt?), or write a workload for each",
        )


def _graph(document: WorkloadDocument, digest: str) -> tuple[Graph, TableCost]:
    tensors = {name: _tensor(name, tensor) for name, tensor in document.tensors.items()}
    for field, given in (("operators", document.operators), ("outputs", document.outputs)):
        if not given:
            raise InvalidFileError(
                f"a workload needs at least one of its {field}",
                field=field,
                remedy="see docs/formats.md, workload file",
            )
    seconds: dict[str, dict[str, float]] = {}
    operators = []
    for op in document.operators:
        where = f"operators.{op.name}"
        for kind, value in op.compute_s.items():
            check_number(value, "seconds", field=f"{where}.compute_s.{kind}")
            seconds.setdefault(kind, {})[op.name] = value
        check_number(op.memory_bytes, "bytes", field=f"{where}.memory_bytes")
        check_number(op.weight_bytes, "bytes", field=f"{where}.weight_bytes")
        check_number(op.flops, "FLOPs", field=f"{where}.flops")
        for axes, numbers in (op.window or {}).items():
            for i, number in enumerate(numbers):
                check_number(number, "", field=f"{where}.window.{axes}[{i}]")
        if not op.outputs:
            raise InvalidFileError(
                "the operator makes no tensor",
                field=f"{where}.outputs",
                remedy="name at least one; its bytes may be 0",
            )
        operators.append(
            Operator(
                name=op.name,
                op_type=op.op_type,
                inputs=tuple(op.inputs),
                outputs=tuple(op.outputs),
                flops=op.flops,
                weight_bytes=op.weight_bytes,
                memory_bytes=op.memory_bytes,
                window=op.window,
                colocate=op.colocate,
            )
        )
        for tensor in (*op.inputs, *op.outputs):
            if tensor not in tensors:
                raise InvalidFileError(
                    "a tensor that is not listed in tensors",
                    field=where,
                    value=tensor,
                    remedy="add it to tensors with its bytes",
                )
    made: dict[str, str] = {}
    for op in document.operators:
        for tensor in op.outputs:
            if tensor in made or tensor in document.inputs:
                raise InvalidFileError(
                    "the tensor is made twice",
                    field=f"operators.{op.name}.outputs",
                    value=tensor,
                    remedy=f"{made.get(tensor, 'inputs')!r} has it already; rename one",
                )
            made[tensor] = op.name
    for field, names in (("inputs", document.inputs), ("outputs", document.outputs)):
        for name in names:
            if name not in tensors:
                raise InvalidFileError(
                    "a tensor that is not listed in tensors",
                    field=field,
                    value=name,
                    remedy="add it to tensors with its bytes",
                )
    stage_memory = document.stage_memory_bytes
    if stage_memory is msgspec.UNSET:
        stage_memory = 0
    check_number(stage_memory, "bytes", field="stage_memory_bytes")
    graph = Graph(
        name=document.name,
        operators=topological(operators, document.inputs),
        tensors={n: t for n, t in tensors.items() if n in made or n in document.inputs},
        inputs=tuple(dict.fromkeys(document.inputs)),
        outputs=tuple(dict.fromkeys(document.outputs)),
        digest=digest,
        stage_memory_bytes=stage_memory,
        model_digest=document.model_digest or "",
    )
    _in_one_part(graph)
    return graph, TableCost(seconds)


def _tensor(name: str, tensor: int | TensorDocument) -> Tensor:
    if isinstance(tensor, int):
        tensor = TensorDocument(tensor)
    check_number(tensor.bytes, "bytes", field=f"tensors.{name}")
    for i, size in enumerate(tensor.shape or ()):
        check_number(size, "", field=f"tensors.{name}.shape[{i}]")
    shape = None if tensor.shape is None else tuple(tensor.shape)
    return Tensor(name, tensor.bytes, shape, tensor.dtype)


def workload_document(
    graph: Graph, compute_s: Mapping[str, Mapping[str, float]], model_digest: str = ""
) -> WorkloadDocument:
    """A graph and its costs (kind -> operator -> seconds) as a workload file's document.

    `model_digest` is that of the model whose graph it is, so that its plans run there.
    """
    return WorkloadDocument(
        schema=SCHEMA,
        name=graph.name,
        stage_memory_bytes=graph.stage_memory_bytes or msgspec.UNSET,
        model_digest=model_digest or msgspec.UNSET,
        inputs=list(graph.inputs),
        outputs=list(graph.outputs),
        tensors={
            t.name: t.size_bytes
            if t.shape is None
            else TensorDocument(t.size_bytes, list(t.shape), t.dtype)
            for t in graph.tensors.values()
        },
        operators=[
            OperatorDocument(
                name=op.name,
                inputs=list(op.inputs),
                outputs=list(op.outputs),
                compute_s={
                    kind: table[op.name]
                    for kind, table in compute_s.items()
                    if math.isfinite(table.get(op.name, math.inf))
                },
                memory_bytes=op.memory_bytes,
                colocate=op.colocate,
                op_type=op.op_type,
                flops=op.flops,
                window=None if op.window is None else {k: list(v) for k, v in op.window.items()},
                weight_bytes=op.weight_bytes,
            )
            for op in graph.operators
        ],
    )


def write_workload(path: str | Path, document: WorkloadDocument) -> None:
    """Raises InvalidFileError where it cannot be written."""
    write_text(path, to_json(document))
