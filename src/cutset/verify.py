"""Comparing the split model's outputs with the unsplit model's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_RTOL = 1e-5

Outputs = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Comparison:
    """The largest differences found.

    `max_rel` is max over outputs of max|a − b|/max|b|, b being the unsplit model's (formats.md).
    `bit_equal` says that not one bit differs; `worst` is the output with the largest `max_rel`.
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    bit_equal: bool = True
    worst: str = ""

    def equal(self, rtol: float = DEFAULT_RTOL) -> bool:
        return self.max_rel <= rtol


def compare(split: Outputs, unsplit: Outputs) -> Comparison:
    """Differences of one request's outputs; inf where they cannot be equal at all.

    That is: a missing output, another shape or type, an integer, boolean or text that differs, a
    NaN or infinity on one side only.
    """
    result = Comparison()
    for name, expected in unsplit.items():
        result = worse(result, _compare(name, split.get(name), expected))
    return result


def worse(a: Comparison, b: Comparison) -> Comparison:
    """What holds for both together."""
    return Comparison(
        max(a.max_abs, b.max_abs),
        max(a.max_rel, b.max_rel),
        a.bit_equal and b.bit_equal,
        b.worst if b.max_rel > a.max_rel or not a.worst else a.worst,
    )


def compare_all(pairs: Iterable[tuple[Outputs, Outputs]]) -> Comparison:
    """The worst over requests, each a pair (split, unsplit)."""
    result = Comparison()
    for split, unsplit in pairs:
        result = worse(result, compare(split, unsplit))
    return result


def _compare(
    name: str, got: NDArray[np.generic] | None, expected: NDArray[np.generic]
) -> Comparison:
    unequal = Comparison(float("inf"), float("inf"), False, name)
    if got is None or got.shape != expected.shape or got.dtype != expected.dtype:
        return unequal
    if got.tobytes() == expected.tobytes() and expected.dtype.kind != "O":
        return Comparison(worst=name)
    if expected.dtype.kind not in "fc":
        return Comparison(worst=name) if np.array_equal(got, expected) else unequal
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)):
        return unequal
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return unequal
    largest = float(np.max(np.abs(a[finite] - b[finite]), initial=0.0))
    scale = float(np.max(np.abs(b[finite]), initial=0.0))
    relative = 0.0 if largest == 0 else largest / scale if scale > 0 else float("inf")
    return Comparison(largest, relative, False, name)
