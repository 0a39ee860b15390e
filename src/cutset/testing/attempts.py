"""One call of a strategy, and what came of it, judged without its help."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from cutset import strategies
from cutset.errors import (
    CutsetError,
    InfeasibleError,
    InputError,
    PlanningError,
    UnsupportedProblemError,
)
from cutset.plan import check_plan
from cutset.planner import certify
from cutset.problem import Budget, Problem, Proposal, Solution, Strategy
from cutset.solvers.one_stage import value_of

#: For one tiny problem, where its loops are first compiled on a slow machine.
PATIENCE_S = 300.0
_POLL_S = 0.1

Outcome = Literal[
    "solved",
    "declined",  # UnsupportedProblemError
    "infeasible",
    "gave up",  # another PlanningError
    "wrong bound",
    "over memory",
    "broken",
    "endless",
]


@dataclass
class Countdown(Budget):
    """A budget that is over after so many looks at it: the same on every machine."""

    looks: float = math.inf

    def remaining_s(self) -> float:
        if self.looks <= 0:
            return 0.0
        self.looks -= 1
        return super().remaining_s()


@dataclass(frozen=True)
class Attempt:
    """`reason` says what is broken. `budget` holds what was reported on the way."""

    outcome: Outcome
    budget: Budget
    reason: str = ""
    error: CutsetError | None = None
    proposal: Proposal | None = None
    solution: Solution | None = field(default=None, compare=False)

    @property
    def value_s(self) -> float:
        return math.inf if self.solution is None else self.solution.value_s


def attempt(
    strategy: Strategy,
    problem: Problem,
    looks: float = math.inf,
    patience_s: float = PATIENCE_S,
) -> Attempt:
    """Run a strategy to its end, in a thread that is left alone after `patience_s`."""
    budget = Countdown(looks=looks, value_s=lambda plan: value_of(problem, plan))
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(strategy(problem, budget))
        except BaseException as error:  # whatever it is, it is what came of it
            ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until_s = time.monotonic() + patience_s
    # In short waits: where the system gives Ctrl-C to another thread, a long one would not end.
    while thread.is_alive() and time.monotonic() < until_s:
        thread.join(_POLL_S)
    if not ended:
        budget.stopped = True
        return Attempt("endless", budget, f"no end after {patience_s:g} s")
    return _judged(strategy, problem, budget, ended[0])


def _judged(strategy: Strategy, problem: Problem, budget: Budget, ended: object) -> Attempt:
    if isinstance(ended, UnsupportedProblemError):
        return Attempt("declined", budget, error=ended)
    if isinstance(ended, InfeasibleError):
        return Attempt("infeasible", budget, error=ended)
    if isinstance(ended, PlanningError):
        return Attempt("gave up", budget, str(ended), error=ended)
    if isinstance(ended, BaseException):
        return Attempt("broken", budget, f"it raised {type(ended).__name__}: {ended}")
    if not isinstance(ended, Proposal):
        return Attempt("broken", budget, f"it returned {type(ended).__name__}, no Proposal")
    try:
        check_plan(ended.plan, problem.graph, problem.cluster)
        solution = certify(problem, ended, strategies.name_of(strategy), 0.0)
    except InfeasibleError as error:
        over = error.field is not None and error.field.endswith(".memory")
        return Attempt("over memory" if over else "broken", budget, str(error), proposal=ended)
    except PlanningError as error:
        wrong = error.field == "bound_s"
        return Attempt("wrong bound" if wrong else "broken", budget, str(error), proposal=ended)
    except InputError as error:
        return Attempt("broken", budget, f"its plan cannot run: {error}", proposal=ended)
    except Exception as error:  # a plan of the wrong types
        reason = f"its plan is none: {type(error).__name__}: {error}"
        return Attempt("broken", budget, reason, proposal=ended)
    return Attempt("solved", budget, proposal=ended, solution=solution)
