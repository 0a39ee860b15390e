"""Every strategy there is passes the suite that third parties run on theirs."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from cutset import strategies
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.search import best_single
from cutset.testing.strategy_conformance import check_strategy


@pytest.mark.parametrize("name", strategies.available())
def test_conforms(name: str) -> None:
    assert check_strategy(strategies.load(name), range(120)) > 20


@pytest.mark.parametrize(
    ("limits", "found"),
    [({"max_cuts_per_block": 1}, 100), ({"max_cuts_per_block": 1, "max_subproblems": 1}, 100)],
)
def test_min_cut_search_conforms(limits: dict[str, int], found: int) -> None:
    assert check_strategy(strategies.load("envelope", limits), range(500, 650)) > found


@dataclass(frozen=True)
class Boastful:
    """Claims that the best single device is the best of all."""

    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        plan, value = best_single(problem)
        return Proposal(plan, value, "plans of at most two stages")


def test_a_wrong_proof_is_found() -> None:
    with pytest.raises(AssertionError, match="above the best"):
        check_strategy(Boastful())
