"""Inputs and outputs of models, and whether arrays fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutset.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class Port:
    """An input or output: NumPy dtype name and shape; None, also in a shape, takes any."""

    name: str
    dtype: str | None
    shape: tuple[int | None, ...] | None

    def fits(self, dtype: str, shape: Sequence[int]) -> bool:
        """Whether an array of this dtype and shape can be given here."""
        return self.dtype in (None, dtype) and (
            self.shape is None
            or (
                len(shape) == len(self.shape)
                and all(want in (None, has) for want, has in zip(self.shape, shape, strict=True))
            )
        )

    @property
    def kind(self) -> str:
        """Dtype and shape as people read them: "float32 1x3x224x224"."""
        return show(self.dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def show(dtype: str | None, shape: Sequence[int | None] | None) -> str:
    """Dtype and shape as text; `?` is any size."""
    if shape is None:
        return f"{dtype or 'any dtype'} of any shape"
    sizes = "x".join("?" if d is None else str(d) for d in shape)
    return f"{dtype or 'any dtype'} {sizes or 'scalar'}"


def check_feeds(ports: Sequence[Port], feeds: Mapping[str, Array]) -> None:
    """Raise UsageError that names the feed which is missing, unknown or of another kind."""
    known = {port.name for port in ports}
    for name in feeds:
        if name not in known:
            raise UsageError(
                "the model has no such input",
                field="inputs",
                value=name,
                remedy=f"inputs are {', '.join(map(str, ports)) or 'none'}",
            )
    for port in ports:
        remedy = f"give it as {port.kind}"
        where = f"inputs.{port.name}"
        if port.name not in feeds:
            raise UsageError("an input is missing", field=where, remedy=remedy)
        array = feeds[port.name]
        if not isinstance(array, np.ndarray):
            raise UsageError(
                "an input must be a NumPy array",
                field=where,
                value=type(array).__name__,
                remedy=remedy,
            )
        if not port.fits(array.dtype.name, array.shape):
            wrong = "shape" if port.dtype in (None, array.dtype.name) else "dtype"
            raise UsageError(
                f"an input has the wrong {wrong}",
                field=where,
                value=show(array.dtype.name, array.shape),
                remedy=remedy,
            )
