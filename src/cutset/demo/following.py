"""The demo's last part: 20 seconds in which the link changes under a session that adapts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cutset import api
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live import Adapter, Line
from cutset.adaptation.policy import Switch
from cutset.cluster import Cluster
from cutset.deployed import Deployed
from cutset.onnx_io import Model
from cutset.ports import Array
from cutset.profiles import Profile
from cutset.report import percentile
from cutset.runner import Feeds, run_requests
from cutset.runtime.coordinator import Coordinator
from cutset.verify import Comparison, worse

#: The link's rate (bits per second, both ways), and for how many seconds.
PHASES = ((20e6, 4.0), (2e6, 5.0), (100e6, 5.0), (20e6, 6.0))


@dataclass(frozen=True)
class Phase:
    """A time with the link at one rate; seconds, medians of requests.

    `kept_s` is what the cut that was best at the first rate takes by its costs and the rate that
    was set, `best_s` the cheapest of all.
    """

    bandwidth_bps: float
    requests: int
    measured_s: float
    cut: str
    kept_s: float
    best_s: float


@dataclass(frozen=True)
class Followed:
    """What the session did. `failed` is of `requests`; `switches` name the cuts."""

    phases: tuple[Phase, ...]
    switches: tuple[tuple[float, str, str, str], ...]
    requests: int
    failed: int
    comparison: Comparison


def follow(
    model: Model,
    feeds: Sequence[Feeds],
    expected: Sequence[dict[str, Array] | Feeds],
    cluster: Cluster,
    profile: Profile,
    coordinator: Coordinator,
    set_links: Callable[[float], None],
    *,
    phases: Sequence[tuple[float, float]] = PHASES,
    note: Callable[[str], None] = lambda text: None,
    on_line: Callable[[Line, Cuts], None] = lambda line, cuts: None,
) -> Followed:
    """Requests one after another, while `set_links` changes the link under them.

    Raises what deploying raises, and the first request's failure.
    """
    found: list[Phase] = []
    comparison = Comparison()
    requests = failed = 0
    session: list[Deployed] = []

    def told(line: Line) -> None:
        if session:
            on_line(line, session[0].adaptive.cuts)  # type: ignore[union-attr]

    with api.deploy(
        model,
        cluster,
        profile=profile,
        adapt=True,
        coordinator=coordinator,
        note=note,
        on_line=told,
    ) as deployed:
        session.append(deployed)
        adapter = deployed.adapter
        assert adapter is not None
        cuts = adapter.cuts
        first: int | None = None
        for rate_bps, seconds in phases:
            set_links(rate_bps)
            record = run_requests(deployed, feeds, duration_s=seconds, expected=expected)
            if record.interrupted:
                raise KeyboardInterrupt
            if record.first_error is not None:
                raise record.first_error
            assert record.comparison is not None
            comparison = worse(comparison, record.comparison)
            requests, failed = requests + record.requests, failed + record.failed
            values = cuts.values_s(_at(adapter, rate_bps))
            first = int(values.argmin()) if first is None else first
            found.append(
                Phase(
                    rate_bps,
                    record.answered,
                    percentile(record.latencies_s, 0.5),
                    cuts.cuts[_held(adapter)].name,
                    float(values[first]),
                    float(values.min()),
                )
            )
        named = tuple(_named(switch, cuts) for switch in adapter.switches)
    return Followed(tuple(found), named, requests, failed, comparison)


def _at(adapter: Adapter, rate_bps: float) -> Conditions:
    """What is believed, but the link as it was set."""
    return replace(adapter.believed(), up_bps=rate_bps, down_bps=rate_bps)


def _held(adapter: Adapter) -> int:
    """The cut of the last request."""
    return adapter.cut if adapter.cut is not None else 0


def _named(switch: Switch, cuts: Cuts) -> tuple[float, str, str, str]:
    before, after = cuts.cuts[switch.before].name, cuts.cuts[switch.after].name
    return switch.at_s, before, after, switch.reason
