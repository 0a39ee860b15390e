"""What every strategy must keep; a third party runs it on its own in one line.

    from cutset.testing.strategy_conformance import check_strategy
    check_strategy(Mine())

or `cutset conformance ./mine.py:Mine`. Problems are tiny and random, with every corner of the model
in them, so that bounds and proofs can be held to all the plans that their scope's words describe.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from cutset import strategies
from cutset.planner import TOLERANCE
from cutset.problem import Objective, Problem, Strategy, StrategyInfo
from cutset.solvers import scopes
from cutset.testing.attempts import PATIENCE_S, Attempt, attempt
from cutset.testing.plans import best_s, known_scope
from cutset.testing.problems import random_problem
from cutset.testing.variations import (
    renamed,
    reordered,
    scaled,
    with_faster_device,
    with_faster_links,
)

#: What is checked, in this order, and why nothing may have been.
CHECKS: Mapping[str, str] = {
    "info is complete": "",
    "all options have defaults": "",
    "comes to an end": "",
    "fails by name only": "",
    "plans are valid": "it found no plan",
    "memory limits are kept": "it found no plan",
    "keeps to the objectives of its info": "it found no plan",
    "declines with a remedy": "it declined nothing",
    "infeasible only where it is": "it called nothing infeasible",
    "no bound is above its plan's value": "it found no plan",
    "bounds say for which plans": "it claims no bound",
    "no bound is above the best plan": "no bound whose scope is known: see solvers/scopes.py",
    "optimal means equal to brute force": "nothing proven whose scope is known",
    "same problem and seed, same plan": "it found no plan",
    "leaves the problem as it is": "",
    "stops when time is over": "",
    "names change nothing": "it found no plan",
    "order changes no proven value": "nothing proven whose scope is known",
    "scaling all times scales the value": "it found no plan",
    "a faster device makes no proven value worse": "nothing proven whose scope is known",
    "faster links make no proven value worse": "nothing proven whose scope is known",
}

#: After how many looks at the budget the time is over.
LOOKS = (0, 1, 4)


@dataclass(frozen=True)
class Check:
    """`times` is how often it was looked at. `seed` is the first `random_problem` where it fails,
    `shown` that problem, and where they differ the variation of it that shows the fault."""

    name: str
    result: Literal["pass", "fail", "skip"]
    times: int
    message: str = ""
    seed: int | None = None
    shown: tuple[Problem, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Conformance:
    """`outcomes` counts what came of the problems: "solved", "declined" …"""

    strategy: str
    checks: tuple[Check, ...]
    outcomes: Mapping[str, int]

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.result == "fail")


def check_strategy(strategy: Strategy, seeds: Iterable[int] = range(60)) -> int:
    """Check a strategy on random problems; returns on how many it found a plan.

    Raises AssertionError that names the problem (a seed of `random_problem`) and what was broken.
    """
    suite = _Suite(strategy)
    for _ in suite.run(seeds):
        for check in suite.result().failed:
            where = "" if check.seed is None else f"random_problem({check.seed}): "
            raise AssertionError(f"{where}{check.name}: {check.message}")
    return suite.outcomes.get("solved", 0)


def conformance(
    strategy: Strategy,
    seeds: Iterable[int] = range(60),
    progress: Callable[[int], None] = lambda done: None,
    patience_s: float = PATIENCE_S,
) -> Conformance:
    """Every check's result; `progress` is called with the number of problems done.

    A strategy that is at one problem for longer than `patience_s` seconds has no end.
    """
    suite = _Suite(strategy, patience_s)
    for done in suite.run(seeds):
        progress(done)
    return suite.result()


@lru_cache(maxsize=1024)
def _reference(seed: int) -> Problem:
    """The problem as it should be: never shown to a strategy, and the same for all of them."""
    return random_problem(seed)


@dataclass
class _Suite:
    """Mutable: tallies what is seen. `counts` is how often a check was looked at."""

    strategy: Strategy
    patience_s: float = PATIENCE_S
    counts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, Check] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)

    def result(self) -> Conformance:
        checks = tuple(
            self.failures.get(name)
            or Check(
                name,
                "pass" if name in self.counts else "skip",
                self.counts.get(name, 0),
                "" if name in self.counts else why or "an earlier check failed",
            )
            for name, why in CHECKS.items()
        )
        return Conformance(strategies.name_of(self.strategy), checks, self.outcomes)

    def run(self, seeds: Iterable[int]) -> Iterator[int]:
        """Work through the seeds, and give the number done after each."""
        if not self._definition():
            yield 0
            return
        for done, seed in enumerate(seeds, 1):
            _Examination(self, seed).run()
            yield done
            if "comes to an end" in self.failures:  # its thread still runs: one is enough
                return

    def expect(
        self, name: str, good: bool, message: str, seed: int | None, *shown: Problem
    ) -> bool:
        assert name in CHECKS
        self.counts[name] = self.counts.get(name, 0) + 1
        if not good and name not in self.failures:
            self.failures[name] = Check(name, "fail", 1, message, seed, shown)
        return good

    def _definition(self) -> bool:
        """Check the class itself; whether the rest can be checked at all."""
        kind = type(self.strategy)
        info = getattr(kind, "info", None)
        usable = complete = False
        if isinstance(info, StrategyInfo):
            usable = all(isinstance(o, Objective) for o in info.objectives) and all(
                isinstance(text, str) for text in (info.exact, info.citation, info.departs)
            )
            complete = usable and bool(info.objectives) and bool(info.citation)
        self.expect(
            "info is complete",
            complete,
            "a class attribute StrategyInfo is needed, with the objectives covered, the words for"
            ' which plans its proof holds ("" where none), and a citation ("none: …" where none)',
            None,
        )
        parameters = getattr(kind, "__dataclass_params__", None)
        options: tuple[dataclasses.Field[object], ...] = ()
        if dataclasses.is_dataclass(kind):
            options = dataclasses.fields(kind)
        bare = [
            option.name
            for option in options
            if option.default is dataclasses.MISSING
            and option.default_factory is dataclasses.MISSING
        ]
        self.expect(
            "all options have defaults",
            parameters is not None and parameters.frozen and not bare,
            f"no default for {', '.join(bare)}" if bare else "it is no frozen dataclass",
            None,
        )
        return usable


@dataclass
class _Examination:
    """All checks on one problem."""

    suite: _Suite
    seed: int

    def run(self) -> None:
        given = self._fresh()
        first = self._attempt(given)
        outcomes = self.suite.outcomes
        outcomes[first.outcome] = outcomes.get(first.outcome, 0) + 1
        if first.outcome == "endless":
            return
        self._expect("leaves the problem as it is", _same(given, self.problem), "it was changed")
        self._bounds(first)
        self._excuse(first)
        if first.solution is not None:
            covered = self.problem.objective in self.suite.strategy.info.objectives
            self._expect("keeps to the objectives of its info", covered, "it solved another one")
        if first.outcome in ("broken", "over memory", "wrong bound"):
            return
        for looks in LOOKS:
            stopped = self._attempt(self._fresh(), looks)
            self._expect(
                "stops when time is over",
                stopped.outcome in ("solved", "declined", "infeasible", "gave up"),
                f"after {looks} looks at the budget: {stopped.reason}",
            )
            if stopped.outcome == "endless":
                return
            self._bounds(stopped)
            self._excuse(stopped, f"time was over after {looks} looks at the budget, and ")
        self._again(first)
        if first.solution is not None:
            self._same_in_other_words(first)
        if _proven_scope(first) is not None:
            self._same_in_another_order(first)
            faster = with_faster_device(self._fresh(), self.seed)
            self._no_worse("a faster device makes no proven value worse", first, faster)
            faster = with_faster_links(self._fresh())
            self._no_worse("faster links make no proven value worse", first, faster)

    @property
    def problem(self) -> Problem:
        return _reference(self.seed)

    def _fresh(self) -> Problem:
        """The problem for a strategy's hands: nothing that it does shows in the reference."""
        return random_problem(self.seed)

    def _expect(self, name: str, good: bool, message: str, *varied: Problem) -> None:
        self.suite.expect(name, good, message, self.seed, self.problem, *varied)

    def _attempt(self, problem: Problem, looks: float = math.inf, *varied: Problem) -> Attempt:
        """An attempt, and what holds whatever the circumstances."""
        found = attempt(self.suite.strategy, problem, looks, self.suite.patience_s)
        ended = found.outcome != "endless"
        self._expect("comes to an end", ended, found.reason, *varied)
        if ended and found.proposal is None:
            known = found.outcome != "broken"
            self._expect("fails by name only", known, found.reason, *varied)
        if found.proposal is not None:
            self._expect("plans are valid", found.outcome != "broken", found.reason, *varied)
            kept = found.outcome != "over memory"
            self._expect("memory limits are kept", kept, found.reason, *varied)
            right = found.outcome != "wrong bound"
            self._expect("no bound is above its plan's value", right, found.reason, *varied)
        return found

    def _varied(self, problem: Problem) -> Attempt:
        return self._attempt(problem, math.inf, problem)

    def _bounds(self, found: Attempt) -> None:
        """The bounds that were returned, and those that were reported on the way."""
        for proposal in (found.proposal, found.budget.best):
            if proposal is None or found.outcome in ("broken", "wrong bound"):
                continue
            if proposal.bound_s > 0:
                words = bool(proposal.scope)
                self._expect("bounds say for which plans", words, "a bound without a scope")
            for bound, scope in (
                (proposal.bound_s, str(proposal.scope)),
                (proposal.full_bound_s, scopes.FULL),
            ):
                known = known_scope(scope)
                best = None if known is None or not bound > 0 else best_s(self.problem, known)
                if best is not None:
                    self._expect(
                        "no bound is above the best plan",
                        bound <= best * (1 + TOLERANCE),
                        f"bound {bound!r} s is above the best, {best!r} s, of {scope!r}",
                    )
        known = _proven_scope(found)
        best = None if known is None else best_s(self.problem, known)
        if best is not None:
            self._expect(
                "optimal means equal to brute force",
                found.value_s <= best * (1 + TOLERANCE),
                f"{found.value_s!r} s is called optimal among {known!r}, and {best!r} s is",
            )

    def _excuse(self, found: Attempt, when: str = "") -> None:
        """Where there is no plan: whether that is right, and said well."""
        error, info = found.error, self.suite.strategy.info
        if error is None:
            return
        if found.outcome == "declined":
            self._expect("declines with a remedy", bool(error.remedy), f"no remedy: {error}")
        if found.outcome != "infeasible":
            return
        name = "infeasible only where it is"
        self._expect(name, bool(error.remedy), f"it names nothing that would help: {error}")
        scope = known_scope(info.exact) if info.exact else scopes.FULL
        best = None if scope is None else best_s(self.problem, scope)
        if best is None or math.isinf(best):
            return
        own = strategies.name_of(self.suite.strategy), type(self.suite.strategy).__name__
        self._expect(
            name,
            not info.exact and any(word in str(error) for word in own),
            f"{when}a plan takes {best!r} s, but it said: {error}. Where the method finds none and"
            " does not prove that there is none, raise PlanningError, or claim nothing exact and"
            " name the strategy in the message",
        )

    def _again(self, first: Attempt) -> None:
        if first.proposal is None:
            return
        second = self._attempt(self._fresh()).proposal
        self._expect(
            "same problem and seed, same plan",
            second is not None
            and (second.plan, second.bound_s, second.scope)
            == (first.proposal.plan, first.proposal.bound_s, first.proposal.scope),
            "two runs gave two plans, bounds or scopes",
        )

    def _same_in_other_words(self, first: Attempt) -> None:
        """All that a strategy may compare compares the same, so for every method all is equal."""
        prefix = "the "
        problem = renamed(self._fresh(), prefix)
        other = self._varied(problem)
        assert first.solution is not None
        stages = [
            (prefix + s.device, tuple(prefix + name for name in s.operators))
            for s in first.solution.plan.stages
        ]
        plan = None if other.solution is None else other.solution.plan
        self._expect(
            "names change nothing",
            plan is not None and [(s.device, s.operators) for s in plan.stages] == stages,
            "every name got a prefix, and another plan came out",
            problem,
        )
        problem = scaled(self._fresh(), 4.0)
        other = self._varied(problem)
        self._expect(
            "scaling all times scales the value",
            _near(other.value_s, 4 * first.value_s),
            f"{first.value_s!r} s became {other.value_s!r} s where all times are 4 times as long",
            problem,
        )

    def _same_in_another_order(self, first: Attempt) -> None:
        problem = reordered(self._fresh(), self.seed)
        other = self._varied(problem)
        if other.solution is not None and _proven_scope(other) != _proven_scope(first):
            return
        self._expect(
            "order changes no proven value",
            _near(other.value_s, first.value_s),
            f"{first.value_s!r} s became {other.value_s!r} s when devices and operators changed"
            " places",
            problem,
        )

    def _no_worse(self, name: str, first: Attempt, faster: Problem) -> None:
        """Holds for every period. A latency may rise, as a transfer that is ready sooner may take
        the turn of one that matters more: then brute force must say so too."""
        other = self._varied(faster)
        scope = _proven_scope(first)
        assert scope is not None
        if other.solution is not None and _proven_scope(other) != scope:
            return
        good = other.value_s <= first.value_s * (1 + TOLERANCE)
        if not good and faster.objective is Objective.LATENCY and other.solution is not None:
            best = best_s(faster, scope)
            good = best is None or _near(other.value_s, best)
        message = f"{first.value_s!r} s became {other.value_s!r} s"
        self._expect(name, good, message, faster)


def _proven_scope(found: Attempt) -> str | None:
    """The scope, where it is known, in which the plan is called optimal."""
    solution = found.solution
    return known_scope(solution.scope) if solution and solution.proof == "optimal" else None


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE)


def _same(a: Problem, b: Problem) -> bool:
    return (a.graph, a.cluster, a.cost, a.objective) == (b.graph, b.cluster, b.cost, b.objective)
