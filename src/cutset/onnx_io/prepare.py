"""Makes a model ready to be cut: portable operators, static shapes, constants folded.

The result computes what the model computes and names its tensors as the model does. Nothing here
is specific to a device: submodels are cut from it.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort
from onnx import inliner, numpy_helper, shape_inference, version_converter

from cutset.errors import InvalidModelError
from cutset.onnx_io.reading import engine_message
from cutset.onnx_io.shapes import known_specs

#: Part of every graph's digest: raise it when preparation changes operators, names or order.
PREPARATION_VERSION = 1

#: Folded results beyond this stay computed: a Tile or ConstantOfShape can be far larger than what
#: it is made of.
_FOLD_BYTES = 2**18
_FOLD_ROUNDS = 16
_MIN_OPSET = 13
_RANDOM = frozenset(
    (
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    )
)
#: DequantizeLinear of a constant is how a quantised weight is written: folding it would undo that.
_KEPT = _RANDOM | {"DequantizeLinear"}


def standardise(proto: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Functions inlined, operator set at least 13, an IR version that engines of today load."""
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    for entry in proto.opset_import:
        has_bodies = any(next(bodies(node), None) is not None for node in proto.graph.node)
        # The converter leaves bodies of If and Loop as they are: such models stay as they are.
        if entry.domain in ("", "ai.onnx") and entry.version < _MIN_OPSET and not has_bodies:
            proto = _converted(proto)
            break
    proto.ir_version = min(max(proto.ir_version, 8), 10)
    check_operators(proto, file)
    return proto


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        proto.ir_version = max(proto.ir_version, 4)
        return version_converter.convert_version(proto, _MIN_OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own types
        # ONNX Runtime runs operator sets from 7 on, so the model may well work as it is.
        logging.getLogger(__name__).info("operator set kept: %s", engine_message(error))
        return proto


def check_operators(proto: onnx.ModelProto, file: str) -> None:
    """Raise InvalidModelError that names an operator which the standard does not have."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    for node in all_nodes(proto.graph):
        if node.domain in ("", "ai.onnx"):
            if not onnx.defs.has(node.op_type, max_inclusive_version=version):
                raise InvalidModelError(
                    f"operator set {version} has no operator {node.op_type!r}",
                    file=file,
                    field=f"node {node.name!r}",
                    value=node.op_type,
                    remedy="export the model with standard operators, or with a newer opset",
                )
        elif node.domain not in versions:
            raise InvalidModelError(
                f"the model uses {node.op_type!r} of domain {node.domain!r} and does not import it",
                file=file,
                field="opset_import",
                value=node.domain,
                remedy="export the model again",
            )


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def captures(node: onnx.NodeProto) -> set[str]:
    """Names that bodies of the node take from around it."""
    found: set[str] = set()
    for body in bodies(node):
        inside = {value.name for value in body.input} | {t.name for t in body.initializer}
        for inner in body.node:
            found |= {name for name in (*inner.input, *captures(inner)) if name} - inside
            inside |= set(inner.output)
        found |= {value.name for value in body.output} - inside
    return found


def reads(node: onnx.NodeProto) -> list[str]:
    """All tensors that a node needs, its captures included; each once, in a stable order."""
    return list(dict.fromkeys([*(name for name in node.input if name), *sorted(captures(node))]))


def tidy(graph: onnx.GraphProto) -> None:
    """Constants as initializers, no Identity or idle Dropout, unique node names; in place."""
    outputs = {value.name for value in graph.output}
    captured = {name for node in graph.node for name in captures(node)}
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            tensor = _constant(node)
            if tensor is not None:
                graph.initializer.append(tensor)
                continue
        made = [name for name in node.output if name]
        passes = node.op_type == "Identity" or (
            node.op_type == "Dropout" and len(made) == 1 and len(node.input) < 3
        )
        # A body names its captures itself, and an output's name is a promise: those stay.
        if passes and not (set(made) & (outputs | captured)):
            renamed[made[0]] = node.input[0]
            continue
        kept.append(node)
    kept = list(_one_dequantizer_each(kept, outputs))
    taken: set[str] = set()
    for i, node in enumerate(kept):
        name = node.name or f"{node.op_type}_{i}"
        while name in taken:
            name = f"{name}_{i}"
        taken.add(name)
        node.name = name
    del graph.node[:]
    graph.node.extend(kept)
    _constant_outputs(graph)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    attribute = node.attribute[0]
    tensor = onnx.TensorProto()
    if attribute.name == "value":
        tensor.CopyFrom(attribute.t)
    elif attribute.name in ("value_float", "value_floats"):
        data = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(data, np.float32)))
    elif attribute.name in ("value_int", "value_ints"):
        data = attribute.i if attribute.name == "value_int" else list(attribute.ints)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(data, np.int64)))
    else:
        return None  # strings and sparse tensors
    tensor.name = node.output[0]
    return tensor


def _one_dequantizer_each(
    nodes: list[onnx.NodeProto], outputs: set[str]
) -> Iterator[onnx.NodeProto]:
    """Each reader of a DequantizeLinear gets its own, so that int8 tensors are where to cut."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    captured = {name for node in nodes for name in captures(node)}
    for node in nodes:
        yield node
        if node.op_type != "DequantizeLinear" or node.output[0] in outputs | captured:
            continue
        made = node.output[0]
        for k, reader in enumerate(readers.get(made, [])[1:], 1):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.output[0] = f"{made}/{k}"
            copy.name = f"{node.name}/{k}" if node.name else ""
            for i, name in enumerate(reader.input):
                if name == made:
                    reader.input[i] = copy.output[0]
            yield copy


def _constant_outputs(graph: onnx.GraphProto) -> None:
    """A graph output that is a weight is made by an operator of its own."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.output:
        if value.name in stored:
            inner = f"{value.name}/constant"
            _rename_reads(graph, value.name, inner)
            stored[value.name].name = inner
            graph.node.append(
                onnx.helper.make_node("Identity", [inner], [value.name], name=f"{value.name}/copy")
            )


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in all_nodes(graph):
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def constant_nodes(graph: onnx.GraphProto) -> set[int]:
    """Indices of nodes that depend on no input: each submodel may compute them for itself.

    The last node before a graph output is not among them, as somebody must make it.
    """
    constant = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    found: set[int] = set()
    for i, node in enumerate(graph.node):
        if (
            node.op_type not in _RANDOM
            and not outputs & set(node.output)
            and all(name in constant for name in reads(node))
        ):
            found.add(i)
            constant.update(node.output)
    return found


def infer(proto: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """The model with all shapes that follow from its inputs, and what is constant folded.

    The model given is not modified. Raises InvalidModelError where shapes contradict each other.
    """
    original, proto = proto, onnx.ModelProto()
    proto.CopyFrom(original)
    for _ in range(_FOLD_ROUNDS):
        # What an earlier round could not know would stand in the way of what this one can.
        del proto.graph.value_info[:]
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            proto = shape_inference.infer_shapes(proto, data_prop=True)
        except Exception as error:  # onnx raises several types for one cause
            raise InvalidModelError(
                f"shapes cannot be inferred: {engine_message(error)}",
                file=file,
                remedy="check the input shapes, and the model with onnx.checker",
            ) from None
        if not _fold(proto):
            break
    _drop_unused(proto.graph)
    return proto


def _fold(proto: onnx.ModelProto) -> bool:
    """Replace what depends on constants or static shapes only by its value; whether any was."""
    graph = proto.graph
    specs = known_specs(graph)
    stubs = {t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    constant = {t.name for t in graph.initializer} - stubs
    outputs = {value.name for value in graph.output}
    values: dict[str, np.ndarray] = {}
    chosen: list[onnx.NodeProto] = []
    for node in graph.node:
        if outputs & set(node.output) or node.op_type in _KEPT or any(bodies(node)):
            continue
        if node.op_type in ("Shape", "Size") and node.input[0] not in constant:
            spec = specs.get(node.input[0])
            if spec is None or None in spec.shape:
                continue
            dims = [dim or 0 for dim in spec.shape]
            if node.op_type == "Size":
                values[node.output[0]] = np.asarray(math.prod(dims), np.int64)
            else:
                ends = {a.name: a.i for a in node.attribute}
                part = dims[ends.get("start", 0) : ends.get("end", len(dims))]
                values[node.output[0]] = np.asarray(part, np.int64)
            constant.add(node.output[0])
            continue
        made = [specs.get(name) for name in node.output if name]
        if any(spec is not None and spec.size_bytes > _FOLD_BYTES for spec in made):
            continue
        if node.input and all(name in constant for name in node.input if name):
            chosen.append(node)
            constant.update(name for name in node.output if name)
    values.update(_evaluated(proto, chosen, values))
    if not values:
        return False
    gone = set(values)
    kept = [node for node in graph.node if not all(name in gone for name in node.output if name)]
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items())
    kept_copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(kept_copies)
    return True


def _evaluated(
    proto: onnx.ModelProto, nodes: list[onnx.NodeProto], values: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The small results of the nodes, by ONNX Runtime itself: what it would compute each run."""
    if not nodes:
        return {}
    needed = {name for node in nodes for name in node.input}
    model = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    model.graph.name = "constants"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(t for t in proto.graph.initializer if t.name in needed)
    model.graph.initializer.extend(
        numpy_helper.from_array(v, name) for name, v in values.items() if name in needed
    )
    names = [name for node in nodes for name in node.output if name]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session = ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            results = session.run(names, {})
    except Exception as error:  # not folding is always correct
        logging.getLogger(__name__).info("constants not folded: %s", engine_message(error))
        return {}
    small = {
        name: result
        for name, result in zip(names, results, strict=True)
        if isinstance(result, np.ndarray)
        and result.dtype != object
        and result.nbytes <= _FOLD_BYTES
    }
    # A node goes as a whole or stays as a whole.
    whole = {
        n for node in nodes if {o for o in node.output if o} <= set(small) for n in node.output
    }
    return {name: value for name, value in small.items() if name in whole}


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no output needs."""
    needed = {value.name for value in graph.output}
    kept: list[bytes] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(reads(node))
            kept.append(node.SerializeToString())
    tensors = [t.SerializeToString() for t in graph.initializer if t.name in needed]
    del graph.node[:]
    graph.node.extend(map(onnx.NodeProto.FromString, reversed(kept)))
    del graph.initializer[:]
    graph.initializer.extend(map(onnx.TensorProto.FromString, tensors))
