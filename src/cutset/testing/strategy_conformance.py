"""What every strategy must keep; a third party runs it on its own in one line.

    from cutset.testing.strategy_conformance import check_strategy
    check_strategy(Mine())

Raises AssertionError that names the problem (a seed of `random_problem`) and what was broken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from cutset.errors import InfeasibleError, UnsupportedProblemError
from cutset.planner import TOLERANCE, solve
from cutset.problem import Problem, Solution, Strategy
from cutset.testing.problems import brute_force_s, random_problem


def check_strategy(strategy: Strategy, seeds: Iterable[int] = range(60)) -> int:
    """Check a strategy on random problems; returns on how many it found a plan.

    Plans are valid and keep memory limits (solve() enforces both), the same problem gives the same
    plan, no plan is better than the strategy's own bound, a bound whose scope holds plans of at
    most two stages is no higher than the best of them, and a proof is right. Declining a problem
    as unsupported is allowed; calling one infeasible is where some two-stage plan exists only for
    strategies that claim nothing exact.
    """
    found = 0
    for seed in seeds:
        problem = random_problem(seed)
        best = brute_force_s(problem)
        try:
            solution = solve(problem, strategy)
        except UnsupportedProblemError:
            continue
        except InfeasibleError as error:
            if "two stages" in strategy.info.exact:
                _require(math.isinf(best), seed, f"called infeasible ({error}), best is {best} s")
            continue
        found += 1
        _check(problem, strategy, solution, best, seed)
    return found


def _check(
    problem: Problem, strategy: Strategy, solution: Solution, best: float, seed: int
) -> None:
    value, bound = solution.value_s, solution.bound_s
    again = solve(problem, strategy)
    _require(again.plan == solution.plan, seed, "two runs gave two plans")
    _require(problem.objective in strategy.info.objectives, seed, "solved an objective not in info")
    _require(bound <= value, seed, f"bound {bound} s is above the value {value} s")
    stages = len(solution.plan.stages)
    if stages == len(solution.plan.devices) <= 2:
        slack = TOLERANCE * abs(best)
        _require(value >= best - slack, seed, f"{value} s is better than the best, {best} s")
    if "two stages" in solution.scope or solution.scope == "full":
        _require(
            bound <= best * (1 + TOLERANCE), seed, f"bound {bound} s is above the best, {best} s"
        )
        if solution.proof == "optimal":
            _require(
                value <= best * (1 + TOLERANCE), seed, f"{value} s is called optimal, not {best} s"
            )


def _require(condition: bool, seed: int, message: str) -> None:
    if not condition:
        raise AssertionError(f"random_problem({seed}): {message}")
