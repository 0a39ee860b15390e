"""compare(): every strategy gets a row, whatever it does; wrong bounds are found out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset import strategies
from cutset.comparison import BASELINE, Comparison, Outcome, Row, compare
from cutset.errors import (
    InfeasibleError,
    NoPlanFoundError,
    UnsupportedProblemError,
    UsageError,
)
from cutset.problem import Budget, Objective, Problem, Proposal, Strategy, StrategyInfo
from cutset.solvers.one_stage import single_stage
from cutset.solvers.relaxation import out_of_time
from cutset.solvers.scopes import FULL
from cutset.testing import graphs
from cutset.testing.problems import random_problem

EVERY = frozenset(Objective)


@pytest.fixture
def problem() -> Problem:
    graph, cost = graphs.series_parallel(12, 1)
    return Problem(graph, graphs.two_devices(), cost)


@dataclass(frozen=True)
class Raises:
    error: str = "oops"
    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        raise {
            "oops": KeyError("oops"),
            "declines": UnsupportedProblemError("not this", value="12 operators"),
            "infeasible": InfeasibleError("it does not fit"),
        }[self.error]


@dataclass(frozen=True)
class OutOfTime:
    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        raise out_of_time(budget)


@dataclass(frozen=True)
class Overclaims:
    """The slower device alone, as if no plan could be better."""

    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        plans = [single_stage(problem, d.name) for d in problem.cluster.devices]
        assert budget.value_s is not None
        worst = max(plans, key=budget.value_s)
        return Proposal(worst, budget.value_s(worst), FULL)


@dataclass(frozen=True)
class Interrupted:
    """Reports a plan, if it has one, and is interrupted."""

    reports: bool = True
    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        if self.reports:
            budget.report(single_stage(problem, "server"))
        raise KeyboardInterrupt


def row(found: Comparison, strategy: str) -> Row:
    return next(r for r in found.rows if r.strategy == strategy)


def test_all_that_apply_are_there_best_first(problem: Problem) -> None:
    found = compare(problem)
    assert {r.strategy for r in found.rows} == set(strategies.available())
    values = [r.value_s for r in found.rows]
    assert values == pytest.approx(sorted(values), rel=1e-8)
    assert found.best is found.rows[0]
    assert found.ratio(found.rows[0]) == 1
    assert all(found.ratio(r) >= 1 for r in found.rows)
    assert all(r.reason for r in found.rows if r.solution is None)
    assert not found.interrupted


@given(st.integers(0, 400))
@settings(deadline=None, max_examples=10)
def test_nothing_beats_what_is_proven(seed: int) -> None:
    found = compare(random_problem(seed), time_limit_s=10)
    if found.best is None:
        assert isinstance(found.failure, InfeasibleError)
        return
    assert all(r.value_s >= found.proven_s * (1 - 1e-9) for r in found.rows)
    assert all(r.outcome is not Outcome.FAILED for r in found.rows)
    baseline = row(found, BASELINE)
    assert baseline.solution is None or baseline.value_s >= found.best.value_s


def test_the_baseline_is_always_there(problem: Problem) -> None:
    found = compare(problem, ["auto"])
    assert sorted(r.strategy for r in found.rows) == ["auto", BASELINE]


def test_what_fails_is_a_row_with_the_reason(problem: Problem) -> None:
    wanted: dict[str, tuple[Outcome, str]] = {
        "oops": (Outcome.FAILED, "KeyError"),
        "declines": (Outcome.DECLINED, "not this (got 12 operators)"),
        "infeasible": (Outcome.INFEASIBLE, "does not fit"),
    }
    for error, (outcome, words) in wanted.items():
        found = compare(problem, [Raises(error)])
        failed = row(found, "test_comparison")
        assert (failed.outcome, failed.solution) == (outcome, None)
        assert words in (failed.reason or "")
        assert found.best is not None
        assert found.best.strategy == BASELINE


def test_objectives_that_a_strategy_does_not_cover_are_not_run(problem: Problem) -> None:
    found = compare(replace(problem, objective=Objective.THROUGHPUT), ["dads"])
    assert row(found, "dads") == Row(
        "dads", Outcome.DECLINED, reason="covers latency only", given="dads"
    )


def test_a_wrong_bound_is_found_out_by_a_better_plan(problem: Problem) -> None:
    found = compare(problem, [Overclaims()])
    wrong = row(found, "test_comparison")
    assert wrong.outcome is Outcome.FAILED
    assert "the bound of strategy 'test_comparison' is wrong" in (wrong.reason or "")
    assert found.proven_s <= row(found, BASELINE).value_s


def test_an_unknown_strategy_is_refused_before_anything_runs(problem: Problem) -> None:
    with pytest.raises(UsageError, match="magic"):
        compare(problem, ["auto", "magic"])


def test_one_that_cannot_be_loaded_is_a_row(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Strategy:
        if name == "broken":
            raise ImportError("no module named theirs")
        return known(name)

    known = strategies.load
    monkeypatch.setattr(strategies, "available", lambda: ("broken", BASELINE))
    monkeypatch.setattr(strategies, "load", load)
    broken = row(compare(problem), "broken")
    assert broken.outcome is Outcome.FAILED
    assert "no module named theirs" in (broken.reason or "")


@pytest.mark.parametrize("reports", [True, False])
def test_an_interrupt_ends_the_comparison_and_keeps_what_is_there(
    reports: bool, problem: Problem
) -> None:
    found = compare(problem, [Interrupted(reports), "auto"])
    assert found.interrupted
    assert row(found, BASELINE).solution is not None
    assert row(found, "auto").outcome is Outcome.NOT_RUN
    running = row(found, "test_comparison")
    assert (running.solution is not None) is reports
    assert running.interrupted


def test_without_any_plan_the_failure_says_what_is_short(problem: Problem) -> None:
    devices = tuple(replace(d, memory_bytes=1.0) for d in problem.cluster.devices)
    tight = replace(problem, cluster=replace(problem.cluster, devices=devices))
    found = compare(tight)
    assert found.best is None
    assert math.isinf(found.ratio(found.rows[0]))
    assert isinstance(found.failure, InfeasibleError)
    assert "short" in (found.failure.remedy or "")


def test_what_no_strategy_proved_of_every_plan_is_not_called_infeasible(problem: Problem) -> None:
    """Neither device holds the model alone, and both together do."""
    total = sum(op.memory_bytes for op in problem.graph.operators)
    room = 0.7 * total + problem.graph.stage_memory_bytes
    devices = tuple(replace(d, memory_bytes=room) for d in problem.cluster.devices)
    halves = replace(problem, cluster=replace(problem.cluster, devices=devices))
    assert compare(halves, ["auto"]).best is not None
    alone = compare(halves, [BASELINE])
    assert row(alone, BASELINE).outcome is Outcome.INFEASIBLE
    assert isinstance(alone.failure, NoPlanFoundError)
    assert "plans of one stage" in alone.failure.message
    late = compare(halves, [OutOfTime()], time_limit_s=5)
    assert row(late, "test_comparison").outcome is Outcome.NO_PLAN
    assert late.failure.message == "no plan was found in time"
    assert (late.failure.field, late.failure.exit_status) == ("time_limit_s", 1)
