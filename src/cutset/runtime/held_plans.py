"""Several plans of one model, all loaded: each request goes the way of one of them, from its start.

Nothing is loaded, drained or moved when requests change over from one plan to another. Where a
device is lost, the requests that were under way there begin again with a plan that is left, and
the lost plans are loaded again as soon as the device answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from cutset.errors import CutsetError, InfeasibleError, WorkerLostError
from cutset.ports import Array
from cutset.runtime.deployment import Deployment
from cutset.runtime.messages import LinkStats, Loaded, StageStats, Stats
from cutset.runtime.session import DEFAULT_DEADLINE_S, Fallback, Session

REJOIN_S: Final = 0.5  # how often a lost device is looked for


class Traffic(Protocol):
    """Chooses each request's plan, and hears what becomes of it. Plans are meant by their index.

    Called by the threads that send, receive and compute: it must return at once.
    """

    def select(self) -> int:
        """The plan for a request that is sent now."""

    def began(self, request: int, plan: int) -> None:
        """A request goes the way of a plan; again, where the one before it was lost."""

    def ran(self, request: int, plan: int, queue_s: float, compute_s: float) -> None:
        """A stage of this device ran."""

    def sent(self, request: int, plan: int, size_bytes: int, held_s: float) -> None:
        """A tensor has arrived elsewhere; it held the link for `held_s`."""

    def arrived(
        self, request: int, plan: int, size_bytes: int, queue_s: float, compute_s: float
    ) -> None:
        """A tensor came; what its stage waited and ran, by the sender's word."""

    def ended(self, request: int, *, answered: bool) -> None:
        """The devices have answered the request, or it was given up."""

    def fell_back(self, took_s: float) -> None:
        """The fallback has answered a request that the devices did not."""

    def lost(self, error: CutsetError) -> None:
        """A device is gone: only plans without it can be taken."""

    def back(self) -> None:
        """All plans can be taken again."""


@dataclass
class _UnderWay:
    plan: int
    feeds: Mapping[str, Array]
    expires_s: float
    missing: set[str] = field(default_factory=set)


