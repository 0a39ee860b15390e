"""Is the lab true? Payload rates of links from 1 Mbit/s to 1 Gbit/s, and paced compute."""

from __future__ import annotations

import argparse
from typing import Any

from common import write_result

from cutset import lab
from cutset.cluster import Cluster, Device, Link
from cutset.lab.calibration import PACE_TOLERANCE, RATE_TOLERANCE, calibrate

RATES_BPS = (1e6, 5e6, 20e6, 100e6, 300e6, 1e9)
SHARES = (0.05, 0.1, 0.25, 0.5, 0.5, 0.5)


def cluster() -> Cluster:
    """A ring: each device sends over one link, so that each link has a device of its own."""
    names = [f"d{i}" for i in range(len(RATES_BPS))]
    devices = tuple(Device(n, n, cpu_share=s) for n, s in zip(names, SHARES, strict=True))
    links = tuple(
        Link(name, names[(i + 1) % len(names)], rate, 0.0)
        for i, (name, rate) in enumerate(zip(names, RATES_BPS, strict=True))
    )
    return Cluster(devices, links, names[0], names[0])


def main(quick: bool = False) -> None:
    """Measure and write the result, unless quick."""
    with lab.up(cluster(), tied=True) as up:
        found = calibrate(up)
    shares = {device.name: device.cpu_share for device in cluster().devices}
    result: dict[str, Any] = {
        "rate_tolerance": RATE_TOLERANCE,
        "pace_tolerance": PACE_TOLERANCE,
        "links": [
            {"stated_bps": x.stated_bps, "measured_bps": x.measured_bps, "off_by": x.off_by}
            for x in found.links
        ],
        "compute": [
            {
                "share": shares[x.device],
                "stated_s": x.stated_s,
                "measured_s": x.measured_s,
                "off_by": x.off_by,
            }
            for x in found.compute
        ],
    }
    print(result)
    if not quick:
        write_result("calibration", "lab", result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="writes no result")
    main(parser.parse_args().quick)
