"""A planning problem, what a strategy returns, and what `solve` makes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, Literal, Protocol

from cutset.cluster import Cluster, Device, Link
from cutset.cost import CostModel
from cutset.errors import InfeasibleError
from cutset.graph import Graph
from cutset.plan import Plan, Transfer


class Objective(StrEnum):
    LATENCY = "latency"
    THROUGHPUT = "throughput"


@dataclass(frozen=True, eq=False)
class Problem:
    """Place `graph` on `cluster`. The cluster is resolved: every link has numbers.

    Compared and hashed by identity, so that what is derived from one can be kept beside it.
    """

    graph: Graph
    cluster: Cluster
    cost: CostModel
    objective: Objective = Objective.LATENCY

    @cached_property
    def _compute(self) -> Mapping[str, tuple[float, ...]]:
        return {
            device.name: tuple(self.cost.compute_s(op, device) for op in self.graph.operators)
            for device in self.cluster.devices
        }

    def compute_s(self, device: str) -> tuple[float, ...]:
        """Seconds of each operator (by position) on the device; inf where it cannot run."""
        return self._compute[device]

    def device(self, name: str) -> Device:
        return self.cluster.by_name[name]

    def bandwidth_bps(self, link: Link) -> float:
        """What a transfer over the link gets: the least of link, egress and ingress."""
        assert link.bandwidth_bps is not None  # the cluster is resolved
        return min(
            link.bandwidth_bps,
            self.device(link.source).egress_bps,
            self.device(link.target).ingress_bps,
        )


@dataclass(frozen=True)
class StageTiming:
    name: str
    device: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TransferTiming:
    transfer: Transfer
    ready_s: float
    start_s: float
    end_s: float
    arrive_s: float


@dataclass(frozen=True)
class Estimate:
    """A plan's predicted numbers (formats.md, What the numbers mean).

    `busy_s` is seconds per request by resource: "device:pi", "link:pi>server", "egress:pi",
    "ingress:server". `stages` and `transfers` are the timeline of one request.
    """

    latency_s: float
    period_s: float
    memory_bytes: Mapping[str, int]
    busy_s: Mapping[str, float]
    bottleneck: str
    stages: tuple[StageTiming, ...] = ()
    transfers: tuple[TransferTiming, ...] = ()

    def value_s(self, objective: Objective) -> float:
        return self.latency_s if objective is Objective.LATENCY else self.period_s


@dataclass(frozen=True)
class Alternative:
    """What another family of plans would give: `family` is "one device", "two-way split" ….

    `value_s` None where it has no plan; `reason` says why, or that time ran out. `plan` is what
    the value is of, where it is kept.
    """

    family: str
    strategy: str
    value_s: float | None
    bound_s: float = 0.0
    scope: str = ""
    elapsed_s: float = 0.0
    reason: str | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class Proposal:
    """What a strategy returns. `bound_s` is a proven lower bound for the plans `scope` describes.

    `scope` is "full" when bound and proof hold for any untiled plan of the problem; where it is
    not, `full_bound_s` may still be a lower bound for those.
    """

    plan: Plan
    bound_s: float = 0.0
    scope: str | None = None
    full_bound_s: float = 0.0
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether splitting pays: the best single device beside the plan. `gain` is a fraction."""

    split: bool
    best_single_device: str | None
    best_single_value_s: float
    gain: float


@dataclass(frozen=True)
class BreakEven:
    """Where another plan is better: `change` crossing `below` or `above`, then `then` is best.

    Bandwidths in bits per second, loads and speeds as factors. `scope` says which plans were
    compared where it was not every plan of those families.
    """

    change: str
    then: str
    below: float | None = None
    above: float | None = None
    scope: str | None = None


Proof = Literal["optimal", "bound", "none"]


