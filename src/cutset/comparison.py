"""compare(): every strategy on one problem, side by side, by the one evaluator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from cutset import strategies
from cutset.errors import (
    CutsetError,
    InfeasibleError,
    NoPlanFoundError,
    PlanningError,
    UnsupportedProblemError,
    UsageError,
)
from cutset.planner import disproved, explained, solve
from cutset.problem import Problem, Solution, Strategy
from cutset.solvers.fitting import no_plan
from cutset.solvers.relaxation import impossible
from cutset.solvers.scopes import FULL

#: Always there: what every split has to beat.
BASELINE = "single_device"
TIME_LIMIT_S = 30.0


class Outcome(StrEnum):
    """How a strategy's turn ended."""

    PLANNED = "planned"
    DECLINED = "declined"  # the problem is outside what it covers
    INFEASIBLE = "infeasible"  # it proved that it has no plan, or that none exists
    NO_PLAN = "no plan in time"
    NOT_FOUND = "no plan found"  # which is no proof that there is none
    FAILED = "failed"  # it raised, or returned a plan or a bound that cannot be
    NOT_RUN = "not run"  # interrupted before


_SAID = {
    Outcome.INFEASIBLE: "no plan",
    Outcome.NO_PLAN: "no plan in time",
    Outcome.NOT_FOUND: "no plan found",
    Outcome.FAILED: "FAILED",
    Outcome.DECLINED: "does not apply",
    Outcome.NOT_RUN: "not run",
}


@dataclass(frozen=True)
class Row:
    """One strategy's turn. `reason` says in a line why there is no plan, or what is wrong.

    `strategy` is its name for people; `given` is what `cutset plan --strategy` takes.
    """

    strategy: str
    outcome: Outcome
    solution: Solution | None = None
    elapsed_s: float = 0.0
    reason: str | None = None
    error: CutsetError | None = None
    interrupted: bool = False
    given: str = ""

    @property
    def value_s(self) -> float:
        return self.solution.value_s if self.solution is not None else math.inf


@dataclass(frozen=True)
class Comparison:
    """Rows by value, best first, then those without a plan, in the order of their names."""

    problem: Problem
    rows: tuple[Row, ...]
    time_limit_s: float = TIME_LIMIT_S
    seed: int = 0
    interrupted: bool = False

    @property
    def best(self) -> Row | None:
        """The best plan; of equal values, the one with the highest bound."""
        return self.rows[0] if self.rows and self.rows[0].solution is not None else None

    @cached_property
    def proven_s(self) -> float:
        """Seconds that no untiled plan beats, as far as any strategy proved it; 0 if none did."""
        found = [r.solution for r in self.rows if r.solution and r.outcome is Outcome.PLANNED]
        return max((solution.full_bound_s for solution in found), default=0.0)

    @property
    def left_out(self) -> tuple[tuple[str, tuple[str, ...], str], ...]:
        """In words why strategies have no plan, or are not to be believed: what, which, why."""
        found: dict[tuple[str, str], list[str]] = {}
        for outcome, said in _SAID.items():
            for row in self.rows:
                if row.outcome is outcome:
                    found.setdefault((said, row.reason or ""), []).append(row.strategy)
        return tuple((said, tuple(names), why) for (said, why), names in found.items())

    @property
    def failure(self) -> CutsetError:
        """Why there is no plan at all: that none exists only where that is proven of any plan."""
        errors = [row.error for row in self.rows if row.error is not None]
        for error in errors:
            if isinstance(error, InfeasibleError) and error.scope == FULL:
                return error
        if any(row.outcome is Outcome.NO_PLAN for row in self.rows):
            return impossible(self.problem) or PlanningError(
                "no plan was found in time",
                field="time_limit_s",
                value=f"{self.time_limit_s:g} s",
                remedy="give it more time, or the devices more memory",
            )
        scoped = [e for e in errors if isinstance(e, InfeasibleError | NoPlanFoundError)]
        if scoped:
            known = no_plan(self.problem)
            return known if isinstance(known, InfeasibleError) else _not_proven(scoped[0])
        return errors[0] if errors else PlanningError("no strategy applies to this problem")

    def ratio(self, row: Row) -> float:
        """The row's value over the best one: 1 for the best, inf without a plan."""
        best = self.best
        if best is None or row.solution is None:
            return math.inf
        if row.value_s <= best.value_s:
            return 1.0
        return row.value_s / best.value_s if best.value_s > 0 else math.inf


def _not_proven(error: PlanningError) -> NoPlanFoundError:
    """What a strategy says of its own plans, which is nothing of all of them."""
    return NoPlanFoundError(
        error.message, field=error.field, value=error.value, remedy=error.remedy
    )


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError for a strategy that does not exist, before anything is measured for it."""
    known = strategies.available()
    for name in names:
        if name not in known:
            strategies.load(name)


def compare(
    problem: Problem,
    chosen: Sequence[str | Strategy] | None = None,
    *,
    added: Sequence[str] = (),
    time_limit_s: float = TIME_LIMIT_S,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run the strategies one after another (default: all there are), each within `time_limit_s`.

    `added` are further ones such as `./mine.py:Mine`. The best single device is always among them.
    One that declines, fails or finds nothing is a row with the reason. On Ctrl-C, what is there is
    returned; what was running counts with the best plan that it reported.
    Raises UsageError for a strategy that does not exist.
    """
    wanted = _wanted(chosen, added)
    rows: list[Row] = []
    interrupted = False
    for i, (label, given, strategy) in enumerate(wanted):
        if interrupted:
            rows.append(Row(label, Outcome.NOT_RUN, reason="interrupted before its turn"))
            continue
        turn = _progress(i, len(wanted), label, rows)
        note(turn)
        row = run(problem, label, strategy, time_limit_s, seed, _within(turn, note))
        interrupted = row.interrupted
        rows.append(replace(row, given=given))
    ordered = _ordered(_checked(rows))
    if not interrupted:
        note("break-evens of the best plan")
        try:
            ordered = _explained(problem, ordered)
        except KeyboardInterrupt:  # everything else is there
            interrupted = True
    return Comparison(problem, ordered, time_limit_s, seed, interrupted)


