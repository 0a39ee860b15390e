"""Whether the lab's numbers are true: payload rates of its links, and its paced compute times."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from cutset.errors import RuntimeFault
from cutset.lab import namespaces, pacing, traffic
from cutset.lab.keeper import joining
from cutset.lab.lab import Lab
from cutset.lab.state import LinkSpec

#: How far off a number may be.
RATE_TOLERANCE: Final = 0.01
PACE_TOLERANCE: Final = 0.02
#: A transfer takes about so long at the stated rate, within the limits; the median of so many
#: counts, as other load on this machine makes single ones slow.
TRANSFER_S: Final = 0.6
LEAST_BYTES, MOST_BYTES = 64 * 2**10, 64 * 2**20
TRANSFERS: Final = 3
_PACING_TIMEOUT_S: Final = 60.0


class LinkCalibration(msgspec.Struct, frozen=True):
    """`stated_bps` is the least of link, egress and ingress."""

    name: str
    stated_bps: float
    measured_bps: float

    @property
    def off_by(self) -> float:
        return self.measured_bps / self.stated_bps - 1


class ComputeCalibration(msgspec.Struct, frozen=True):
    """A stage that should take `stated_s` on the device, and what it takes (`pacing.measure`)."""

    device: str
    stated_s: float
    measured_s: float

    @property
    def off_by(self) -> float:
        return self.measured_s / self.stated_s - 1


class Calibration(msgspec.Struct, frozen=True):
    links: tuple[LinkCalibration, ...]
    compute: tuple[ComputeCalibration, ...]

    @property
    def true(self) -> bool:
        """Whether all are within the tolerances."""
        return all(abs(x.off_by) <= RATE_TOLERANCE for x in self.links) and all(
            abs(x.off_by) <= PACE_TOLERANCE for x in self.compute
        )


def calibrate(lab: Lab, progress: Callable[[float], None] = lambda done: None) -> Calibration:
    """Measure every limited link that is up, one after another, and every device.

    `progress` hears what part is done. Raises TransportError where a link carries nothing,
    RuntimeFault where a device cannot be measured.
    """
    spec = lab.state.spec
    limited = [x for x in spec.links if x.up and spec.rate_bps(x) is not None]
    steps = len(limited) + len(spec.devices)
    links = []
    for link in limited:
        rate = spec.rate_bps(link)
        assert rate is not None
        links.append(LinkCalibration(link.name, rate, measure_link(lab, link, rate)))
        progress(len(links) / steps)
    compute: list[ComputeCalibration] = []
    for i, device in enumerate(spec.devices):
        compute += _pace(lab, device.name, device.cpu_share)
        progress((len(links) + i + 1) / steps)
    return Calibration(tuple(links), tuple(compute))


def measure_link(lab: Lab, link: LinkSpec, rate_bps: float) -> float:
    """Median payload rate of a link, bits per second. Raises TransportError."""
    size = int(min(MOST_BYTES, max(LEAST_BYTES, rate_bps / 8 * TRANSFER_S)))
    fds = [lab.open_namespace(link.source), lab.open_namespace(link.target)]
    try:
        source, target = (
            traffic.End(fd, lab.place(name).address)
            for fd, name in zip(fds, (link.source, link.target), strict=True)
        )
        return statistics.median(traffic.payload_bps(source, target, size, TRANSFERS))
    finally:
        for fd in fds:
            os.close(fd)


def _pace(lab: Lab, device: str, share: float) -> list[ComputeCalibration]:
    """Paced work in the device's namespace and on its share, in a process of its own."""
    namespace = lab.open_namespace(device)

    def start() -> subprocess.CompletedProcess[str]:
        namespaces.enter(namespace)
        return subprocess.run(
            [*joining(lab.place(device).cgroups), sys.executable, "-m", "cutset.lab", "pacing"],
            input=json.dumps({"share": share}) + "\n",
            capture_output=True,
            text=True,
            timeout=_PACING_TIMEOUT_S,
            check=False,
        )

    try:
        done = namespaces.in_thread(start)
    except subprocess.TimeoutExpired:
        raise RuntimeFault(
            f"paced work on device {device!r} did not end within {_PACING_TIMEOUT_S:g} s",
            field=f"devices.{device}",
        ) from None
    finally:
        os.close(namespace)
    if done.returncode != 0:
        raise RuntimeFault(
            f"paced work on device {device!r} failed: {done.stderr.strip()[-300:]}",
            field=f"devices.{device}",
            remedy="is its memory large enough for a Python process?",
        )
    measured = json.loads(done.stdout)
    return [
        ComputeCalibration(device, stage_s, float(found))
        for (stage_s, _), found in zip(pacing.STAGES, measured, strict=True)
    ]
