"""What an infeasible problem names makes it feasible."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError
from cutset.planner import solve
from cutset.problem import Problem
from cutset.testing import graphs
from cutset.testing.problems import random_problem


def refused(problem: Problem) -> InfeasibleError | None:
    try:
        solve(problem, "envelope")
    except InfeasibleError as error:
        return error
    return None


def relaxed(problem: Problem, error: InfeasibleError) -> Problem:
    """The problem with as much memory as the error says that devices need."""
    cluster = problem.cluster
    needs = re.findall(r"device '(\w+)' needs (\d+) bytes", error.message)
    for name, needed in needs:
        assert int(needed) > cluster.by_name[name].memory_bytes
        assert f"{int(needed) - cluster.by_name[name].memory_bytes:.0f} bytes" in (
            error.remedy or ""
        )
    more = {name: float(needed) for name, needed in needs}
    devices = tuple(
        replace(d, memory_bytes=more.get(d.name, d.memory_bytes)) for d in cluster.devices
    )
    return replace(problem, cluster=replace(cluster, devices=devices))


@given(st.integers(0, 10**6), st.sampled_from([0, 10, 40, 60]))
@settings(max_examples=300, deadline=None)
def test_the_memory_that_is_named_is_enough(seed: int, limit: int) -> None:
    problem = random_problem(seed)
    devices = tuple(
        replace(d, memory_bytes=min(d.memory_bytes, limit + 7.0 * i))
        for i, d in enumerate(problem.cluster.devices)
    )
    problem = replace(problem, cluster=replace(problem.cluster, devices=devices))
    error = refused(problem)
    if error is None:
        return
    assert error.remedy
    if "at best" in error.message:  # else no memory would do: links or costs are missing too
        assert refused(relaxed(problem, error)) is None


def test_both_devices_are_named_where_both_are_short() -> None:
    graph, cost = graphs.chain(2)
    operators = tuple(
        replace(op, memory_bytes=size)
        for op, size in zip(graph.operators, (1000, 3000), strict=True)
    )
    graph = replace(graph, operators=operators)
    network = graphs.two_devices()
    devices = tuple(
        replace(d, memory_bytes=limit)
        for d, limit in zip(network.devices, (900.0, 2950.0), strict=True)
    )
    error = refused(Problem(graph, replace(network, devices=devices), cost))
    assert error is not None
    assert "device 'pi' needs 1000 bytes" in error.message
    assert "device 'server' needs 3000 bytes" in error.message
    assert "100 bytes and 50 bytes short" in (error.remedy or "")


def test_a_missing_link_is_named_and_is_enough() -> None:
    graph, _ = graphs.chain(2)
    first, second = (op.name for op in graph.operators)
    cost = TableCost({"a": {first: 0.1}, "b": {second: 0.1}})
    there = Link("a", "b", 1e6, 0.0)
    problem = Problem(
        graph, Cluster((Device("a", "a"), Device("b", "b")), (there,), "a", "a"), cost
    )
    error = refused(problem)
    assert error is not None
    assert (error.field, error.value) == ("links", "b>a")
    links = (there, Link("b", "a", 1e6, 0.0))
    assert refused(replace(problem, cluster=replace(problem.cluster, links=links))) is None
    assert math.isfinite(
        solve(replace(problem, cluster=replace(problem.cluster, links=links))).value_s
    )
