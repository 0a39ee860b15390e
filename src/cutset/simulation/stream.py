"""`simulate`: one request alone, many at once, and the long run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

from cutset.errors import UsageError
from cutset.plan import Plan
from cutset.problem import Problem
from cutset.report import LatencySummary, summarise
from cutset.simulation.activities import Network, network
from cutset.simulation.events import Record, play
from cutset.simulation.steady import Cycle, find_cycle
from cutset.simulation.tracks import Span, spans

Dispatch = Literal["oldest", "listed"]

#: Stages, sends, transfers and receives over all requests: about 20 s of simulation.
MAX_ACTIVITIES: Final = 2_000_000
#: As many in a search for a state that recurs.
_STEADY_ACTIVITIES: Final = 100_000
_MAX_IN_FLIGHT: Final = 256


@dataclass(frozen=True)
class Simulation:
    """A simulated stream of `requests`, all there at the start, `in_flight` of them at a time.

    `latency_s`: one request on an idle cluster. `period_s`: seconds per request in the long run
    of an endless stream; with `exact`, the state of all devices and links recurs after `cycle`
    requests, so that this is no sample. `saturated`: some resource is never idle in the long run,
    so that more in flight, or another order, could not be faster. `utilisation`: the fraction of
    the long run for which a resource is held; `bottleneck` has the highest. `latencies_s`: of the
    stream's requests, from admission to answer. `makespan_s`: from the start to the last answer.
    """

    latency_s: float
    period_s: float
    requests: int
    in_flight: int
    dispatch: Dispatch
    exact: bool
    cycle: int
    saturated: bool
    utilisation: Mapping[str, float]
    bottleneck: str
    admitted_s: tuple[float, ...]
    latencies_s: tuple[float, ...]
    makespan_s: float
    _network: Network = field(repr=False, compare=False)
    _record: Record = field(repr=False, compare=False)

    @cached_property
    def latency_summary(self) -> LatencySummary:
        """Mean and percentiles of `latencies_s`."""
        found = summarise(self.latencies_s)
        assert found is not None  # there is at least one request
        return found

    @property
    def span_count(self) -> int:
        """How many `spans` there are."""
        return self.requests * sum(len(a.resources) for a in self._network.activities)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """What held which resource when, in the stream."""
        return spans(self._network, self._record)


def simulate(
    problem: Problem,
    plan: Plan,
    *,
    requests: int = 200,
    in_flight: int | None = None,
    dispatch: Dispatch = "oldest",
) -> Simulation:
    """Play a plan by discrete events; the definitions are those of docs/formats.md.

    In the stream, a device works off stages, `bytes·send_cost` and `bytes·recv_cost` one at a
    time, and is held by its transfers where its `overlap` is false; a transfer holds link, egress
    and ingress together. Of what is ready, the oldest request's goes first (and within a request
    what became ready first; a request's stages keep the listed order); nothing is interrupted.
    With `dispatch` "listed", a device takes up a request only when it has done all stages of the
    one before. A request is in flight until all its work is done, also work that leads to no
    output. `in_flight` None: twice as many again and again, until some resource is never idle or
    doubling saves nothing.

    What holds:
    - `latency_s` is the evaluator's latency.
    - `period_s` is never below the evaluator's period: that is the time for which the busiest
      resource is held for a request, and no resource is held twice at a time.
    - It comes down to the evaluator's as `in_flight` grows where all devices overlap, dispatch is
      "oldest", and no transfer has rivals at both its ends (a sender that sends elsewhere too, and
      a receiver that others send to): one of egress and ingress is held whenever the other is
      then, so that every activity needs in effect one resource, and none idles while work waits
      for it. Mostly it is equal at a finite number; what is missing was never seen above 1.1 times
      one request's time alone over `in_flight`. Tested on random plans, not proven.
    - Otherwise it may stay above: a transfer that waits for its receiver keeps its sender from
      others. With unicast and overlap, a cleverer order could still reach the evaluator's period
      (transfers are the edges of a bipartite graph, whose fractional chromatic index is its
      largest degree); with multicast, or devices that do not overlap, perhaps none (three
      transfers of which any two share a device take three turns, though each device has two).

    Raises what the evaluator raises, and UsageError for too many requests.
    """
    alone = network(problem, plan, loaded=False)
    busy = network(problem, plan, loaded=True, strict=dispatch == "listed").in_ticks()
    _check(requests, in_flight, len(busy.activities), dispatch)
    latency_s = play(alone, 1, 1).answered[0]
    if in_flight is None:
        in_flight, cycle = _saturate(busy)
    else:
        cycle = _steady(busy, in_flight)
    held = _held(busy)
    record = play(busy, requests, in_flight)
    unit = busy.per_second
    # What no stream can go below, where only a sample was measured.
    period = max(cycle.period, max(held.values(), default=0))
    used = {name: min(1.0, h / period) if period else 0.0 for name, h in held.items()}
    return Simulation(
        latency_s=latency_s,
        period_s=period / unit,
        requests=requests,
        in_flight=in_flight,
        dispatch=dispatch,
        exact=cycle.exact,
        cycle=cycle.requests,
        saturated=_saturated(busy, cycle),
        utilisation=used,
        bottleneck=max(used, key=lambda name: used[name], default=""),
        admitted_s=tuple(time / unit for time in record.admitted),
        latencies_s=tuple(
            (end - begin) / unit
            for begin, end in zip(record.admitted, record.answered, strict=True)
        ),
        makespan_s=max(record.answered) / unit,
        _network=busy,
        _record=record,
    )


def _check(requests: int, in_flight: int | None, activities: int, dispatch: str) -> None:
    if dispatch not in ("oldest", "listed"):
        raise UsageError(
            "no such dispatch", field="dispatch", value=dispatch, remedy='use "oldest" or "listed"'
        )
    most = MAX_ACTIVITIES // activities
    for name, count in (("requests", requests), ("in_flight", in_flight)):
        if count is not None and not 1 <= count <= most:
            raise UsageError(
                "must be at least 1" if count < 1 else "too many to simulate",
                field=name,
                value=count,
                remedy=f"this plan has {activities} activities per request: give 1 to {most}",
            )


def _held(busy: Network) -> dict[str, float]:
    """For how long one request holds each resource, in the network's units; devices first."""
    families = ("device", "link", "egress", "ingress")
    names = sorted(busy.resources, key=lambda name: families.index(name.partition(":")[0]))
    total = dict.fromkeys(names, 0.0)
    for activity in busy.activities:
        for effect in activity.effects:
            for resource in effect.resources:
                total[busy.resources[resource]] += sum(effect.delays)
    return total


