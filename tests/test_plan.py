"""What a plan may be, and each refusal by name."""

from __future__ import annotations

import pytest

from cutset.cluster import Cluster, Device
from cutset.errors import InvalidFileError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage, Transfer, check_plan, transfers

GRAPH = Graph(
    "g",
    (
        Operator("a", "", ("x",), ("t",), colocate="pair"),
        Operator("b", "", ("t", "x"), ("u",)),
        Operator("c", "", ("t", "u"), ("y",), colocate="pair"),
    ),
    {n: Tensor(n, size) for n, size in (("x", 8), ("t", 4), ("u", 2), ("y", 1))},
    ("x",),
    ("y", "t"),
    digest="d" * 64,
)
CLUSTER = Cluster((Device("pi", "pi"), Device("server", "server")), (), "pi", "pi")


def stages(*rows: tuple[str, str]) -> tuple[Stage, ...]:
    return tuple(Stage(f"s{i}", device, tuple(ops)) for i, (device, ops) in enumerate(rows))


@pytest.mark.parametrize(
    ("plan", "field", "words"),
    [
        (Plan(stages(("pi", "abc")), "e" * 64), "graph_digest", "another graph"),
        (Plan(stages(("py", "abc"))), "stages[0].device", "unknown device"),
        (Plan((*stages(("pi", "ab")), Stage("s0", "pi", ("c",)))), "stages[1]", "this name"),
        (Plan(stages(("pi", "abc"), ("pi", ""))), "stages[1].operators", "no operators"),
        (Plan(stages(("pi", "abq"))), "stages[0].operators", "no such operator"),
        (Plan(stages(("pi", "abc"), ("pi", "b"))), "stages[1].operators", "in two stages"),
        (Plan(stages(("pi", "aab"), ("pi", "c"))), "stages[0].operators", "in two stages"),
        (Plan(stages(("pi", "ab"))), "stages", "1 operator is in no stage"),
        (Plan(()), "stages", "3 operators are in no stage"),
        (Plan(stages(("pi", "ac"), ("pi", "b"))), "stages[0]", "cycle"),
        (Plan(stages(("pi", "ab"), ("server", "c"))), "stages[1].operators", "colocate"),
    ],
)
def test_refusals(plan: Plan, field: str, words: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        check_plan(plan, GRAPH, CLUSTER)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert caught.value.remedy


def test_a_good_plan_and_what_moves() -> None:
    plan = Plan(stages(("pi", "a"), ("server", "b"), ("pi", "c")), GRAPH.digest)
    check_plan(plan, GRAPH, CLUSTER)
    assert plan.devices == ("pi", "server")
    assert transfers(plan, GRAPH, "pi", "pi") == (
        Transfer("x", None, "s1", "pi", "server", 8),
        Transfer("t", "s0", "s1", "pi", "server", 4),
        Transfer("u", "s1", "s2", "server", "pi", 2),
    )


def test_a_tensor_goes_once_to_each_device_however_many_stages_read_it() -> None:
    plan = Plan(stages(("pi", "a"), ("server", "b"), ("server", "c")))
    moves = transfers(plan, GRAPH, "pi", "server")
    assert [(m.tensor, m.source_stage, m.target_stage) for m in moves] == [
        ("x", None, "s1"),
        ("t", "s0", "s1"),
    ]
