"""How much a node computes, and through which window it looks at its input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

_FREE = frozenset(
    (
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Dropout",
        "Shape",
        "Size",
        "Constant",
        "ConstantOfShape",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "Transpose",
        "Expand",
        "Tile",
        "Pad",
        "Cast",
        "DepthToSpace",
        "SpaceToDepth",
        "GatherElements",
        "GatherND",
        "ScatterND",
        "ScatterElements",
        "Range",
        "Where",
    )
)
_PER_ELEMENT: Mapping[str, int] = {
    "Softmax": 5,
    "LogSoftmax": 6,
    "LayerNormalization": 8,
    "InstanceNormalization": 6,
    "GroupNormalization": 8,
    "BatchNormalization": 2,
    "Gelu": 8,
    "Erf": 4,
    "Sigmoid": 4,
    "Tanh": 4,
    "HardSwish": 4,
}
_RECURRENT: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "RNN": 1}

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def flops(node: onnx.NodeProto, shapes: Shapes) -> float:
    """Floating-point operations of one run; a multiply-add is 2. 0 where shapes are unknown.

    Data movement counts 0. Bodies of control flow are not counted: how often they run is not known.
    """
    ins = [shapes.get(name) for name in node.input]
    out = shapes.get(node.output[0]) if node.output else None
    if node.op_type in _FREE or out is None or not ins or ins[0] is None:
        return 0.0
    made = math.prod(out)
    weight = ins[1] if len(ins) > 1 else None
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        kernel = ins[3] if node.op_type == "QLinearConv" else weight
        return 2.0 * made * math.prod(kernel[1:]) if kernel else 0.0
    if node.op_type == "ConvTranspose":
        return 2.0 * math.prod(ins[0]) * math.prod(weight[1:]) if weight else 0.0
    if node.op_type in ("MatMul", "MatMulInteger"):
        return 2.0 * made * ins[0][-1] if ins[0] else 0.0
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return 2.0 * made * ins[0][0 if transposed else 1]
    if node.op_type in _RECURRENT and weight is not None and len(ins[0]) == 3:
        steps, batch, features = ins[0]
        directions, width = weight[0], weight[1] // _RECURRENT[node.op_type]
        gates = _RECURRENT[node.op_type]
        return 2.0 * steps * batch * directions * gates * width * (features + width)
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        return float(made * math.prod(_ints(node, "kernel_shape", ())))
    if node.op_type.startswith(("Reduce", "Global", "Arg")):
        return float(math.prod(ins[0]))
    return float(made * _PER_ELEMENT.get(node.op_type, 1) * max(1, len(ins) - 1))


def window(node: onnx.NodeProto, shapes: Shapes) -> dict[str, tuple[int, ...]] | None:
    """Kernel, stride, pads (all begins, then all ends) and dilation by spatial axis.

    None for a node that is neither convolution nor pooling. Automatic padding is resolved.
    """
    if node.op_type not in ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"):
        return None
    weight = shapes.get(node.input[1]) if len(node.input) > 1 else None
    kernel = _ints(node, "kernel_shape", weight[2:] if weight else ())
    axes = len(kernel)
    stride = _ints(node, "strides", (1,) * axes)
    dilation = _ints(node, "dilations", (1,) * axes)
    pads = _ints(node, "pads", (0,) * 2 * axes)
    auto = next((a.s for a in node.attribute if a.name == "auto_pad"), b"NOTSET")
    source = shapes.get(node.input[0])
    if auto in (b"SAME_UPPER", b"SAME_LOWER") and source is not None:
        begins, ends = [], []
        for size, k, s, d in zip(source[2:], kernel, stride, dilation, strict=True):
            total = max(0, (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size)
            less, more = total // 2, total - total // 2
            begins.append(less if auto == b"SAME_UPPER" else more)
            ends.append(more if auto == b"SAME_UPPER" else less)
        pads = (*begins, *ends)
    return {"kernel": kernel, "stride": stride, "pads": pads, "dilation": dilation}


def _ints(node: onnx.NodeProto, name: str, default: Sequence[int]) -> tuple[int, ...]:
    found = next((a.ints for a in node.attribute if a.name == name), None)
    return tuple(default if found is None else found)
