"""Plan files as a person writes them, and requests whose answers tell them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cutset.feeds import Feeds
from cutset.onnx_io import Model

CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices:
  pi: {engine: {threads: 1}}
  server: {engine: {threads: 1}}
default_link: {bandwidth: 10Gbit/s, latency: 0s}
"""

Part = tuple[str, Sequence[str]]  # device, operators


def write_plan(path: Path, parts: Sequence[Part]) -> Path:
    """The least that a plan file needs: schema and stages."""
    stages = [
        {"name": f"s{i}", "device": device, "operators": list(operators)}
        for i, (device, operators) in enumerate(parts)
    ]
    path.write_text(json.dumps({"schema": "cutset/plan/1", "stages": stages}))
    return path


def operator_names(model: Model) -> list[str]:
    return [op.name for op in model.graph.operators]


def requests(model: Model, count: int, seed: int = 11) -> list[Feeds]:
    """`count` distinct requests; integers are ids below 1000, masks and sample rates as meant."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        feeds: Feeds = {}
        for port in model.ports:
            shape = tuple(dim or 1 for dim in port.shape)
            if port.name == "sr":
                feeds[port.name] = np.asarray(16000, np.int64)
            elif "mask" in port.name:
                feeds[port.name] = (
                    (np.arange(np.prod(shape)) < rng.integers(2, 30))
                    .astype(port.dtype)
                    .reshape(shape)
                )
            elif port.dtype.startswith("float"):
                feeds[port.name] = rng.standard_normal(shape).astype(port.dtype)
            else:
                feeds[port.name] = rng.integers(0, 1000, shape).astype(port.dtype)
        made.append(feeds)
    return made
