"""Out of what load balancing cannot improve: devices change parts, and random changes are tried."""

from __future__ import annotations

import itertools
import math
import random

from cutset.problem import Budget, Problem
from cutset.solvers.arrays import Ints
from cutset.solvers.latency.latency_model import latency_model
from cutset.solvers.scheduling.balancing import balanced_within
from cutset.solvers.scheduling.groups import move_groups
from cutset.solvers.scheduling.list_schedule import Schedule, value_s
from cutset.solvers.scheduling.stages_of import stages_of

_BALANCING = 1e7  # effort after each change: some 0.2 s
_KICKS = 60
_MOST_CHANGES = 3  # at random at a time
_SWAPS = 0.4  # of them; the others move what hangs together
_LESS = 1 - 1e-9  # relative: a value must be lower by more than rounding


class _Search:
    """Mutable: the best schedule and the effort that is left."""

    def __init__(self, problem: Problem, budget: Budget, start: Schedule, effort: float) -> None:
        self.problem, self.budget, self.effort = problem, budget, effort
        self.best, self.value_s = start, value_s(problem, start)
        self.work = latency_model(problem).work
        self.devices = len(problem.cluster.devices)

    def over(self) -> bool:
        return self.effort <= 0 or self.budget.exhausted()

    def offer(self, schedule: Schedule, *, improve: bool) -> bool:
        """Take in a schedule, or with `improve` what balancing makes of it, if it is better."""
        value = self._value_s(schedule)
        if math.isinf(value) or not (improve or value < self.value_s * _LESS):
            return False
        given = min(_BALANCING, self.effort)
        balanced, left = balanced_within(self.problem, schedule, Budget(within=self.budget), given)
        self.effort -= given - left
        value = self._value_s(balanced)
        if not value < self.value_s * _LESS:
            return False
        self.best, self.value_s = balanced, value
        self.budget.report(stages_of(self.problem, balanced.device, balanced.order, effort=0))
        return True

    def swap(self) -> None:
        """Let two devices change parts while that helps."""
        pairs = list(itertools.combinations(range(self.devices), 2))
        since, k = 0, 0
        while pairs and since < len(pairs) and not self.over():
            changed = swapped(self.best.device, *pairs[k % len(pairs)])
            better = self.offer(Schedule(changed, self.best.order), improve=False)
            since, k = 0 if better else since + 1, k + 1

    def kick(self, rng: random.Random, groups: list[tuple[int, ...]]) -> None:
        """Balance a random change to the best schedule."""
        device = self.best.device.copy()
        for _ in range(rng.randint(1, _MOST_CHANGES)):
            a, b = rng.randrange(self.devices), rng.randrange(self.devices)
            if rng.random() < _SWAPS:
                device = swapped(device, a, b)
            else:
                device[list(groups[rng.randrange(len(groups))])] = a
        if self.offer(Schedule(device, self.best.order), improve=True):
            self.swap()

    def _value_s(self, schedule: Schedule) -> float:
        self.effort -= self.work
        return value_s(self.problem, schedule)


def restarted(problem: Problem, start: Schedule, budget: Budget, *, effort: float) -> Schedule:
    """The best schedule found from `start` on, itself balanced; never worse than it.

    Two devices change parts, or parts of the graph move, whatever that costs; load balancing goes
    on from there. `effort` limits it, in visits of operators and tensors, some 50 million a
    second. Deterministic by the budget's seed unless the budget ends it.
    """
    search = _Search(problem, budget, start, effort)
    if search.devices < 2 or math.isinf(search.value_s):
        return start
    search.swap()
    rng = random.Random(f"restart {budget.seed}")
    groups = [_whole(problem, group) for group in move_groups(problem.graph)]
    for _ in range(_KICKS):
        if search.over():
            break
        search.kick(rng, groups)
    return search.best


def _whole(problem: Problem, group: tuple[int, ...]) -> tuple[int, ...]:
    """The operators, with all that are colocated with one of them."""
    of = latency_model(problem).group
    joined = {int(of[i]) for i in group} - {-1}
    return group if not joined else (*group, *(i for i, g in enumerate(of) if g in joined))


def swapped(device: Ints, a: int, b: int) -> Ints:
    """The placement with what is on `a` on `b`, and the other way round."""
    found = device.copy()
    found[device == a], found[device == b] = b, a
    return found
