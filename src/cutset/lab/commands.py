"""The lab's network as lines for `ip -batch` and `tc -batch`. Pure.

A star: every device has one veth into a bridge in the hub's namespace. Egress and links are shaped
on the device's side, where TCP's small queues hold senders back instead of losing packets; ingress
on the hub's side of the port, with a queue that holds all that TCP may have under way.
"""

from __future__ import annotations

from typing import Final

from cutset.lab.state import LabSpec, LinkSpec

PORT: Final = 7447
BRIDGE: Final = "hub"
DEVICE_PORT: Final = "eth0"
RELAY_PORT: Final = "delay0"
MTU_BYTES: Final = 1500
#: A full frame as queues count it (Ethernet header included), and the payload of TCP in it.
FRAME_BYTES: Final = 1514
PAYLOAD_BYTES: Final = 1448
#: What a late timer may catch up with: long enough for a loaded kernel, short beside a transfer.
BURST_S: Final = 0.0002
#: TCP hands packets to the interface in pieces that last at most so long on its slowest link.
PIECE_S: Final = 0.0005
QUEUE_BYTES: Final = 32 * 2**20


def address(index: int) -> str:
    """The address of the device with this number."""
    return f"10.77.{index // 250}.{index % 250 + 1}"


def port(index: int) -> str:
    """The hub's interface to the device with this number."""
    return f"d{index}"


def wire_bps(payload_bps: float) -> int:
    """The rate of frames that carries a rate of payload."""
    return max(1, round(payload_bps * FRAME_BYTES / PAYLOAD_BYTES))


def hub_lines() -> list[str]:
    """`ip` lines: the bridge, which forwards and learns nothing else."""
    return [
        "link set lo up",
        f"link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0",
        f"link set {BRIDGE} up",
    ]


def port_lines(index: int, namespace: str) -> list[str]:
    """`ip` lines in the hub: the veth whose other end is the device's, in `namespace`."""
    return [
        f"link add {port(index)} mtu {MTU_BYTES} type veth"
        f" peer name {DEVICE_PORT} mtu {MTU_BYTES} netns {namespace}",
        f"link set {port(index)} master {BRIDGE}",
        f"link set {port(index)} up",
    ]


def device_lines(index: int) -> list[str]:
    """`ip` lines in the device: its addresses."""
    return [
        "link set lo up",
        f"address add {address(index)}/16 dev {DEVICE_PORT}",
        f"link set {DEVICE_PORT} up",
    ]