def _saturated(busy: Network, cycle: Cycle) -> bool:
    return cycle.exact and max(_held(busy).values(), default=0) >= cycle.period


def _steady(busy: Network, in_flight: int) -> Cycle:
    """The cycle of an endless stream: exact where one is found in a stream of bounded length."""
    requests = 4 * in_flight + 30
    while True:
        cycle = find_cycle(play(busy, requests, in_flight))
        enough = requests * len(busy.activities) > _STEADY_ACTIVITIES
        if cycle is not None and (cycle.exact or enough):
            return cycle
        requests *= 2


def _saturate(busy: Network) -> tuple[int, Cycle]:
    """How many to keep in flight so that more would hardly help, and the cycle then."""
    work = play(busy, 1, 1).finished[0]
    longest = max(_held(busy).values(), default=0)
    count = min(_MAX_IN_FLIGHT, math.ceil(work / longest) + 1) if longest else 1
    best = count, _steady(busy, count)
    while not _saturated(busy, best[1]) and count < _MAX_IN_FLIGHT:
        count *= 2
        cycle = _steady(busy, count)
        if cycle.period >= best[1].period * (1 - _GAIN):
            break
        best = count, cycle
    return best


#: Twice as many in flight must save this fraction of the period.
_GAIN: Final = 1e-4
