"""EfficientNet: inverted residual blocks with squeeze and excitation."""

from __future__ import annotations

import math

import onnx

from cutset.zoo.layers import Builder, image, scaled

#: Of B0: kernel, channels, expansion, repeats, stride.
_STAGES = (
    (3, 16, 1, 1, 1),
    (3, 24, 6, 2, 2),
    (5, 40, 6, 2, 2),
    (3, 80, 6, 3, 2),
    (5, 112, 6, 3, 1),
    (5, 192, 6, 4, 2),
    (3, 320, 6, 1, 1),
)


def efficientnet_b1(side: int = 240, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Tan and Le, ICML 2019: B1, which is B0 1.1 times as deep."""
    b, x = image("efficientnet_b1", side, seed)
    x = b.conv(x, scaled(32, width), 3, 2, act="Silu")
    for kernel, channels, expansion, repeats, stride in _STAGES:
        for j in range(math.ceil(1.1 * repeats)):
            step = stride if j == 0 else 1
            x = _block(b, x, kernel, scaled(channels, width), expansion, step)
    x = b.conv(x, scaled(1280, width), 1, act="Silu")
    return b.model(b.classifier(x, 1000))


def _block(b: Builder, x: str, kernel: int, channels: int, expansion: int, stride: int) -> str:
    before = b.channels[x]
    inner = before * expansion
    y = b.conv(x, inner, 1, act="Silu") if expansion > 1 else x
    y = b.conv(y, inner, kernel, stride, groups=inner, act="Silu")
    gate = b.op("GlobalAveragePool", y)
    gate = b.conv(gate, max(1, before // 4), 1, norm=False, act="Silu")
    gate = b.conv(gate, inner, 1, norm=False, act="Sigmoid")
    same = stride == 1 and before == channels
    # Gates are about a half: without making up for it, deep layers would hardly see the input.
    gamma = 0.3 if same else 1.5
    y = b.conv(b.op("Mul", y, gate), channels, 1, act=None, gamma=gamma)
    return b.op("Add", y, x) if same else y