class HeldPlans:
    """The backend of one session over several deployments that are active.

    `deployments` are by the plan's index in `names`, which are for people and statistics. Plans
    that are not among them are `missing`, for that reason: they are loaded as lost ones are.
    `connect` reaches the devices (or raises), `deploy` loads a plan.
    """

    def __init__(
        self,
        deployments: Mapping[int, Deployment],
        names: Sequence[str],
        traffic: Traffic,
        *,
        connect: Callable[[], object],
        deploy: Callable[[int], Deployment],
        window: int = 1,
        missing: CutsetError | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._deployments = dict(deployments)
        self.names = tuple(names)
        self._traffic = traffic
        self._connect = connect
        self._deploy = deploy
        self._window = window
        self._note = note
        self._lock = threading.RLock()
        self._under_way: dict[int, _UnderWay] = {}
        self._lost: dict[int, CutsetError] = {}
        if missing is not None:
            self._lost = {i: missing for i in range(len(names)) if i not in deployments}
        self._given_up: set[int] = set()
        self._rejoining: threading.Thread | None = None
        self._ending = threading.Event()
        self._session: Session | None = None

    def session(
        self,
        *,
        fallback: Fallback | None = None,
        fallback_s: float = 0.0,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> Session:
        """The stream of requests; there is one."""
        if self._session is None:
            first = next(iter(self._deployments.values()))
            self._session = Session(
                self,
                first.inputs,
                first.outputs,
                window=self._window,
                fallback=fallback,
                fallback_s=fallback_s,
                deadline_s=deadline_s,
            )
            for plan, deployment in list(self._deployments.items()):
                deployment.serve(*self._ears(plan))
            if self._lost:
                self._traffic.lost(next(iter(self._lost.values())))
                with self._lock:
                    self._rejoin_later()
        return self._session

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        """By device, what loading all plans took there."""
        found: dict[str, Loaded] = {}
        for deployment in self._deployments.values():
            for device, loaded in deployment.loaded.items():
                before = found.get(device, Loaded(0, 0.0))
                found[device] = Loaded(
                    before.rss_growth_bytes + loaded.rss_growth_bytes,
                    before.load_s + loaded.load_s,
                    before.stage_growth_bytes + loaded.stage_growth_bytes,
                )
        return found

    @property
    def stage_memory(self) -> Mapping[str, tuple[int, int]]:
        """By "PLAN/STAGE", bytes: the number that is enforced, and the growth while it loaded."""
        return {
            f"{self.names[i]}/{stage}": numbers
            for i, deployment in sorted(self._deployments.items())
            for stage, numbers in deployment.stage_memory.items()
        }

    def deployment(self, plan: int) -> Deployment | None:
        """The live deployment of a plan; it is another one after a loss, and none before it is
        loaded."""
        with self._lock:
            return self._deployments.get(plan)

    def usable(self) -> tuple[int, ...]:
        """The plans that requests can take now."""
        with self._lock:
            return tuple(i for i in range(len(self.names)) if i not in self._lost)

    def close(self, *, drain_s: float = 5.0) -> None:
        """Let what was admitted end (at most `drain_s` each), then free the devices."""
        self._ending.set()
        thread = self._rejoining
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        end_s = time.monotonic() + drain_s
        for deployment in self._deployments.values():
            deployment.close(drain_s=max(0.0, end_s - time.monotonic()))
        if self._session is not None:
            self._session.close()

    # --- what the session asks (Backend)

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None:
        wanted = self._traffic.select()
        while True:
            with self._lock:
                plan = wanted if wanted not in self._lost else self._left()
                deployment = self._deployments[plan]
                self._under_way[request] = _UnderWay(
                    plan, feeds, expires_s, set(deployment.outputs)
                )
            self._traffic.began(request, plan)
            try:
                deployment.feed(request, feeds, expires_s)
                return
            except WorkerLostError as error:
                with self._lock:  # the news of it may be on its way still
                    self._lost.setdefault(plan, error)

    def cancel(self, request: int, *, answered_s: float | None = None) -> None:
        with self._lock:
            found = self._under_way.pop(request, None)
        if found is not None:
            self._deployments[found.plan].cancel(request)
            self._traffic.ended(request, answered=False)
        if answered_s is not None:
            self._traffic.fell_back(answered_s)

    def reroute(self, request: int, plan: int) -> None:
        """Begin a request anew with another plan; nothing where it has ended, or the plan is lost.

        What its first way still brings is not waited for.
        """
        with self._lock:
            found = self._under_way.get(request)
            if found is None or found.plan == plan or plan in self._lost:
                return
            fresh = _UnderWay(
                plan, found.feeds, found.expires_s, set(self._deployments[plan].outputs)
            )
            self._under_way[request] = fresh
            before, after = self._deployments[found.plan], self._deployments[plan]
        self._traffic.ended(request, answered=False)
        before.cancel(request)
        self._traffic.began(request, plan)
        try:
            after.feed(request, found.feeds, found.expires_s)
        except CutsetError as error:
            self._given(request, error)

    def stats(self) -> Mapping[str, Stats]:
        """Sums over all plans; stages are named "PLAN/STAGE"."""
        found: dict[str, Stats] = {}
        with self._lock:
            deployments = sorted(self._deployments.items())
        for i, deployment in deployments:
            name = self.names[i]
            for device, stats in deployment.stats().items():
                own = msgspec.structs.replace(
                    stats,
                    stages=tuple(
                        StageStats(f"{name}/{s.name}", s.requests, s.compute_s, s.queue_s)
                        for s in stats.stages
                    ),
                )
                found[device] = own if device not in found else _sum(found[device], own)
        return found

    # --- inside

    def _left(self) -> int:
        """A plan that can be taken where the wanted one is lost: the first, as they are ordered.

        Raises what ended the plans where there is none.
        """
        for plan in range(len(self.names)):
            if plan not in self._lost:
                return plan
        raise next(iter(self._lost.values()))

    def _ears(self, plan: int) -> tuple[_Ears, _Ears]:
        ears = _Ears(self, plan)
        return ears, ears

    def _result(self, plan: int, request: int, tensor: str, array: Array) -> None:
        with self._lock:
            found = self._under_way.get(request)
            if found is None or found.plan != plan:
                return  # it began again elsewhere, or was given up
            found.missing.discard(tensor)
            if not found.missing:
                del self._under_way[request]
            done = not found.missing
        if done:
            self._traffic.ended(request, answered=True)
        assert self._session is not None
        self._session.result(request, tensor, array)

    def _failed(self, plan: int, request: int, error: CutsetError) -> None:
        with self._lock:
            found = self._under_way.get(request)
            if found is None or found.plan != plan:
                return
        if isinstance(error, WorkerLostError):
            self._again(request, found, error)
        else:
            self._given(request, error)

    def _plan_lost(self, plan: int, error: CutsetError) -> None:
        with self._lock:
            if self._ending.is_set():
                return
            first = not set(self._lost) - self._given_up
            self._lost[plan] = error
            waiting = [(r, u) for r, u in self._under_way.items() if u.plan == plan]
            self._rejoin_later()
        if first:
            self._note(f"{error}; requests go on without it")
            self._traffic.lost(error)
        for request, found in waiting:
            self._again(request, found, error)

    def _again(self, request: int, found: _UnderWay, error: CutsetError) -> None:
        """Begin a request anew with a plan that is left."""
        with self._lock:
            if self._under_way.get(request) is not found:
                return
            self._lost.setdefault(found.plan, error)
        try:
            self.feed(request, found.feeds, found.expires_s)
        except CutsetError as problem:
            self._given(request, problem)

    def _given(self, request: int, error: CutsetError) -> None:
        with self._lock:
            self._under_way.pop(request, None)
        self._traffic.ended(request, answered=False)
        assert self._session is not None
        self._session.failed(request, error)

    def _rejoin_later(self) -> None:
        if self._rejoining is None:
            self._rejoining = threading.Thread(
                target=self._rejoin, name="cutset-rejoin", daemon=True
            )
            self._rejoining.start()

    def _rejoin(self) -> None:
        """Load lost plans again when their devices are back; a loss meanwhile is seen as well."""
        while not self._ending.wait(REJOIN_S):
            with self._lock:
                plans = sorted(set(self._lost) - self._given_up)
                if not plans:
                    self._rejoining = None
                    return
            try:
                self._connect()
                for plan in plans:
                    if self._ending.is_set():
                        return
                    self._replace(plan)
            except CutsetError:
                continue  # it is not back yet, or gone again
            with self._lock:
                whole = not set(self._lost) - self._given_up
            if whole:
                self._note("all devices are back, with their plans loaded")
                self._traffic.back()

    def _replace(self, plan: int) -> None:
        if (before := self.deployment(plan)) is not None:
            before.close(drain_s=0.0)
        try:
            fresh = self._deploy(plan)
        except InfeasibleError as error:
            self._given_up.add(plan)
            self._note(f"plan {self.names[plan]!r} is not loaded again: {error}")
            return
        with self._lock:
            self._deployments[plan] = fresh
            self._lost.pop(plan, None)
        fresh.serve(*self._ears(plan))  # which tells at once where it is lost again


class _Ears:
    """What a deployment tells of the plan with this index (deployment.Served, host.Watcher)."""

    def __init__(self, held: HeldPlans, plan: int) -> None:
        self._held, self._plan = held, plan

    def result(self, request: int, tensor: str, array: Array) -> None:
        self._held._result(self._plan, request, tensor, array)

    def failed(self, request: int, error: CutsetError) -> None:
        self._held._failed(self._plan, request, error)

    def lost(self, error: CutsetError) -> None:
        self._held._plan_lost(self._plan, error)

    def ran(self, request: int, queue_s: float, compute_s: float) -> None:
        self._held._traffic.ran(request, self._plan, queue_s, compute_s)

    def sent(self, request: int, size_bytes: int, held_s: float) -> None:
        self._held._traffic.sent(request, self._plan, size_bytes, held_s)

    def arrived(self, request: int, size_bytes: int, queue_s: float, compute_s: float) -> None:
        self._held._traffic.arrived(request, self._plan, size_bytes, queue_s, compute_s)


def _sum(a: Stats, b: Stats) -> Stats:
    """What two epochs took on one device. Frames it refused are counted by device, not by epoch."""
    links = {link.name: link for link in a.links}
    for link in b.links:
        links[link.name] = _sum_links(links[link.name], link) if link.name in links else link
    return Stats(
        a.stages + b.stages,
        tuple(links.values()),
        a.duplicates + b.duplicates,
        a.egress_busy_s + b.egress_busy_s,
        {
            reason: max(a.dropped.get(reason, 0), b.dropped.get(reason, 0))
            for reason in {**a.dropped, **b.dropped}
        },
    )


def _sum_links(a: LinkStats, b: LinkStats) -> LinkStats:
    return LinkStats(
        a.name,
        a.tensors + b.tensors,
        a.bytes + b.bytes,
        a.transfer_s + b.transfer_s,
        a.retries + b.retries,
        a.busy_s + b.busy_s,
        b.path or a.path,
    )
