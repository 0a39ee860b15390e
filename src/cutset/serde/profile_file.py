"""The profile file (JSON): what was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, Literal

import msgspec

from cutset.errors import InvalidFileError
from cutset.profiles import (
    DeviceMeasurement,
    LinkMeasurement,
    Measurement,
    MemoryMeasurement,
    Profile,
    WholeMeasurement,
)
from cutset.serde.common import decode, read_text, to_json, write_text

SCHEMA: Final = "cutset/profile/1"


class LinkMeasurementDocument(msgspec.Struct):
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    bandwidth_bps: float
    latency_s: float
    samples: int = 1


class ProfileDocument(msgspec.Struct):
    schema: Literal["cutset/profile/1"]
    graph_digest: str
    measurements: list[Measurement] = []
    whole: list[WholeMeasurement] = []
    links: list[LinkMeasurementDocument] = []
    devices: list[DeviceMeasurement] = []
    memory: list[MemoryMeasurement] = []


def read_profile(path: str | Path) -> Profile:
    """The profile of a file. Raises InvalidFileError."""
    return parse_profile(read_text(path), str(path))


def parse_profile(data: bytes, file: str = "profile") -> Profile:
    document = decode(data, ProfileDocument, SCHEMA, file)
    for i, m in enumerate(document.measurements):
        _check(m.latency_s, file, f"measurements[{i}].latency_s ({m.operator})")
        _check(m.stdev_s, file, f"measurements[{i}].stdev_s ({m.operator})")
    for i, w in enumerate(document.whole):
        _check(w.latency_s, file, f"whole[{i}].latency_s")
    for i, link in enumerate(document.links):
        _check(link.latency_s, file, f"links[{i}].latency_s")
        _check(link.bandwidth_bps, file, f"links[{i}].bandwidth_bps", least=1e-9)
    for i, d in enumerate(document.devices):
        for name in ("stage_overhead_s", "send_s_per_byte", "recv_s_per_byte"):
            _check(getattr(d, name), file, f"devices[{i}].{name}")
    for i, found in enumerate(document.memory):
        _check(found.stage_bytes, file, f"memory[{i}].stage_bytes")
        _check(found.weight_factor, file, f"memory[{i}].weight_factor", least=1.0)
    return Profile(
        graph_digest=document.graph_digest,
        measurements=tuple(document.measurements),
        whole=tuple(document.whole),
        links=tuple(
            LinkMeasurement(x.source, x.target, x.bandwidth_bps, x.latency_s, x.samples)
            for x in document.links
        ),
        devices=tuple(document.devices),
        memory=tuple(document.memory),
    )


def _check(value: float, file: str, field: str, least: float = 0.0) -> None:
    if not math.isfinite(value) or value < least:
        raise InvalidFileError(
            "a measured number must be finite and not negative"
            + (f", and at least {least:g}" if least > 0 else ""),
            file=file,
            field=field,
            value=value,
            remedy="measure again with `cutset profile`",
        )


def profile_document(profile: Profile) -> ProfileDocument:
    return ProfileDocument(
        schema=SCHEMA,
        graph_digest=profile.graph_digest,
        measurements=list(profile.measurements),
        whole=list(profile.whole),
        links=[
            LinkMeasurementDocument(x.source, x.target, x.bandwidth_bps, x.latency_s, x.samples)
            for x in profile.links
        ],
        devices=list(profile.devices),
        memory=list(profile.memory),
    )


def write_profile(path: str | Path, profile: Profile) -> None:
    write_text(path, to_json(profile_document(profile)))
