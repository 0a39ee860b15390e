"""Inception-ResNet-v2: inception blocks whose scaled result is added to their input."""

from __future__ import annotations

import numpy as np
import onnx

from cutset.zoo.layers import image, scaled

#: A branch is a chain of convolutions: channels and kernel.
_Branch = tuple[tuple[int, int | tuple[int, int]], ...]

_BLOCK_35: tuple[_Branch, ...] = (
    ((32, 1),),
    ((32, 1), (32, 3)),
    ((32, 1), (48, 3), (64, 3)),
)
_BLOCK_17: tuple[_Branch, ...] = (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))
_BLOCK_8: tuple[_Branch, ...] = (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))


def inception_resnet_v2(side: int = 299, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Szegedy et al., AAAI 2017."""
    b, x = image("inception_resnet_v2", side, seed)

    def branch(y: str, *layers: tuple[int, int | tuple[int, int]], halve: bool = False) -> str:
        """Convolutions one after another; `halve`: the last has stride 2 and no padding."""
        for i, (channels, kernel) in enumerate(layers):
            last = halve and i == len(layers) - 1
            c = scaled(channels, width)
            y = b.conv(y, c, kernel, 2 if last else 1, pad=0 if last else None)
        return y

    def residual(
        y: str, branches: tuple[_Branch, ...], scale: float, act: str | None = "Relu"
    ) -> str:
        mixed = b.concat(*(branch(y, *layers) for layers in branches))
        up = b.conv(mixed, b.channels[y], 1, norm=False, act=None)
        return b.activate(b.op("Add", y, b.op("Mul", up, b.constant(np.float32(scale)))), act)

    x = b.conv(x, scaled(32, width), 3, 2, pad=0)
    x = b.conv(b.conv(x, scaled(32, width), 3, pad=0), scaled(64, width), 3)
    x = b.conv(b.pool(x, 3, 2), scaled(80, width), 1)
    x = b.pool(b.conv(x, scaled(192, width), 3, pad=0), 3, 2)
    x = b.concat(
        branch(x, (96, 1)),
        branch(x, (48, 1), (64, 5)),
        branch(x, (64, 1), (96, 3), (96, 3)),
        branch(b.pool(x, 3, 1, 1, "AveragePool"), (64, 1)),
    )
    for _ in range(10):
        x = residual(x, _BLOCK_35, 0.17)
    x = b.concat(
        branch(x, (384, 3), halve=True),
        branch(x, (256, 1), (256, 3), (384, 3), halve=True),
        b.pool(x, 3, 2),
    )
    for _ in range(20):
        x = residual(x, _BLOCK_17, 0.1)
    x = b.concat(
        branch(x, (256, 1), (384, 3), halve=True),
        branch(x, (256, 1), (288, 3), halve=True),
        branch(x, (256, 1), (288, 3), (320, 3), halve=True),
        b.pool(x, 3, 2),
    )
    for _ in range(9):
        x = residual(x, _BLOCK_8, 0.2)
    x = residual(x, _BLOCK_8, 1.0, act=None)
    return b.model(b.classifier(b.conv(x, scaled(1536, width), 1), 1000))
