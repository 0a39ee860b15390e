"""Of what the messages between devices are made: bounds, types of fields, what several describe."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

PROTOCOL_VERSION: Final = 6
MAX_HEADER_BYTES: Final = 4 * 2**20  # a load message names every tensor of a plan
MAX_CHUNK_BYTES: Final = 4 * 2**20
MAX_TENSOR_BYTES: Final = 2**31
MAX_ADDRESS_LENGTH: Final = 256
MAX_WINDOW: Final = 1024
MOST_PIECES: Final = 512

Payload = bytes | memoryview
"""A message's raw bytes: immutable, or a view (of single bytes) of a buffer."""

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Address = Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS_LENGTH)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Rank = Annotated[tuple[Count, ...], msgspec.Meta(max_length=32)]


class Wired(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of what travels: encoded as an array that begins with the class's name."""


class TensorSpec(Wired, frozen=True):
    """A tensor's dtype (numpy's name) and shape; None where the model leaves it open."""

    dtype: Text | None
    shape: Rank | None


class Place(Wired, frozen=True):
    """`host` "" is the host by which the device's control endpoint is known."""

    host: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class DataEndpoint(Wired, frozen=True, tag=True):
    """Where a device takes connections for data, best first, and the token that opens them.

    Without places nobody can connect to it; it may connect to others.
    """

    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=16)]
    token: Annotated[bytes, msgspec.Meta(max_length=64)]


class Peer(Wired, frozen=True):
    """Another device of a plan, with which data is exchanged."""

    address: Address
    endpoint: DataEndpoint


class LinkSpec(Wired, frozen=True):
    """A link from this device. `emulated` links are held to the numbers in process."""

    target: Address
    name: Text
    bandwidth_bps: float | None
    latency_s: float
    emulated: bool


class EngineSpec(Wired, frozen=True):
    provider: Text
    threads: int | None
    options: dict[str, str]
    cpu_share: float | None
