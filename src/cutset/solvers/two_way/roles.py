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


class TensorRoles:
    """A graph's tensors as arrays: the roles at many cuts at once."""

    def __init__(self, graph: Graph) -> None:
        read = [name for name in graph.tensors if graph.consumers[name]]
        outputs = [name for name in graph.outputs if name in graph.producers]
        self._readers = np.array([r for name in read for r in graph.consumers[name]], np.int64)
        amounts = np.array([len(graph.consumers[name]) for name in read], np.int64)
        self._starts = np.cumsum(amounts) - amounts
        producers = np.array([graph.producers.get(name, -1) for name in read], np.int64)
        self._made, self._given = np.flatnonzero(producers >= 0), np.flatnonzero(producers < 0)
        self._producers = producers[self._made]
        self._makers = np.array([graph.producers[name] for name in outputs], np.int64)
        self._sizes = _sizes(graph, read)
        self._output_sizes = _sizes(graph, outputs)
        self._is_output = np.isin([read[i] for i in self._made], outputs)

    def sums(self, members: Members) -> tuple[Floats, Floats]:
        """For each cut (a row of members): bytes, and number of tensors, in each role."""
        found = [np.zeros((len(members), 0), np.bool_)] * 2
        if len(self._readers):
            readers = members[:, self._readers]
            found = [
                np.logical_or.reduceat(readers, self._starts, axis=1),
                ~np.logical_and.reduceat(readers, self._starts, axis=1),
            ]
        in_first, in_second = found
        crossing = members[:, self._producers] & in_second[:, self._made]
        sizes, given = self._sizes, self._given
        made_first = members[:, self._makers]
        there = (
            (in_first[:, given], sizes[given]),
            (in_second[:, given], sizes[given]),
            (crossing, sizes[self._made]),
            (crossing[:, self._is_output], sizes[self._made[self._is_output]]),
            (made_first, self._output_sizes),
            (~made_first, self._output_sizes),
        )
        bytes_ = np.stack([rows @ weights for rows, weights in there], axis=1)
        count = np.stack([rows.sum(axis=1) for rows, _ in there], axis=1)
        return bytes_, count.astype(np.float64)


def _sizes(graph: Graph, names: list[str]) -> Floats:
    return np.array([graph.tensors[name].size_bytes for name in names], dtype=np.float64)
