"""What devices say to each other when they measure links, stages and models.

Times are durations: devices' clocks differ.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from cutset.runtime.message_parts import Address, Count, EngineSpec, LinkSpec, Peer, Text, Wired

Pause = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ConfigureLinks(Wired, frozen=True, tag=True):
    """The links from this device, before any deployment (for measuring them)."""

    links: tuple[LinkSpec, ...]
    peers: tuple[Peer, ...] = ()


class Measure(Wired, frozen=True, tag=True):
    """Send `count` probes of `bytes` to `target`, one after another, and report round trips.

    `shaped` probes pass through the emulated link; others measure what the transport costs. The
    devices idle for `pause_s` before each.
    """

    target: Address
    bytes: Annotated[int, msgspec.Meta(ge=0, le=64 * 2**20)]
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    shaped: bool
    pause_s: Pause = 0.0


class Measured(Wired, frozen=True, tag=True):
    """Round trips, and the CPU seconds that both processes spent over all of them."""

    round_trip_s: tuple[float, ...]
    sender_cpu_s: float
    receiver_cpu_s: float


class Probe(Wired, frozen=True, tag=True):
    """A transfer of known size; answered by ProbeBack through the link's other direction.

    `after` is the probe right behind which it was sent (0: none).
    """

    id: Count
    sender: Address
    shaped: bool
    after: Count = 0


class ProbeBack(Wired, frozen=True, tag=True):
    """Of a probe that was sent right behind another, `gap_bytes` were not there yet when that one
    had been read, and `gap_s` later all were."""

    id: Count
    cpu_s: float
    gap_s: float = 0.0
    gap_bytes: Count = 0


class Look(Wired, frozen=True, tag=True):
    """Send `lead_bytes` to `target`, and `bytes` right behind them; answered by Looked when both
    are there, or by a failure after some seconds."""

    target: Address
    lead_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class Looked(Wired, frozen=True, tag=True):
    """Of the second of two transfers, `gap_bytes` came within `gap_s`: those that were not there
    yet when the first had been read. Both came within `whole_s` of when they were sent, the way
    back included."""

    gap_s: float
    gap_bytes: Count
    whole_s: float


class TimeStage(Wired, frozen=True, tag=True):
    """Run a loaded stage on made-up inputs, `runs` times, when the device has nothing else to do.

    Answered by Timed; after `limit_s` no further run begins.
    """

    session: Address
    epoch: Count
    stage: Text
    runs: Annotated[int, msgspec.Meta(ge=1, le=100)]
    limit_s: Annotated[float, msgspec.Meta(ge=0, le=60)]


class Timed(Wired, frozen=True, tag=True):
    """Seconds of each run; the first waited `queue_s` for the device."""

    seconds: Annotated[tuple[float, ...], msgspec.Meta(max_length=100)]
    queue_s: float


class RunProfile(Wired, frozen=True, tag=True):
    """Measure a submodel here; the payload holds the feeds (codec.pack_tensors). The device idles
    for `pause_s` before each whole run.
    """

    digest: Text
    engine: EngineSpec
    kernel_runs: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    whole_runs: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    pause_s: Pause = 0.0


class KernelSeconds(Wired, frozen=True):
    """One kernel's times, one per run (engine.KernelTimes)."""

    node: Text
    op_type: Text
    seconds: tuple[float, ...]


class Profiled(Wired, frozen=True, tag=True):
    """Raw times in seconds: per kernel in the order they run, and of whole (paced) runs.

    By how many bytes the process grew (growth.Grown): by a model of next to nothing, by loading
    this one, by loading and running it.
    """

    kernels: tuple[KernelSeconds, ...]
    whole_s: tuple[float, ...]
    threads: int
    stage_bytes: int
    load_bytes: int
    run_bytes: int
