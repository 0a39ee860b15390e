"""Submodels to a device: only what it has not, in chunks, from where the last try ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cutset.errors import RemoteProtocolError
from cutset.runtime.cache import Container
from cutset.runtime.messages import AskSubmodel, CallBody, Chunk, Held, ReplyBody

CHUNK_BYTES: Final = 2**20

Ask = Callable[[CallBody, bytes], ReplyBody]


def upload(container: Container, ask: Ask, sent: Callable[[int], None] = lambda n: None) -> int:
    """Bring a submodel to a device, which `ask` calls; returns the bytes that were sent.

    `sent` hears of each chunk's bytes. Raises RemoteProtocolError where the device does not
    confirm the whole.
    """
    digest, total = container.content_hash, container.size_bytes
    held = _held(ask(AskSubmodel(digest, total), b""))
    if held.complete:
        return 0
    count = 0
    for offset, data in container.chunks(held.bytes, CHUNK_BYTES):
        held = _held(ask(Chunk(digest, offset, total), data))
        count += len(data)
        sent(len(data))
    if not held.complete:
        raise RemoteProtocolError(
            "the device does not confirm a submodel", field="digest", value=digest[:16]
        )
    return count


def _held(answer: ReplyBody) -> Held:
    if not isinstance(answer, Held):
        raise RemoteProtocolError("Held is expected", value=type(answer).__name__)
    return answer
