"""Large weights that several submodels have: kept once they are on a device, and not sent again.

A piece is a range of a submodel's container, known by the SHA-256 of its bytes. Cuts of one model
differ in where they are cut and share most of their weights.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from cutset.runtime.messages import Piece

#: Smaller weights are sent: to say what they are and to look for them would be no gain.
LEAST_PIECE_BYTES: Final = 2**16
_MOST_KNOWN: Final = 2**16
_BLOCK_BYTES: Final = 2**20


class Pieces:
    """Where the pieces of complete submodels are. Not thread-safe: the caller holds a lock.

    What stands here is a peer's word: whatever is copied is verified.
    """

    def __init__(self) -> None:
        self._where: OrderedDict[bytes, tuple[Path, int, int]] = OrderedDict()

    def add(self, path: Path, pieces: Iterable[Piece]) -> None:
        """The container at `path` is complete, and said to have these."""
        for piece in pieces:
            self._where[piece.sha256] = (path, piece.offset, piece.size_bytes)
            self._where.move_to_end(piece.sha256)
        while len(self._where) > _MOST_KNOWN:
            self._where.popitem(last=False)

    def fill(self, partial: Path, here: int, total_bytes: int, pieces: Sequence[Piece]) -> int:
        """Append the pieces that follow the first `here` bytes of a partial container and are
        known; how many bytes there are then. Raises OSError where it cannot be written."""
        begins = {p.offset: p for p in pieces if 0 < p.size_bytes <= total_bytes - p.offset}
        while (piece := begins.get(here)) is not None and self._copy(piece, partial, here):
            here += piece.size_bytes
        return here

    def _copy(self, piece: Piece, partial: Path, here: int) -> bool:
        found = self._where.get(piece.sha256)
        if found is None or found[2] != piece.size_bytes:
            return False
        path, offset, _ = found
        with contextlib.ExitStack() as open_files:
            try:
                source = open_files.enter_context(path.open("rb"))
                source.seek(offset)
            except OSError:  # it was evicted
                del self._where[piece.sha256]
                return False
            target = open_files.enter_context(partial.open("r+b"))
            target.seek(here)
            if _copied(source, target, piece.size_bytes) == piece.sha256:
                return True
            del self._where[piece.sha256]
            target.truncate(here)
        return False


def _copied(source: BinaryIO, target: BinaryIO, count: int) -> bytes:
    """The SHA-256 of what was copied: `count` bytes, or as many as there are."""
    digest = hashlib.sha256()
    while count and (block := source.read(min(count, _BLOCK_BYTES))):
        digest.update(block)
        target.write(block)
        count -= len(block)
    return digest.digest()
