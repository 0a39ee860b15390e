"""A plan as what each device must know of it: stages, routes, links. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutset.cluster import Cluster, Device
from cutset.errors import UnsupportedProblemError, UsageError
from cutset.graph import Graph
from cutset.plan import Plan, check_plan, transfers
from cutset.runtime.message_parts import EngineSpec, LinkSpec, TensorSpec
from cutset.runtime.messages import Load, Route, StageSpec


@dataclass(frozen=True)
class Shipment:
    """A stage's submodel, as the runtime needs to know it: its names and its content hash."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    content_hash: str


def emulated(cluster: Cluster, source: str, target: str) -> bool:
    """Whether a link is emulated: both ends are processes of this machine."""
    return all(
        name == cluster.source or cluster.by_name[name].endpoint is None
        for name in (source, target)
    )


def engine_spec(device: Device) -> EngineSpec:
    """What runs on a device. An emulated slow device has one thread unless it states more; a
    real one, which an endpoint leads to, is not slowed.
    """
    threads = device.engine.threads
    share = device.cpu_share if device.endpoint is None or device.in_lab else None
    if threads is None and share is not None:
        threads = 1
    return EngineSpec(device.engine.provider, threads, dict(device.engine.options), share)


def link_spec(cluster: Cluster, source: str, target: str, address: str) -> LinkSpec | None:
    """The link from one device to another at `address`; None where they cannot talk.

    The rate is the least of link, egress of the source and ingress of the target, as in the
    evaluator; what is not stated is not limited.
    """
    link = cluster.link(source, target)
    if link is None:
        return None
    rate = min(
        math.inf if link.bandwidth_bps is None else link.bandwidth_bps,
        cluster.by_name[source].egress_bps,
        cluster.by_name[target].ingress_bps,
    )
    return LinkSpec(
        address,
        link.name,
        rate if math.isfinite(rate) else None,
        link.latency_s or 0.0,
        emulated(cluster, source, target),
    )


def tensor_spec(graph: Graph, name: str) -> TensorSpec:
    """What is known of a tensor; None for what the graph leaves open."""
    tensor = graph.tensors[name]
    dtype: str | None = None
    if tensor.dtype is not None:
        try:
            dtype = np.dtype(tensor.dtype).name
        except TypeError:
            dtype = None
    return TensorSpec(dtype, None if tensor.shape is None else tuple(tensor.shape))


def devices_of(plan: Plan, cluster: Cluster) -> tuple[str, ...]:
    """All devices that take part: source, sink and those with stages."""
    return tuple(dict.fromkeys((cluster.source, *plan.devices, cluster.sink)))


def loads(
    plan: Plan,
    shipments: Sequence[Shipment],
    graph: Graph,
    cluster: Cluster,
    addresses: Mapping[str, str],
    *,
    epoch: int,
    window: int,
) -> dict[str, Load]:
    """What to load on each device, by name.

    Raises InvalidFileError where the plan does not fit the graph, UsageError where submodels and
    stages differ, UnsupportedProblemError where devices cannot talk, or a stage away from the
    source takes no tensor.
    """
    check_plan(plan, graph, cluster)
    if len(shipments) != len(plan.stages):
        raise UsageError(
            f"a plan of {len(plan.stages)} stages needs as many submodels", value=len(shipments)
        )
    devices = devices_of(plan, cluster)
    routes: dict[str, dict[str, list[str]]] = {name: {} for name in devices}
    receives: dict[str, dict[str, str]] = {name: {} for name in devices}  # tensor -> sender
    moves = [
        (m.source_device, m.target_device, m.tensor)
        for m in transfers(plan, graph, cluster.source, cluster.sink)
    ]
    if cluster.sink != cluster.source:
        # The session is at the source: the sink passes on to it the results it does not have.
        at_source = {t for _, target, t in moves if target == cluster.source} | {
            t
            for stage, made in zip(plan.stages, shipments, strict=True)
            if stage.device == cluster.source
            for t in made.outputs
        }
        moves += [(cluster.sink, cluster.source, t) for t in graph.outputs if t not in at_source]
    for source, target, tensor in moves:
        routes[source].setdefault(tensor, []).append(target)
        receives[target][tensor] = addresses[source]
    return {
        name: _load(
            name, plan, shipments, graph, cluster, addresses, routes, receives, epoch, window
        )
        for name in devices
    }


def _load(
    name: str,
    plan: Plan,
    shipments: Sequence[Shipment],
    graph: Graph,
    cluster: Cluster,
    addresses: Mapping[str, str],
    routes: Mapping[str, Mapping[str, Sequence[str]]],
    receives: Mapping[str, Mapping[str, str]],
    epoch: int,
    window: int,
) -> Load:
    stages = []
    handled = {*receives[name], *routes[name]}
    for stage, shipment in zip(plan.stages, shipments, strict=True):
        if stage.device != name:
            continue
        memory = graph.stage_memory_bytes + sum(
            graph.operators[graph.positions[o]].memory_bytes for o in stage.operators
        )
        stages.append(
            StageSpec(stage.name, shipment.inputs, shipment.outputs, shipment.content_hash, memory)
        )
        handled.update(shipment.inputs, shipment.outputs)
    if name != cluster.source and not receives[name]:
        raise UnsupportedProblemError(
            f"device {name!r} takes no tensor from elsewhere, so nothing would start its stages",
            field="stages",
            remedy=f"place them on {cluster.source!r}",
        )
    links = []
    for target in dict.fromkeys(t for targets in routes[name].values() for t in targets):
        spec = link_spec(cluster, name, target, addresses[target])
        if spec is None:
            raise UnsupportedProblemError(
                f"the plan sends from {name!r} to {target!r}, but they have no link",
                field="links",
                value=f"{name}>{target}",
                remedy="add the link or a default_link to the cluster file",
            )
        links.append(spec)
    return Load(
        session=addresses[cluster.source],
        epoch=epoch,
        stages=tuple(stages),
        routes=tuple(
            Route(tensor, tuple(addresses[t] for t in sorted(targets)))
            for tensor, targets in sorted(routes[name].items())
        ),
        links=tuple(links),
        receives=tuple(receives[name]),
        senders=dict(receives[name]),
        members=tuple(addresses[device] for device in receives),
        results=graph.outputs if name == cluster.source else (),
        expected={t: tensor_spec(graph, t) for t in sorted(handled) if t in graph.tensors},
        engine=engine_spec(cluster.by_name[name]),
        window=window,
    )
