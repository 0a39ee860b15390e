"""What changes make of a problem, and what they cannot."""

from __future__ import annotations

import math

import pytest

from cutset.changes import parse_change
from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError, UsageError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.simulation import simulate, what_if

GRAPH = Graph(
    "pair",
    (Operator("one", "", ("x",), ("t",)), Operator("two", "", ("t",), ("y",))),
    {"x": Tensor("x", 0), "t": Tensor("t", 100), "y": Tensor("y", 0)},
    ("x",),
    ("y",),
)
PROBLEM = Problem(
    GRAPH,
    Cluster(
        (Device("pi", "pi", stage_overhead_s=0.5), Device("server", "server")),
        (Link("pi", "server", 800.0, 0.0), Link("server", "pi", 800.0, 0.0)),
        "pi",
        "pi",
    ),
    TableCost({"pi": {"one": 2.0, "two": 2.0}, "server": {"one": 1.0, "two": 1.0}}),
)
PLAN = Plan((Stage("s0", "pi", ("one",)), Stage("s1", "server", ("two",))))


def latency_s(*changes: str) -> float:
    return simulate(what_if(PROBLEM, map(parse_change, changes)), PLAN, requests=1).latency_s


def test_what_changes_do_to_the_latency() -> None:
    assert latency_s() == pytest.approx(0.5 + 2 + 1 + 1)
    assert latency_s("link:pi>server=400") == pytest.approx(0.5 + 2 + 2 + 1)
    assert latency_s("link:pi>server.latency=3s") == pytest.approx(0.5 + 2 + 4 + 1)
    assert latency_s("device:pi.egress=200") == pytest.approx(0.5 + 2 + 4 + 1)
    assert latency_s("link:server>pi=1") == latency_s("link:server>pi=800")


def test_a_load_slows_operators_only_and_the_last_one_counts() -> None:
    assert latency_s("device:pi.load=3") == pytest.approx(0.5 + 6 + 1 + 1)
    assert latency_s("device:pi.load=9", "device:pi.load=0.5") == pytest.approx(0.5 + 1 + 1 + 1)
    both = latency_s("device:pi.load=2", "device:server.load=2", "link:pi>server=400")
    assert both == pytest.approx(0.5 + 4 + 2 + 2)


def test_the_problem_stays_as_it_is_without_changes() -> None:
    same = what_if(PROBLEM, [])
    assert (same.cost, same.cluster) == (PROBLEM.cost, PROBLEM.cluster)


def test_a_link_that_is_down_and_needed() -> None:
    with pytest.raises(InfeasibleError, match=r"'t' must go from 'pi' to 'server'"):
        latency_s("link:pi>server=down")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("device:pi.cpu=0.5", r"device:pi\.load=K"),
        ("device:nope.load=2", "no such device"),
        ("link:pi>nope=1Mbit/s", "no such device"),
    ],
)
def test_what_cannot_be_simulated_is_refused(change: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        what_if(PROBLEM, [parse_change(change)])


def test_an_operator_that_cannot_run_cannot_under_load_either() -> None:
    cost = TableCost({"pi": {"one": 2.0}})
    changed = what_if(Problem(GRAPH, PROBLEM.cluster, cost), [parse_change("device:server.load=2")])
    assert math.isinf(changed.compute_s("server")[1])
