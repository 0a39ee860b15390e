"""Puts preprocessing into a model, so that the raw uint8 image can be its input.

A specification is a comma-separated list of steps, applied to the image in the order

    uint8 | float32          the input's dtype
    hwc | chw | nhwc | nchw  its layout; without n, the batch of 1 is added
    size=HxW                 the raw image's size; default: what the model takes
    resize=HxW               bilinear, half-pixel centres
    swap                     first and last channel change places (BGR <-> RGB)
    scale=1/255              multiply
    mean=0.485;0.456;0.406   subtract, by channel
    std=0.229;0.224;0.225    divide, by channel

for example ``uint8,hwc,scale=1/255,mean=0.485;0.456;0.406,std=0.229;0.224;0.225``. Whatever order
they are written in, they are applied in the one above, in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cutset.errors import InvalidModelError, UsageError
from cutset.onnx_io.prepare import all_nodes, standardise
from cutset.onnx_io.reading import read_proto
from cutset.onnx_io.shapes import spec_of

_LAYOUTS = ("hwc", "chw", "nhwc", "nchw")
_OPSET = 13


@dataclass(frozen=True)
class Preprocessing:
    """The steps between a raw image and a model's input; sizes in pixels."""

    dtype: str = "uint8"
    layout: str = "hwc"
    size: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    swap: bool = False
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def parse_preprocessing(text: str) -> Preprocessing:
    """Raises UsageError that names the step which cannot be meant."""
    found: dict[str, object] = {}

    def refuse(step: str, message: str) -> UsageError:
        return UsageError(
            message,
            field="--pre",
            value=step,
            remedy="write such as uint8,hwc,resize=224x224,swap,scale=1/255,"
            "mean=0.485;0.456;0.406,std=0.229;0.224;0.225",
        )

    for step in (part.strip() for part in text.split(",")):
        key, equals, value = step.partition("=")
        name = {"uint8": "dtype", "float32": "dtype"}.get(key, key)
        name = "layout" if key in _LAYOUTS else name
        if name in found:
            raise refuse(step, "the step is given twice")
        try:
            if name in ("dtype", "layout") and not equals:
                found[name] = key
            elif key == "swap" and not equals:
                found[key] = True
            elif key in ("size", "resize"):
                height, width = (int(part) for part in value.split("x"))
                if height < 1 or width < 1:
                    raise ValueError
                found[key] = (height, width)
            elif key == "scale":
                found[key] = _number(value)
            elif key in ("mean", "std"):
                numbers = tuple(_number(part) for part in value.split(";"))
                if key == "std" and 0.0 in numbers:
                    raise ValueError
                found[key] = numbers
            else:
                raise refuse(step, "no such preprocessing step")
        except (ValueError, ZeroDivisionError):
            raise refuse(step, "the step's value cannot be read") from None
    return Preprocessing(**found)  # type: ignore[arg-type]


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    number = float(above) / float(below) if slash else float(above)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def attach_preprocessing(path: str | Path, spec: str) -> bytes:
    """The model with the specified steps before its only image input, as a serialised ModelProto.

    The new input is named as the old one was. Raises UsageError for a specification that does not
    fit, InvalidModelError for a model without exactly one image (4-dimensional) input.
    """
    steps = parse_preprocessing(spec)
    proto = read_proto(path)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        proto = onnx.load(str(path))
    proto = standardise(proto, str(path))
    stored = {t.name for t in proto.graph.initializer}
    images = [
        value
        for value in proto.graph.input
        if value.name not in stored and len(value.type.tensor_type.shape.dim) == 4
    ]
    if len(images) != 1:
        raise InvalidModelError(
            "preprocessing needs exactly one image input (4 dimensions, NCHW)",
            file=str(path),
            field="inputs",
            value=", ".join(value.name for value in images) or "none",
            remedy="give a model that takes one image",
        )
    _prepend(proto, images[0], steps)
    return bytes(proto.SerializeToString())


def _prepend(model: onnx.ModelProto, image: onnx.ValueInfoProto, steps: Preprocessing) -> None:
    spec = spec_of(image)
    assert spec is not None
    channels, height, width = spec.shape[1:]
    channels = channels if channels and channels > 0 else 3
    size = steps.size or (height if height else -1, width if width else -1)
    for key in ("mean", "std"):
        if len(getattr(steps, key)) not in (0, 1, channels):
            raise UsageError(
                f"the model's image has {channels} channels",
                field="--pre",
                value=f"{key}={';'.join(map(str, getattr(steps, key)))}",
                remedy="give one number, or one for each channel",
            )
    if steps.resize and (height, width) != steps.resize and height and height > 0:
        raise UsageError(
            f"the model takes images of {height}x{width}",
            field="--pre",
            value=f"resize={steps.resize[0]}x{steps.resize[1]}",
            remedy=f"write resize={height}x{width}",
        )
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    current = image.name

    def constant(value: np.ndarray, name: str) -> str:
        tensors.append(numpy_helper.from_array(value, f"preprocessing/{name}"))
        return f"preprocessing/{name}"

    def step(op_type: str, *inputs: str, **attributes: Any) -> None:
        nonlocal current
        output = f"preprocessing/{op_type.lower()}_{len(nodes)}"
        nodes.append(
            helper.make_node(op_type, [current, *inputs], [output], name=output, **attributes)
        )
        current = output

    dims: list[int | str] = [
        "H" if size[0] < 1 else size[0],
        "W" if size[1] < 1 else size[1],
    ]
    dims = [*dims, channels] if "hwc" in steps.layout else [channels, *dims]
    if steps.layout.startswith("n"):
        dims = [1, *dims]
    if steps.layout in ("hwc", "nhwc"):
        step("Transpose", perm=[2, 0, 1] if steps.layout == "hwc" else [0, 3, 1, 2])
    if not steps.layout.startswith("n"):
        step("Unsqueeze", constant(np.asarray([0], np.int64), "batch"))
    if steps.swap:
        order = constant(np.arange(channels - 1, -1, -1, dtype=np.int64), "order")
        step("Gather", order, axis=1)
    step("Cast", to=onnx.TensorProto.FLOAT)
    if steps.resize:
        sizes = constant(np.asarray([1, channels, *steps.resize], np.int64), "sizes")
        step("Resize", "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    if steps.scale != 1.0:
        step("Mul", constant(np.asarray(steps.scale, np.float32), "scale"))
    for key, op_type in (("mean", "Sub"), ("std", "Div")):
        if values := getattr(steps, key):
            shaped = np.asarray(values, np.float32).reshape(1, -1, 1, 1)
            step(op_type, constant(shaped, key))
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if version < _OPSET:
        raise InvalidModelError(
            "preprocessing needs operator set 13 or later",
            field="opset_import",
            value=version,
            remedy="export the model with a newer operator set",
        )
    if image.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        step("Cast", to=image.type.tensor_type.elem_type)
    for node in all_nodes(model.graph):
        for i, tensor in enumerate(node.input):
            if tensor == image.name:
                node.input[i] = current
    nodes += [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    elem = onnx.TensorProto.UINT8 if steps.dtype == "uint8" else onnx.TensorProto.FLOAT
    image.CopyFrom(helper.make_tensor_value_info(image.name, elem, dims))
