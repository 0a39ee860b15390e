"""solve(): run a strategy, then validate, score and certify what it returns."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Literal

from cutset import strategies
from cutset.errors import CutsetError, InputError, InvalidFileError, PlanningError, raised
from cutset.estimate import estimate
from cutset.explanation import value_in_words
from cutset.plan import Plan, check_plan
from cutset.problem import (
    Budget,
    Problem,
    Proof,
    Proposal,
    Solution,
    Strategy,
    Verdict,
    check_memory,
)
from cutset.solvers.compiling import CompileNotes
from cutset.solvers.one_stage import best_single, single_stage, value_of
from cutset.solvers.relaxation import out_of_time
from cutset.solvers.scopes import FULL
from cutset.solvers.ties import Ends, ties
from cutset.solvers.two_way.rival_cuts import RivalCuts
from cutset.units import format_time

TOLERANCE = 1e-9  # relative: value and bound closer than this are equal
_ROUNDING = 1e-12  # relative: sums in another order
_GRACE = 0.03  # of the time limit: for a strategy to notice that it is over
_POLL_S = 0.1
_SAID_S = 1.0
_End = Literal["came to its end", "time is over", "interrupted"]
_BUG = "this is a bug in the strategy: report it to its author"


def solve(
    problem: Problem,
    strategy: str | Strategy = "auto",
    *,
    time_limit_s: float = math.inf,
    seed: int = 0,
    explain: bool = True,
    note: Callable[[str], None] = lambda _: None,
) -> Solution:
    """The strategy's plan with its value, bound, proof, verdict and break-evens.

    `strategy` is a name (strategies.available()), a `./file.py:Class`, or a strategy. When the time
    limit or Ctrl-C ends it, the best plan that it reported counts. Scores are the evaluator's, the
    same for every strategy; memory limits are enforced here too. Without `explain`, and where time
    is over, there are no break-evens. `note` is told when kernels are compiled, and when planning
    goes on, in the thread that plans; and while planning lasts, in this one, what is known so far.

    Raises InfeasibleError, UnsupportedProblemError, UsageError for an unknown strategy, and
    PlanningError that names the strategy where it fails, or returns an invalid plan or a wrong
    bound.
    """
    chosen = strategies.load(strategy) if isinstance(strategy, str) else strategy
    name = strategies.name_of(chosen)
    budget = Budget(time_limit_s, seed, value_s=lambda plan: value_of(problem, plan))
    given = _state(problem)
    proposal, end = _propose(chosen, name, problem, budget, note)
    if _state(problem) != given:
        raise PlanningError(
            f"strategy {name!r} changed the problem that it was given",
            field="strategy",
            remedy=_BUG,
        )
    elapsed_s = time.perf_counter() - budget.started_s
    solution = certify(problem, proposal, name, elapsed_s)
    over = elapsed_s >= time_limit_s
    # A strategy that looks at the time ends by itself when it is over, through or not.
    closed = _proof(solution.value_s, solution.full_bound_s) == "optimal"
    finished = end == "came to its end" and (closed or not over)
    solution = replace(solution, finished=finished, interrupted=end == "interrupted")
    if not explain or not finished or over:
        return solution  # who is in a hurry does not wait for break-evens
    return explained(problem, solution, until_s=budget.started_s + time_limit_s)


def explained(
    problem: Problem,
    solution: Solution,
    others: Sequence[tuple[str, Plan]] = (),
    until_s: float = math.inf,
) -> Solution:
    """The solution with its break-evens, and with how far its own plan stays the best.

    The plan is compared with the solution's alternatives, each device alone, and `others` with
    their names; beside them, where it is on two devices, with every cut of those. At `until_s` (of
    time.perf_counter) it ends with what is known.
    """
    ends = flips(problem, solution, others, until_s)
    return replace(solution, break_even=ends.verdict, stays_best=ends.plan)


def flips(
    problem: Problem,
    solution: Solution,
    others: Sequence[tuple[str, Plan]] = (),
    until_s: float = math.inf,
) -> Ends:
    """What `explained` adds: the flips of the verdict, and the ends of the plan's own range."""
    known = [
        (f"{device.name} alone", single_stage(problem, device.name))
        for device in problem.cluster.devices
    ]
    known.sort(key=lambda rival: value_of(problem, rival[1]))
    for other in solution.alternatives:
        if other.plan is not None:
            known.append((other.family, other.plan))
    pair = _pair_of(problem, solution.plan)
    cuts = None if pair is None else RivalCuts.of(problem, *pair)
    return ties(
        problem, solution.plan, [*known, *others], cuts, lambda: time.perf_counter() >= until_s
    )


