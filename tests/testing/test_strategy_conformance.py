"""The suite finds every fault that it is there for, and names the problem that shows it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from cutset.errors import InfeasibleError, InvalidFileError, PlanningError, UnsupportedProblemError
from cutset.graph import Tensor
from cutset.plan import Plan
from cutset.problem import Budget, Objective, Problem, Proposal, Strategy, StrategyInfo
from cutset.solvers.one_stage import best_single, single_stage, value_of
from cutset.solvers.two_way.search import search
from cutset.testing.strategy_conformance import CHECKS, check_strategy, conformance

INFO = StrategyInfo(frozenset(Objective), "", "none: a test")


def strategy(call: Callable[[Problem, Budget], Any], info: Any = INFO, name: str = "Mine") -> Any:
    """A strategy of one function."""
    return dataclasses.make_dataclass(
        name, [], frozen=True, namespace={"info": info, "__call__": lambda _, p, b: call(p, b)}
    )()


def single(problem: Problem, budget: Budget) -> Proposal:
    plan, _ = best_single(problem, required=False)
    if plan is None:
        raise UnsupportedProblemError("no single device", remedy="use auto")
    budget.report(plan)
    return Proposal(plan)


def with_bound(scope: str | None, times: float = 1.0) -> Callable[[Problem, Budget], Proposal]:
    def call(problem: Problem, budget: Budget) -> Proposal:
        proposal = single(problem, budget)
        return replace(proposal, bound_s=value_of(problem, proposal.plan) * times, scope=scope)

    return call


def reports_too_much(problem: Problem, budget: Budget) -> Proposal:
    proposal = single(problem, budget)
    budget.report(proposal.plan, value_of(problem, proposal.plan), "full")
    return proposal


def all_on_the_first(problem: Problem, budget: Budget) -> Proposal:
    """Whatever the first device has memory for."""
    single(problem, budget)
    return Proposal(single_stage(problem, problem.cluster.devices[0].name))


def tears_apart(problem: Problem, budget: Budget) -> Proposal:
    plan = single(problem, budget).plan
    stage = plan.stages[0]
    return Proposal(Plan((replace(stage, operators=stage.operators[1:]),)))


def raises(error: BaseException) -> Callable[[Problem, Budget], Proposal]:
    def call(problem: Problem, budget: Budget) -> Proposal:
        raise error

    return call


turn = itertools.count()


def moody(problem: Problem, budget: Budget) -> Proposal:
    """Another device each time."""
    single(problem, budget)
    plans = [single_stage(problem, d.name) for d in problem.cluster.devices]
    good = [plan for plan in plans if value_of(problem, plan) < math.inf]
    return Proposal(good[next(turn) % len(good)])


def meddles(problem: Problem, budget: Budget) -> Proposal:
    name = next(iter(problem.graph.tensors))
    problem.graph.tensors[name] = Tensor(name, 7)  # type: ignore[index]
    return single(problem, budget)


def by_name(problem: Problem, budget: Budget) -> Proposal:
    """On the device called b, where that can run it."""
    if "b" in problem.cluster.by_name:
        plan = single_stage(problem, "b")
        if value_of(problem, plan) < math.inf:
            return Proposal(plan)
    return single(problem, budget)


def by_seconds(problem: Problem, budget: Budget) -> Proposal:
    """The first device that takes less than 30 ms."""
    for device in problem.cluster.devices:
        plan = single_stage(problem, device.name)
        if value_of(problem, plan) < 0.03:
            return Proposal(plan)
    return single(problem, budget)


def fails_when_late(problem: Problem, budget: Budget) -> Proposal:
    if budget.exhausted():
        raise ZeroDivisionError("no time left to divide")
    return single(problem, budget)


def claims_none(problem: Problem, budget: Budget) -> Proposal:
    raise InfeasibleError("there is no plan", remedy="buy more memory")


def claims_none_without_help(problem: Problem, budget: Budget) -> Proposal:
    raise InfeasibleError("Mine finds none")


def declines_without_help(problem: Problem, budget: Budget) -> Proposal:
    raise UnsupportedProblemError("not that")


def by_position(problem: Problem, budget: Budget) -> Proposal:
    """Calls the best of the devices but the last optimal among plans of one stage."""
    names = [d.name for d in problem.cluster.devices[:-1]] or [problem.cluster.devices[0].name]
    plans = [single_stage(problem, name) for name in names]
    best = min(plans, key=lambda plan: value_of(problem, plan))
    value = value_of(problem, best)
    if math.isinf(value):
        return single(problem, budget)
    return Proposal(best, value, "plans of one stage")


def likes_slow_devices(problem: Problem, budget: Budget) -> Proposal:
    """Takes the worst device, and calls it optimal, where one is much faster than the others."""
    plans = [single_stage(problem, d.name) for d in problem.cluster.devices]
    good = sorted((value_of(problem, p), i, p) for i, p in enumerate(plans))
    good = [item for item in good if item[0] < math.inf]
    if not good:
        return single(problem, budget)
    worst = good[-1] if good[-1][0] > 2 * good[0][0] else good[0]
    return Proposal(worst[2], worst[0], "plans of one stage")


LATENCY_ONLY = replace(INFO, objectives=frozenset({Objective.LATENCY}))
EXACT = replace(INFO, exact="plans of one stage")

FAULTS: dict[str, tuple[str, Any]] = {
    "no info": ("info is complete", strategy(single, None)),
    "no objectives": ("info is complete", strategy(single, replace(INFO, objectives=frozenset()))),
    "no citation": ("info is complete", strategy(single, replace(INFO, citation=""))),
    "raises": ("fails by name only", strategy(raises(ValueError("boom")))),
    "exits": ("fails by name only", strategy(raises(SystemExit(0)))),
    "blames a file": ("fails by name only", strategy(raises(InvalidFileError("bad")))),
    "returns a plan": ("fails by name only", strategy(lambda p, b: single(p, b).plan)),
    "returns nothing": ("fails by name only", strategy(lambda p, b: None)),
    "forgets an operator": ("plans are valid", strategy(tears_apart)),
    "fills a proposal with junk": ("plans are valid", strategy(lambda p, b: Proposal(None))),  # type: ignore[arg-type]
    "a bound of junk": (
        "no bound is above its plan's value",
        strategy(lambda p, b: replace(single(p, b), bound_s="low")),  # type: ignore[arg-type]
    ),
    "knows no memory limit": ("memory limits are kept", strategy(all_on_the_first)),
    "solves what it does not cover": (
        "keeps to the objectives of its info",
        strategy(single, LATENCY_ONLY),
    ),
    "declines without a remedy": ("declines with a remedy", strategy(declines_without_help)),
    "gives up for all": ("infeasible only where it is", strategy(claims_none)),
    "gives up without a remedy": (
        "infeasible only where it is",
        strategy(claims_none_without_help),
    ),
    "exact and wrongly infeasible": ("infeasible only where it is", strategy(claims_none, EXACT)),
    "a bound above its value": (
        "no bound is above its plan's value",
        strategy(with_bound("full", 1.1)),
    ),
    "a bound that is NaN": (
        "no bound is above its plan's value",
        strategy(with_bound("full", math.nan)),
    ),
    "a bound for nothing": ("bounds say for which plans", strategy(with_bound(None))),
    "a wrong proof": (
        "no bound is above the best plan",
        strategy(with_bound("plans of at most two stages")),
    ),
    "a wrong bound": ("no bound is above the best plan", strategy(with_bound("full", 0.97))),
    "a wrong bound reported": ("no bound is above the best plan", strategy(reports_too_much)),
    "a false optimum": (
        "optimal means equal to brute force",
        strategy(likes_slow_devices),
    ),
    "moody": ("same problem and seed, same plan", strategy(moody)),
    "meddles": ("leaves the problem as it is", strategy(meddles)),
    "late": ("stops when time is over", strategy(fails_when_late)),
    "goes by names": ("names change nothing", strategy(by_name)),
    "goes by seconds": ("scaling all times scales the value", strategy(by_seconds)),
    "goes by position": ("order changes no proven value", strategy(by_position)),
    "likes it slow": (
        "a faster device makes no proven value worse",
        strategy(likes_slow_devices),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    name, faulty = FAULTS[fault]
    found = conformance(faulty, range(40))
    failed = {check.name: check for check in found.failed}
    assert name in failed
    assert failed[name].message
    with pytest.raises(AssertionError):
        check_strategy(faulty, range(40))


@dataclass(frozen=True)
class Demanding:
    """An option without a default."""

    device: str
    info: ClassVar[StrategyInfo] = INFO

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return single(problem, budget)


@dataclass
class Changeable:
    """Not frozen."""

    best: list[str] = field(default_factory=list)
    info: ClassVar[StrategyInfo] = INFO

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return single(problem, budget)


@pytest.mark.parametrize(
    ("faulty", "words"), [(Demanding("a"), "no default for device"), (Changeable(), "frozen")]
)
def test_options_need_defaults(faulty: Strategy, words: str) -> None:
    (failed,) = conformance(faulty, range(3)).failed
    assert failed.name == "all options have defaults"
    assert words in failed.message


def test_one_that_does_not_end_is_left_alone() -> None:
    import threading

    release = threading.Event()

    def call(problem: Problem, budget: Budget) -> Proposal:
        release.wait(60)
        return single(problem, budget)

    seen: list[int] = []
    found = conformance(strategy(call), range(50), seen.append, patience_s=0.05)
    release.set()
    assert [check.name for check in found.failed] == ["comes to an end"]
    assert seen == [1]


@pytest.mark.parametrize(
    "good",
    [
        strategy(single),
        strategy(lambda p, b: search(p, b), replace(INFO, exact="plans of at most two stages")),
        strategy(raises(UnsupportedProblemError("not that", remedy="use auto"))),
        strategy(raises(InfeasibleError("Mine finds none", remedy="use auto"))),
        strategy(raises(PlanningError("the method gave up"))),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(good: Strategy) -> None:
    assert conformance(good, range(25)).failed == ()


def test_a_failure_names_the_problem_and_shows_it() -> None:
    _, faulty = FAULTS["goes by seconds"]
    (failed,) = conformance(faulty, range(40)).failed
    assert failed.seed is not None
    assert len(failed.shown) == 2
    assert [p.objective for p in failed.shown] == [failed.shown[0].objective] * 2
    before, after = (value_of(p, by_seconds(p, Budget()).plan) for p in failed.shown)
    assert after != pytest.approx(4 * before)


def test_checks_that_saw_nothing_are_skipped_and_say_why() -> None:
    found = conformance(strategy(single), range(10))
    assert [check.name for check in found.checks] == list(CHECKS)
    skipped = {check.name: check for check in found.checks if check.result == "skip"}
    assert "no bound is above the best plan" in skipped
    assert all(check.message and check.times == 0 for check in skipped.values())
    assert sum(found.outcomes.values()) == 10
