"""Measures a model on devices: what each operator takes there, and what the links carry.

Weights come from the least time of each kernel, the scale from the median of the whole model on the
device as it is (paced, loaded, throttled): a minimum sees the unthrottled core, a median of the
whole sees what a request will see (docs/formats.md, profile file).
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import onnx

from cutset import engine, zoo
from cutset.cluster import Cluster, Device, Engine
from cutset.engine import KernelTimes, Submodel
from cutset.errors import ProfileError, WorkerLostError
from cutset.memory import attributed
from cutset.onnx_io import Model, operator_times, whole
from cutset.ports import Array
from cutset.profile_store import keep, profile_path, recall
from cutset.profiles import Measurement, MemoryMeasurement, Profile, WholeMeasurement
from cutset.report import percentile
from cutset.runtime import growth, machine_info, measuring
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.growth import Grown
from cutset.runtime.measuring import Probes
from cutset.runtime.messages import Status
from cutset.runtime.routing import engine_spec

#: Runs are chosen so that measuring a device takes about this long, within the limits.
TARGET_S = 4.0
LEAST_RUNS, MOST_RUNS = 7, 40

Feeds = Mapping[str, Array]
Note = Callable[[str], None]


def profile_here(
    model: Model, feeds: Feeds, kind: str, spec: Engine | None = None, *, fresh: bool = False
) -> Profile:
    """The model on this machine, in this process, as devices of `kind`.

    Raises ProfileError where the provider reports no kernel times.
    """
    spec = spec or Engine()
    threads = spec.threads or engine.physical_cores()
    name = engine.engine_key(spec.provider)
    key = (kind, "here", machine_info.cpu_name(), name, threads, spec.options)

    def measure() -> Profile:
        submodel = whole(model)
        grown = growth.by_loading(
            lambda piece: engine.load(piece, spec), lambda: whole(model), growth.runs(feeds)
        )
        runnable = engine.load(submodel, spec)
        runs = runs_for(engine.whole_times(runnable, feeds, 1)[0])
        whole_s = engine.whole_times(runnable, feeds, runs)
        kernels = engine.kernel_times(submodel, spec, feeds, runs)
        found = scaled(model, kernels, whole_s, kind, name, threads)
        return replace(found, memory=(memory_of(model, [grown], kind, name),))

    return _remembered(model, key, measure, fresh)


def profile_cluster(
    model: Model,
    coordinator: Coordinator,
    feeds: Feeds,
    *,
    fresh: bool = False,
    links: bool = True,
    note: Note = lambda _: None,
) -> Profile:
    """The model on every kind of device of the cluster, and every link; devices one at a time.

    Of several devices of one kind the first is measured. Links, transfer costs and the overhead of
    a stage are measured every time, unless not `links`; values that the cluster file states keep
    precedence (`profiles.resolve`).
    Raises TransportError for a device that cannot be reached, WorkerLostError for one that is lost.
    """
    for device in coordinator.cluster.devices:
        coordinator.connect(device.name)  # raises what names device, endpoint and remedy
    states = {state.name: state for state in coordinator.status()}
    found = Profile(model.graph.digest)
    for device in first_of_each_kind(coordinator.cluster):
        state = states[device.name]
        status = state.status
        if status is None:
            raise WorkerLostError(
                f"device {device.name!r} is gone: {state.error}", field=f"devices.{device.name}"
            )
        spec = engine_spec(device)
        threads = spec.threads or status.cores
        name = engine.engine_key(spec.provider, _engine_version(status))
        key = (device.kind, status.cpu, name, threads, spec.options, spec.cpu_share)

        def measure(device: Device = device, name: str = name, threads: int = threads) -> Profile:
            note(f"measuring the model on {device.name}")
            return _measure_on(model, coordinator, device, feeds, name, threads)

        found = joined(found, _remembered(model, key, measure, fresh))
    return joined(found, profile_links(model.graph.digest, coordinator, note)) if links else found


def profile_links(
    graph_digest: str, coordinator: Coordinator, note: Note = lambda _: None
) -> Profile:
    """Every link of the cluster, and what its devices take for transfers and for any stage."""
    note("measuring the links")
    links, devices = measuring.measure_links(coordinator, _probes())
    return Profile(graph_digest, links=links, devices=devices)


@cache
def _probes() -> Probes:
    """A small convolutional network, and one and two convolutions of a tensor of 1 MB."""
    small, once, twice = (
        _submodel(model)
        for model in (
            zoo.build("squeezenet", side=64, width=0.5),
            *(zoo.build("pointwise", side=128, layers=n) for n in (1, 2)),
        )
    )

    def ones(submodel: Submodel, *shape: int) -> Feeds:
        return {submodel.inputs[0]: np.ones(shape, np.float32)}

    return Probes(small, ones(small, 1, 3, 64, 64), once, twice, ones(once, 1, 16, 128, 128))


def _submodel(model: onnx.ModelProto) -> Submodel:
    inputs, outputs = (tuple(v.name for v in x) for x in (model.graph.input, model.graph.output))
    data = model.SerializeToString()
    return Submodel(model.graph.name, inputs, outputs, data, {}, hashlib.sha256(data).hexdigest())


def _measure_on(
    model: Model, coordinator: Coordinator, device: Device, feeds: Feeds, name: str, threads: int
) -> Profile:
    submodel = whole(model)
    first = measuring.profile(
        coordinator, device.name, submodel, feeds, kernel_runs=0, whole_runs=1
    )
    runs = runs_for(first.whole_s[0])
    # Kernel times come unpaced, so they are cheap beside paced whole runs.
    raw = measuring.profile(
        coordinator,
        device.name,
        submodel,
        feeds,
        kernel_runs=max(runs, 2 * LEAST_RUNS),
        whole_runs=runs,
    )
    found = scaled(model, raw.kernels, raw.whole_s, device.kind, name, threads)
    taken = memory_of(model, [first.grown, raw.grown], device.kind, name)
    return replace(found, memory=(taken,))


def _engine_version(status: Status) -> str:
    versions = status.versions
    return versions.get("onnxruntime") or versions.get("onnxruntime-gpu") or "unknown"


def _remembered(
    model: Model, key: tuple[object, ...], measure: Callable[[], Profile], fresh: bool
) -> Profile:
    path = profile_path(model.graph.digest, key)
    known = None if fresh else recall(path)
    if known is not None and known.graph_digest == model.graph.digest:
        return known
    found = measure()
    keep(path, found)
    return found


def joined(a: Profile, b: Profile) -> Profile:
    """Both profiles of one graph as one."""
    return Profile(
        a.graph_digest,
        a.measurements + b.measurements,
        a.whole + b.whole,
        a.links + b.links,
        a.devices + b.devices,
        a.memory + b.memory,
    )


def runs_for(run_s: float) -> int:
    """How often to run a model whose one run takes `run_s`."""
    return min(MOST_RUNS, max(LEAST_RUNS, round(TARGET_S / max(run_s, 1e-6))))


def first_of_each_kind(cluster: Cluster) -> tuple[Device, ...]:
    found: dict[str, Device] = {}
    for device in cluster.devices:
        found.setdefault(device.kind, device)
    return tuple(found.values())


def memory_of(
    model: Model, grown: Sequence[Grown], kind: str, engine_name: str
) -> MemoryMeasurement:
    """The largest of what loading the model took, as what a stage and its weights take."""
    costs = [attributed(model.graph, g.stage_bytes, g.load_bytes, g.run_bytes) for g in grown]
    return MemoryMeasurement(
        kind,
        engine_name,
        max(c.stage_bytes for c in costs),
        max(c.weight_factor for c in costs),
        len(costs),
    )


def scaled(
    model: Model,
    kernels: Sequence[KernelTimes],
    whole_s: Sequence[float],
    kind: str,
    engine_name: str,
    threads: int,
) -> Profile:
    """Raw times as a profile: operators' least times, scaled so that they add up to the median of
    the whole. Raises ProfileError where nothing was measured.
    """
    if not whole_s:
        raise ProfileError("the device returned no times of the whole model", field=kind)
    times = operator_times(model, kernels)
    total = math.fsum(t.min_s for t in times.values())
    if total <= 0:
        raise ProfileError("the device's kernels took no time", field=kind, value=f"{total} s")
    median = statistics.median(whole_s)
    scale = median / total
    measurements = tuple(
        Measurement(kind, engine_name, threads, name, t.min_s * scale, t.stdev_s * scale, t.samples)
        for name, t in times.items()
    )
    measured = WholeMeasurement(
        kind,
        median,
        percentile(whole_s, 0.5),
        percentile(whole_s, 0.9),
        len(whole_s),
        engine_name,
        threads,
    )
    return Profile(model.graph.digest, measurements, (measured,))
