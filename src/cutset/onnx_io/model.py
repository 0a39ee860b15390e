"""Loads an ONNX model: the graph of operators that planners see, and the model it is cut from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx

from cutset.engine import Submodel
from cutset.errors import InvalidModelError
from cutset.graph import Graph, Operator, Tensor
from cutset.memory import ASSUMED, operator_bytes
from cutset.onnx_io.flops import Shapes, flops, window
from cutset.onnx_io.grouping import Group, NodeView, group
from cutset.onnx_io.kernels import FusedGraph, fused_graph
from cutset.onnx_io.prepare import (
    PREPARATION_VERSION,
    bodies,
    constant_nodes,
    infer,
    reads,
    standardise,
    tidy,
)
from cutset.onnx_io.reading import file_digest, read_proto
from cutset.onnx_io.shapes import TensorSpec, dtype_name, fix_inputs, known_specs
from cutset.onnx_io.weights import Weight, detach, pack, tensor_bytes
from cutset.ports import Port


@dataclass(frozen=True)
class Model:
    """A prepared model.

    `proto` computes what the file computes, with static shapes and without large weights, which
    are in `weights` by name. `inputs` and `outputs` are the file's, in its order. `members` are
    the indices in `proto.graph.node` of each operator's nodes, `shared` those of nodes that depend
    on no input and that each submodel computes for itself. `regions` says, by operator, why an
    operator that holds several kernels is not cut.
    """

    graph: Graph
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    proto: onnx.ModelProto = field(repr=False)
    weights: Mapping[str, Weight] = field(repr=False)
    members: Mapping[str, tuple[int, ...]] = field(repr=False)
    shared: frozenset[int] = field(repr=False)
    specs: Mapping[str, TensorSpec] = field(repr=False)
    regions: Mapping[str, str] = field(repr=False)

    @cached_property
    def operator_of(self) -> Mapping[str, str]:
        """ONNX node name and tensor name -> operator name, for everything that operators make."""
        found: dict[str, str] = {}
        for name, indices in self.members.items():
            for i in indices:
                node = self.proto.graph.node[i]
                for tensor in node.output:
                    found.setdefault(tensor, name)
        for name, indices in self.members.items():
            found.update((self.proto.graph.node[i].name, name) for i in indices)
        return found

    @cached_property
    def node_reads(self) -> tuple[tuple[str, ...], ...]:
        """What each ONNX node reads, captures of its bodies included."""
        return tuple(tuple(reads(node)) for node in self.proto.graph.node)

    @cached_property
    def makers(self) -> Mapping[str, int]:
        """Tensor name -> index of the ONNX node that makes it."""
        return {t: i for i, node in enumerate(self.proto.graph.node) for t in node.output if t}

    @cached_property
    def stored(self) -> Mapping[str, int]:
        """Name of a weight -> index in `proto.graph.initializer`."""
        return {t.name: i for i, t in enumerate(self.proto.graph.initializer)}

    @property
    def ports(self) -> tuple[Port, ...]:
        """The inputs as the engine checks feeds against them."""
        return tuple(Port(s.name, s.dtype, s.shape) for s in self.inputs)


def load_model(path: str | Path, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """Read, prepare and group a model (docs/formats.md: graph_digest, memory, units in bytes).

    `input_shapes` gives dynamic inputs their dimensions. Raises InvalidModelError, which names the
    file, the field, the value and what to do.
    """
    path = Path(path)
    proto = read_proto(path)
    digest = file_digest(proto, path)
    proto = standardise(proto, str(path))
    declared = {value.name: value.SerializeToString() for value in proto.graph.input}
    fix_inputs(proto.graph, input_shapes or {}, str(path))
    dynamic = [onnx.ValueInfoProto.FromString(declared[v.name]) for v in proto.graph.input]
    tidy(proto.graph)
    weights = detach(proto.graph, path.parent)
    fixed = known_specs(proto.graph)
    inputs = tuple(fixed[value.name] for value in proto.graph.input)
    try:
        proto, weights, fused = _prepared(proto, weights, str(path))
    except InvalidModelError:
        if not any(next(bodies(node), None) for node in proto.graph.node):
            raise
        # Branches for other sizes than these may not even load with static shapes: leave the
        # shapes to the engine then, and know only those of the inputs.
        for value, original in zip(proto.graph.input, dynamic, strict=True):
            value.CopyFrom(original)
        proto, weights, fused = _prepared(proto, weights, str(path))
    shared = constant_nodes(proto.graph)
    specs = known_specs(proto.graph)
    for name, spec in fused.specs.items():
        if name not in specs or not specs[name].sized:
            specs[name] = spec
    specs.update((spec.name, spec) for spec in inputs)
    outputs = tuple(_output_spec(value, specs) for value in proto.graph.output)
    digest.update(
        json.dumps(
            [PREPARATION_VERSION, sorted([spec.name, spec.shape] for spec in inputs)]
        ).encode()
    )
    graph, members, regions = _graph(
        path.stem, proto, specs, shared, fused, digest.hexdigest(), outputs
    )
    return Model(
        graph,
        path,
        inputs,
        outputs,
        proto,
        weights,
        members,
        frozenset(shared),
        specs,
        regions,
    )


def _prepared(
    proto: onnx.ModelProto, weights: Mapping[str, Weight], file: str
) -> tuple[onnx.ModelProto, dict[str, Weight], FusedGraph]:
    proto = infer(proto, file)
    used = {t.name: weights[t.name] for t in proto.graph.initializer if t.name in weights}
    return proto, used, fused_graph(_complete(proto, used), file)


def _complete(proto: onnx.ModelProto, weights: Mapping[str, Weight]) -> Submodel:
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(proto)
    del skeleton.graph.initializer[:]
    skeleton.graph.initializer.extend(t for t in proto.graph.initializer if t.name not in weights)
    return pack("whole", skeleton, weights.values())


def _output_spec(value: onnx.ValueInfoProto, specs: Mapping[str, TensorSpec]) -> TensorSpec:
    if value.name in specs:
        return specs[value.name]
    elem = value.type.tensor_type.elem_type
    return TensorSpec(value.name, dtype_name(elem) if elem else "object", ())


def _graph(
    name: str,
    proto: onnx.ModelProto,
    specs: Mapping[str, TensorSpec],
    shared: set[int],
    fused: FusedGraph,
    digest: str,
    outputs: Sequence[TensorSpec],
) -> tuple[Graph, dict[str, tuple[int, ...]], dict[str, str]]:
    graph = proto.graph
    inputs = tuple(value.name for value in graph.input)
    constant = {t.name for t in graph.initializer}
    constant |= {t for i in shared for t in graph.node[i].output}
    indices = [i for i in range(len(graph.node)) if i not in shared]
    views = [
        NodeView(
            tuple(t for t in reads(graph.node[i]) if t not in constant),
            tuple(t for t in graph.node[i].output if t),
        )
        for i in indices
    ]
    wanted = tuple(dict.fromkeys(spec.name for spec in outputs))
    groups = group(
        views,
        lambda t: t in specs and specs[t].sized,
        (fused.surviving - _around_quantised(graph)).__contains__,
        frozenset(wanted),
    )
    group_of = {t: k for k, g in enumerate(groups) for v in g.nodes for t in views[v].outputs}
    needed = set(wanted)
    for k, g in enumerate(groups):
        needed |= {t for v in g.nodes for t in views[v].inputs if group_of.get(t) != k}
    weight_sizes = _weight_sizes(proto, shared)
    shapes: Shapes = {
        t: tuple(d or 1 for d in s.shape) for t, s in specs.items() if None not in s.shape
    } | {t.name: tuple(t.dims) for t in graph.initializer}
    tensors = {t: _tensor(t, specs) for t in (*inputs, *wanted)}
    operators: list[Operator] = []
    members: dict[str, tuple[int, ...]] = {}
    regions: dict[str, str] = {}
    for k, g in enumerate(groups):
        nodes = [graph.node[indices[v]] for v in g.nodes]
        costs = [flops(node, shapes) for node in nodes]
        anchor = nodes[max(range(len(nodes)), key=lambda i: (costs[i], -i))]
        taken = dict.fromkeys(t for v in g.nodes for t in views[v].inputs if group_of.get(t) != k)
        made = tuple(t for v in g.nodes for t in views[v].outputs if t in needed)
        weight_bytes = sum(
            {
                t: weight_sizes[t] for node in nodes for t in reads(node) if t in weight_sizes
            }.values()
        )
        tensors.update((t, _tensor(t, specs)) for t in made)
        output_bytes = sum(tensors[t].size_bytes for t in made)
        operators.append(
            Operator(
                anchor.name,
                anchor.op_type,
                tuple(taken),
                made,
                flops=sum(costs),
                weight_bytes=weight_bytes,
                memory_bytes=operator_bytes(weight_bytes, output_bytes),
                window=window(anchor, shapes),
                onnx_nodes=tuple(node.name for node in nodes),
            )
        )
        members[anchor.name] = tuple(indices[v] for v in g.nodes)
        reason = _reason(g, nodes)
        if reason:
            regions[anchor.name] = reason
    return (
        Graph(name, tuple(operators), tensors, inputs, wanted, digest, ASSUMED.stage_bytes),
        members,
        regions,
    )


def _around_quantised(graph: onnx.GraphProto) -> set[str]:
    """Float tensors beside an integer one that holds the same: cutting there costs 4 times more.

    Whether a device's engine fuses them depends on the device; where to cut does not.
    """
    found = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    found |= {n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    return found


def _reason(g: Group, nodes: Sequence[onnx.NodeProto]) -> str:
    held = dict.fromkeys(node.op_type for node in nodes if next(bodies(node), None) is not None)
    parts = []
    if g.unsized:
        few = ", ".join(g.unsized[:3]) + ("…" if len(g.unsized) > 3 else "")
        parts.append(f"sizes depend on the data: {few}")
    if g.contracted:
        parts.append("its parts depend on each other")
    if held:
        parts.append(f"the body of {', '.join(held)} runs as one kernel")
    return "; ".join(parts)


def _weight_sizes(proto: onnx.ModelProto, shared: set[int]) -> dict[str, int]:
    """Bytes of weights by tensor; a tensor computed from weights counts what it is made of."""
    sizes = {t.name: tensor_bytes(t) for t in proto.graph.initializer}
    for i in sorted(shared):
        node = proto.graph.node[i]
        total = sum(sizes.get(t, 0) for t in reads(node))
        sizes.update((t, total) for t in node.output)
    return sizes


def _tensor(name: str, specs: Mapping[str, TensorSpec]) -> Tensor:
    spec = specs.get(name)
    if spec is None:
        return Tensor(name, 0)
    if not spec.sized:
        return Tensor(name, spec.size_bytes, None, spec.dtype)
    return Tensor(name, spec.size_bytes, tuple(d or 0 for d in spec.shape), spec.dtype)
