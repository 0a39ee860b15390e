"""What held which resource when, in seconds: the simulated stream for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cutset.simulation.activities import Activity, Network
from cutset.simulation.events import Record


@dataclass(frozen=True, slots=True)
class Span:
    """`resource` ("device:pi", "link:pi>server", "egress:pi" …) held for a request.

    `kind` is "held" where a transfer holds something beside its link. `name` is a stage's or a
    tensor's. `sources` are the positions, among all spans, of what hands a tensor on to this.
    """

    resource: str
    kind: Literal["stage", "send", "transfer", "receive", "held"]
    name: str
    request: int
    start_s: float
    end_s: float
    bytes: int = 0
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """A span of every request: how long it is, and which pieces hand it a tensor."""

    activity: int
    resource: str
    kind: Literal["stage", "send", "transfer", "receive", "held"]
    name: str
    delays: tuple[float, ...]
    bytes: int
    sources: tuple[int, ...]


def spans(network: Network, record: Record) -> tuple[Span, ...]:
    """All spans, request by request."""
    pieces = _pieces(network)
    unit = network.per_second
    found = []
    for request, starts in enumerate(record.starts):
        base = request * len(pieces)
        for piece in pieces:
            start = starts[piece.activity]
            found.append(
                Span(
                    piece.resource,
                    piece.kind,
                    piece.name,
                    request,
                    start / unit,
                    (start + sum(piece.delays)) / unit,
                    piece.bytes,
                    tuple(base + source for source in piece.sources),
                )
            )
    return tuple(found)


def _pieces(network: Network) -> list[_Piece]:
    """In the order of the activities, so that what hands on a tensor comes first."""
    given: dict[int, list[tuple[Activity, int]]] = {}
    for i, activity in enumerate(network.activities):
        for effect in activity.effects:
            for successor in () if effect.ahead else effect.successors:
                given.setdefault(successor, []).append((activity, i))
    pieces: list[_Piece] = []
    place: dict[tuple[int, str], int] = {}  # (activity, resource) -> piece
    for i, activity in enumerate(network.activities):
        held = [(network.resources[r], e.delays) for e in activity.effects for r in e.resources]
        devices = [resource for resource, _ in held if resource.startswith("device:")]
        for resource, delays in held:
            if activity.kind == "admit" or activity.kind == "answer":
                continue
            link = resource.startswith("link:")
            kind = activity.kind if activity.kind != "transfer" or link else "held"
            sources: list[int] = []
            for giver, j in given.get(i, ()) if kind != "held" else ():
                if giver.kind == "transfer":
                    ends = {f"device:{m.target_device}": m for m in giver.moves}
                    move = ends[devices[0]]
                    sources.append(place[j, f"link:{move.source_device}>{move.target_device}"])
                elif giver.kind in ("send", "receive") or activity.kind in ("send", "transfer"):
                    sources += [place[j, r] for r in _devices(network, giver)]
            place[i, resource] = len(pieces)
            size = activity.moves[0].bytes if activity.moves else 0
            pieces.append(_Piece(i, resource, kind, activity.name, delays, size, tuple(sources)))
    return pieces


def _devices(network: Network, activity: Activity) -> list[str]:
    names = (network.resources[r] for r in activity.resources)
    return [name for name in names if name.startswith("device:")]
