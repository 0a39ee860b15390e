"""Maps the engine's kernels to operators: every measured second is charged to one of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cutset.engine import KernelTimes
from cutset.errors import ProfileError
from cutset.onnx_io.model import Model


@dataclass(frozen=True)
class OperatorTime:
    """Least time over the runs, and the spread; seconds. `samples` is the number of runs."""

    min_s: float
    stdev_s: float
    samples: int


#: What ONNX Runtime appends to the names of nodes and tensors from which it derives kernels.
_SUFFIX = re.compile(r"((_bn|_mul|_add)?_nchwc|_token_\d+|/?\w*Fusion/?|/\d+)$")
#: What it puts before the name of a node that has taken its activation in ("fused n_matmul_1").
_PREFIX = "fused "
#: Kernels that it inserts behind another one, for that one's result.
_BEHIND = re.compile(r"ReorderOutput|gemm_output_reshape")


def operator_times(model: Model, kernels: Sequence[KernelTimes]) -> dict[str, OperatorTime]:
    """Time of every operator; the least times sum up to the kernels'.

    A kernel is ours by the name of its node or of the tensor that it makes. One that the engine
    inserted is charged to the next known kernel (a reorder of an input) or to the one before it (a
    reorder of an output, and whatever follows the last). Operators without a kernel of their own
    take 0 s. Raises ProfileError where no kernel can be mapped.
    """
    owners = [_owner(model, kernel) for kernel in kernels]
    if not any(owners):
        raise ProfileError(
            "the engine's kernels cannot be mapped to the model's operators",
            field="kernels",
            value=kernels[0].node if kernels else "none",
            remedy="profile the model that `cutset` prepared, on the cpu provider",
        )
    following: list[str | None] = [None] * len(owners)
    upcoming: str | None = None
    for i in range(len(owners) - 1, -1, -1):
        following[i] = upcoming
        upcoming = owners[i] or upcoming
    least: dict[str, list[float]] = {}
    variance: dict[str, list[float]] = {}
    samples = len(kernels[0].seconds)
    before: str | None = None
    for kernel, own, after in zip(kernels, owners, following, strict=True):
        behind = _BEHIND.match(kernel.node) is not None
        charged = own or (before or after if behind else after or before)
        assert charged is not None
        least.setdefault(charged, []).append(kernel.min_s)
        variance.setdefault(charged, []).append(kernel.stdev_s**2)
        before = own or before
    return {
        op.name: OperatorTime(
            math.fsum(least.get(op.name, ())),
            math.sqrt(math.fsum(variance.get(op.name, ()))),
            samples,
        )
        for op in model.graph.operators
    }


def _owner(model: Model, kernel: KernelTimes) -> str | None:
    name = kernel.node.removeprefix(_PREFIX)
    while name:
        if name in model.operator_of:
            return model.operator_of[name]
        shorter = _SUFFIX.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return None
