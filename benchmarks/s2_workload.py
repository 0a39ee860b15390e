"""The setting of arXiv 2210.12219: its networks with its formulas, and its clusters.

Memory of a layer: output elements × 4 B + its number of parameters. Transfer of a point: consumers
× elements × 8 B / 1.44. A layer is an ONNX node here (a Keras layer there). Nodes of a cluster are
uniform in [1, 150]², all linked, at log2(1 + 283230/d²) Mbit/s (of 2^20 bits, as their transfers);
all have the same memory. Nothing takes compute time; the request and the result cost nothing.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import onnx

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph, Operator, Tensor
from cutset.problem import Objective, Problem
from cutset.solvers.published.candidate_points import candidate_points

MBIT = MIB = 2**20
KIND = "node"
_SHAPES = 1000  # elements: no tensor that says a shape is larger


def layer_graph(model: onnx.ModelProto) -> Graph:
    """A model of static shapes as a graph of its nodes, by the formulas above.

    Large weights are dropped from the model: only their shapes are read.
    """
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > _SHAPES:
            tensor.ClearField("raw_data")
    graph = onnx.shape_inference.infer_shapes(model).graph
    stored = {t.name: math.prod(t.dims) for t in graph.initializer}
    values = (*graph.input, *graph.value_info, *graph.output)
    elements = {
        v.name: math.prod(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values
    }
    reads = [tuple(dict.fromkeys(t for t in n.input if t not in stored)) for n in graph.node]
    consumers = Counter(t for inputs in reads for t in inputs)
    free = {v.name for v in (*graph.input, *graph.output)}
    tensors, operators = {}, []
    for name in (*(v.name for v in graph.input), *(t for n in graph.node for t in n.output)):
        size = consumers[name] * elements[name] * 8 / 1.44
        tensors[name] = Tensor(name, 0 if name in free else round(size))
    for node, inputs in zip(graph.node, reads, strict=True):
        memory = 4 * sum(elements[t] for t in node.output)
        memory += sum(stored.get(t, 0) for t in dict.fromkeys(node.input))
        operators.append(
            Operator(node.name, node.op_type, inputs, tuple(node.output), memory_bytes=memory)
        )
    return Graph(
        graph.name,
        tuple(operators),
        tensors,
        tuple(v.name for v in graph.input),
        tuple(v.name for v in graph.output),
    )


def span_chain(graph: Graph) -> Graph:
    """What may be between two candidate points as one operator: the paper's plans, and no others.

    All methods then choose among the same plans, and a proof holds for just those.
    """
    points = candidate_points(graph)
    names = [f"t{i}" for i in range(points.last + 1)]
    operators = tuple(
        Operator(
            graph.operators[points.positions[i + 1] - 1].name,
            "Span",
            (names[i],),
            (names[i + 1],),
            memory_bytes=round(points.memory_bytes[i + 1] - points.memory_bytes[i]),
        )
        for i in range(points.last)
    )
    tensors = {n: Tensor(n, round(b)) for n, b in zip(names, points.crossing_bytes, strict=True)}
    return Graph(graph.name, operators, tensors, (names[0],), (names[-1],))


def cluster_of(nodes: int, capacity_bytes: float, seed: str) -> Cluster:
    """The same places for a seed, whatever the capacity; requests enter and leave at the first."""
    rng = random.Random(seed)
    places = [(rng.uniform(1, 150), rng.uniform(1, 150)) for _ in range(nodes)]
    names = [f"n{i:02}" for i in range(nodes)]
    links = tuple(
        Link(names[i], names[j], MBIT * math.log2(1 + 283230 / math.dist(a, b) ** 2), 0.0)
        for (i, a), (j, b) in itertools.permutations(enumerate(places), 2)
    )
    devices = tuple(Device(name, KIND, memory_bytes=capacity_bytes) for name in names)
    return Cluster(devices, links, names[0], names[0])


def problem_of(graph: Graph, cluster: Cluster) -> Problem:
    free = TableCost({KIND: {op.name: 0.0 for op in graph.operators}})
    return Problem(graph, cluster, free, Objective.THROUGHPUT)


def fewest_spans(graph: Graph, capacity_bytes: float) -> int:
    """How many devices the network takes at least; 0 where one operator is over the capacity."""
    spans, left = 1, capacity_bytes
    for op in graph.operators:
        if op.memory_bytes > capacity_bytes:
            return 0
        if op.memory_bytes > left:
            spans, left = spans + 1, capacity_bytes
        left -= op.memory_bytes
    return spans
