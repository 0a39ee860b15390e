"""Measured beside predicted: the bottleneck, and where the two disagree most. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cutset.units import format_rate, format_time


class Busy(msgspec.Struct, frozen=True):
    """Seconds per request for which a resource is held; named as in an estimate ("link:pi>server").

    None: nothing was predicted, or nothing is known of what happened (the device was lost).
    """

    resource: str
    predicted_s: float | None
    measured_s: float | None
    lost: bool = False


class Bottleneck(msgspec.Struct, frozen=True):
    """The busiest resource, as predicted and as measured, and their seconds per request."""

    predicted: str | None
    predicted_s: float | None
    measured: str | None
    measured_s: float | None


class Disagreement(msgspec.Struct, frozen=True):
    """The part whose measured time is furthest from the predicted one, in seconds.

    `relative` is measured/predicted − 1 (None where nothing was predicted to take time); `text`
    says it for a person, `reason` is the end of it, where one can be told.
    """

    name: str
    predicted_s: float
    measured_s: float
    relative: float | None
    reason: str | None
    text: str


class Part(msgspec.Struct, frozen=True):
    """Something whose seconds per request were predicted and measured."""

    name: str
    predicted_s: float | None
    measured_s: float | None
    reason: str | None = None


#: Beyond this a rate or a device's pace is said to differ: runs of one plan differ by as much.
NOTABLE = 0.05


#: A transfer this short says little of a link's rate: threads and acknowledgement take as long.
BRIEF_S = 0.005


def busy_rows(
    predicted: Mapping[str, float],
    stage_s: Mapping[str, float],
    link_s: Mapping[str, float],
    egress_s: Mapping[str, float],
    lost: Iterable[str],
) -> list[Busy]:
    """Every resource of the run: devices (their stages' seconds), links, egresses, ingresses.

    The measured arguments are seconds per request by device, link ("pi>server") and device. An
    ingress is not seen from where a transfer starts: it counts the sum over its links, which is
    the most that it can be.
    """
    ingress_s: dict[str, float] = {}
    for link, seconds in link_s.items():
        target = link.partition(">")[2]
        ingress_s[target] = ingress_s.get(target, 0.0) + seconds
    gone = set(lost)
    found = []
    families = (
        ("device", stage_s),
        ("link", link_s),
        ("egress", egress_s),
        ("ingress", ingress_s),
    )
    for family, measured in families:
        named = [n.partition(":")[2] for n in predicted if n.partition(":")[0] == family]
        for name in dict.fromkeys((*named, *measured)):
            resource = f"{family}:{name}"
            found.append(
                Busy(
                    resource,
                    predicted.get(resource),
                    measured.get(name),
                    bool(gone & {name, *name.split(">")}) and name not in measured,
                )
            )
    return found


def bottleneck(rows: Sequence[Busy], predicted: str | None) -> Bottleneck:
    """The busiest resource; of equal ones the first. `predicted` is the estimate's own choice."""
    known = {row.resource: row.predicted_s for row in rows}
    busiest = max(
        (row for row in rows if row.measured_s is not None),
        key=lambda row: row.measured_s or 0.0,
        default=None,
    )
    return Bottleneck(
        predicted or None,
        known.get(predicted) if predicted else None,
        busiest.resource if busiest is not None else None,
        busiest.measured_s if busiest is not None else None,
    )


def disagreement(parts: Iterable[Part]) -> Disagreement | None:
    """The part that is furthest off, in seconds: that is what the whole feels. None where nothing
    was both predicted and measured."""
    worst: tuple[float, Part, float, float] | None = None
    for part in parts:
        if part.predicted_s is None or part.measured_s is None:
            continue
        off = abs(part.measured_s - part.predicted_s)
        if worst is None or off > worst[0]:
            worst = (off, part, part.predicted_s, part.measured_s)
    if worst is None:
        return None
    _, part, predicted_s, measured_s = worst
    relative = measured_s / predicted_s - 1 if predicted_s > 0 else None
    text = (
        f"{part.name} took {format_time(measured_s)} per request, predicted"
        f" {format_time(predicted_s)}"
    )
    if relative is not None:
        text += f" ({relative:+.0%})"
    if part.reason is not None:
        text += f": {part.reason}"
    return Disagreement(part.name, predicted_s, measured_s, relative, part.reason, text)


def link_reason(
    predicted_s: float | None,
    measured_s: float | None,
    measured_bps: float | None,
    predicted_bps: float | None,
    retries: int,
) -> str | None:
    """Why a link took longer or shorter than predicted, where its rate or its losses say so."""
    if retries:
        return f"{retries} tensors had to be sent again"
    if not measured_bps or not predicted_bps or not predicted_s or measured_s is None:
        return None
    slower = measured_s > predicted_s
    if predicted_s < BRIEF_S:
        beside = "so brief a transfer costs its hand-over and acknowledgement beside the wire"
        return beside if slower else None
    if abs(measured_bps / predicted_bps - 1) <= NOTABLE or (measured_bps < predicted_bps) != slower:
        return None
    return f"it carried {format_rate(measured_bps)}, planned with {format_rate(predicted_bps)}"


def device_reason(device: str, predicted_s: float | None, measured_s: float | None) -> str | None:
    """Why a device's stages took longer or shorter than predicted."""
    if not predicted_s or measured_s is None:
        return None
    if measured_s > predicted_s * (1 + NOTABLE):
        return (
            f"its stages are slower than profiled; if {device} is loaded or throttled by heat,"
            " profile it as it is"
        )
    if measured_s < predicted_s * (1 - NOTABLE):
        return f"its stages are faster than profiled; profile {device} again"
    return None
