"""Inputs of requests: read from files, or made up from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutset.errors import InvalidFileError, UsageError
from cutset.ports import Array, Port, show

Feeds = dict[str, Array]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})


def random_feeds(specs: Sequence[Port], count: int, seed: int = 0) -> list[Feeds]:
    """`count` distinct requests. Floats are standard normal, bytes 0 to 255, other integers 0 or 1.

    Unknown dimensions count as 1. Integers are small because they are often indices, and a random
    index may be out of range. Raises UsageError for a type that cannot be made up.
    """
    rng = np.random.default_rng(seed)

    def value(spec: Port) -> Array:
        shape = tuple(dim or 1 for dim in spec.shape or ())
        kind = np.dtype(spec.dtype or "object")
        if kind.kind == "f":
            return rng.standard_normal(shape).astype(kind)
        if kind == np.uint8:
            return rng.integers(0, 256, shape, dtype=np.uint8)
        if kind.kind in "iub":
            return rng.integers(0, 2, shape).astype(kind)
        raise UsageError(
            "random values of this type cannot be made",
            field=spec.name,
            value=spec.dtype,
            remedy="give real inputs with --input",
        )

    return [{spec.name: value(spec) for spec in specs} for _ in range(count)]


def read_feeds(files: Sequence[str | Path], specs: Sequence[Port]) -> list[Feeds]:
    """The requests of `.npy`, `.npz` (by input name) and image files, in order.

    An array with one leading dimension more than its input is a batch of requests. Raises
    InvalidFileError that names file, input, and the shape or type that was expected.
    """
    return [feeds for file in files for feeds in _read(Path(file), specs)]


def write_feeds(file: str | Path, requests: Sequence[Mapping[str, Array]]) -> None:
    """Write values by name, one leading dimension for the requests, as `read_feeds` reads them.

    Raises InvalidFileError where the file cannot be written.
    """
    stacked: dict[str, Any] = {
        name: np.stack([request[name] for request in requests]) for name in requests[0]
    }
    try:
        with open(file, "wb") as target:  # savez would add a suffix to a path
            np.savez(target, **stacked)
    except OSError as error:
        raise InvalidFileError(
            f"cannot be written: {error.strerror or error}",
            file=str(file),
            remedy="check that the folder exists and is writable",
        ) from None


def _read(file: Path, specs: Sequence[Port]) -> list[Feeds]:
    by_name = _arrays(file, specs)
    lengths: set[int] = set()
    columns: dict[str, Array] = {}
    for spec in specs:
        if spec.name not in by_name:
            raise InvalidFileError(
                "the file holds no array for this input",
                file=str(file),
                field=spec.name,
                remedy=f"it holds {', '.join(by_name) or 'nothing'}; name arrays as the inputs",
            )
        array = by_name[spec.name]
        batched = spec.shape is not None and array.ndim == len(spec.shape) + 1
        shape = array.shape[1:] if batched else array.shape
        if not spec.fits(array.dtype.name, shape):
            raise InvalidFileError(
                "the array has another type or shape than the input",
                file=str(file),
                field=spec.name,
                value=show(array.dtype.name, array.shape),
                remedy=f"{spec.kind} is expected, or a batch of such"
                " (another shape: --input-shape)",
            )
        columns[spec.name] = array if batched else array[None]
        lengths.add(len(columns[spec.name]))
    for name in by_name:
        if name not in columns:
            raise InvalidFileError(
                "the model has no such input",
                file=str(file),
                field=name,
                remedy=f"its inputs are {', '.join(map(str, specs))}",
            )
    if len(lengths) > 1 or 0 in lengths:
        raise InvalidFileError(
            "the inputs hold different or no numbers of requests",
            file=str(file),
            value=", ".join(f"{n}: {len(a)}" for n, a in columns.items()),
            remedy="give every input the same number of requests, at least one",
        )
    return [
        {name: np.ascontiguousarray(array[i]) for name, array in columns.items()}
        for i in range(lengths.pop() if lengths else 1)
    ]


def _arrays(file: Path, specs: Sequence[Port]) -> dict[str, Array]:
    suffix = file.suffix.lower()
    if suffix not in {".npy", ".npz", *IMAGE_SUFFIXES}:
        raise InvalidFileError(
            "not a file of inputs", file=str(file), remedy="give .npy, .npz, .png or .jpg"
        )
    try:
        if suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if suffix == ".npy":
            array = np.load(file, allow_pickle=False)
        else:
            array = _image(file)
    except InvalidFileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InvalidFileError(
            f"cannot be read: {reason}", file=str(file), remedy="check the path"
        ) from None
    except Exception as error:  # numpy and Pillow raise many kinds on damaged files
        raise InvalidFileError(
            f"damaged, or not what its name says: {str(error).splitlines()[0]}",
            file=str(file),
            remedy="write it again with numpy.save or numpy.savez (plain arrays, no objects)",
        ) from None
    if len(specs) != 1:
        raise InvalidFileError(
            "the model has several inputs, and the file holds one array without a name",
            file=str(file),
            remedy=f"give an .npz with {', '.join(spec.name for spec in specs)}",
        )
    return {specs[0].name: array}


def _image(file: Path) -> Array:
    try:
        from PIL import Image
    except ImportError:
        raise InvalidFileError(
            "images need Pillow",
            file=str(file),
            remedy="pip install 'cutset[demo]', or give .npy",
        ) from None
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
