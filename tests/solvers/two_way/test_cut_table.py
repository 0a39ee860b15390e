"""Columns of the cut table against counting at each cut."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.graph import Graph, Operator, Tensor
from cutset.solvers.two_way.cut_table import CutTable, all_cuts, prefix_cuts
from cutset.solvers.two_way.roles import Role, moving
from cutset.testing import graphs
from cutset.testing.problems import random_problem


def down_sets(graph: Graph) -> set[tuple[int, ...]]:
    count = len(graph.operators)
    found = set()
    for mask in range(1, (1 << count) - 1):
        part = tuple(i for i in range(count) if mask >> i & 1)
        closed = not any(graph.ancestors[i] & ~mask for i in part)
        groups: dict[str, set[bool]] = {}
        for i, op in enumerate(graph.operators):
            if op.colocate is not None:
                groups.setdefault(op.colocate, set()).add(bool(mask >> i & 1))
        if closed and all(len(sides) == 1 for sides in groups.values()):
            found.add(part)
    return found


def check_columns(table: CutTable) -> None:
    graph = table.graph
    memory = np.array([op.memory_bytes for op in graph.operators], dtype=np.float64)
    for row in range(table.rows):
        members = np.zeros(len(graph.operators), dtype=np.bool_)
        members[list(table.first_part(row))] = True
        sizes: dict[Role, list[int]] = {role: [] for role in Role}
        for role, size in moving(graph, members):
            sizes[role].append(size)
        for role, found in sizes.items():
            assert table.bytes_[role, row] == sum(found), (role, row)
            assert table.count[role, row] == len(found)
            assert table.largest[role, row] == max(found, default=0)
            assert table.smallest[role, row] == min(found, default=np.inf)
        assert table.memory_first[row] == memory[members].sum()


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_all_cuts_are_the_down_sets(seed: int) -> None:
    graph = random_problem(seed).graph
    table = all_cuts(graph)
    parts = [table.first_part(row) for row in range(table.rows)]
    assert len(parts) == len(set(parts))
    assert set(parts) == down_sets(graph)
    check_columns(table)


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_prefix_cuts(seed: int) -> None:
    graph = random_problem(seed).graph
    table = prefix_cuts(graph)
    parts = {table.first_part(row) for row in range(table.rows)}
    count = len(graph.operators)
    assert parts == {tuple(range(i)) for i in range(1, count)} & down_sets(graph)
    check_columns(table)


def test_sums_with_operators_that_cannot_run() -> None:
    graph, _ = graphs.chain(4)
    table = all_cuts(graph)
    seconds = np.array([1.0, 2.0, np.inf, 4.0])
    assert table.sum_first(seconds).tolist() == [1.0, 3.0, np.inf]
    assert table.sum_second(seconds).tolist() == [np.inf, np.inf, 4.0]


def test_blocks_over_the_limit_stay_open() -> None:
    graph, _ = graphs.wide(12)
    assert all_cuts(graph, 100).open_blocks == ((1, 12),)
    assert all_cuts(graph, 2000).open_blocks == ()
    assert all_cuts(graph, 2000).rows == 1 + (2**10 - 1)  # after op0; and sets of the middle


def test_blocks_of_more_operators_than_a_word_has_bits() -> None:
    size = [0]

    def operator(name: str, *reads: str, colocate: str | None = None) -> Operator:
        size[0] += 7
        tensors[f"t{name}"] = Tensor(f"t{name}", size[0])
        return Operator(name, "Add", reads, (f"t{name}",), memory_bytes=size[0], colocate=colocate)

    tensors = {"x": Tensor("x", 5), "y": Tensor("y", 11)}
    operators = [operator("fork", "x")]
    for way in ("a", "b"):
        before = "tfork"
        for i in range(35):  # both ways read a graph input in many places
            side = ("y",) if i % 16 == 3 else ()
            together = f"{way}-group" if 4 < i < 20 else None
            operators.append(operator(f"{way}{i}", before, *side, colocate=together))
            before = f"t{way}{i}"
    operators.append(operator("join", "ta34", "tb34", "tfork"))
    graph = Graph("ways", tuple(operators), tensors, ("x", "y"), ("tjoin", "ta7"))
    table = all_cuts(graph)
    assert graph.blocks == ((0, 1), (1, 72))
    # Each way ends after any of 0 to 35 operators but inside its group, and not all are in.
    assert table.rows == 22 * 22 - 1 + 1
    check_columns(table)
