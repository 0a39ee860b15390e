"""The cluster file (YAML): devices, links, and how they are emulated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from cutset import units
from cutset.cluster import Cluster, Device, Engine, Link
from cutset.errors import InvalidFileError, choices
from cutset.serde.common import convert, read_text, write_text

SCHEMA: Final = "cutset/cluster/1"

MAX_CLUSTER_BYTES: Final = 2**22

Quantity = int | float | str


class EngineDocument(msgspec.Struct, forbid_unknown_fields=True):
    provider: str = "cpu"
    threads: int | None = None
    options: dict[str, str] = msgspec.field(default_factory=dict)


class DeviceDocument(msgspec.Struct, forbid_unknown_fields=True):
    kind: str | None = None
    memory: Quantity | None = None
    egress: Quantity | None = None
    ingress: Quantity | None = None
    overlap: bool = True
    stage_overhead: Quantity | None = None
    send_cost: Quantity | None = None
    recv_cost: Quantity | None = None
    engine: EngineDocument = msgspec.field(default_factory=EngineDocument)
    endpoint: str | None = None
    interface: str | None = None


class LinkDocument(msgspec.Struct, forbid_unknown_fields=True):
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    bandwidth: Quantity | None = None
    latency: Quantity | None = None
    both: bool = False


class DefaultLinkDocument(msgspec.Struct, forbid_unknown_fields=True):
    bandwidth: Quantity | None = None
    latency: Quantity | None = None


class LabDocument(msgspec.Struct, forbid_unknown_fields=True):
    cpu: float | None = None


class ClusterDocument(msgspec.Struct, forbid_unknown_fields=True):
    schema: Literal["cutset/cluster/1"]
    source: str
    devices: dict[str, DeviceDocument | None]
    sink: str | None = None
    transfer: Literal["unicast", "multicast"] = "unicast"
    links: list[LinkDocument] = []
    default_link: DefaultLinkDocument | None = None
    lab: dict[str, LabDocument] = {}


def read_cluster(path: str | Path) -> Cluster:
    """The cluster of a YAML file. Raises InvalidFileError that names file and field."""
    data = read_text(path, MAX_CLUSTER_BYTES)
    if not data.strip():
        raise InvalidFileError(
            "the file is empty", file=str(path), remedy="see docs/formats.md for an example"
        )
    return parse_cluster(_load_yaml(data, str(path)), str(path))


def _load_yaml(data: bytes, file: str) -> object:
    """Plain data of a YAML text in which no mapping has a key twice."""
    import yaml

    try:
        loader = yaml.SafeLoader(data)
        try:
            root = loader.get_single_node()
            _refuse_duplicates(root, file)
            return loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise InvalidFileError(
            f"not valid YAML: {problem}",
            file=file,
            field=None if mark is None else f"line {mark.line + 1}",
            remedy="see docs/formats.md for an example",
        ) from None


def _refuse_duplicates(root: object, file: str) -> None:
    """Refuse a key that stands twice in one mapping: the reader would keep the last, silently."""
    import yaml

    visited: set[int] = set()  # an alias is the same node again
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in visited or not isinstance(node, yaml.CollectionNode):
            continue
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise InvalidFileError(
                            f"the key stands twice in one mapping, again in line"
                            f" {key.start_mark.line + 1}",
                            file=file,
                            field=key.value,
                            remedy="keep one of the two",
                        )
                    seen.add(key.value)
                pending.append(value)
        else:
            pending.extend(node.value)


def parse_cluster(raw: object, file: str = "cluster") -> Cluster:
    """The cluster of plain data, as YAML gives it. Raises InvalidFileError."""
    try:
        document = convert(raw, ClusterDocument, SCHEMA, file)
    except InvalidFileError as error:
        if found := re.fullmatch(r"devices\.(.+)\.lab", error.field or ""):
            error.remedy = f"lab stands beside devices: lab: {{{found[1]}: {{cpu: 0.25}}}}"
        raise
    try:
        return _cluster(document)
    except InvalidFileError as error:
        raise error.located(file=file) from None


def _cluster(document: ClusterDocument) -> Cluster:
    for name in document.lab:
        if name not in document.devices:
            raise InvalidFileError(
                "no such device",
                field=f"lab.{name}",
                value=name,
                remedy=choices(name, document.devices, "devices"),
            )
    devices = tuple(
        _device(name, device or DeviceDocument(), document.lab.get(name, LabDocument()))
        for name, device in document.devices.items()
    )
    links: list[Link] = []
    for i, link in enumerate(document.links):
        where = f"links[{i}]"
        bandwidth = _rate(link.bandwidth, f"{where}.bandwidth")
        latency = _time(link.latency, f"{where}.latency")
        links.append(Link(link.source, link.target, bandwidth, latency))
        if link.both:
            links.append(Link(link.target, link.source, bandwidth, latency))
    default = document.default_link
    return Cluster(
        devices=devices,
        links=tuple(links),
        source=document.source,
        sink=document.sink if document.sink is not None else document.source,
        multicast=document.transfer == "multicast",
        default_link=None
        if default is None
        else Link(
            "",
            "",
            _rate(default.bandwidth, "default_link.bandwidth"),
            _time(default.latency, "default_link.latency"),
        ),
    )


def _device(name: str, device: DeviceDocument, lab: LabDocument) -> Device:
    where = f"devices.{name}"
    if not name or any(c in "/>*$#?" or c.isspace() for c in name):
        raise InvalidFileError(
            "a device's name has no spaces and none of / > * $ # ?",
            field="devices",
            value=repr(name),
            remedy="rename it",
        )
    threads = device.engine.threads
    if threads is not None and not 1 <= threads <= 1024:
        raise InvalidFileError(
            "threads must be from 1 to 1024",
            field=f"{where}.engine.threads",
            value=threads,
            remedy="leave it out for all physical cores",
        )
    if lab.cpu is not None and not (math.isfinite(lab.cpu) and 0 < lab.cpu <= 1):
        raise InvalidFileError(
            "the share of one core must be above 0 and at most 1",
            field=f"lab.{name}.cpu",
            value=lab.cpu,
            remedy="write a share such as 0.25",
        )
    return Device(
        name=name,
        kind=device.kind if device.kind is not None else name,
        memory_bytes=math.inf
        if device.memory is None
        else units.parse_bytes(device.memory, field=f"{where}.memory"),
        egress_bps=_rate(device.egress, f"{where}.egress") or math.inf,
        ingress_bps=_rate(device.ingress, f"{where}.ingress") or math.inf,
        overlap=device.overlap,
        stage_overhead_s=_time(device.stage_overhead, f"{where}.stage_overhead"),
        send_s_per_byte=_time(device.send_cost, f"{where}.send_cost"),
        recv_s_per_byte=_time(device.recv_cost, f"{where}.recv_cost"),
        engine=Engine(device.engine.provider, threads, device.engine.options),
        endpoint=device.endpoint,
        interface=device.interface,
        cpu_share=lab.cpu,
    )


def _rate(value: Quantity | None, field: str) -> float | None:
    return None if value is None else units.parse_rate(value, field=field)


def _time(value: Quantity | None, field: str) -> float | None:
    return None if value is None else units.parse_time(value, field=field)


def cluster_document(cluster: Cluster) -> dict[str, Any]:
    """A cluster as plain data that `parse_cluster` reads: bytes, bits per second and seconds."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "source": cluster.source,
        "sink": cluster.sink,
        "transfer": "multicast" if cluster.multicast else "unicast",
        "devices": {d.name: _device_document(d) for d in cluster.devices},
        "links": [
            {"from": link.source, "to": link.target, **_link_numbers(link)}
            for link in cluster.links
        ],
    }
    if cluster.default_link is not None:
        document["default_link"] = _link_numbers(cluster.default_link)
    shares = {d.name: {"cpu": d.cpu_share} for d in cluster.devices if d.cpu_share is not None}
    return document | ({"lab": shares} if shares else {})


def _device_document(device: Device) -> dict[str, Any]:
    engine = device.engine
    found = {
        "kind": device.kind,
        "memory": device.memory_bytes,
        "egress": device.egress_bps,
        "ingress": device.ingress_bps,
        "overlap": device.overlap,
        "stage_overhead": device.stage_overhead_s,
        "send_cost": device.send_s_per_byte,
        "recv_cost": device.recv_s_per_byte,
        "engine": None
        if engine == Engine()
        else _stated(
            {
                "provider": engine.provider,
                "threads": engine.threads,
                "options": dict(engine.options),
            }
        ),
        "endpoint": device.endpoint,
        "interface": device.interface,
    }
    return _stated(found)


def _link_numbers(link: Link) -> dict[str, Any]:
    return _stated({"bandwidth": link.bandwidth_bps, "latency": link.latency_s})


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known, and without limits that are none."""
    return {name: value for name, value in fields.items() if value not in (None, math.inf)}


def write_cluster(path: str | Path, cluster: Cluster) -> None:
    """Raises InvalidFileError where the file cannot be written."""
    import yaml

    text = yaml.safe_dump(cluster_document(cluster), sort_keys=False, allow_unicode=True)
    write_text(path, text)
