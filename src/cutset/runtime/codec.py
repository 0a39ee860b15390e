"""Messages and tensors <-> bytes. A tensor travels as a typed header and its raw bytes.

Nothing is ever unpickled: headers are msgspec structs, dtypes are on a list, and a payload must
have exactly the size that its header states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from cutset.errors import LocalProtocolError, RemoteProtocolError
from cutset.ports import Array
from cutset.runtime.message_parts import (
    MAX_HEADER_BYTES,
    MAX_TENSOR_BYTES,
    Payload,
    Rank,
    TensorSpec,
)
from cutset.runtime.messages import Message

DTYPES: Final = frozenset(
    {"bool", "complex64", "complex128", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
# Looked up for every tensor that travels: numpy's own way to a dtype's name is many times slower.
_ON_THE_WIRE: Final = {name: np.dtype(name).newbyteorder("<") for name in DTYPES}
_NAMES: Final = {
    kind: name for name in DTYPES for kind in (np.dtype(name), np.dtype(name).newbyteorder(">"))
}

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    name: str
    dtype: str
    shape: Rank


_packed_decoder = msgspec.msgpack.Decoder(list[_Packed])


def encode(message: Message) -> bytes:
    """A message's header bytes. Raises LocalProtocolError where it is too long to travel."""
    data = _encoder.encode(message)
    if len(data) > MAX_HEADER_BYTES:
        raise LocalProtocolError(
            "the message is too long", value=f"{len(data)} of at most {MAX_HEADER_BYTES} bytes"
        )
    return data


def decode(data: bytes) -> Message:
    """The message of header bytes. Raises RemoteProtocolError on anything but a whole message."""
    if len(data) > MAX_HEADER_BYTES:
        raise RemoteProtocolError(
            "a header is too long", value=f"{len(data)} of at most {MAX_HEADER_BYTES} bytes"
        )
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(
            f"a header cannot be read: {error}", remedy="run one version of cutset everywhere"
        ) from None


def tensor_view(array: Array) -> Payload:
    """The raw bytes of a tensor, little-endian and rows first: a view of it.

    Copied are only tensors that lie otherwise in memory. Raises LocalProtocolError where the dtype
    cannot travel (strings, objects).
    """
    kind = _ON_THE_WIRE[dtype_name(array)]
    array = np.ascontiguousarray(array, kind)
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def dtype_name(array: Array) -> str:
    """The dtype's name as it travels. Raises LocalProtocolError where it cannot travel."""
    name = _NAMES.get(array.dtype)
    if name is None:
        raise LocalProtocolError(
            "a tensor of this dtype cannot be sent to another device",
            field="dtype",
            value=array.dtype.name,
            remedy=f"cut elsewhere; these can travel: {', '.join(sorted(DTYPES))}",
        )
    return name


def payload_bytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """The size of a tensor's payload; None for a dtype that does not travel."""
    kind = _ON_THE_WIRE.get(dtype)
    return None if kind is None else kind.itemsize * math.prod(shape)


def decode_tensor(
    name: str, dtype: str, shape: tuple[int, ...], payload: Payload, expected: TensorSpec | None
) -> Array:
    """The tensor of a header and a payload: a read-only view of the payload.

    Raises RemoteProtocolError where dtype or shape differ from what is expected, or the payload
    has not exactly the size that they state.
    """
    kind = _ON_THE_WIRE.get(dtype)
    if kind is None:
        raise RemoteProtocolError(
            "a tensor has a dtype that does not travel", field=name, value=dtype
        )
    if expected is not None:
        if expected.dtype is not None and dtype != expected.dtype:
            raise RemoteProtocolError(
                f"a tensor of dtype {expected.dtype} is expected", field=name, value=dtype
            )
        if expected.shape is not None and shape != expected.shape:
            raise RemoteProtocolError(
                f"a tensor of shape {list(expected.shape)} is expected",
                field=name,
                value=list(shape),
            )
    size = kind.itemsize * math.prod(shape)
    if size > MAX_TENSOR_BYTES or len(payload) != size:
        raise RemoteProtocolError(
            f"a payload of {size} bytes is expected for {dtype} {list(shape)}",
            field=name,
            value=f"{len(payload)} bytes",
        )
    try:
        return np.ndarray(shape, kind, payload)
    except ValueError as error:  # without elements, but of dimensions beyond what arrays can have
        raise RemoteProtocolError(str(error), field=name, value=list(shape)) from None


def pack_tensors(tensors: Mapping[str, Array]) -> bytes:
    """Several tensors in one payload: a length, their headers, their raw bytes."""
    header = _encoder.encode(
        [_Packed(name, dtype_name(a), tuple(a.shape)) for name, a in tensors.items()]
    )
    return b"".join(
        (len(header).to_bytes(4, "little"), header, *(tensor_view(a) for a in tensors.values()))
    )


def unpack_tensors(payload: Payload) -> dict[str, Array]:
    """The tensors of `pack_tensors`. Raises RemoteProtocolError on anything else."""
    size = int.from_bytes(payload[:4], "little")
    if len(payload) < 4 + size or size > MAX_HEADER_BYTES:
        raise RemoteProtocolError("packed tensors are cut short", value=f"{len(payload)} bytes")
    try:
        packed = _packed_decoder.decode(payload[4 : 4 + size])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"packed tensors cannot be read: {error}") from None
    position = 4 + size
    found: dict[str, Array] = {}
    for item in packed:
        if item.dtype not in DTYPES:
            raise RemoteProtocolError(
                "a tensor has a dtype that does not travel", field=item.name, value=item.dtype
            )
        length = np.dtype(item.dtype).itemsize * math.prod(item.shape)
        found[item.name] = decode_tensor(
            item.name, item.dtype, item.shape, payload[position : position + length], None
        )
        position += length
    if position != len(payload):
        raise RemoteProtocolError("packed tensors are too long", value=f"{len(payload)} bytes")
    return found
