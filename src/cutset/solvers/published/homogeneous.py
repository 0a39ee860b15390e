"""A problem as the throughput methods of arXiv 2210.12219 see it: equal devices, spans, links.

Their model has no compute times, one memory capacity, and neither a device where requests enter nor
one where results are wanted. Ours: the capacity is that of the smallest device, less what a stage
takes beside its operators; devices that cannot run every operator are left out; plans are scored
by the evaluator, with everything it knows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cutset.errors import InfeasibleError
from cutset.plan import Plan
from cutset.problem import Budget, Problem
from cutset.solvers.arrays import Floats
from cutset.solvers.fitting import fitting_plan
from cutset.solvers.one_stage import value_of
from cutset.solvers.published.candidate_points import CandidatePoints, candidate_points, pipeline
from cutset.solvers.published.least_sum_partition import least_sum_partition
from cutset.solvers.relaxation import impossible


@dataclass(frozen=True, eq=False)
class Homogeneous:
    """`method` is the strategy's name, for errors; `devices` are those that can run everything."""

    problem: Problem
    method: str

    @cached_property
    def devices(self) -> tuple[str, ...]:
        names = [d.name for d in self.problem.cluster.devices]
        able = tuple(n for n in names if not any(map(math.isinf, self.problem.compute_s(n))))
        if not able:
            raise self.failure(
                "it needs devices that can run every operator, and none can",
                field="operators.compute_s",
                remedy="profile the model on the devices, or use another strategy",
            )
        return able

    @cached_property
    def points(self) -> CandidatePoints:
        return candidate_points(self.problem.graph)

    @cached_property
    def smallest(self) -> str:
        return min(self.devices, key=lambda name: self.problem.device(name).memory_bytes)

    @cached_property
    def capacity_bytes(self) -> float:
        limit = self.problem.device(self.smallest).memory_bytes
        return limit - self.problem.graph.stage_memory_bytes

    @cached_property
    def bandwidth_bps(self) -> Floats:
        """From each device to each other, in the order of `devices`; 0 where they cannot talk."""
        table = np.zeros((len(self.devices), len(self.devices)))
        for (i, a), (j, b) in itertools.permutations(enumerate(self.devices), 2):
            link = self.problem.cluster.link(a, b)
            if link is not None:
                table[i, j] = self.problem.bandwidth_bps(link)
        return table

    def partition(self) -> tuple[int, ...]:
        """Ends of the spans of the least sum of transfers. Raises InfeasibleError."""
        self.check_blocks()
        found, fewest = least_sum_partition(self.points, self.capacity_bytes, len(self.devices))
        if found is not None:
            return found
        more = fewest - len(self.devices)
        raise self.failure(
            f"its partition takes at least {fewest} devices and there are {len(self.devices)}",
            field=f"devices.{self.smallest}.memory",
            value=f"{self.problem.device(self.smallest).memory_bytes:.0f} bytes",
            remedy=f"add {more} device{'s' * (more > 1)}, state more memory for the smallest, or"
            " use another strategy",
        )

    def check_blocks(self) -> None:
        """Raise InfeasibleError where what cannot be cut is over the smallest device."""
        positions, memory = self.points.positions, self.points.memory_bytes
        needed = [float(after - before) for before, after in itertools.pairwise(memory)]
        largest = max(range(self.points.last), key=needed.__getitem__)
        short_bytes = needed[largest] - self.capacity_bytes
        if short_bytes <= 0:
            return
        inside = self.problem.graph.operators[positions[largest] : positions[largest + 1]]
        raise self.failure(
            f"it takes all devices for as small as {self.smallest!r}, which cannot hold operators"
            f" {inside[0].name!r} to {inside[-1].name!r}",
            field=f"devices.{self.smallest}.memory",
            value=f"{self.problem.device(self.smallest).memory_bytes:.0f} bytes",
            remedy=f"it is {short_bytes:.0f} bytes short: state more memory, leave the device out,"
            " or use another strategy",
        )

    def failure(
        self, why: str, *, field: str, remedy: str, value: str | None = None
    ) -> InfeasibleError:
        """The method's failure, with what is known of other plans."""
        reason = impossible(self.problem)
        if reason is not None and not (reason.field or "").endswith(".memory"):
            return reason
        if reason is not None:
            said = f"{reason.message}; {self.method} finds no plan"
        elif fitting_plan(self.problem) is not None:
            said = f"{self.method} finds no plan, though some plan fits these devices"
        else:
            said = f"{self.method} finds no plan, though there may be one"
        return InfeasibleError(
            f"{said}: {why}",
            field=field,
            value=value,
            remedy=remedy,
        )

    def plan(self, ends: Sequence[int], placed: Sequence[int]) -> Plan:
        """The spans on devices given as indices into `devices`."""
        devices = [self.devices[i] for i in placed]
        return pipeline(self.problem.graph, self.points, ends, devices)

    def best(self, plans: Iterable[Plan], budget: Budget) -> Plan:
        """The plan of the least value, the first of equals, of those that time is left for.

        Raises InfeasibleError where none can run: the methods know neither source nor sink, so a
        link to or from them may be missing.
        """
        best, least = None, math.inf
        for plan in plans:
            value = value_of(self.problem, plan)
            if value < least:
                best, least = plan, value
                budget.report(plan)
            if budget.exhausted():
                break
        if best is None:
            raise self.failure(
                "it looks at links between its own stages only, and a tensor from elsewhere (the"
                " request, the result, a side tensor) has to travel where there is none",
                field="links",
                remedy="add links or a default_link, or use another strategy",
            )
        return best