def _pair_of(problem: Problem, plan: Plan) -> tuple[str, str] | None:
    """The source and the other device that the plan is on, or would be; None for other plans."""
    source = problem.cluster.source
    used = [name for name in plan.devices if name != source]
    if len(used) > 1:
        return None
    if used:
        return source, used[0]
    others = [d.name for d in problem.cluster.devices if d.name != source]
    fastest = min(others, key=lambda name: math.fsum(problem.compute_s(name)), default=None)
    return None if fastest is None else (source, fastest)


def _state(problem: Problem) -> tuple[object, ...]:
    """What a strategy could change although it should not: a plan would be scored by that."""
    graph, cluster = problem.graph, problem.cluster
    compute_s = [problem.compute_s(d.name) for d in cluster.devices]
    return (
        (graph.operators, dict(graph.tensors), graph.inputs, graph.outputs),
        (cluster.devices, cluster.links, cluster.default_link),
        (cluster.source, cluster.sink, cluster.multicast),
        compute_s,
    )


def _propose(
    strategy: Strategy,
    name: str,
    problem: Problem,
    budget: Budget,
    note: Callable[[str], None],
) -> tuple[Proposal, _End]:
    """What the strategy proposes, and what ended it.

    It runs in a thread of its own: whatever it is doing when time is up or Ctrl-C is pressed
    (compiling, a solver, a third party's loop), this one goes on with the best plan reported.
    """
    outcome: list[object] = []
    end: _End = "time is over"

    def work() -> None:
        try:
            outcome.append(strategy(problem, budget))
        except BaseException as error:  # handed to the thread that asked
            outcome.append(error)

    thread = threading.Thread(target=work, name=f"cutset-planning-{name}", daemon=True)
    notes = CompileNotes(note)
    notes.watch()
    said_s = time.perf_counter()
    try:
        thread.start()  # may be interrupted, too, when the strategy is at work already
        while thread.is_alive() and budget.remaining_s() > -_GRACE * budget.time_limit_s:
            notes.watch()
            if time.perf_counter() - said_s >= _SAID_S and not notes.depth:
                said_s = time.perf_counter()
                note(_standing(problem, budget))
            thread.join(_POLL_S if math.isinf(budget.time_limit_s) else _POLL_S / 20)
        if outcome:
            return _proposed(outcome[0], name, strategies.file_of(strategy)), "came to its end"
    except KeyboardInterrupt:
        if budget.best is None:
            raise
        end = "interrupted"
    finally:
        budget.stopped = True
        notes.close()
    if budget.best is not None:
        return budget.best, end
    single, _ = best_single(problem, required=False)
    if single is None:
        raise out_of_time(budget)
    return Proposal(single), end


def _standing(problem: Problem, budget: Budget) -> str:
    """What is known while planning goes on."""
    elapsed = f"planning for {time.perf_counter() - budget.started_s:.0f} s"
    best = budget.best
    if best is None or not math.isfinite(budget.best_s):
        return f"{elapsed}, no plan yet"
    value = value_in_words(problem.objective, budget.best_s)
    bound_s = max(best.bound_s, best.full_bound_s)
    least = f", at least {format_time(bound_s)}" if bound_s > 0 else ""
    return f"{elapsed}: {value}{least}"


