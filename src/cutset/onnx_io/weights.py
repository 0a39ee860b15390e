"""Weights kept apart from the graph, so that passes over it neither copy nor serialise them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import external_data_helper, numpy_helper

from cutset.engine import Submodel

#: Tensors up to this size stay in the graph: shapes, axes and scalars that inference must see.
SMALL_BYTES = 4096
#: A model whose weights are larger travels with external data (protobuf ends at 2 GiB).
INLINE_LIMIT_BYTES = 2**30
#: A weight is looked for in a serialised model by so many of its bytes.
_SEARCHED_BYTES = 256


@dataclass(frozen=True)
class Weight:
    """A tensor and where its bytes are: in `tensor`, or in a file."""

    tensor: onnx.TensorProto
    size_bytes: int
    file: Path | None = None
    offset: int = 0

    def read(self) -> bytes:
        if self.file is None:
            if self.tensor.HasField("raw_data"):
                return self.tensor.raw_data
            return numpy_helper.to_array(self.tensor).tobytes()
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size_bytes)

    def inline(self) -> onnx.TensorProto:
        """A TensorProto that holds its bytes."""
        if self.file is None:
            return self.tensor
        tensor = onnx.TensorProto()
        tensor.CopyFrom(self.tensor)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = self.read()
        return tensor


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """The size of a tensor's elements, from its shape; 4-bit types take half a byte."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return (count + 1) // 2
    return int(count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def detach(graph: onnx.GraphProto, folder: Path) -> dict[str, Weight]:
    """Replace every large initializer by a stub without bytes; return the originals by name."""
    weights: dict[str, Weight] = {}
    for tensor in graph.initializer:
        size = tensor_bytes(tensor)
        external = external_data_helper.uses_external_data(tensor)
        if tensor.data_type == onnx.TensorProto.STRING or (size <= SMALL_BYTES and not external):
            continue
        original = onnx.TensorProto()
        original.CopyFrom(tensor)
        if external:
            info = external_data_helper.ExternalDataInfo(tensor)
            weight = Weight(original, size, folder / info.location, info.offset or 0)
        else:
            weight = Weight(original, size)
        if size <= SMALL_BYTES:
            tensor.CopyFrom(weight.inline())
            continue
        weights[tensor.name] = weight
        stub = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        stub.data_location = onnx.TensorProto.EXTERNAL
        stub.external_data.add(key="location", value="detached")
        tensor.CopyFrom(stub)
    return weights


def pack(
    name: str,
    skeleton: onnx.ModelProto,
    weights: Iterable[Weight],
    inline_limit_bytes: int = INLINE_LIMIT_BYTES,
) -> Submodel:
    """A submodel from a model without large initializers, and those initializers.

    Up to `inline_limit_bytes` they go inside; above it each becomes a file named by its content,
    so that submodels which share a weight share the file. `skeleton` is modified.
    """
    needed = list(weights)
    files: dict[str, bytes] = {}
    inside = sum(weight.size_bytes for weight in needed) <= inline_limit_bytes
    for weight in needed:
        if inside:
            skeleton.graph.initializer.append(weight.inline())
            continue
        data = weight.read()
        file = f"{hashlib.sha256(data).hexdigest()[:32]}.bin"
        files[file] = data
        stub = skeleton.graph.initializer.add(
            name=weight.tensor.name, data_type=weight.tensor.data_type, dims=weight.tensor.dims
        )
        stub.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", "0"), ("length", str(len(data)))):
            stub.external_data.add(key=key, value=value)
    model = skeleton.SerializeToString(deterministic=True)
    # The files are named by their content, so their names stand for their bytes.
    digest = hashlib.sha256(model)
    for file in sorted(files):
        digest.update(file.encode())
    return Submodel(
        name,
        tuple(value.name for value in skeleton.graph.input),
        tuple(value.name for value in skeleton.graph.output),
        model,
        files,
        digest.hexdigest(),
        _places(model, needed) if inside else (),
    )


def _places(model: bytes, weights: Iterable[Weight]) -> tuple[tuple[int, int], ...]:
    """(offset, size) of the raw bytes of large weights in a serialised model, which has them in
    the order that they were added in."""
    found: list[tuple[int, int]] = []
    start = 0
    for weight in weights:
        data = weight.read()
        offset = model.find(data[:_SEARCHED_BYTES], start)
        while offset >= 0 and model[offset : offset + len(data)] != data:
            offset = model.find(data[:_SEARCHED_BYTES], offset + 1)
        if offset >= 0:  # else it is not stored as raw bytes
            found.append((offset, len(data)))
            start = offset + len(data)
    return tuple(found)
