"""The network as a DAG of operators and the tensors between them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cutset.errors import InvalidFileError


@dataclass(frozen=True)
class Tensor:
    """A value that operators exchange. `shape` and `dtype` are None where only a size is known."""

    name: str
    size_bytes: int
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Operator:
    """What the engine runs as one kernel (Conv+BatchNorm+Relu is one), and its ONNX nodes.

    `inputs` and `outputs` name activations only; weights are counted in `weight_bytes`.
    `memory_bytes` is what the operator takes on a device (formats.md, memory).
    Operators with the same `colocate` text stay on one device.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    flops: float = 0.0
    weight_bytes: int = 0
    memory_bytes: int = 0
    window: Mapping[str, Sequence[int]] | None = None
    colocate: str | None = None
    onnx_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Operators in topological order.

    Positions are indices into `operators`; sets of operators are Python ints used as bit masks
    (bit i is operator i), so that set algebra on thousands of operators stays cheap.
    `stage_memory_bytes` is what a stage takes beside its operators (an engine session).
    `model_digest` is that of the model that a workload was exported from: plans fit both.
    """

    name: str
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    digest: str = ""
    stage_memory_bytes: int = 0
    model_digest: str = ""

    def __post_init__(self) -> None:
        known = set(self.inputs)
        names: set[str] = set()
        for operator in self.operators:
            if operator.name in names:
                raise InvalidFileError(
                    "two operators have this name",
                    field=f"operators.{operator.name}",
                    remedy="rename one",
                )
            names.add(operator.name)
            for tensor in operator.inputs:
                if tensor not in known:
                    raise InvalidFileError(
                        f"operator {operator.name!r} reads a tensor that nothing before it makes",
                        field=f"operators.{operator.name}.inputs",
                        value=tensor,
                    )
            for tensor in operator.outputs:
                if tensor in known:
                    raise InvalidFileError(
                        f"operator {operator.name!r} makes a tensor that exists already",
                        field=f"operators.{operator.name}.outputs",
                        value=tensor,
                    )
                known.add(tensor)
        for tensor in self.outputs:
            if tensor not in known:
                raise InvalidFileError(
                    "no operator makes this graph output",
                    field="outputs",
                    value=tensor,
                    remedy="list the tensor among an operator's outputs, or leave it out here",
                )
        for tensor in sorted(known):
            if tensor not in self.tensors:
                raise InvalidFileError("the tensor has no size", field="tensors", value=tensor)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Operator name -> index in `operators`."""
        return {operator.name: i for i, operator in enumerate(self.operators)}

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """Tensor name -> position of the operator that makes it; graph inputs are absent."""
        return {t: i for i, operator in enumerate(self.operators) for t in operator.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """Tensor name -> positions of the operators that read it, each once, in order."""
        readers: dict[str, list[int]] = {name: [] for name in self.tensors}
        for i, operator in enumerate(self.operators):
            for tensor in dict.fromkeys(operator.inputs):
                readers[tensor].append(i)
        return {name: tuple(positions) for name, positions in readers.items()}

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """For each operator, the positions of those whose tensors it reads."""
        return tuple(
            tuple(sorted({self.producers[t] for t in op.inputs if t in self.producers}))
            for op in self.operators
        )

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in self.operators]
        for i, before in enumerate(self.predecessors):
            for j in before:
                found[j].append(i)
        return tuple(tuple(after) for after in found)

    @cached_property
    def colocated(self) -> Mapping[str, tuple[int, ...]]:
        """Colocate group -> positions of its operators, in order."""
        groups: dict[str, list[int]] = {}
        for i, op in enumerate(self.operators):
            if op.colocate is not None:
                groups.setdefault(op.colocate, []).append(i)
        return {name: tuple(positions) for name, positions in groups.items()}

    @cached_property
    def cut_positions(self) -> tuple[int, ...]:
        """Positions where a cut of the order parts no colocate group; with 0 and the end."""
        torn = {p for group in self.colocated.values() for p in range(group[0] + 1, group[-1] + 1)}
        return tuple(p for p in range(len(self.operators) + 1) if p not in torn)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each operator, the mask of all operators that it depends on (itself not)."""
        masks: list[int] = []
        for before in self.predecessors:
            mask = 0
            for j in before:
                mask |= masks[j] | 1 << j
            masks.append(mask)
        return tuple(masks)

    @cached_property
    def articulations(self) -> tuple[int, ...]:
        """Positions p such that everything before p leads to operator p−1 and all from p on
        depends on it.

        There the graph is crossed by operator p−1's output, besides side tensors (a mask that
        later blocks read too), which do not couple the blocks. Cutting the order at an
        articulation is always convex, and every down-set falls inside exactly one block.
        """
        count = len(self.operators)
        # Everything before is an ancestor iff the ancestor mask is full; everything after is a
        # descendant iff no later operator lacks p in its ancestors.
        lacking = 0  # union over later operators of what they do not depend on
        later_independent: list[int] = [0] * count
        everything = (1 << count) - 1
        for i in range(count - 1, -1, -1):
            later_independent[i] = lacking
            lacking |= everything & ~self.ancestors[i]
        return tuple(
            i + 1
            for i in range(count - 1)
            if self.ancestors[i] == (1 << i) - 1 and not later_independent[i] >> i & 1
        )

    @cached_property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of positions between articulations; together they are the graph."""
        edges = (0, *self.articulations, len(self.operators))
        return tuple((a, b) for a, b in itertools.pairwise(edges) if a < b)

    @cached_property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the operators that share tensors, directly or by others; in order."""
        above = list(range(len(self.operators)))  # towards the first operator of the part

        def first(i: int) -> int:
            while above[i] != i:
                above[i] = above[above[i]]
                i = above[i]
            return i

        seen: dict[str, int] = {}
        for i, op in enumerate(self.operators):
            for tensor in (*op.inputs, *op.outputs):
                a, b = sorted((first(seen.setdefault(tensor, i)), first(i)))
                above[b] = a
        found: dict[int, list[int]] = {}
        for i in range(len(self.operators)):
            found.setdefault(first(i), []).append(i)
        return tuple(map(tuple, found.values()))

    def crossing(self, position: int) -> tuple[str, ...]:
        """Tensors made before `position` (graph inputs too) that are read from there on."""
        return tuple(
            name
            for name, readers in self.consumers.items()
            if readers and readers[-1] >= position and self.producers.get(name, -1) < position
        )

    def mask(self, names: Iterable[str]) -> int:
        """The bit mask of the named operators."""
        mask = 0
        for name in names:
            mask |= 1 << self.positions[name]
        return mask


def topological(operators: Sequence[Operator], inputs: Iterable[str]) -> tuple[Operator, ...]:
    """The operators in a topological order that keeps the given order where it can.

    Raises InvalidFileError that names the operators of a cycle, or a tensor that nothing makes.
    """
    made = {t: i for i, op in enumerate(operators) for t in op.outputs}
    available = set(inputs)
    waiting = [0] * len(operators)
    readers: dict[int, list[int]] = {}
    for i, op in enumerate(operators):
        sources = set()
        for tensor in op.inputs:
            if tensor in made:
                sources.add(made[tensor])
            elif tensor not in available:
                raise InvalidFileError(
                    f"operator {op.name!r} reads a tensor that neither an operator nor an input"
                    " makes",
                    field=f"operators.{op.name}.inputs",
                    value=tensor,
                    remedy="add it to the graph's inputs, or to an operator's outputs",
                )
        waiting[i] = len(sources)
        for j in sources:
            readers.setdefault(j, []).append(i)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in readers.get(i, ()):
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, j)
    if len(order) < len(operators):
        stuck = _a_cycle(operators, made, {i for i, count in enumerate(waiting) if count > 0})
        raise InvalidFileError(
            "the operators form a cycle",
            field="operators",
            value=" -> ".join(operators[i].name for i in stuck[:12]),
            remedy="a network must be acyclic; break the cycle",
        )
    return tuple(operators[i] for i in order)


def _a_cycle(
    operators: Sequence[Operator], made: Mapping[str, int], stuck: set[int]
) -> tuple[int, ...]:
    """One cycle among operators that could not be ordered (each has a stuck predecessor)."""
    i = min(stuck)
    seen: dict[int, int] = {}
    path: list[int] = []
    while i not in seen:
        seen[i] = len(path)
        path.append(i)
        i = next(made[t] for t in operators[i].inputs if made.get(t) in stuck)
    cycle = path[seen[i] :]
    return (*reversed(cycle), cycle[-1])
