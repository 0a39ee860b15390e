"""The models that benchmarks run, prepared for cutting, and where to cut them evenly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from cutset import engine
from cutset.cluster import Engine
from cutset.graph import Graph
from cutset.onnx_io import Model, load_model, operator_times, whole
from cutset.plan import Plan, Stage
from cutset.ports import Array
from cutset.zoo import ARCHITECTURES, light, pretrained

ONE_THREAD = Engine(threads=1)

#: How far from equal times (as a share of the whole) an articulation is still taken.
NEAR = 0.1


@dataclass(frozen=True)
class Entry:
    """A model by name: `source` is "pretrained", "zoo" (seeded weights) or "light" (the same)."""

    name: str
    source: str
    model: str
    side: int | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None


def _text(length: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(("input_ids", "attention_mask"), (1, length))


ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("ppocr_det 384x768", "pretrained", "ppocr_det", shapes={"x": (1, 3, 384, 768)}),
        Entry("ppocr_det 640x640", "pretrained", "ppocr_det", shapes={"x": (1, 3, 640, 640)}),
        Entry("ppocr_rec 48x864", "pretrained", "ppocr_rec", shapes={"x": (1, 3, 48, 864)}),
        Entry("minilm 1x256", "pretrained", "minilm", shapes=_text(256)),
        Entry("alexnet 224", "zoo", "alexnet", 224),
        Entry("squeezenet 227", "zoo", "squeezenet", 227),
        Entry("squeezenet 640", "zoo", "squeezenet", 640),
        Entry("vgg16 224", "zoo", "vgg16", 224),
        Entry("resnet18 224", "zoo", "resnet18", 224),
        Entry("resnet18 256", "zoo", "resnet18", 256),
        Entry("resnet50 224", "zoo", "resnet50", 224),
        Entry("mobilenet_v2 512", "zoo", "mobilenet_v2", 512),
        Entry("xception 299", "zoo", "xception", 299),
        Entry("vit_s 224", "zoo", "vit_s", 224),
        Entry("unet 160", "zoo", "unet", 160),
        Entry("light densenet121", "light", "densenet121"),
        Entry("light inception_v1", "light", "inception_v1"),
        Entry("light inception_v2", "light", "inception_v2"),
        Entry("light vgg19", "light", "vgg19"),
    )
}


def prepared(entry: Entry, folder: Path) -> Model:
    """The model; one that is built is first written to `folder`."""
    if entry.source == "pretrained":
        return load_model(pretrained(entry.model), entry.shapes)
    path = folder / f"{entry.name.replace(' ', '_')}.onnx"
    if entry.source == "light":
        proto = light(entry.model)
    else:
        proto = ARCHITECTURES[entry.model](side=entry.side)
    onnx.save(proto, str(path))
    return load_model(path)


def measured_here(model: Model, feeds: Mapping[str, Array], runs: int = 8) -> tuple[float, ...]:
    """Each operator's least seconds on one thread here, in the order of the graph."""
    times = operator_times(model, engine.kernel_times(whole(model), ONE_THREAD, feeds, runs))
    return tuple(times[op.name].min_s if op.name in times else 0.0 for op in model.graph.operators)


def cut_positions(
    graph: Graph, times: Sequence[float], segments: int, *, small: bool = False
) -> tuple[int, ...]:
    """Positions that cut the graph's order into `segments` of nearly equal time.

    The articulation nearest to each even share, where one is within NEAR of it; otherwise, of all
    positions within NEAR, the one that the fewest bytes cross. With `small`, always the latter.
    """
    total = math.fsum(times)
    done = (0.0, *itertools.accumulate(times))
    found: list[int] = []
    for k in range(1, segments):

        def off(position: int, share: float = k / segments) -> float:
            return abs(done[position] / total - share)

        after = found[-1] if found else 0
        free = [p for p in range(after + 1, len(graph.operators)) if off(p) <= NEAR]
        points = [p for p in graph.articulations if p in set(free)]
        if points and not small:
            found.append(min(points, key=off))
        elif free:
            found.append(min(free, key=lambda p: (crossing_bytes(graph, p), off(p))))
    return tuple(found)


def crossing_bytes(graph: Graph, position: int) -> int:
    return sum(graph.tensors[t].size_bytes for t in graph.crossing(position))


def plan_at(graph: Graph, positions: Sequence[int], devices: Sequence[str]) -> Plan:
    """The order cut at `positions`; stage i on devices[i]."""
    names = [op.name for op in graph.operators]
    edges = (0, *positions, len(names))
    spans = itertools.pairwise(edges)
    return Plan(
        tuple(
            Stage(f"s{i}", device, tuple(names[a:b]))
            for i, ((a, b), device) in enumerate(zip(spans, devices, strict=True))
        )
    )
