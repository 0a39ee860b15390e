"""Cuts submodels out of the prepared model: each stage becomes an ordinary ONNX model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx

from cutset.engine import Submodel
from cutset.errors import InvalidModelError
from cutset.onnx_io.model import Model
from cutset.onnx_io.weights import INLINE_LIMIT_BYTES, pack
from cutset.plan import Plan, check_plan, check_untiled


def submodel(
    model: Model,
    operators: Iterable[str],
    outputs: Sequence[str] | None = None,
    *,
    name: str = "stage",
    inline_limit_bytes: int = INLINE_LIMIT_BYTES,
) -> Submodel:
    """The named operators as a model of its own; weights that it shares with others are in each.

    `outputs` None means all that anything outside (or the model's caller) needs. Inputs are what
    the operators read from outside. Raises InvalidModelError for unknown operators or outputs.
    """
    chosen = set(operators)
    for unknown in chosen - set(model.members):
        raise InvalidModelError(
            "the model has no such operator",
            file=str(model.path),
            field="operators",
            value=unknown,
            remedy="`cutset inspect` lists them",
        )
    members = [op for op in model.graph.operators if op.name in chosen]
    made = {t for op in members for t in op.outputs}
    inputs = dict.fromkeys(t for op in members for t in op.inputs if t not in made)
    if outputs is None:
        wanted = set(model.graph.outputs)
        outside = {t for op in model.graph.operators if op.name not in chosen for t in op.inputs}
        outputs = [t for op in members for t in op.outputs if t in outside | wanted]
    for tensor in outputs:
        if tensor not in made:
            raise InvalidModelError(
                "these operators do not make this tensor",
                file=str(model.path),
                field="outputs",
                value=tensor,
                remedy=f"they make {', '.join(sorted(made)[:8])}",
            )
    nodes, stored = _needed(model, [i for op in members for i in model.members[op.name]])
    source = model.proto
    part = onnx.ModelProto(
        ir_version=source.ir_version,
        opset_import=source.opset_import,
        producer_name="cutset",
    )
    part.graph.name = name
    part.graph.node.extend(source.graph.node[i] for i in nodes)
    part.graph.input.extend(_value(model, t) for t in inputs)
    part.graph.output.extend(_value(model, t) for t in outputs)
    part.graph.initializer.extend(
        source.graph.initializer[model.stored[t]] for t in stored if t not in model.weights
    )
    heavy = [model.weights[t] for t in stored if t in model.weights]
    return pack(name, part, heavy, inline_limit_bytes)


def submodels(model: Model, plan: Plan) -> tuple[Submodel, ...]:
    """One submodel for each stage of the plan, in its order, named as the stages are.

    A stage puts out what other stages read and what the model puts out. Raises InvalidFileError
    where the plan does not fit the graph, UnsupportedProblemError for row tiles.
    """
    check_plan(plan, model.graph)
    check_untiled(plan)
    return tuple(submodel(model, stage.operators, name=stage.name) for stage in plan.stages)


def whole(model: Model) -> Submodel:
    """The unsplit prepared model: what is profiled, and the fallback on one device."""
    return submodel(model, model.members, name="whole")


def _needed(model: Model, own: Sequence[int]) -> tuple[list[int], list[str]]:
    """The nodes with what they share (constant subexpressions), in order, and their weights."""
    nodes = set(own)
    stored: dict[str, None] = {}
    waiting = list(own)
    while waiting:
        for tensor in model.node_reads[waiting.pop()]:
            if tensor in model.stored:
                stored[tensor] = None
                continue
            maker = model.makers.get(tensor)
            if maker in model.shared and maker not in nodes:
                nodes.add(maker)
                waiting.append(maker)
    return sorted(nodes), sorted(stored, key=model.stored.__getitem__)


def _value(model: Model, name: str) -> onnx.ValueInfoProto:
    # The graph's own inputs may have had to stay dynamic (see load_model).
    graph = model.proto.graph
    value = onnx.ValueInfoProto(name=name)
    if (entry := next((v for v in graph.input if v.name == name), None)) is not None:
        value.CopyFrom(entry)
    elif (spec := model.specs.get(name)) is not None:
        elem = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        value.CopyFrom(onnx.helper.make_tensor_value_info(name, elem, spec.shape))
    elif (entry := next((v for v in graph.output if v.name == name), None)) is not None:
        value.CopyFrom(entry)
    return value
