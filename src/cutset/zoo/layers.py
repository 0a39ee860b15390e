"""A small builder of ONNX graphs with seeded weights: the layers that all architectures share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 17


class Builder:
    """Collects nodes and weights. Methods take and return tensor names; sizes are NCHW.

    Weights are drawn so that activations keep a spread of about 1 (He et al., ICCV 2015), and the
    same seed gives the same model.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def constant(self, value: npt.ArrayLike, dtype: str = "") -> str:
        array = np.asarray(value, dtype or None)
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, fan_in: int, gain: float = 2.0) -> str:
        scale = math.sqrt(gain / fan_in)
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def op(self, op_type: str, *inputs: str, count: int = 1, **attributes: Any) -> str:
        """A node; its first output. Further ones are `<name>_1` and on."""
        base = f"{op_type.lower()}_{len(self.nodes)}"
        outputs = [base, *(f"{base}_{i}" for i in range(1, count))]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), outputs, name=f"n_{base}", **attributes)
        )
        if inputs and inputs[0] in self.channels:
            self.channels[base] = self.channels[inputs[0]]
        return base

    def conv(
        self,
        x: str,
        width: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        act: str | None = "Relu",
        norm: bool = True,
        pad: int | None = None,
        gamma: float | None = None,
    ) -> str:
        """Convolution, then batch normalisation and activation where asked for.

        `gamma` is the mean scale of the normalisation: 1, and 0.3 where no activation follows.
        """
        before = self.channels[x]
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        fan_in = before // groups * high * wide
        weight = self.weight(width, before // groups, high, wide, fan_in=fan_in)
        pads = [high // 2, wide // 2] if pad is None else [pad, pad]
        bias = () if norm else (self.weight(width, fan_in=100),)
        x = self.op("Conv", x, weight, *bias, strides=[stride] * 2, pads=pads * 2, group=groups)
        self.channels[x] = width
        if norm:
            ones = (1 + 0.1 * self.rng.standard_normal((2, width))).astype(np.float32)
            # The ends of residual branches are damped, or deep sums would saturate the output.
            gamma = (0.3 if act is None else 1.0) if gamma is None else gamma
            parts = (
                ones[0] * np.float32(gamma),
                self.rng.standard_normal(width).astype(np.float32) * 0.1,
            )
            mean = self.rng.standard_normal(width).astype(np.float32) * 0.1
            named = [self.constant(part) for part in (*parts, mean, np.abs(ones[1]))]
            x = self.op("BatchNormalization", x, *named)
        return self.activate(x, act)

    def activate(self, x: str, act: str | None) -> str:
        if act is None:
            return x
        if act == "Relu6":
            low, high = self.constant(np.float32(0)), self.constant(np.float32(6))
            return self.op("Clip", x, low, high)
        if act == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        return self.op(act, x)

    def pool(
        self, x: str, kernel: int = 2, stride: int = 2, pad: int = 0, kind: str = "MaxPool"
    ) -> str:
        shape = [kernel] * 2
        return self.op(kind, x, kernel_shape=shape, strides=[stride] * 2, pads=[pad] * 4)

    def concat(self, *xs: str, axis: int = 1) -> str:
        y = self.op("Concat", *xs, axis=axis)
        self.channels[y] = sum(self.channels.get(x, 0) for x in xs)
        return y

    def dense(self, x: str, before: int, width: int, act: str | None = None) -> str:
        weight = self.weight(before, width, fan_in=before, gain=1.0)
        y = self.op("Add", self.op("MatMul", x, weight), self.weight(width, fan_in=100))
        return self.activate(y, act)

    def classifier(self, x: str, classes: int) -> str:
        """Global average, one dense layer, softmax."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op("Softmax", self.dense(flat, self.channels[x], classes), axis=-1)

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> str:
        if len(shape) == 4:
            self.channels[name] = shape[1]
        self.inputs.append(
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
            )
        )
        return name

    def model(self, *outputs: str, dtype: str = "float32") -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        values = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, values, self.tensors)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
        )


def image(name: str, side: int, seed: int) -> tuple[Builder, str]:
    """A builder and its input, one colour image."""
    b = Builder(name, seed)
    return b, b.input("image", (1, 3, side, side))


def scaled(channels: int, width: float) -> int:
    """Channels times a width factor, a multiple of 8."""
    return max(8, round(channels * width / 8) * 8)
