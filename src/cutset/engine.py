"""What runs submodels on a device: a small protocol, ONNX Runtime behind it, and pacing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


class Runnable(Protocol):
    """A loaded submodel. Not thread-safe: one thread runs it at a time."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs for one request, by name."""
        ...


@dataclass(frozen=True)
class Submodel:
    """A stage as a model of its own: what travels to a device and is run there.

    `model` is a serialised ONNX ModelProto; `weights` its external data (file name -> bytes),
    empty where the weights are inside `model`. `digest` is the SHA-256 of all of it, by which
    devices cache it.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes
    weights: Mapping[str, bytes]
    digest: str
