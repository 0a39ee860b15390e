"""The lab of the adaptive benchmark: a slow device, a server, one adaptive deployment of a model.

The server and what competes with it have one core to themselves, the device, the client and the
network's emulation the other, so that load on the server is load on the server only.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from adapt_load import Competitors, competitors
from adapt_script import Script, Steered
from models import ENTRIES, prepared

from cutset import api, lab, profiler
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live import Adapter
from cutset.adaptation.observations import ServerRun
from cutset.adaptation.policies import LoadAware, LoadOblivious, Oracle, Static
from cutset.adaptation.policy import Policy
from cutset.cluster import Cluster, Device, Engine, Link
from cutset.deployed import Deployed
from cutset.errors import CutsetError
from cutset.feeds import random_feeds
from cutset.lab import cgroups
from cutset.ports import Array
from cutset.runtime.coordinator import Coordinator
from cutset.verify import compare

#: Of a core: the device's. Where its server is five times as fast, what load it has decides more
#: than at seven (docs/decisions.md).
SHARE = 0.2
LATENCY_S = 0.0
#: What the deployment believes of the links until it sees them. No faster: by this rate the runtime
#: decides when to send a tensor again, and a copy would hold the slowest link of the grid.
STATED_BPS = 2e6
FAST_BPS = 1e9  # while submodels are sent
LOADS = (0, 2, 4)
MOST_LOAD = max(LOADS)
MAX_REL = 1e-5
DEADLINE_S = 60.0
FEEDS = 4
_STARTED_S = time.perf_counter()
#: Of a segment, so that the load is known by more than the scheduler's grain.
MEASURED_S = 5e-3

AWARE, OBLIVIOUS, ORACLE = "load-aware", "load-oblivious", "oracle"


@dataclass(frozen=True)
class Request:
    """What one request took, by which cut; `at_s` is when it was sent, on the adapter's clock."""

    at_s: float
    cut: int
    latency_s: float


@dataclass
class Count:
    """Of all requests: how many were answered, lost (no answer) and wrong (over MAX_REL)."""

    answered: int = 0
    lost: int = 0
    wrong: int = 0
    max_rel: float = 0.0

    def row(self) -> dict[str, Any]:
        return {
            "answered": self.answered,
            "lost": self.lost,
            "wrong": self.wrong,
            "max_rel": self.max_rel,
        }


class Bench:
    """One adaptive deployment in the lab, whose requests and conditions the benchmark decides."""

    def __init__(
        self,
        here: lab.Lab,
        deployed: Deployed,
        script: Script,
        load: Competitors,
        feeds: list[dict[str, Array]],
        expected: list[Mapping[str, Array]],
    ) -> None:
        assert deployed.adapter is not None
        self.here, self.deployed, self.script, self.load = here, deployed, script, load
        self.adapter: Adapter = deployed.adapter
        self.stated = self.adapter.seen.stated
        self.count = Count()
        self._feeds, self._expected = feeds, expected
        self._next = 0
        self._rates: tuple[float, float] | None = None

    @property
    def cuts(self) -> Cuts:
        return self.adapter.cuts

    def set(self, up_bps: float, down_bps: float, competing: int) -> None:
        """Change the links and the number of competing processes; both hold on return."""
        if (up_bps, down_bps) != self._rates:
            self.here.set(*_changes(up_bps, down_bps))
            self._rates = up_bps, down_bps
        if competing != self.load.running:
            self.load.set(competing)

    def truth(self, up_bps: float, down_bps: float, load: float) -> Conditions:
        """What holds, with the latencies and the device as they were measured at the start."""
        return replace(self.stated, up_bps=up_bps, down_bps=down_bps, load=load, queue_s=0.0)

    def begin(self, name: str) -> None:
        """From now on the policy `name` is asked, as if it had seen nothing."""
        self.script.active, self.script.forced = name, None
        policy = self.script.policies[name]
        self.script.states[name] = policy.start(self.cuts, self.stated, time.monotonic())

    def ask(self, name: str) -> None:
        """From now on the policy `name` is asked, with what it knew when it was asked last."""
        self.script.active, self.script.forced = name, None

    def request(self, cut: int | None = None) -> Request | None:
        """One request, by `cut` or as the active policy says; None where it is lost."""
        self.script.forced = cut
        index = self._next % len(self._feeds)
        self._next += 1
        before = len(self.script.sent)
        start_s = time.perf_counter()
        try:
            answer = self.deployed.submit(self._feeds[index], DEADLINE_S).result(2 * DEADLINE_S)
        except (CutsetError, TimeoutError):
            self.count.lost += 1
            return None
        took_s = time.perf_counter() - start_s
        self.count.answered += 1
        found = compare(answer, self._expected[index])
        self.count.max_rel = max(self.count.max_rel, found.max_rel)
        self.count.wrong += not found.equal(MAX_REL)
        sent = self.script.sent[before]
        return Request(sent.at_s, sent.decision.cut, took_s)

    def settle(
        self, name: str, least_s: float, requests: int, transfers: int = 0, most_s: float = 0.0
    ) -> int:
        """The active policy's requests for so long and so many; the cut of the last one.

        Until `most_s` it goes on while fewer than `transfers` were seen each way: a device that
        answers alone learns of the links by looks, which have to wait on slow ones.
        """
        self.ask(name)
        self.script.transfers.clear()
        start_s, done, cut = time.perf_counter(), 0, 0
        while True:
            ran_s = time.perf_counter() - start_s
            blind = self.script.fewest_transfers < transfers and ran_s < most_s
            if done >= requests and ran_s >= least_s and not blind:
                return cut
            found = self.request()
            cut = cut if found is None else found.cut
            done += 1

    def measured_load(self, runs: list[ServerRun]) -> float | None:
        """k by what the server's segments took, those of MEASURED_S and more; None without any."""
        found = [
            run.compute_s / self.cuts.cuts[run.cut].server_s
            for run in runs
            if self.cuts.cuts[run.cut].server_s >= MEASURED_S
        ]
        return statistics.median(found) if found else None

    def load_factors(self, requests: int = 12) -> dict[int, float]:
        """k by the number of competing processes, measured on whole segments over fast links."""
        cut = int(np.argmax([c.server_s for c in self.cuts.cuts]))
        factors = {}
        for competing in LOADS:
            self.set(64e6, 64e6, competing)
            self.request(cut)
            self.script.forget()
            for _ in range(requests):
                self.request(cut)
            found = [run for run in self.script.runs if not run.look]
            factors[competing] = self.measured_load(found) or 1.0
        self.script.forget()
        return factors


