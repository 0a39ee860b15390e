"""What devices say to each other: typed messages with bounded lengths.

Every data message carries (session, epoch, request, tensor). A session is named by the address of
the process that hosts it, so that several coordinators can use one worker. Times in messages are
durations: devices' clocks differ.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from cutset.runtime.measuring_messages import (
    ConfigureLinks,
    Look,
    Looked,
    Measure,
    Measured,
    Probe,
    ProbeBack,
    Profiled,
    RunProfile,
    Timed,
    TimeStage,
)
from cutset.runtime.message_parts import (
    MAX_WINDOW,
    MOST_PIECES,
    Address,
    Count,
    DataEndpoint,
    EngineSpec,
    LinkSpec,
    Peer,
    Rank,
    Seconds,
    TensorSpec,
    Text,
    Wired,
)

# --- data -----------------------------------------------------------------------------------------


class Activation(Wired, frozen=True, tag=True):
    """A tensor on its way to a device; the payload is its raw bytes.

    `remaining_s` is what was left of the request's deadline when the tensor was sent; `queue_s` and
    `compute_s` what the stage that made it waited for the device and ran there. The latter two are
    hints, which the receiver checks: a wrong one must not cost the tensor.
    """

    session: Address
    epoch: Count
    request: Count
    tensor: Text
    dtype: Text
    shape: Rank
    sender: Address
    remaining_s: Seconds
    queue_s: float = 0.0
    compute_s: float = 0.0


class Ack(Wired, frozen=True, tag=True):
    """The receiver has the tensor (or had it, or has given the request up).

    `late_s` is how long before this was sent the tensor's last byte was there: what a busy receiver
    takes to notice is no time of the link. A hint, which its receiver checks.
    """

    session: Address
    epoch: Count
    request: Count
    tensor: Text
    receiver: Address
    late_s: float = 0.0


class RequestFailed(Wired, frozen=True, tag=True):
    """A stage could not answer a request; sent to the session by the device at `sender`."""

    session: Address
    epoch: Count
    request: Count
    device: Text
    sender: Address
    failure: Failure


class CancelRequest(Wired, frozen=True, tag=True):
    """The session has given the request up: drop what is held of it."""

    session: Address
    epoch: Count
    request: Count


# --- control: a Call is answered by one Reply -----------------------------------------------------


class GetStatus(Wired, frozen=True, tag=True):
    """What is this device, and what does it run?"""


class Status(Wired, frozen=True, tag=True):
    """The answer to GetStatus. Sizes in bytes; `cpu_s` is CPU time the process has used.

    `dropped` counts refused frames by reason since the process started; `host_id` is the same for
    processes of one machine ("" where it cannot be told).
    """

    name: Text
    address: Address
    pid: int
    versions: dict[str, str]
    cpu: Text
    cores: int
    memory_bytes: int
    memory_limit_bytes: int | None
    rss_bytes: int
    providers: tuple[str, ...]
    cpu_s: float
    epochs: tuple[int, ...]
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    host_id: Text = ""


class Piece(Wired, frozen=True):
    """A range of a submodel that others may have too, by the SHA-256 of its bytes."""

    offset: Count
    size_bytes: Count
    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class AskSubmodel(Wired, frozen=True, tag=True):
    """How much of the submodel with this content hash is here? `total_bytes` is its size."""

    digest: Text
    total_bytes: Count
    pieces: Annotated[tuple[Piece, ...], msgspec.Meta(max_length=MOST_PIECES)] = ()


class Chunk(Wired, frozen=True, tag=True):
    """Bytes of a submodel from `offset`; the payload holds them."""

    digest: Text
    offset: Count
    total_bytes: Count


class Held(Wired, frozen=True, tag=True):
    """The answer to AskSubmodel and Chunk: so many bytes are here; `complete` when verified."""

    bytes: Count
    complete: bool


class GetDataEndpoint(Wired, frozen=True, tag=True):
    """Where can a connection for data be opened? Answered by DataEndpoint."""


class StageSpec(Wired, frozen=True):
    """A stage to host. `memory_bytes` is the number of docs/formats.md, which is enforced."""

    name: Text
    inputs: tuple[Text, ...]
    outputs: tuple[Text, ...]
    digest: Text
    memory_bytes: Count


class Route(Wired, frozen=True):
    """Where a tensor goes from this device: addresses, in the order of the receivers' names."""

    tensor: Text
    targets: tuple[Address, ...]


