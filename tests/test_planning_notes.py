"""What is told while planning lasts: that kernels are compiled, and what is known so far."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import ClassVar

import pytest

from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.compiling import COMPILING, PLANNING
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.scopes import FULL
from cutset.testing import graphs


def small() -> Problem:
    """A chain of four operators on two devices."""
    graph, cost = graphs.chain(4)
    return Problem(graph, graphs.two_devices(), cost)


@dataclass(frozen=True)
class Compiles:
    """Compiles a kernel of its own, which no cache has; or calls one that is compiled."""

    kernel: object = None
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        (self.kernel or kernel())(1)  # type: ignore[operator]
        return Proposal(single_stage(problem, problem.cluster.source))


def kernel() -> object:
    from numba import njit

    @njit
    def inner(x: int) -> int:
        return x + 1

    @njit
    def outer(x: int) -> int:
        return inner(x) + inner(x)

    return outer


def test_compiling_is_said_and_only_then() -> None:
    import numba  # noqa: F401  # so that solve() can listen from the start

    said: list[str] = []

    def note(text: str) -> None:
        if not text.startswith("planning for"):  # compiling may take seconds
            said.append(text)

    solve(small(), Compiles(), note=note)
    assert said == [COMPILING, PLANNING]
    ready = kernel()
    ready(1)  # type: ignore[operator]
    solve(small(), Compiles(ready), note=note)
    assert said == [COMPILING, PLANNING]
    kernel()(1)  # type: ignore[operator]
    assert len(said) == 2  # nobody listens any more


def test_what_is_known_so_far_is_said_while_planning_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = threading.Event()
    said: list[str] = []

    @dataclass(frozen=True)
    class Slow:
        info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "none")

        def __call__(self, problem: Problem, budget: Budget) -> Proposal:
            plan = single_stage(problem, "pi")
            heard.wait(60)  # for what is said before there is a plan
            budget.report(plan, 0.5 * value_of(problem, plan), FULL)
            while len(said) < 3 and not budget.exhausted():
                heard.wait(0.01)
            return Proposal(plan)

    def note(text: str) -> None:
        said.append(text)
        heard.set()

    monkeypatch.setattr("cutset.planner._SAID_S", 0.0)
    solve(small(), Slow(), note=note)
    assert said[0].endswith("no plan yet")
    assert re.search(r"planning for \d+ s: \S+ m?s, at least \S+ m?s$", said[-1])


def test_auto_has_a_plan_before_anything_is_compiled() -> None:
    """Of chains where no device holds the model; in a process that has not imported numba."""
    code = """
import sys
from cutset.strategies.auto import Auto
from cutset.problem import Budget, Problem
from cutset.cluster import Cluster, Device, Link
from cutset.testing import graphs
from dataclasses import replace

class First(Exception):
    pass

class Reported(Budget):
    def report(self, plan, *rest):
        print(len(plan.devices), "numba" in sys.modules)
        raise First

graph, cost = graphs.layered(30, 1)
graph = replace(graph, operators=tuple(replace(o, memory_bytes=10) for o in graph.operators))
for objective in ("latency", "throughput"):
    for room, count in ((9e9, 2), (130 + graph.stage_memory_bytes, 3)):
        devices = tuple(Device(f"d{i}", "fast", memory_bytes=room) for i in range(count))
        cluster = Cluster(devices, (), "d0", "d0", default_link=Link("", "", 1e8, 0.001))
        try:
            Auto()(Problem(graph, cluster, cost, objective), Reported())
        except First:
            pass
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["1 False", "3 False"] * 2, ran.stderr
