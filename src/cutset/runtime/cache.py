"""Submodels on a device, by content hash: sent once, whole or not there at all.

A submodel travels as one container: a length, a table of (file, size), and the files' bytes. Its
content hash is the SHA-256 of the container, so that a device can verify what it got. Incomplete
ones are kept and continued. The folder is held under a cap; the longest unused go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from cutset.engine import Submodel
from cutset.errors import RemoteProtocolError, RuntimeFault
from cutset.runtime.message_parts import MOST_PIECES, Payload
from cutset.runtime.messages import Piece
from cutset.runtime.pieces import LEAST_PIECE_BYTES, Pieces

DEFAULT_CAP_BYTES: Final = 8 * 2**30
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_MAX_TABLE_BYTES: Final = 2**20
_MOST_EXPECTED: Final = 256


class _Table(msgspec.Struct, array_like=True, frozen=True):
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    digest: str
    model_bytes: int
    weights: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Container:
    """A submodel as it travels: parts that are read without being joined (weights may be GBs).

    `shared` are (offset, size) of what other submodels may have too, in order."""

    parts: tuple[bytes, ...]
    shared: tuple[tuple[int, int], ...] = ()

    @cached_property
    def size_bytes(self) -> int:
        return sum(len(part) for part in self.parts)

    @cached_property
    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.hexdigest()

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The largest of what is shared, in order."""
        large = (piece for piece in self.shared if piece[1] >= LEAST_PIECE_BYTES)
        largest = sorted(large, key=lambda piece: -piece[1])[:MOST_PIECES]
        return tuple(Piece(o, n, self._sha256(o, n)) for o, n in sorted(largest))

    def at(self, offset: int, most: int) -> bytes:
        """At most so many bytes from `offset` on, none of them beyond where a piece begins: the
        device may have that. Empty at the end."""
        begins = [piece.offset for piece in self.pieces]
        index = bisect_right(begins, offset)
        if index < len(begins):
            most = min(most, begins[index] - offset)
        return self._read(offset, most)

    def _read(self, offset: int, most: int) -> bytes:
        start = 0
        for part in self.parts:
            if part and offset < start + len(part):
                return part[offset - start : offset - start + most]
            start += len(part)
        return b""

    def _sha256(self, offset: int, count: int) -> bytes:
        digest = hashlib.sha256()
        while count:
            data = self._read(offset, min(count, 2**20))
            digest.update(data)
            offset, count = offset + len(data), count - len(data)
        return digest.digest()


def pack(submodel: Submodel) -> Container:
    """A submodel as a container."""
    table = msgspec.msgpack.encode(
        _Table(
            submodel.name,
            tuple(submodel.inputs),
            tuple(submodel.outputs),
            submodel.digest,
            len(submodel.model),
            tuple((file, len(data)) for file, data in sorted(submodel.weights.items())),
        )
    )
    weights = [data for _, data in sorted(submodel.weights.items())]
    start = 4 + len(table)
    shared = [(start + offset, size) for offset, size in submodel.shared]
    start += len(submodel.model)
    for data in weights:
        shared.append((start, len(data)))
        start += len(data)
    parts = (len(table).to_bytes(4, "little"), table, submodel.model, *weights)
    return Container(parts, tuple(shared))


def unpack(data: bytes) -> Submodel:
    """The submodel of a container. Raises RemoteProtocolError where it is malformed."""
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 + size or size > _MAX_TABLE_BYTES:
        raise RemoteProtocolError("a submodel is cut short", value=f"{len(data)} bytes")
    try:
        table = msgspec.msgpack.decode(data[4 : 4 + size], type=_Table)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"a submodel's table cannot be read: {error}") from None
    sizes = (table.model_bytes, *(n for _, n in table.weights))
    if min(sizes) < 0 or 4 + size + sum(sizes) != len(data):
        raise RemoteProtocolError("a submodel has not the size of its table")
    for file, _ in table.weights:
        if not file or file in {".", ".."} or "/" in file or "\\" in file or "\0" in file:
            raise RemoteProtocolError("a weight file's name is no plain name", value=file)
    position = 4 + size
    pieces: list[bytes] = []
    for n in sizes:
        pieces.append(data[position : position + n])
        position += n
    return Submodel(
        name=table.name,
        inputs=table.inputs,
        outputs=table.outputs,
        model=pieces[0],
        weights={file: piece for (file, _), piece in zip(table.weights, pieces[1:], strict=True)},
        digest=table.digest,
    )


