"""The profile file (JSON): what was measured."""

from __future__ import annotations

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
from cutset.units import check_number

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
    try:
        _check(document)
    except InvalidFileError as error:
        raise InvalidFileError(
            error.message,
            file=file,
            field=error.field,
            value=error.value,
            remedy=f"{error.remedy}, or measure again with `cutset profile`",
        ) from None
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


#: The unit of each number, by the list that it stands in; "" is a count.
_UNITS: Final = {
    "measurements": {"latency_s": "seconds", "stdev_s": "seconds", "samples": "", "threads": ""},
    "whole": {
        "latency_s": "seconds",
        "p50_s": "seconds",
        "p90_s": "seconds",
        "samples": "",
        "threads": "",
    },
    "links": {"bandwidth_bps": "bit/s", "latency_s": "seconds", "samples": ""},
    "devices": {
        "stage_overhead_s": "seconds",
        "send_s_per_byte": "seconds per byte",
        "recv_s_per_byte": "seconds per byte",
        "memory_bytes": "bytes",
    },
    "memory": {"stage_bytes": "bytes", "weight_factor": "", "samples": ""},
}


def _check(document: ProfileDocument) -> None:
    """Raise InvalidFileError for a number that cannot have been measured."""
    for group, units in _UNITS.items():
        for i, found in enumerate(getattr(document, group)):
            of = f" ({found.operator})" if group == "measurements" else ""
            for name, unit in units.items():
                least = 1.0 if name == "weight_factor" else 0.0
                field = f"{group}[{i}].{name}{of}"
                check_number(getattr(found, name), unit, field=field, least=least)


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
