"""Reads an ONNX file without its weights, and says clearly what is wrong with a bad one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper

from cutset.errors import InvalidModelError

_CHUNK_BYTES = 4 * 2**20


def read_proto(path: str | Path) -> onnx.ModelProto:
    """The model; external data of the main graph stays in its files, that of bodies is loaded.

    Raises InvalidModelError where the file is missing, unreadable, not ONNX, truncated or of a
    version that the installed onnx does not know.
    """
    file = str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidModelError(
            f"cannot be read: {error.strerror or error}", file=file, remedy="check the path"
        ) from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise InvalidModelError(
            "not an ONNX model, or a truncated one",
            file=file,
            value=f"{len(data)} bytes",
            remedy="export the model again, or copy the whole file",
        ) from None
    if not proto.graph.output or not proto.opset_import:
        raise InvalidModelError(
            "not an ONNX model: it has no graph or no operator set",
            file=file,
            value=f"{len(data)} bytes",
            remedy="give a file that an ONNX exporter wrote",
        )
    _check_versions(proto, file)
    _check_external(proto, Path(path))
    for tensor in _body_tensors(proto.graph):
        if external_data_helper.uses_external_data(tensor):
            external_data_helper.load_external_data_for_tensor(tensor, str(Path(path).parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    return proto


def file_digest(proto: onnx.ModelProto, path: str | Path) -> hashlib._Hash:
    """SHA-256 of the model file and of its external data files, by name; open for more."""
    digest = hashlib.sha256()
    locations = sorted({entry.value for t in _external(proto) for entry in _location(t)})
    for file in (Path(path), *(Path(path).parent / location for location in locations)):
        digest.update(f"{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest


def engine_message(error: Exception) -> str:
    """The first line of a library's error, without its prefixes and its machine's paths."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text.strip())
    text = re.sub(r"(?:/[\w.+-]+){2,}:\d+ [^:]*:*[^:]*?(?=[A-Z])", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    return text if len(text) <= 300 else text[:299] + "…"


def _check_versions(proto: onnx.ModelProto, file: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= newest:
            raise InvalidModelError(
                "unsupported operator set",
                file=file,
                field="opset_import",
                value=entry.version,
                remedy=f"export the model with an operator set from 7 to {newest}",
            )
    if proto.ir_version > onnx.IR_VERSION:
        raise InvalidModelError(
            "unsupported IR version",
            file=file,
            field="ir_version",
            value=proto.ir_version,
            remedy=f"export the model with an IR version up to {onnx.IR_VERSION}",
        )


def _location(tensor: onnx.TensorProto) -> list[onnx.StringStringEntryProto]:
    return [entry for entry in tensor.external_data if entry.key == "location"]


def _external(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for tensor in (*proto.graph.initializer, *_body_tensors(proto.graph)):
        if external_data_helper.uses_external_data(tensor):
            yield tensor


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    for tensor in _external(proto):
        info = external_data_helper.ExternalDataInfo(tensor)
        location = PurePosixPath(info.location)
        if location.is_absolute() or ".." in location.parts:
            raise InvalidModelError(
                f"external data of {tensor.name!r} lies outside the model's folder",
                file=str(path),
                field="external_data.location",
                value=info.location,
                remedy="save the model with its weights beside it",
            )
        weights = path.parent / info.location
        needed = (info.offset or 0) + (info.length or 0)
        size = weights.stat().st_size if weights.is_file() else -1
        if size < needed:
            raise InvalidModelError(
                "the external data file is missing"
                if size < 0
                else f"the external data file is truncated: {size} of {needed} bytes",
                file=str(path),
                field="external_data.location",
                value=info.location,
                remedy="copy the weights file beside the model",
            )


def _body_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Tensors in attributes of any depth (Constant nodes, bodies), not the graph's initializers."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for body in (attribute.g, *attribute.graphs):
                yield from body.initializer
                yield from _body_tensors(body)