def default_folder() -> Path:
    """cutset's folder under the user's XDG cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "cutset" / "submodels"


class SubmodelCache:
    """The folder of submodels. Several processes may share it: files appear by atomic renames.

    Raises RuntimeFault where the folder cannot be written.
    """

    def __init__(self, folder: Path | str | None = None, cap_bytes: int = DEFAULT_CAP_BYTES):
        self.folder = Path(folder) if folder is not None else default_folder()
        self.cap_bytes = cap_bytes
        self._lock = threading.Lock()
        # Chunks go to a file of this process, so that two workers with one folder never mix.
        self._partial: dict[str, Path] = {}
        self._pieces = Pieces()
        self._expected: dict[str, tuple[Piece, ...]] = {}  # of submodels that are under way

    def held(self, digest: str, total_bytes: int, pieces: Sequence[Piece] = ()) -> tuple[int, bool]:
        """(bytes here, complete). A partial file that an earlier process left is taken over.

        `pieces` are what of it other submodels may have. Raises RuntimeFault as `add` does.
        """
        path = self._path(digest)
        with self._lock, self._storing():
            if path.exists():
                with contextlib.suppress(OSError):
                    os.utime(path)
                self._pieces.add(path, pieces)
                return total_bytes, True
            self._expected[digest] = tuple(pieces)
            while len(self._expected) > _MOST_EXPECTED:
                del self._expected[next(iter(self._expected))]
            partial = self._partial.get(digest) or self._adopt(digest)
            here = partial.stat().st_size if partial is not None else 0
            if partial is None or total_bytes > self.cap_bytes:
                return here, False
            return self._continued(digest, partial, here, total_bytes)

    def add(self, digest: str, offset: int, total_bytes: int, data: Payload) -> tuple[int, bool]:
        """Append a chunk at `offset`; one that is here already is ignored.

        Raises RemoteProtocolError on a gap, too many bytes, or a wrong hash at the end (what was
        received is then forgotten).
        """
        path = self._path(digest)
        if offset + len(data) > total_bytes or total_bytes > self.cap_bytes:
            raise RemoteProtocolError(
                "a chunk does not fit its submodel", value=f"{offset + len(data)} bytes"
            )
        with self._lock, self._storing():
            if path.exists():
                return total_bytes, True
            partial = self._partial.get(digest) or self._create(digest)
            here = partial.stat().st_size
            if offset > here:
                raise RemoteProtocolError("a chunk is missing", value=f"{here} < {offset}")
            if offset == here:
                with partial.open("ab") as file:
                    file.write(data)
                here += len(data)
            return self._continued(digest, partial, here, total_bytes)

    def _continued(
        self, digest: str, partial: Path, here: int, total_bytes: int
    ) -> tuple[int, bool]:
        """With what of it is here already in others."""
        here = self._pieces.fill(partial, here, total_bytes, self._expected.get(digest, ()))
        if here < total_bytes:
            return here, False
        path = self._path(digest)
        self._complete(digest, partial, path)
        self._pieces.add(path, self._expected.pop(digest, ()))
        return total_bytes, True

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RuntimeFault(
                f"a submodel cannot be stored: {error.strerror or error}",
                field="--cache",
                value=self.folder,
                remedy="make room, or choose another folder with --cache",
            ) from None

    def load(self, digest: str) -> Submodel:
        """The submodel with this content hash. Raises RemoteProtocolError where it is not here."""
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            raise RemoteProtocolError(
                "the submodel is not on this device", field="digest", value=digest
            ) from None
        return unpack(data)

    def _path(self, digest: str) -> Path:
        if not _HEX.fullmatch(digest):
            raise RemoteProtocolError("not a content hash", field="digest", value=digest)
        return self.folder / digest

    def _create(self, digest: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=self.folder, prefix=f"{digest}.{os.getpid()}-", suffix=".part"
        )
        os.close(handle)
        self._partial[digest] = Path(name)
        return self._partial[digest]

    def _adopt(self, digest: str) -> Path | None:
        """Take over what an ended process left, by renaming it: only one process can win."""
        for old in sorted(self.folder.glob(f"{digest}.*.part")):
            if _writer(old) not in (None, os.getpid()):
                continue
            mine = old.with_name(f"{digest}.{os.getpid()}-{threading.get_ident()}.part")
            with contextlib.suppress(OSError):
                os.rename(old, mine)
                self._partial[digest] = mine
                return mine
        return None

    def _complete(self, digest: str, partial: Path, path: Path) -> None:
        del self._partial[digest]
        found = hashlib.sha256()
        with partial.open("rb") as file:
            while block := file.read(2**20):
                found.update(block)
        if found.hexdigest() != digest:
            partial.unlink()
            raise RemoteProtocolError(
                "a submodel arrived with other content than announced",
                field="digest",
                value=digest[:16],
                remedy="send it again",
            )
        os.replace(partial, path)
        self._evict(keep=path)

    def _evict(self, keep: Path) -> None:
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another process has renamed or removed it
                state = path.stat()
                files.append((state.st_mtime if path != keep else math.inf, state.st_size, path))
        files.sort(key=lambda f: f[0])
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.cap_bytes or path == keep:
                break
            if path.suffix == ".part" and _writer(path) is not None:
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


def _writer(partial: Path) -> int | None:
    """The process that writes a partial file, by its name; None where it has ended."""
    text = partial.name.split(".")[1].partition("-")[0]
    if not text.isdigit():
        return None
    if os.name == "posix":  # elsewhere the signal 0 is not harmless
        try:
            os.kill(int(text), 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            pass
    return int(text)