class Load(Wired, frozen=True, tag=True):
    """Get ready for an epoch: load the stages, warm them, find the receivers.

    `receives` are the tensors that this device awaits from elsewhere, `senders` where each comes
    from; `expected` describes all tensors the device handles; `results` are graph outputs to give
    to the session when `hosts`; `members` are the addresses of all devices of the deployment.
    """

    session: Address
    epoch: Count
    stages: tuple[StageSpec, ...]
    routes: tuple[Route, ...]
    links: tuple[LinkSpec, ...]
    receives: tuple[Text, ...]
    senders: dict[Text, Address]
    members: tuple[Address, ...]
    results: tuple[Text, ...]
    expected: dict[str, TensorSpec]
    engine: EngineSpec
    window: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)]
    peers: tuple[Peer, ...] = ()


class Loaded(Wired, frozen=True, tag=True):
    """The stages are loaded and warm; `rss_growth_bytes` is what that took, as measured, and
    `stage_growth_bytes` the peak while each was loaded and warmed up."""

    rss_growth_bytes: int
    load_s: float
    stage_growth_bytes: tuple[int, ...] = ()


class Start(Wired, frozen=True, tag=True):
    session: Address
    epoch: Count


class Drain(Wired, frozen=True, tag=True):
    """Take no new requests; answered when none is left, or after `timeout_s`."""

    session: Address
    epoch: Count
    timeout_s: Seconds


class Unload(Wired, frozen=True, tag=True):
    session: Address
    epoch: Count


class Done(Wired, frozen=True, tag=True):
    """The answer where there is nothing to say but that it is done."""


class GetStats(Wired, frozen=True, tag=True):
    session: Address
    epoch: Count


class StageStats(Wired, frozen=True):
    """Sums over requests: seconds computing, and seconds ready but waiting for the device."""

    name: Text
    requests: int
    compute_s: float
    queue_s: float


class LinkStats(Wired, frozen=True):
    """Sums over tensors: payload bytes, and seconds from the start of a transfer to its ack.

    `busy_s` counts what several transfers share once, and leaves out what occupies nothing: the
    link's latency.
    `path` is the way that the link's data takes (Transport.path).
    """

    name: Text
    tensors: int
    bytes: int
    transfer_s: float
    retries: int
    busy_s: float = 0.0
    path: Text = ""


class Stats(Wired, frozen=True, tag=True):
    """What an epoch's requests took on this device.

    `egress_busy_s` is for how long its outgoing transfers held the device's egress, those under
    way together counted once. `dropped` counts refused frames by reason since the epoch was loaded.
    """

    stages: tuple[StageStats, ...]
    links: tuple[LinkStats, ...]
    duplicates: int
    egress_busy_s: float = 0.0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)


class SetLink(Wired, frozen=True, tag=True):
    """Change an emulated link of this device, at once; None leaves a number as it is."""

    target: Address
    bandwidth_bps: float | None
    latency_s: float | None


class Failure(Wired, frozen=True, tag=True):
    """An error as it travels: the code of cutset.errors and its parts."""

    code: Text
    message: Text
    file: Text | None = None
    field: Text | None = None
    value: Text | None = None
    remedy: Text | None = None


CallBody = (
    GetStatus
    | GetDataEndpoint
    | AskSubmodel
    | Chunk
    | Load
    | Start
    | Drain
    | Unload
    | GetStats
    | SetLink
    | ConfigureLinks
    | Measure
    | RunProfile
    | Look
    | TimeStage
)
ReplyBody = (
    Status
    | DataEndpoint
    | Held
    | Loaded
    | Done
    | Stats
    | Measured
    | Profiled
    | Looked
    | Timed
    | Failure
)


class Call(Wired, frozen=True, tag=True):
    id: Count
    reply_to: Address
    body: CallBody


class Reply(Wired, frozen=True, tag=True):
    id: Count
    body: ReplyBody


Message = Activation | Ack | RequestFailed | CancelRequest | Call | Reply | Probe | ProbeBack
