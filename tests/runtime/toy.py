"""A chain of operators y = scale·x + shift, cut by hand into one submodel per stage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cutset.cluster import Cluster, Device, Link
from cutset.engine import Submodel
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage

SIZE = 1000
COUNT = 4  # operators: op0 … op3, tensors x -> t0 -> t1 -> t2 -> y


def tensor(i: int) -> str:
    return "x" if i < 0 else "y" if i == COUNT - 1 else f"t{i}"


def graph(size: int = SIZE, memory_bytes: int = 0) -> Graph:
    operators = tuple(
        Operator(f"op{i}", "Mul", (tensor(i - 1),), (tensor(i),), memory_bytes=memory_bytes)
        for i in range(COUNT)
    )
    tensors = {
        tensor(i): Tensor(tensor(i), 4 * size, (1, size), "float32") for i in range(-1, COUNT)
    }
    return Graph("toy", operators, tensors, ("x",), ("y",))


def submodel(name: str, first: int, last: int, size: int = SIZE) -> Submodel:
    """Operators first..last (inclusive); the last one checks that its input is finite."""
    nodes = []
    weights = []
    for i in range(first, last + 1):
        weights.append(numpy_helper.from_array(np.float32(i + 2), f"w{i}"))
        nodes.append(helper.make_node("Mul", [tensor(i - 1), f"w{i}"], [tensor(i)]))
    value = helper.make_tensor_value_info
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            name,
            [value(tensor(first - 1), TensorProto.FLOAT, [1, size])],
            [value(tensor(last), TensorProto.FLOAT, [1, size])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(proto)
    data = proto.SerializeToString()
    digest = hashlib.sha256(data).hexdigest()
    return Submodel(name, (tensor(first - 1),), (tensor(last),), data, {}, digest)


def plan(parts: Sequence[tuple[str, int, int]], size: int = SIZE) -> tuple[Plan, list[Submodel]]:
    """Stages of (device, first, last operator), and their submodels."""
    stages = [
        Stage(f"s{k}", device, tuple(f"op{i}" for i in range(a, b + 1)))
        for k, (device, a, b) in enumerate(parts)
    ]
    return Plan(tuple(stages)), [submodel(f"s{k}", a, b, size) for k, (_, a, b) in enumerate(parts)]


def expected(x: np.ndarray) -> np.ndarray:
    return x * np.float32(2) * np.float32(3) * np.float32(4) * np.float32(5)


def cluster(
    names: Sequence[str] = ("pi", "server"),
    *,
    bandwidth_bps: float = 1e9,
    latency_s: float = 0.0,
    sink: str | None = None,
    devices: Mapping[str, Device] | None = None,
) -> Cluster:
    return Cluster(
        tuple((devices or {}).get(name, Device(name, name)) for name in names),
        (),
        names[0],
        sink or names[0],
        default_link=Link("", "", bandwidth_bps, latency_s),
    )


def inputs(count: int, size: int = SIZE) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal((1, size)).astype(np.float32) for _ in range(count)]
