from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.errors import InvalidFileError
from cutset.graph import Graph, Operator, Tensor, topological


def graph_of(edges: dict[str, tuple[str, ...]], *, side: tuple[str, ...] = ()) -> Graph:
    """Operators named by the keys; each reads the outputs of those listed, and `side` inputs."""
    operators = tuple(
        Operator(n, "", tuple(f"{b}.out" for b in before) or ("x",), (f"{n}.out",))
        for n, before in edges.items()
    )
    if side:
        operators = tuple(
            Operator(o.name, "", (*o.inputs, "mask") if o.name in side else o.inputs, o.outputs)
            for o in operators
        )
    inputs = ("x", "mask") if side else ("x",)
    names = [*inputs, *(t for o in operators for t in o.outputs)]
    return Graph("g", operators, {n: Tensor(n, 4) for n in names}, inputs, (names[-1],))


DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("d",)}


def test_look_ups() -> None:
    graph = graph_of(DIAMOND)
    assert graph.positions["d"] == 3
    assert graph.producers == {f"{n}.out": i for i, n in enumerate("abcde")}
    assert graph.consumers["a.out"] == (1, 2)
    assert graph.consumers["e.out"] == ()
    assert graph.predecessors[3] == (1, 2)
    assert graph.successors[0] == (1, 2)
    assert graph.ancestors[3] == 0b0111
    assert graph.mask(["a", "d"]) == 0b1001


def test_articulations_blocks_and_what_crosses() -> None:
    graph = graph_of(DIAMOND)
    assert graph.articulations == (1, 4)
    assert graph.blocks == ((0, 1), (1, 4), (4, 5))
    assert graph.crossing(1) == ("a.out",)
    assert graph.crossing(2) == ("a.out", "b.out")
    assert graph.crossing(0) == ("x",)


def test_a_side_tensor_does_not_hide_an_articulation() -> None:
    chain = {"a": (), "b": ("a",), "c": ("b",)}
    graph = graph_of(chain, side=("a", "c"))
    assert graph.articulations == (1, 2)
    assert set(graph.crossing(1)) == {"a.out", "mask"}


def test_two_parallel_ends_have_no_articulation_between_them() -> None:
    assert graph_of({"a": (), "b": ("a",), "c": ("a",)}).articulations == (1,)
    assert graph_of({"a": (), "b": ()}).articulations == ()


@st.composite
def random_edges(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = "abcdefgh"[: draw(st.integers(1, 8))]
    return {
        n: tuple(draw(st.sets(st.sampled_from(names[:i]), max_size=3))) if i else ()
        for i, n in enumerate(names)
    }


@given(random_edges())
def test_every_down_set_falls_inside_one_block(edges: dict[str, tuple[str, ...]]) -> None:
    """By brute force: at an articulation, and only there, down-sets are comparable to it."""
    graph = graph_of(edges)
    count = len(graph.operators)
    downs = [
        mask
        for mask in range(1 << count)
        if all(mask >> j & 1 for i in range(count) if mask >> i & 1 for j in graph.predecessors[i])
    ]
    for position in range(1, count):
        prefix = (1 << position) - 1
        strict = (1 << position - 1) - 1  # the prefix without the operator that closes it
        comparable = all(d & prefix == prefix or d | prefix == prefix for d in downs)
        closed = graph.ancestors[position - 1] == strict
        assert (position in graph.articulations) == (comparable and closed)


@given(random_edges(), st.randoms(use_true_random=False))
def test_any_order_of_operators_is_sorted(
    edges: dict[str, tuple[str, ...]], random: object
) -> None:
    operators = list(graph_of(edges).operators)
    random.shuffle(operators)  # type: ignore[attr-defined]
    known = {"x"}
    for op in topological(operators, ["x"]):
        assert set(op.inputs) <= known
        known |= set(op.outputs)


def test_sorting_keeps_an_order_that_is_right() -> None:
    operators = graph_of(DIAMOND).operators
    assert topological(operators, ["x"]) == operators


def test_a_cycle_is_named() -> None:
    ring = [
        Operator("a", "", ("x",), ("a.out",)),
        Operator("b", "", ("a.out", "d.out"), ("b.out",)),
        Operator("c", "", ("b.out",), ("c.out",)),
        Operator("d", "", ("c.out",), ("d.out",)),
        Operator("e", "", ("d.out",), ("e.out",)),
    ]
    for order in itertools.permutations(ring):
        with pytest.raises(InvalidFileError) as caught:
            topological(order, ["x"])
        names = (caught.value.value or "").split(" -> ")
        assert names[0] == names[-1]
        assert set(names) == {"b", "c", "d"}
        for before, after in itertools.pairwise(names):
            assert f"{before}.out" in next(o for o in ring if o.name == after).inputs


def _op(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Operator:
    return Operator(name, "", inputs, outputs)


@pytest.mark.parametrize(
    ("operators", "outputs", "words"),
    [
        ((_op("a", ("x",), ("y",)), _op("a", ("y",), ("z",))), ("z",), "have this name"),
        ((_op("a", ("gone",), ("y",)),), ("y",), "nothing before it makes"),
        ((_op("a", ("x",), ("x",)),), ("x",), "exists already"),
        ((_op("a", ("x",), ("y",)), _op("b", ("x",), ("y",))), ("y",), "exists already"),
        ((_op("a", ("x",), ("y",)),), ("q",), "no operator makes"),
        ((_op("a", ("x",), ("y",)),), ("z",), "no operator makes"),
        ((_op("a", ("x",), ("w",)),), ("w",), "has no size"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(
    operators: tuple[Operator, ...], outputs: tuple[str, ...], words: str
) -> None:
    tensors = {n: Tensor(n, 1) for n in ("x", "y", "z")}
    with pytest.raises(InvalidFileError, match=words):
        Graph("g", operators, tensors, ("x",), outputs)


def test_five_thousand_operators_are_quick_enough_to_analyse() -> None:
    count = 5000
    operators = tuple(_op(f"o{i}", (f"t{i}",), (f"t{i + 1}",)) for i in range(count))
    tensors = {f"t{i}": Tensor(f"t{i}", 1) for i in range(count + 1)}
    graph = Graph("chain", operators, tensors, ("t0",), (f"t{count}",))
    assert len(graph.blocks) == count


def test_parts_share_no_tensor() -> None:
    def op(name: str, reads: str, makes: str) -> Operator:
        return Operator(name, "Any", tuple(reads.split()), tuple(makes.split()))

    operators = (
        op("a", "x", "t"),
        op("b", "z", "u"),
        op("c", "", "v"),
        op("d", "u", "w"),
        op("e", "z", "p"),  # with b and d by the input z
        op("f", "t v", "y"),  # joins a and c
        op("g", "", "q"),
    )
    names = {t for o in operators for t in (*o.inputs, *o.outputs)}
    graph = Graph("g", operators, {t: Tensor(t, 1) for t in names}, ("x", "z"), ("y",))
    assert graph.parts == ((0, 2, 5), (1, 3, 4), (6,))


def test_cuts_inside_a_colocate_group_are_left_out() -> None:
    made = graph_of({"a": (), "b": ("a",), "c": ("b",), "d": ("c",), "e": ("d",)})
    assert made.cut_positions == (0, 1, 2, 3, 4, 5)
    parts = tuple(replace(op, colocate="g" if op.name in "bd" else None) for op in made.operators)
    assert replace(made, operators=parts).cut_positions == (0, 1, 4, 5)
