"""Published architectures as ONNX with seeded weights: latency does not depend on training.

Every builder takes the input's side in pixels and a `width` factor for the channels, so that
tests can be small; the defaults are the published sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper

from cutset.errors import UsageError
from cutset.zoo.layers import Builder


def _image(name: str, side: int, seed: int) -> tuple[Builder, str]:
    b = Builder(name, seed)
    return b, b.input("image", (1, 3, side, side))


def _scaled(channels: int, width: float) -> int:
    return max(8, round(channels * width / 8) * 8)


def alexnet(side: int = 224, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Krizhevsky et al., NeurIPS 2012, in its single-column form."""
    b, x = _image("alexnet", side, seed)
    x = b.pool(b.conv(x, _scaled(64, width), 11, 4, norm=False, pad=2), 3, 2)
    x = b.pool(b.conv(x, _scaled(192, width), 5, norm=False), 3, 2)
    for channels in (384, 256, 256):
        x = b.conv(x, _scaled(channels, width), norm=False)
    x = b.pool(x, 3, 2)
    rest = ((side - 7) // 4 + 1 - 3) // 2 + 1
    rest = ((rest - 3) // 2 + 1 - 3) // 2 + 1
    size = b.channels[x] * rest**2
    x = b.op("Flatten", x)
    hidden = _scaled(4096, width)
    x = b.dense(b.dense(x, size, hidden, "Relu"), hidden, hidden, "Relu")
    return b.model(b.op("Softmax", b.dense(x, hidden, 1000), axis=-1))


def vgg16(side: int = 224, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Simonyan and Zisserman, ICLR 2015, configuration D."""
    b, x = _image("vgg16", side, seed)
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = b.conv(x, _scaled(channels, width), norm=False)
        x = b.pool(x)
    size, hidden = b.channels[x] * (side // 32) ** 2, _scaled(4096, width)
    x = b.dense(b.op("Flatten", x), size, hidden, "Relu")
    x = b.dense(x, hidden, hidden, "Relu")
    return b.model(b.op("Softmax", b.dense(x, hidden, 1000), axis=-1))


def squeezenet(side: int = 224, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """SqueezeNet 1.1 (Iandola et al., 2016)."""
    b, x = _image("squeezenet", side, seed)
    x = b.pool(b.conv(x, _scaled(64, width), 3, 2, norm=False, pad=0), 3, 2)
    for i, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        if i in (2, 4):
            x = b.pool(x, 3, 2)
        s = b.conv(x, _scaled(squeeze, width), 1, norm=False)
        e = _scaled(expand, width)
        x = b.concat(b.conv(s, e, 1, norm=False), b.conv(s, e, 3, norm=False))
    x = b.conv(x, 1000, 1, norm=False)
    return b.model(b.op("Softmax", b.op("Flatten", b.op("GlobalAveragePool", x)), axis=-1))


def _basic(b: Builder, x: str, channels: int, stride: int) -> str:
    y = b.conv(b.conv(x, channels, 3, stride), channels, 3, act=None)
    if stride > 1 or b.channels[x] != channels:
        x = b.conv(x, channels, 1, stride, act=None)
    return b.op("Relu", b.op("Add", y, x))


def _bottleneck(b: Builder, x: str, channels: int, stride: int) -> str:
    y = b.conv(b.conv(x, channels, 1), channels, 3, stride)
    y = b.conv(y, 4 * channels, 1, act=None)
    if stride > 1 or b.channels[x] != 4 * channels:
        x = b.conv(x, 4 * channels, 1, stride, act=None)
    return b.op("Relu", b.op("Add", y, x))


def _resnet(
    name: str,
    block: Callable[[Builder, str, int, int], str],
    counts: tuple[int, ...],
    side: int,
    width: float,
    seed: int,
) -> onnx.ModelProto:
    b, x = _image(name, side, seed)
    x = b.pool(b.conv(x, _scaled(64, width), 7, 2), 3, 2, 1)
    for i, count in enumerate(counts):
        for j in range(count):
            x = block(b, x, _scaled(64 * 2**i, width), 2 if i and not j else 1)
    return b.model(b.classifier(x, 1000))


def resnet18(side: int = 224, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """He et al., CVPR 2016."""
    return _resnet("resnet18", _basic, (2, 2, 2, 2), side, width, seed)


def resnet50(side: int = 224, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """He et al., CVPR 2016, with the stride in the 3×3 convolution."""
    return _resnet("resnet50", _bottleneck, (3, 4, 6, 3), side, width, seed)


def mobilenet_v2(side: int = 224, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Sandler et al., CVPR 2018."""
    b, x = _image("mobilenet_v2", side, seed)
    x = b.conv(x, _scaled(32, width), 3, 2, act="Relu6")
    for expand, channels, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for j in range(count):
            inner, step = b.channels[x] * expand, stride if j == 0 else 1
            y = b.conv(x, inner, 1, act="Relu6") if expand > 1 else x
            y = b.conv(y, inner, 3, step, groups=inner, act="Relu6")
            y = b.conv(y, _scaled(channels, width), 1, act=None)
            same = step == 1 and b.channels[x] == b.channels[y]
            x = b.op("Add", y, x) if same else y
    x = b.conv(x, _scaled(1280, width), 1, act="Relu6")
    return b.model(b.classifier(x, 1000))


def xception(side: int = 299, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """Chollet, CVPR 2017."""
    b, x = _image("xception", side, seed)

    def separable(y: str, channels: int, act: str | None = None) -> str:
        y = b.conv(y, b.channels[y], 3, groups=b.channels[y], act=None)
        return b.conv(y, channels, 1, act=act)

    x = b.conv(b.conv(x, _scaled(32, width), 3, 2, pad=0), _scaled(64, width), pad=0)
    for i, channels in enumerate((128, 256, 728)):
        c = _scaled(channels, width)
        y = separable(b.op("Relu", x) if i else x, c)
        y = b.pool(separable(b.op("Relu", y), c), 3, 2, 1)
        x = b.op("Add", y, b.conv(x, c, 1, 2, act=None))
    for _ in range(8):
        y = x
        for _ in range(3):
            y = separable(b.op("Relu", y), b.channels[x])
        x = b.op("Add", y, x)
    c = _scaled(1024, width)
    y = separable(b.op("Relu", separable(b.op("Relu", x), b.channels[x])), c)
    x = b.op("Add", b.pool(y, 3, 2, 1), b.conv(x, c, 1, 2, act=None))
    x = separable(separable(x, _scaled(1536, width), "Relu"), _scaled(2048, width), "Relu")
    return b.model(b.classifier(x, 1000))


def vit_s(side: int = 224, width: float = 1.0, seed: int = 0, layers: int = 12) -> onnx.ModelProto:
    """A vision transformer (Dosovitskiy et al., ICLR 2021), ViT-S/16, pooled by the mean."""
    b, x = _image("vit_s", side, seed)
    heads, size = 6, 64 * max(1, round(6 * width))
    heads = size // 64
    tokens = (side // 16) ** 2
    x = b.conv(x, size, 16, 16, norm=False, act=None, pad=0)
    x = b.op("Reshape", x, b.constant([1, size, tokens], "int64"))
    x = b.op("Transpose", x, perm=[0, 2, 1])
    x = b.op("Add", x, b.weight(1, tokens, size, fan_in=50))

    def norm(y: str) -> str:
        one = b.constant(np.ones(size, np.float32))
        return b.op("LayerNormalization", y, one, b.weight(size, fan_in=100), axis=-1)

    split = b.constant([1, tokens, heads, 64], "int64")
    joined = b.constant([1, tokens, size], "int64")
    scale = b.constant(np.float32(1 / math.sqrt(64)))
    for _ in range(layers):
        y = norm(x)
        q, k, v = (b.op("Reshape", b.dense(y, size, size), split) for _ in range(3))
        scores = b.op(
            "MatMul",
            b.op("Transpose", q, perm=[0, 2, 1, 3]),
            b.op("Transpose", k, perm=[0, 2, 3, 1]),
        )
        weights = b.op("Softmax", b.op("Mul", scores, scale), axis=-1)
        y = b.op("MatMul", weights, b.op("Transpose", v, perm=[0, 2, 1, 3]))
        y = b.op("Reshape", b.op("Transpose", y, perm=[0, 2, 1, 3]), joined)
        x = b.op("Add", x, b.dense(y, size, size))
        y = b.dense(norm(x), size, 4 * size)
        half = b.op("Div", y, b.constant(np.float32(math.sqrt(2))))
        erf = b.op("Add", b.op("Erf", half), b.constant(np.float32(1)))
        y = b.op("Mul", b.op("Mul", y, erf), b.constant(np.float32(0.5)))
        x = b.op("Add", x, b.dense(y, 4 * size, size))
    x = b.op("ReduceMean", norm(x), axes=[1], keepdims=0)
    return b.model(b.op("Softmax", b.dense(x, size, 1000), axis=-1))


def unet(side: int = 128, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """A small U-Net (Ronneberger et al., MICCAI 2015): skips over the whole depth."""
    b, x = _image("unet", side, seed)
    skips: list[str] = []
    for level in range(4):
        c = _scaled(32 * 2**level, width)
        x = b.conv(b.conv(x, c), c)
        if level < 3:
            skips.append(x)
            x = b.pool(x)
    for skip in reversed(skips):
        c = b.channels[skip]
        weight = b.weight(b.channels[x], c, 2, 2, fan_in=b.channels[x])
        x = b.op("ConvTranspose", x, weight, strides=[2, 2])
        b.channels[x] = c
        x = b.conv(b.conv(b.concat(x, skip), c), c)
    return b.model(b.op("Sigmoid", b.conv(x, 1, 1, norm=False, act=None)))


def detector(side: int = 320, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """A YOLO-like detector with two scales and non-maximum suppression inside the model.

    Outputs: the chosen boxes (N, 4), their scores (N,) and classes (N,); N depends on the image.
    """
    classes = 8
    b, x = _image("detector", side, seed)
    x = b.conv(x, _scaled(16, width), 3, 2, act="Silu")
    scales: list[str] = []
    for level, channels in enumerate((32, 64, 128, 256)):
        c = _scaled(channels, width)
        x = b.conv(x, c, 3, 2, act="Silu")
        y = b.conv(b.conv(x, c // 2, 1, act="Silu"), c, 3, act="Silu")
        x = b.op("Add", x, y)
        if level >= 2:
            scales.append(x)
    heads: list[str] = []
    for scale in scales:
        y = b.conv(scale, 4 + classes, 1, norm=False, act=None)
        heads.append(b.op("Reshape", y, b.constant([1, 4 + classes, -1], "int64")))
    both = b.op("Transpose", b.concat(*heads, axis=2), perm=[0, 2, 1])

    def part(y: str, begin: int, end: int, axis: int) -> str:
        ends = [b.constant([value], "int64") for value in (begin, end, axis)]
        return b.op("Slice", y, *ends)

    boxes = b.op("Mul", b.op("Sigmoid", part(both, 0, 4, 2)), b.constant(np.float32(side)))
    scores = b.op("Sigmoid", part(both, 4, 4 + classes, 2))
    best = b.op(
        "NonMaxSuppression",
        boxes,
        b.op("Transpose", scores, perm=[0, 2, 1]),
        b.constant([20], "int64"),
        b.constant(np.asarray([0.5], np.float32)),
        b.constant(np.asarray([0.6], np.float32)),
    )
    kind = b.op("Squeeze", part(best, 1, 2, 1), b.constant([1], "int64"))
    place = b.op("Squeeze", part(best, 2, 3, 1), b.constant([1], "int64"))
    flat = b.op("Squeeze", boxes, b.constant([0], "int64"))
    chosen = b.op("Gather", flat, place, axis=0)
    indices = b.concat(
        b.op("Unsqueeze", place, b.constant([1], "int64")),
        b.op("Unsqueeze", kind, b.constant([1], "int64")),
        axis=1,
    )
    values = b.op("GatherND", b.op("Squeeze", scores, b.constant([0], "int64")), indices)
    model = b.model(chosen, values, kind)
    model.graph.output[2].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return model


def pointwise(
    side: int = 128, width: float = 1.0, seed: int = 0, layers: int = 2
) -> onnx.ModelProto:
    """A chain of 1x1 convolutions of 16 channels: hardly more work than moving their tensors."""
    channels = _scaled(16, width)
    b = Builder("pointwise", seed)
    x = b.input("x", (1, channels, side, side))
    for _ in range(layers):
        x = b.conv(x, channels, 1, norm=False, act=None)
    return b.model(x)


def branching(side: int = 64, width: float = 1.0, seed: int = 0) -> onnx.ModelProto:
    """A model with an If whose branches capture tensors from around it, early and late ones."""
    b, x = _image("branching", side, seed)
    c = _scaled(16, width)
    early = b.conv(x, c, 3, 2)
    late = b.conv(b.conv(early, c), c)
    flag = b.op("Greater", b.op("ReduceMean", x, keepdims=0), b.constant(np.float32(0)))
    weight = b.weight(c, c, 1, 1, fan_in=c)

    def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, None)
        return helper.make_graph(list(nodes), name, [], [value])

    then_nodes = (
        helper.make_node("Conv", [early, weight], ["inner"], name="then_conv"),
        helper.make_node("Add", ["inner", late], ["then_out"], name="then_add"),
    )
    else_nodes = (helper.make_node("Sub", [late, early], ["else_out"], name="else_sub"),)
    y = b.op(
        "If", flag, then_branch=branch("then", *then_nodes), else_branch=branch("else", *else_nodes)
    )
    b.channels[y] = c
    return b.model(b.classifier(b.conv(y, 2 * c, 3, 2), 10))


ARCHITECTURES: Mapping[str, Callable[..., onnx.ModelProto]] = {
    build.__name__: build
    for build in (
        alexnet,
        vgg16,
        squeezenet,
        resnet18,
        resnet50,
        mobilenet_v2,
        xception,
        vit_s,
        unet,
        detector,
        pointwise,
        branching,
    )
}


def build(name: str, **options: float) -> onnx.ModelProto:
    """The named architecture. Raises UsageError that lists the names."""
    if name not in ARCHITECTURES:
        raise UsageError(
            "no such architecture",
            field="architecture",
            value=name,
            remedy=f"there are {', '.join(ARCHITECTURES)}",
        )
    return ARCHITECTURES[name](**options)
