"""Budgets: the best plan and the highest bound win, and nothing outlives the limit."""

import threading
from dataclasses import dataclass
from typing import ClassVar

import pytest

from cutset.errors import PlanningError
from cutset.plan import Plan
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import best_single, single_stage
from cutset.testing import graphs

VALUES = {"good": 1.0, "better": 0.5, "cannot run": float("inf")}


def scored() -> Budget:
    return Budget(value_s=lambda plan: VALUES[plan.graph_digest])


def test_the_best_plan_and_the_highest_bound_are_kept() -> None:
    budget = scored()
    budget.report(Plan((), "better"), 0.1, "a few")
    budget.report(Plan((), "good"), 0.3, "full")
    budget.report(Plan((), "better"), 0.2, "many")
    assert budget.best == Proposal(Plan((), "better"), 0.3, "full", 0.3)


def test_a_bound_of_plans_that_are_beaten_goes() -> None:
    budget = scored()
    budget.report(Plan((), "good"), 0.2, "full")
    budget.report(Plan((), "good"), 1.0, "a few")
    assert budget.best == Proposal(Plan((), "good"), 1.0, "a few", 0.2)
    budget.report(Plan((), "better"))
    assert budget.best == Proposal(Plan((), "better"), 0.2, "full", 0.2)


def test_a_plan_that_cannot_run_is_not_the_best() -> None:
    budget = scored()
    budget.report(Plan((), "cannot run"), 0.1, "full")
    assert budget.best is None


def test_a_part_reports_its_plans_to_the_whole_and_ends_with_it() -> None:
    whole = scored()
    part = whole.part()
    part.report(Plan((), "good"), 0.3, "full")
    assert whole.best == Proposal(Plan((), "good"))
    assert not part.exhausted()
    whole.stopped = True
    assert part.exhausted()


@dataclass(frozen=True)
class Endless:
    """Reports the first device's plan, if asked to, and then never comes back."""

    reports: bool
    released: threading.Event
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        if self.reports:
            budget.report(single_stage(problem, "pi"), 0.001, "full")
        self.released.wait()
        return Proposal(single_stage(problem, "server"))


@pytest.mark.parametrize("reports", [True, False])
def test_a_strategy_that_ignores_the_limit(reports: bool) -> None:
    graph, cost = graphs.chain(4)
    problem = Problem(graph, graphs.two_devices(), cost)
    released = threading.Event()
    solution = solve(problem, Endless(reports, released), time_limit_s=0.05)
    released.set()
    assert (solution.bound_s, solution.scope) == ((0.001, "full") if reports else (0.0, ""))
    expected = single_stage(problem, "pi") if reports else best_single(problem)[0]
    assert solution.plan == expected


def test_no_plan_in_time() -> None:
    graph, cost = graphs.chain(4)
    network = graphs.two_devices()
    small = tuple(type(d)(d.name, d.kind, memory_bytes=1) for d in network.devices)
    problem = Problem(graph, type(network)(small, network.links, "pi", "pi"), cost)
    released = threading.Event()
    with pytest.raises(PlanningError, match="no plan was found in the time"):
        solve(problem, Endless(False, released), time_limit_s=0.05)
    released.set()