def run(
    problem: Problem,
    label: str,
    strategy: Strategy | CutsetError,
    time_limit_s: float,
    seed: int,
    note: Callable[[str], None] = lambda _: None,
) -> Row:
    """One strategy's turn; one that could not be loaded is given as the error that says why."""
    if isinstance(strategy, CutsetError):
        return Row(label, Outcome.FAILED, reason=str(strategy), error=strategy)
    covered = strategy.info.objectives
    if problem.objective not in covered:
        return Row(
            label,
            Outcome.DECLINED,
            reason=f"covers {', '.join(sorted(o.value for o in covered))} only",
        )
    begin = time.perf_counter()
    try:
        solution = solve(
            problem, strategy, time_limit_s=time_limit_s, seed=seed, explain=False, note=note
        )
    except PlanningError as error:
        elapsed_s = time.perf_counter() - begin
        return Row(label, _outcome(error), elapsed_s=elapsed_s, reason=_reason(error), error=error)
    except KeyboardInterrupt:
        elapsed_s = time.perf_counter() - begin
        return Row(
            label, Outcome.NOT_RUN, None, elapsed_s, "interrupted before it had a plan", None, True
        )
    return Row(
        label, Outcome.PLANNED, solution, solution.elapsed_s, interrupted=solution.interrupted
    )


def _explained(problem: Problem, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The best plan with its break-evens against the others."""
    if not rows or rows[0].solution is None:
        return rows
    others = [(f"the plan of {r.strategy}", r.solution.plan) for r in rows[1:] if r.solution]
    best = explained(problem, rows[0].solution, others)
    return (replace(rows[0], solution=best), *rows[1:])


def _wanted(
    chosen: Sequence[str | Strategy] | None, added: Sequence[str]
) -> list[tuple[str, str, Strategy | CutsetError]]:
    """Name, what it was given as, and strategy; the baseline first: an early Ctrl-C has it too.

    Names are made different where strategies share one, as one with other options does.
    """
    known = strategies.available()
    names: list[str | Strategy] = [*(known if chosen is None else chosen), *added]
    names = [BASELINE, *(n for n in names if n != BASELINE)]
    wanted: list[tuple[str, str, Strategy | CutsetError]] = []
    for name in dict.fromkeys(names):
        if not isinstance(name, str):
            wanted.append((strategies.name_of(name), "", name))
            continue
        label = name.replace("\\", "/").rpartition("/")[2] if strategies.is_file(name) else name
        try:
            wanted.append((label, name, strategies.load(name)))
        except UsageError as error:
            if name not in known:
                raise
            wanted.append((label, name, error))
        except Exception as error:  # a third party's package may raise anything when imported
            text = f"it cannot be loaded: {type(error).__name__}: {error}"
            wanted.append((label, name, PlanningError(text, field="strategy")))
    seen: dict[str, int] = {}
    for i, (label, given, strategy) in enumerate(wanted):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > 1:
            wanted[i] = (f"{label} ({seen[label]})", given, strategy)
    return wanted


def _outcome(error: PlanningError) -> Outcome:
    if isinstance(error, UnsupportedProblemError):
        return Outcome.DECLINED
    if isinstance(error, InfeasibleError):
        return Outcome.INFEASIBLE
    if isinstance(error, NoPlanFoundError):
        return Outcome.NOT_FOUND
    return Outcome.NO_PLAN if error.field == "time_limit_s" else Outcome.FAILED


def _reason(error: PlanningError) -> str:
    """The error in a line; what to do about it belongs to a command that does one thing."""
    said = error.with_value() if isinstance(error, UnsupportedProblemError) else error.message
    return " ".join(said.split())


def _checked(rows: Sequence[Row]) -> list[Row]:
    """A bound on every plan that another strategy's plan beats is wrong, and is said to be."""
    best = min((row.value_s for row in rows), default=math.inf)
    better = next((row.strategy for row in rows if row.value_s == best), "")
    checked = []
    for row in rows:
        found = row.solution
        wrong = None
        if found is not None:
            wrong = disproved(row.strategy, found.full_bound_s, best, f"the plan of {better}")
        if wrong is not None:
            row = replace(row, outcome=Outcome.FAILED, reason=_reason(wrong), error=wrong)
        checked.append(row)
    return checked


def _ordered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """By value; times that differ in the last digits only are equal, then bounds decide."""

    def key(row: Row) -> tuple[float, bool, float, str]:
        if row.solution is None:
            return math.inf, False, 0.0, row.strategy
        value = float(f"{row.value_s:.9g}")
        wrong = row.outcome is Outcome.FAILED
        return value, wrong, -float(f"{row.solution.bound_s:.9g}"), row.strategy

    return tuple(sorted(rows, key=key))


def _within(turn: str, note: Callable[[str], None]) -> Callable[[str], None]:
    """A strategy's notes, after what is said of its turn."""
    return lambda text: note(f"{turn}: {text}")


def _progress(done: int, total: int, label: str, rows: Sequence[Row]) -> str:
    from cutset.units import format_time

    text = f"{done + 1} of {total}: {label}"
    best = min(rows, key=lambda row: row.value_s, default=None)
    if best is not None and best.solution is not None:
        text += f" (best so far {format_time(best.value_s)}, {best.strategy})"
    return text
