"""Every strategy there is passes the suite that third parties run on theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from cutset import strategies
from cutset.testing.strategy_conformance import check_strategy

#: Strategy -> on how many problems it is checked, and its options, where they are not the usual.
CHECKED: Mapping[str, tuple[int, Mapping[str, Any]]] = {"brute_force": (25, {"max_plans": 600})}
USUAL: tuple[int, Mapping[str, Any]] = (60, {})


@pytest.mark.parametrize("name", strategies.available())
def test_conforms(name: str) -> None:
    seeds, options = CHECKED.get(name, USUAL)
    assert check_strategy(strategies.load(name, options), range(seeds)) > seeds // 6


@pytest.mark.parametrize("subproblems", [1, 200])
def test_min_cut_search_conforms(subproblems: int) -> None:
    options = {"max_cuts_per_block": 1, "max_subproblems": subproblems}
    assert check_strategy(strategies.load("envelope", options), range(60)) > 30


PLANS = """
import sys
from cutset import strategies
from cutset.errors import PlanningError
from cutset.problem import Budget
from cutset.solvers.one_stage import value_of
from cutset.testing.problems import random_problem
for name in strategies.available():
    strategy = strategies.load(name, {"max_plans": 100} if name == "brute_force" else {})
    for seed in range(12):
        problem = random_problem(seed)
        try:
            found = strategy(problem, Budget(seed=seed, value_s=lambda p: value_of(problem, p)))
            print(name, seed, found.plan.stages, repr(found.bound_s), found.scope)
        except PlanningError as error:
            print(name, seed, error)
"""


def test_plans_do_not_depend_on_the_order_of_hashes() -> None:
    def printed(hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", PLANS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    first = printed("1")
    assert len(first.splitlines()) == 12 * len(strategies.available())
    assert printed("2") == first