def piece_lines(spec: LabSpec, index: int) -> list[str]:
    """`ip` lines in the device: how large a piece TCP hands over at once (GSO).

    A piece passes a shaper whole, so that it must be short on the slowest link; on fast links
    large pieces save the processor.
    """
    name = spec.devices[index].name
    rates = [
        rate
        for link in spec.links
        if link.source == name and (rate := spec.rate_bps(link)) is not None
    ]
    size = min([65536, *(int(wire_bps(rate) / 8 * PIECE_S) for rate in rates)])
    segments = max(1, min(44, size // FRAME_BYTES))
    return [f"link set {DEVICE_PORT} gso_max_size 65536 gso_max_segs {segments}"]


def _neighbours(spec: LabSpec, index: int) -> list[tuple[int, float | None]]:
    """Number of each device that this one has a link to, and the rate up to there."""
    me = spec.devices[index]
    found = []
    for i, device in enumerate(spec.devices):
        link = spec.link(me.name, device.name)
        if link is not None:
            rates = [r for r in (link.bandwidth_bps, me.egress_bps) if r is not None]
            found.append((i, min(rates, default=None)))
    return found


def _htb(rate_bps: float, ceil_bps: float | None = None) -> str:
    wire, ceil = wire_bps(rate_bps), wire_bps(rate_bps if ceil_bps is None else ceil_bps)
    quantum = max(FRAME_BYTES, min(60000, int(ceil / 8 * 0.001)))

    def burst(bps: int) -> int:
        return max(FRAME_BYTES, int(bps / 8 * BURST_S))

    return (
        f"htb rate {wire}bit ceil {ceil}bit burst {burst(wire)} cburst {burst(ceil)}"
        f" quantum {quantum}"
    )


def class_lines(spec: LabSpec, index: int) -> dict[str, str]:
    """`tc class` arguments by class: the device's egress and its limited links; empty: no limit."""
    egress = spec.devices[index].egress_bps
    neighbours = _neighbours(spec, index)
    limited = [(i, rate) for i, rate in neighbours if rate is not None]
    lines: dict[str, str] = {}
    if egress is not None:
        lines["1:1"] = f"parent 1: classid 1:1 {_htb(egress)}"
    for i, rate in limited:
        name = f"1:{i + 16:x}"
        if egress is None:
            lines[name] = f"parent 1: classid {name} {_htb(rate)}"
        else:
            # What a class is granted, it gets beside others; so the grants add up to the egress,
            # and what goes beyond is borrowed from it.
            granted = min(rate, egress / (len(limited) + 1))
            lines[name] = f"parent 1:1 classid {name} {_htb(granted, rate)}"
    if egress is not None:  # whatever is for nobody's link, such as answers over links one way
        granted = egress / (len(limited) + 1)
        lines["1:f"] = f"parent 1:1 classid 1:f {_htb(granted, egress)}"
    return lines


def egress_lines(spec: LabSpec, index: int) -> list[str]:
    """`tc` lines in the device: the shaper of its egress and links; none where nothing is limited.

    What no class is for passes unshaped.
    """
    classes = class_lines(spec, index)
    if not classes:
        return []
    default = "f" if "1:f" in classes else "0"
    lines = [f"qdisc add dev {DEVICE_PORT} root handle 1: htb default {default}"]
    lines += [f"class add dev {DEVICE_PORT} {line}" for line in classes.values()]
    for i, _ in _neighbours(spec, index):
        name = f"1:{i + 16:x}"
        if name in classes:
            lines.append(
                f"filter add dev {DEVICE_PORT} parent 1: protocol ip prio 1 u32"
                f" match ip dst {address(i)}/32 flowid {name}"
            )
    for name in classes:
        if name != "1:1":
            lines.append(f"qdisc add dev {DEVICE_PORT} parent {name} bfifo limit {QUEUE_BYTES}")
    return lines


def egress_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`tc` lines in the device for a live change; queues live on where the classes stay."""
    old, new = class_lines(before, index), class_lines(after, index)
    if old == new:
        return []
    if old.keys() == new.keys():
        return [
            f"class change dev {DEVICE_PORT} {line}" for key, line in new.items() if line != old[key]
        ]
    removed = [f"qdisc del dev {DEVICE_PORT} root"] if old else []
    return removed + egress_lines(after, index)


def ingress_lines(spec: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub: the shaper of what a device takes in; none where it is unlimited."""
    rate = spec.devices[index].ingress_bps
    if rate is None:
        return []
    dev = port(index)
    return [
        f"qdisc add dev {dev} root handle 1: htb default 1",
        f"class add dev {dev} parent 1: classid 1:1 {_htb(rate)}",
        f"qdisc add dev {dev} parent 1:1 bfifo limit {QUEUE_BYTES}",
    ]


def ingress_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub for a live change."""
    old, new = before.devices[index].ingress_bps, after.devices[index].ingress_bps
    if old == new:
        return []
    if old is not None and new is not None:
        return [f"class change dev {port(index)} parent 1: classid 1:1 {_htb(new)}"]
    removed = [] if old is None else [f"qdisc del dev {port(index)} root"]
    return removed + ingress_lines(after, index)


def delayed(spec: LabSpec, index: int) -> list[LinkSpec]:
    """The links from a device that state a latency."""
    name = spec.devices[index].name
    return [link for link in spec.links if link.source == name and link.latency_s > 0]


def delay_lines(spec: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub: hand what goes over links with a latency to the relay."""
    links = delayed(spec, index)
    if not links:
        return []
    dev = port(index)
    return [
        f"qdisc add dev {dev} handle ffff: ingress",
        *(
            f"filter add dev {dev} parent ffff: protocol ip prio 1 u32"
            f" match ip dst {address(spec.index(link.target))}/32"
            f" action mirred egress redirect dev {RELAY_PORT}"
            for link in links
        ),
    ]


def delay_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub for a live change of which links have a latency."""
    old, new = delay_lines(before, index), delay_lines(after, index)
    if old == new:
        return []
    return ([f"qdisc del dev {port(index)} ingress"] if old else []) + new


def unreachable(spec: LabSpec, index: int) -> list[int]:
    """Numbers of the devices to which a device cannot send.

    Those with which it has no link in either direction, and those to which its link is down. The
    source reaches all: it deploys. TCP needs the way back, so a link one way opens both, but
    plans send nothing there.
    """
    me = spec.devices[index].name
    found = []
    for i, device in enumerate(spec.devices):
        there, back = spec.link(me, device.name), spec.link(device.name, me)
        apart = there is None and back is None and spec.source not in (me, device.name)
        if i != index and (apart or (there is not None and not there.up)):
            found.append(i)
    return found


def route_lines(spec: LabSpec, index: int) -> list[str]:
    """`ip` lines in the device: what it cannot reach."""
    return [f"route add blackhole {address(i)}/32" for i in unreachable(spec, index)]


def route_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`ip` lines in the device for links that went down or came up."""
    old, new = set(unreachable(before, index)), set(unreachable(after, index))
    return [f"route del blackhole {address(i)}/32" for i in sorted(old - new)] + [
        f"route add blackhole {address(i)}/32" for i in sorted(new - old)
    ]