def _proposed(outcome: object, name: str, file: str | None) -> Proposal:
    """A strategy's outcome as a proposal; raises what it raised. `file` is the strategy's."""
    if isinstance(outcome, (CutsetError, KeyboardInterrupt)) and not isinstance(
        outcome,
        InvalidFileError,  # of a plan that it reported, which is in no file
    ):
        raise outcome
    if isinstance(outcome, BaseException):  # a third party's strategy may raise anything
        raise PlanningError(
            f"strategy {name!r} failed: {raised(outcome, file)}",
            field="strategy",
            remedy=_BUG,
        ) from outcome
    if not isinstance(outcome, Proposal):
        raise PlanningError(
            f"strategy {name!r} returned no Proposal",
            field="strategy",
            value=type(outcome).__name__,
            remedy=_BUG,
        )
    return outcome


def certify(problem: Problem, proposal: Proposal, strategy: str, elapsed_s: float) -> Solution:
    """A proposal validated and scored, without break-evens. Raises as `solve`."""
    plan = proposal.plan
    try:
        check_plan(plan, problem.graph, problem.cluster)
    except InputError as error:
        raise PlanningError(
            f"strategy {strategy!r} returned a plan that cannot run: {error}",
            remedy=_BUG,
        ) from error
    except (AttributeError, TypeError) as error:
        raise PlanningError(
            f"strategy {strategy!r} returned a Proposal that holds no plan: {error}",
            field="plan",
            value=type(plan).__name__,
            remedy=_BUG,
        ) from error
    scored = estimate(problem, plan)
    check_memory(problem, scored.memory_bytes)
    value, bound = scored.value_s(problem.objective), proposal.bound_s
    claims = bound, proposal.full_bound_s
    if not all(isinstance(b, Real) and b <= value + TOLERANCE * abs(value) for b in claims):
        raise PlanningError(
            f"strategy {strategy!r} claims a lower bound above the value of its own plan",
            field="bound_s",
            value=f"{bound!r} s, value {value!r} s",
            remedy=_BUG,
        )
    full = max(proposal.full_bound_s, bound if proposal.scope == FULL else 0.0)
    judged = verdict(problem, plan, value)
    if judged.best_single_device is not None:
        alone = f"{judged.best_single_device} alone"
        wrong = disproved(strategy, full, judged.best_single_value_s, alone)
        if wrong is not None:
            raise wrong
    bound, full = _cleaned(bound, value), _cleaned(full, value)
    return Solution(
        plan=plan,
        estimate=scored,
        objective=problem.objective,
        bound_s=bound,
        proof=_proof(value, bound),
        scope=proposal.scope or "",
        strategy=strategy,
        elapsed_s=elapsed_s,
        full_bound_s=full,
        alternatives=proposal.alternatives,
        verdict=judged,
    )


def disproved(
    strategy: str, full_bound_s: float, value_s: float, plan: str
) -> PlanningError | None:
    """The error of a strategy whose bound on every plan a plan of lower value disproves.

    `plan` says in words what that plan is. None where it does not disprove the bound.
    """
    if full_bound_s <= value_s * (1 + TOLERANCE):
        return None
    return PlanningError(
        f"the bound of strategy {strategy!r} is wrong: it claims that no plan takes less than"
        f" {full_bound_s!r} s, and {plan} takes {value_s!r} s",
        field="bound_s",
        value=f"{full_bound_s!r} s",
        remedy=_BUG,
    )


def _cleaned(bound_s: float, value_s: float) -> float:
    """A bound between 0 and the value, equal to it where only rounding is between."""
    bound_s = min(max(bound_s, 0.0), value_s)
    return value_s if value_s - bound_s <= _ROUNDING * value_s else bound_s


def _proof(value: float, bound: float) -> Proof:
    if value - bound <= TOLERANCE * abs(value):
        return "optimal"
    return "bound" if bound > 0 else "none"


def verdict(problem: Problem, plan: Plan, value_s: float) -> Verdict:
    """Whether splitting pays, against the best single device that holds and reaches everything.

    `gain` is (single − value)/single, 1 where no single device can run the model at all.
    """
    split = len(plan.devices) > 1
    single, single_s = best_single(problem, required=False)
    if single is None:
        return Verdict(split, None, math.inf, 1.0)
    gain = (single_s - value_s) / single_s if single_s > 0 else 0.0
    return Verdict(split, single.devices[0], single_s, gain)
