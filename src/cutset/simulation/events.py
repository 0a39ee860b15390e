"""The event loop: plays the activities of many requests, and notes when each starts."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from cutset.simulation.activities import Network


@dataclass
class Record:
    """When what happened, by request, in the network's units of time.

    `starts` has a list a request, with a time for every activity. A request is `finished` when
    nothing of it is left to do, which may be after its answer.
    """

    admitted: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    starts: list[list[float]] = field(default_factory=list)


def play(network: Network, requests: int, in_flight: int) -> Record:
    """Admit `requests` at time 0, at most `in_flight` at a time, and run them all to their ends.

    What is ready waits in a queue at each resource that it needs, older requests first and, within
    a request, in the order in which it became ready; it starts when it is at the head of all its
    queues and all are free. Whoever is first of all is at the head everywhere, so that nothing
    waits for ever. At one time, first everything ends that ends, then one activity after the other
    starts, in the order of the queues.
    """
    activities = network.activities
    needs = [a.resources for a in activities]
    effects = [
        [(e.delays, e.resources, e.successors, int(e.ahead)) for e in a.effects] for a in activities
    ]
    awaits = [a.awaits for a in activities]
    chained = [s for a in activities for e in a.effects if e.ahead for s in e.successors]
    answer = len(activities) - 1
    record = Record(
        [0] * requests, [0] * requests, [0] * requests, [[0] * len(awaits) for _ in range(requests)]
    )
    waits: dict[int, list[int]] = {}
    open_ends = [0] * requests  # effects to come and activities to start
    free = [True] * len(network.resources)
    queues: list[list[tuple[float, ...]]] = [[] for _ in network.resources]
    candidates: list[tuple[float, ...]] = []
    events: list[tuple[float, int, int, Sequence[int], Sequence[int], int]] = []
    serial = 0
    now: float = 0
    admitted = 0

    def waiting(request: int) -> list[int]:
        found = waits.get(request)
        if found is None:
            found = waits[request] = awaits.copy()
            if request == 0:
                for activity in chained:
                    found[activity] -= 1
        return found

    def begin(request: int, activity: int) -> None:
        nonlocal serial
        record.starts[request][activity] = now
        if activity == answer:
            record.answered[request] = now
        open_ends[request] += len(effects[activity]) - 1
        for delays, resources, successors, ahead in effects[activity]:
            time = now
            for delay in delays:
                time += delay
            serial += 1
            heapq.heappush(events, (time, serial, request, resources, successors, ahead))

    def tell(request: int, successors: Sequence[int]) -> None:
        left = waiting(request)
        for activity in successors:
            left[activity] -= 1
            if left[activity]:
                continue
            if not needs[activity]:
                begin(request, activity)
                continue
            turn = (request, now, activity)
            for resource in needs[activity]:
                heapq.heappush(queues[resource], turn)
            heapq.heappush(candidates, turn)

    def admit() -> None:
        nonlocal admitted
        record.admitted[admitted] = now
        open_ends[admitted] = len(activities)
        admitted += 1
        begin(admitted - 1, 0)

    for _ in range(min(in_flight, requests)):
        admit()
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, _, request, resources, successors, ahead = heapq.heappop(events)
            for resource in resources:
                free[resource] = True
                if queues[resource]:
                    heapq.heappush(candidates, queues[resource][0])
            if request + ahead < requests:
                tell(request + ahead, successors)
            open_ends[request] -= 1
            if not open_ends[request]:
                record.finished[request] = now
                del waits[request]
                if admitted < requests:
                    admit()
        while candidates:
            turn = heapq.heappop(candidates)
            request, activity = int(turn[0]), int(turn[2])
            held = needs[activity]
            if any(not free[r] or not queues[r] or queues[r][0] != turn for r in held):
                continue
            for resource in held:
                heapq.heappop(queues[resource])
                free[resource] = False
            begin(request, activity)
            if events[0][0] == now:
                break
    return record