def cluster() -> Cluster:
    devices = (
        Device("pi", "pi", cpu_share=SHARE, engine=Engine(threads=1)),
        Device("server", "server", cpu_share=1.0, engine=Engine(threads=1)),
    )
    links = tuple(
        Link(a, b, STATED_BPS, LATENCY_S) for a, b in (("pi", "server"), ("server", "pi"))
    )
    return Cluster(devices, links, "pi", "pi")


@contextlib.contextmanager
def bench(name: str, more: Mapping[str, Policy[Any]] | None = None) -> Iterator[Bench]:
    """The model `name` (models.ENTRIES) deployed with all cuts. This process joins the lab."""
    built = cluster()
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as last:
        folder = Path(last.enter_context(tempfile.TemporaryDirectory()))
        model = prepared(ENTRIES[name], folder)
        feeds = random_feeds(model.ports, FEEDS)
        unsplit = api.unsplit(model)
        expected = [unsplit.run(each) for each in feeds]
        del unsplit
        here = last.enter_context(lab.up(built, cache_dir=folder / "cache", tied=True))
        os.sched_setaffinity(0, {cores[0]})  # and all that is started from now on
        last.callback(os.sched_setaffinity, 0, set(cores))
        place = here.place("server")
        core = cores[-1] if len(cores) > 1 else None
        if place.pid is not None and core is not None:
            _pin(place.pid, core)
        load = last.enter_context(competitors(MOST_LOAD, place.cgroups, core, folder))
        here.set(*_changes(FAST_BPS, FAST_BPS))
        attached = here.attach(built)
        here.enter()
        outside = cgroups.own()
        here.join_cpu()
        coordinator = last.enter_context(Coordinator(attached, cache_dir=folder / "cache"))
        say(f"{name}: profile")
        profile = profiler.profile_cluster(model, coordinator, feeds[0], fresh=True)
        policies: dict[str, Policy[Any]] = {
            AWARE: LoadAware(),
            OBLIVIOUS: LoadOblivious(),
            ORACLE: Oracle(),
            "local": Static("local"),
            "offload": Static("offload"),
            **(more or {}),
        }
        script = Script(policies, AWARE)
        say(f"{name}: deploy")
        cgroups.join(outside)  # the device's guard would make loading take minutes

        def note(text: str) -> None:
            if text == "timing the loaded cuts":
                here.join_cpu()

        deployed = last.enter_context(
            api.deploy(
                model,
                attached,
                profile=profile,
                adapt=lambda cuts: Steered(script),
                coordinator=coordinator,
                note=note,
            )
        )
        here.join_cpu()
        found = Bench(here, deployed, script, load, list(feeds), list(expected))
        said = ", ".join(f"{c.name} {c.device_s:.3f}+{c.server_s:.3f}" for c in found.cuts.cuts)
        say(f"{name}: {len(found.cuts.cuts)} cuts: {said}")
        for cut in range(len(found.cuts.cuts)):
            found.request(cut)  # the first one allocates
        yield found


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.perf_counter() - _STARTED_S:6.1f} s] {text}", flush=True)


def _changes(up_bps: float, down_bps: float) -> tuple[str, str]:
    return f"link:pi>server={up_bps:.0f}bit/s", f"link:server>pi={down_bps:.0f}bit/s"


def _pin(pid: int, core: int) -> None:
    """All threads of a process to one core; those that they start follow."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})
