"""Why tensors move at a cut, by where their producers and readers are."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]  # for each operator, whether it is in the first part


class Role(IntEnum):
    """Why a tensor may have to move, by where its producer and its readers are."""

    IN_FIRST = 0  # a graph input that the first part reads
    IN_SECOND = 1  # a graph input that the second part reads
    CUT = 2  # made in the first part, read in the second
    CUT_OUTPUT = 3  # those of CUT that are graph outputs too
    OUT_FIRST = 4  # a graph output that the first part makes
    OUT_SECOND = 5  # a graph output that the second part makes


def moving(graph: Graph, members: Members) -> list[tuple[Role, int]]:
    """The roles that tensors have at one cut, each with the tensor's bytes."""
    outputs = set(graph.outputs)
    found: list[tuple[Role, int]] = []
    for name, tensor in graph.tensors.items():
        readers, producer = graph.consumers[name], graph.producers.get(name)
        in_second = any(not members[r] for r in readers)
        roles: list[Role] = []
        if producer is None:
            if any(members[r] for r in readers):
                roles.append(Role.IN_FIRST)
            if in_second:
                roles.append(Role.IN_SECOND)
        elif members[producer]:
            if in_second:
                roles += [Role.CUT, Role.CUT_OUTPUT] if name in outputs else [Role.CUT]
            if name in outputs:
                roles.append(Role.OUT_FIRST)
        elif name in outputs:
            roles.append(Role.OUT_SECOND)
        found += [(role, tensor.size_bytes) for role in roles]
    return found
