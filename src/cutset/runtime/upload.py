"""Submodels to a device: only what it has not, in chunks, from where the last try ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cutset.errors import RemoteProtocolError
from cutset.runtime.cache import Container
from cutset.runtime.messages import AskSubmodel, CallBody, Chunk, Held, ReplyBody

CHUNK_BYTES: Final = 2**20

Ask = Callable[[CallBody, bytes], ReplyBody]


def upload(
    container: Container, ask: Ask, told: Callable[[int, int], None] = lambda sent, here: None
) -> int:
    """Bring a submodel to a device, which `ask` calls; returns the bytes that were sent.

    `told` hears after each answer how many bytes were just sent, and how many are there now: a
    device adds weights itself that it has of another submodel. Raises RemoteProtocolError where
    the device does not confirm the whole.
    """
    digest, total = container.content_hash, container.size_bytes
    held = _held(ask(AskSubmodel(digest, total, container.pieces), b""))
    told(0, total if held.complete else held.bytes)
    count = 0
    while not held.complete:
        offset = held.bytes
        data = container.at(offset, CHUNK_BYTES)
        held = _held(ask(Chunk(digest, offset, total), data)) if data else held
        if not held.complete and held.bytes <= offset:
            raise RemoteProtocolError(
                "the device does not confirm a submodel", field="digest", value=digest[:16]
            )
        count += len(data)
        told(len(data), total if held.complete else held.bytes)
    return count


def _held(answer: ReplyBody) -> Held:
    if not isinstance(answer, Held):
        raise RemoteProtocolError("Held is expected", value=type(answer).__name__)
    return answer
