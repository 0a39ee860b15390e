"""Fixes the shapes of a model's inputs and learns the shapes of all its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cutset.errors import InvalidModelError

#: What can be sent: dtypes that NumPy and every engine exchange as raw bytes.
SENDABLE = frozenset(
    (
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    )
)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, NumPy dtype name and shape; None in a shape is known only in a run."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def size_bytes(self) -> int:
        """Unknown sizes count as 1, so that this is a lower bound where there are any."""
        count = math.prod(1 if dim is None else dim for dim in self.shape)
        return count * (np.dtype(self.dtype).itemsize if self.dtype in SENDABLE else 1)

    @property
    def sized(self) -> bool:
        """Whether its bytes are known before a run, so that it can be sent."""
        return self.dtype in SENDABLE and None not in self.shape


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec | None:
    """None for a value that is no tensor, or whose element type or rank is unknown."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type or not kind.HasField("shape"):
        return None
    return TensorSpec(value.name, dtype_name(kind.elem_type), _dims(kind.shape))


def dtype_name(elem_type: int) -> str:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).name


def _dims(shape: onnx.TensorShapeProto) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in shape.dim)


def known_specs(graph: onnx.GraphProto) -> dict[str, TensorSpec]:
    """Every tensor of the graph whose dtype and rank are known."""
    found: dict[str, TensorSpec] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        spec = spec_of(value)
        if spec is not None:
            found[value.name] = spec
    return found


def fix_inputs(
    graph: onnx.GraphProto, input_shapes: Mapping[str, Sequence[int]], file: str
) -> None:
    """Give every input a static shape, in place; initializers that stand among the inputs go.

    A symbolic dimension that is given for one input holds for all that share its name.
    Raises InvalidModelError for a dimension without a value, a wrong rank or an unknown input.
    """
    stored = {tensor.name for tensor in graph.initializer}
    for i in reversed([i for i, value in enumerate(graph.input) if value.name in stored]):
        del graph.input[i]
    inputs = {value.name: value for value in graph.input}
    for name in input_shapes:
        if name not in inputs:
            raise InvalidModelError(
                "the model has no such input",
                file=file,
                field="--input-shape",
                value=name,
                remedy=f"inputs are {', '.join(inputs) or 'none'}",
            )
    symbols: dict[str, int] = {}
    for name, dims in input_shapes.items():
        _fix(inputs[name], tuple(dims), symbols, file)
    for value in inputs.values():
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise InvalidModelError(
                "only tensors can be inputs",
                file=file,
                field=f"inputs.{value.name}",
                value=value.type.WhichOneof("value"),
                remedy="export the model without sequence, map or optional inputs",
            )
        shown = _shown(kind)
        for i, dim in enumerate(kind.shape.dim):
            if dim.dim_param in symbols and not dim.HasField("dim_value"):
                dim.dim_value = symbols[dim.dim_param]
            if not dim.HasField("dim_value") or dim.dim_value <= 0:
                raise InvalidModelError(
                    f"dimension {i} of the input is dynamic and has no value",
                    file=file,
                    field=f"inputs.{value.name}",
                    value=shown,
                    remedy=f"state it: --input-shape {value.name}=DIMS, such as"
                    f" {value.name}={_example(kind)}",
                )
        if not kind.HasField("shape"):
            raise InvalidModelError(
                "the input has no shape",
                file=file,
                field=f"inputs.{value.name}",
                remedy=f"state it: --input-shape {value.name}=DIMS, such as {value.name}=1,64",
            )


def _fix(
    value: onnx.ValueInfoProto, dims: tuple[int, ...], symbols: dict[str, int], file: str
) -> None:
    kind = value.type.tensor_type
    known = kind.HasField("shape")
    text = "x".join(map(str, dims))

    def refuse(what: str) -> InvalidModelError:
        return InvalidModelError(
            what,
            file=file,
            field=f"--input-shape {value.name}",
            value=text,
            remedy=f"the model's input is {value.name}={_shown(kind)}",
        )

    if known and len(kind.shape.dim) != len(dims):
        raise refuse(f"{len(dims)} dimensions are given where the input has {len(kind.shape.dim)}")
    if any(dim < 1 for dim in dims):
        raise refuse("a dimension must be at least 1")
    if not known:
        for _ in dims:
            kind.shape.dim.add()
    for i, (dim, size) in enumerate(zip(kind.shape.dim, dims, strict=True)):
        if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != size:
            raise refuse(f"dimension {i} is {dim.dim_value} in the model")
        # "?" and "" are how exporters write "unknown": no symbol that others share.
        symbol = dim.dim_param if dim.dim_param.replace(".", "").isidentifier() else ""
        if symbol and symbols.setdefault(symbol, size) != size:
            raise refuse(f"dimension {i} ({symbol}) is {symbols[symbol]} elsewhere")
        dim.dim_value = size


def _shown(kind: onnx.TypeProto.Tensor) -> str:
    dims = kind.shape.dim
    return "x".join(
        str(d.dim_value) if d.HasField("dim_value") else (d.dim_param or "?") for d in dims
    )


def _example(kind: onnx.TypeProto.Tensor) -> str:
    """Dimensions that a reader may adapt: 1 for the batch, 64 elsewhere."""
    return ",".join(
        str(d.dim_value) if d.dim_value > 0 else ("1" if i == 0 else "64")
        for i, d in enumerate(kind.shape.dim)
    )