@dataclass(frozen=True)
class Solution:
    """`bound_s` holds for the plans that `scope` describes, `full_bound_s` for any untiled plan.

    `break_even` is where the verdict flips while the cut is made anew on the way; `stays_best` is
    where `plan` itself is beaten, by another cut or by one device. `finished` is False where time
    or Ctrl-C ended the strategy; `interrupted` says which.
    """

    plan: Plan
    estimate: Estimate
    objective: Objective
    bound_s: float
    proof: Proof
    scope: str
    strategy: str
    elapsed_s: float
    full_bound_s: float = 0.0
    verdict: Verdict | None = None
    break_even: tuple[BreakEven, ...] = ()
    stays_best: tuple[BreakEven, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    finished: bool = True
    interrupted: bool = False

    @property
    def value_s(self) -> float:
        return self.estimate.value_s(self.objective)

    @property
    def gap(self) -> float:
        """(value − bound)/value; 0 when the value is 0."""
        return (self.value_s - self.bound_s) / self.value_s if self.value_s > 0 else 0.0


_TIE = 1e-9  # relative: bounds are sums in another order than values


@dataclass
class Budget:
    """The time a strategy may take, and where it reports the best so far.

    Mutable on purpose: the one object that a strategy and `solve` share across threads, so that a
    time limit or Ctrl-C yields the best plan seen. `seed` is the only source of randomness.
    `value_s` scores reported plans; without it, the last one reported counts as the best.
    """

    time_limit_s: float = math.inf
    seed: int = 0
    started_s: float = field(default_factory=time.perf_counter)
    value_s: Callable[[Plan], float] | None = None
    within: Budget | None = None
    best: Proposal | None = None
    best_s: float = math.inf
    stopped: bool = False

    def remaining_s(self) -> float:
        """Seconds left, 0 or less when it is over; of a part, no more than the whole has."""
        if self.stopped:
            return 0.0
        own = self.time_limit_s - (time.perf_counter() - self.started_s)
        return own if self.within is None else min(own, self.within.remaining_s())

    def exhausted(self) -> bool:
        return self.remaining_s() <= 0

    def part(self, time_limit_s: float = math.inf) -> Budget:
        """A budget inside this one, for one of several searches. Its plans are reported here too,
        without their bounds, which need not hold for what this one is about."""
        return Budget(time_limit_s, self.seed, value_s=self.value_s, within=self)

    def report(
        self,
        plan: Plan,
        bound_s: float = 0.0,
        scope: str | None = None,
        alternatives: tuple[Alternative, ...] = (),
    ) -> None:
        """Remember the best plan so far, and the highest bound. Plans that cannot run are not.

        A bound for any plan ("full") stays; one of another scope goes when a plan beats it, as
        that plan is not of its scope.
        """
        value = -math.inf if self.value_s is None else self.value_s(plan)
        best = self.best or Proposal(plan)
        if value <= self.best_s and value < math.inf:
            self.best_s, best = value, replace(best, plan=plan)
        if scope == "full":
            best = replace(best, full_bound_s=max(best.full_bound_s, bound_s))
        if bound_s > best.bound_s:
            best = replace(best, bound_s=bound_s, scope=scope)
        if best.scope != "full" and best.bound_s > self.best_s * (1 + _TIE) > 0:
            best = replace(best, bound_s=best.full_bound_s, scope="full")
        if self.best is not None or value < math.inf:
            self.best = replace(best, alternatives=alternatives or best.alternatives)
        if self.within is not None:
            self.within.report(plan)


@dataclass(frozen=True)
class StrategyInfo:
    """What a strategy is for. `exact` says for which plans its proof holds ("" where none)."""

    objectives: frozenset[Objective]
    exact: str
    citation: str
    departs: str = ""


class Strategy(Protocol):
    """A planning algorithm: a frozen dataclass whose fields are its options."""

    info: ClassVar[StrategyInfo]

    def __call__(self, problem: Problem, budget: Budget) -> Proposal: ...


def check_memory(problem: Problem, memory_bytes: Mapping[str, int]) -> None:
    """Raise InfeasibleError that says which device is short of how many bytes."""
    for name, needed in memory_bytes.items():
        limit = problem.device(name).memory_bytes
        if needed > limit:
            raise InfeasibleError(
                f"device {name!r} needs {needed} bytes for its stages and has {limit:.0f}",
                field=f"devices.{name}.memory",
                value=f"{limit:.0f} bytes",
                remedy=f"it is {needed - limit:.0f} bytes short: give it a smaller part, or"
                " state more memory",
            )
