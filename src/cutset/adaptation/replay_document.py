"""What `cutset replay --json` prints (docs/formats.md, What `replay --json` prints)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from cutset.adaptation.cuts import Cuts
from cutset.adaptation.policy import Switch
from cutset.adaptation.regret import Score
from cutset.adaptation.simulated import Played, Setting


class SwitchDocument(msgspec.Struct, frozen=True):
    """From `at_s` on requests took another cut."""

    at_s: float
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    reason: str = ""


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One policy over the trace: seconds and bytes; None where nothing was answered. A regret
    without limit is null too, and `max_rel` where no answer was compared."""

    policy: str
    requests: int
    unanswered: int
    fallbacks: int
    fallback_share: float
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    regret: float | None
    regret_low: float | None
    regret_high: float | None
    looked_up_bytes: int
    looked_down_bytes: int
    looked_server_s: float
    max_rel: float | None
    switches: tuple[SwitchDocument, ...]


class LoadDocument(msgspec.Struct, frozen=True):
    """With so many competing processes the server takes `load` times as long, as measured."""

    processes: int
    load: float


class ReplayDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Policies compared over one trace. `simulated`: no request was really sent; in a lab all
    were, beside the `competitors`."""

    kind: Literal["simulated", "lab"]
    trace: str
    duration_s: float
    simulated: bool
    graph_digest: str
    device: str
    server: str
    cuts: tuple[str, ...]
    left_out: tuple[str, ...]
    interval_s: float
    deadline_s: float | None
    fallback: bool
    noise: float
    seed: int
    policies: tuple[PolicyDocument, ...]
    picture: str | None
    competitors: tuple[LoadDocument, ...] = ()
    interrupted: bool = False


def policy_document(
    played: Played, found: Score, names: Sequence[str], max_rel: float | None = None
) -> PolicyDocument:
    """`names` are those of the cuts; `max_rel` is how much answers differed (verify.py)."""
    return PolicyDocument(
        policy=found.policy,
        requests=found.requests,
        unanswered=found.unanswered,
        fallbacks=found.fallbacks,
        fallback_share=found.fallback_share,
        mean_s=found.mean_s,
        p50_s=found.p50_s,
        p95_s=found.p95_s,
        regret=_finite(found.regret),
        regret_low=_finite(found.regret_low),
        regret_high=_finite(found.regret_high),
        looked_up_bytes=played.looked_up_bytes,
        looked_down_bytes=played.looked_down_bytes,
        looked_server_s=played.looked_server_s,
        max_rel=_finite(max_rel),
        switches=tuple(_switch(switch, names) for switch in played.switches),
    )


def replay_document(
    trace: str,
    duration_s: float,
    cuts: Cuts,
    left_out: tuple[str, ...],
    graph_digest: str,
    setting: Setting,
    policies: tuple[PolicyDocument, ...],
    picture: str | None,
    *,
    loads: Mapping[int, float] | None = None,
    interrupted: bool = False,
) -> ReplayDocument:
    """`loads` is k by the number of competing processes where the replay ran in a lab, else
    None."""
    return ReplayDocument(
        kind="simulated" if loads is None else "lab",
        trace=trace,
        duration_s=duration_s,
        simulated=loads is None,
        graph_digest=graph_digest,
        device=cuts.device,
        server=cuts.server,
        cuts=tuple(cut.name for cut in cuts.cuts),
        left_out=left_out,
        interval_s=setting.interval_s,
        deadline_s=setting.deadline_s,
        fallback=setting.fallback,
        noise=setting.noise,
        seed=setting.seed,
        policies=policies,
        picture=picture,
        competitors=tuple(LoadDocument(n, load) for n, load in sorted((loads or {}).items())),
        interrupted=interrupted,
    )


def _switch(switch: Switch, names: Sequence[str]) -> SwitchDocument:
    return SwitchDocument(switch.at_s, names[switch.before], names[switch.after], switch.reason)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
