"""What devices say to each other: typed messages with bounded lengths.

Every data message carries (session, epoch, request, tensor). A session is named by the address of
the process that hosts it, so that several coordinators can use one worker. Times in messages are
durations: devices' clocks differ.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

PROTOCOL_VERSION: Final = 5
MAX_HEADER_BYTES: Final = 4 * 2**20  # a load message names every tensor of a plan
MAX_CHUNK_BYTES: Final = 4 * 2**20
MAX_TENSOR_BYTES: Final = 2**31
MAX_ADDRESS_LENGTH: Final = 256
MAX_WINDOW: Final = 1024
MOST_PIECES: Final = 512

Payload = bytes | memoryview
"""A message's raw bytes: immutable, or a view (of single bytes) of a buffer."""

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Address = Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS_LENGTH)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Pause = Annotated[float, msgspec.Meta(ge=0, le=1)]
Rank = Annotated[tuple[Count, ...], msgspec.Meta(max_length=32)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of what travels: encoded as an array that begins with the class's name."""


class TensorSpec(_Message, frozen=True):
    """A tensor's dtype (numpy's name) and shape; None where the model leaves it open."""

    dtype: Text | None
    shape: Rank | None


# --- data -----------------------------------------------------------------------------------------


class Activation(_Message, frozen=True, tag=True):
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


class Ack(_Message, frozen=True, tag=True):
    """The receiver has the tensor (or had it, or has given the request up)."""

    session: Address
    epoch: Count
    request: Count
    tensor: Text
    receiver: Address


class RequestFailed(_Message, frozen=True, tag=True):
    """A stage could not answer a request; sent to the session by the device at `sender`."""

    session: Address
    epoch: Count
    request: Count
    device: Text
    sender: Address
    failure: Failure


class CancelRequest(_Message, frozen=True, tag=True):
    """The session has given the request up: drop what is held of it."""

    session: Address
    epoch: Count
    request: Count


# --- control: a Call is answered by one Reply -----------------------------------------------------


class GetStatus(_Message, frozen=True, tag=True):
    """What is this device, and what does it run?"""


class Status(_Message, frozen=True, tag=True):
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
    dropped: dict[str, int] = {}
    host_id: Text = ""


class Piece(_Message, frozen=True):
    """A range of a submodel that others may have too, by the SHA-256 of its bytes."""

    offset: Count
    size_bytes: Count
    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class AskSubmodel(_Message, frozen=True, tag=True):
    """How much of the submodel with this content hash is here? `total_bytes` is its size."""

    digest: Text
    total_bytes: Count
    pieces: Annotated[tuple[Piece, ...], msgspec.Meta(max_length=MOST_PIECES)] = ()


class Chunk(_Message, frozen=True, tag=True):
    """Bytes of a submodel from `offset`; the payload holds them."""

    digest: Text
    offset: Count
    total_bytes: Count


class Held(_Message, frozen=True, tag=True):
    """The answer to AskSubmodel and Chunk: so many bytes are here; `complete` when verified."""

    bytes: Count
    complete: bool


class GetDataEndpoint(_Message, frozen=True, tag=True):
    """Where can a connection for data be opened? Answered by DataEndpoint."""


class Place(_Message, frozen=True):
    """`host` "" is the host by which the device's control endpoint is known."""

    host: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class DataEndpoint(_Message, frozen=True, tag=True):
    """Where a device takes connections for data, best first, and the token that opens them.

    Without places nobody can connect to it; it may connect to others.
    """

    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=16)]
    token: Annotated[bytes, msgspec.Meta(max_length=64)]


class Peer(_Message, frozen=True):
    """Another device of a plan, with which data is exchanged."""

    address: Address
    endpoint: DataEndpoint


class StageSpec(_Message, frozen=True):
    """A stage to host. `memory_bytes` is the number of docs/formats.md, which is enforced."""

    name: Text
    inputs: tuple[Text, ...]
    outputs: tuple[Text, ...]
    digest: Text
    memory_bytes: Count


class Route(_Message, frozen=True):
    """Where a tensor goes from this device: addresses, in the order of the receivers' names."""

    tensor: Text
    targets: tuple[Address, ...]


class LinkSpec(_Message, frozen=True):
    """A link from this device. `emulated` links are held to the numbers in process."""

    target: Address
    name: Text
    bandwidth_bps: float | None
    latency_s: float
    emulated: bool


class EngineSpec(_Message, frozen=True):
    provider: Text
    threads: int | None
    options: dict[str, str]
    cpu_share: float | None


class Load(_Message, frozen=True, tag=True):
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


class Loaded(_Message, frozen=True, tag=True):
    """The stages are loaded and warm; `rss_growth_bytes` is what that took, as measured, and
    `stage_growth_bytes` the peak while each was loaded and warmed up."""

    rss_growth_bytes: int
    load_s: float
    stage_growth_bytes: tuple[int, ...] = ()


class Start(_Message, frozen=True, tag=True):
    session: Address
    epoch: Count


class Drain(_Message, frozen=True, tag=True):
    """Take no new requests; answered when none is left, or after `timeout_s`."""

    session: Address
    epoch: Count
    timeout_s: Seconds


class Unload(_Message, frozen=True, tag=True):
    session: Address
    epoch: Count


class Done(_Message, frozen=True, tag=True):
    """The answer where there is nothing to say but that it is done."""


class GetStats(_Message, frozen=True, tag=True):
    session: Address
    epoch: Count


class StageStats(_Message, frozen=True):
    """Sums over requests: seconds computing, and seconds ready but waiting for the device."""

    name: Text
    requests: int
    compute_s: float
    queue_s: float


class LinkStats(_Message, frozen=True):
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


class Stats(_Message, frozen=True, tag=True):
    """What an epoch's requests took on this device.

    `egress_busy_s` is for how long its outgoing transfers held the device's egress, those under
    way together counted once. `dropped` counts refused frames by reason since the epoch was loaded.
    """

    stages: tuple[StageStats, ...]
    links: tuple[LinkStats, ...]
    duplicates: int
    egress_busy_s: float = 0.0
    dropped: dict[str, int] = {}


class SetLink(_Message, frozen=True, tag=True):
    """Change an emulated link of this device, at once; None leaves a number as it is."""

    target: Address
    bandwidth_bps: float | None
    latency_s: float | None


class ConfigureLinks(_Message, frozen=True, tag=True):
    """The links from this device, before any deployment (for measuring them)."""

    links: tuple[LinkSpec, ...]
    peers: tuple[Peer, ...] = ()


class Measure(_Message, frozen=True, tag=True):
    """Send `count` probes of `bytes` to `target`, one after another, and report round trips.

    `shaped` probes pass through the emulated link; others measure what the transport costs. The
    devices idle for `pause_s` before each.
    """

    target: Address
    bytes: Annotated[int, msgspec.Meta(ge=0, le=64 * 2**20)]
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    shaped: bool
    pause_s: Pause = 0.0


class Measured(_Message, frozen=True, tag=True):
    """Round trips, and the CPU seconds that both processes spent over all of them."""

    round_trip_s: tuple[float, ...]
    sender_cpu_s: float
    receiver_cpu_s: float


class Probe(_Message, frozen=True, tag=True):
    """A transfer of known size; answered by ProbeBack through the link's other direction.

    `after` is the probe right behind which it was sent (0: none).
    """

    id: Count
    sender: Address
    shaped: bool
    after: Count = 0


class ProbeBack(_Message, frozen=True, tag=True):
    """Of a probe that was sent right behind another, `gap_bytes` were not there yet when that one
    had been read, and `gap_s` later all were."""

    id: Count
    cpu_s: float
    gap_s: float = 0.0
    gap_bytes: Count = 0


class Look(_Message, frozen=True, tag=True):
    """Send `lead_bytes` to `target`, and `bytes` right behind them; answered by Looked when both
    are there, or by a failure after some seconds."""

    target: Address
    lead_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class Looked(_Message, frozen=True, tag=True):
    """Of the second of two transfers, `gap_bytes` came within `gap_s`: those that were not there
    yet when the first had been read. Both came within `whole_s` of when they were sent, the way
    back included."""

    gap_s: float
    gap_bytes: Count
    whole_s: float


class TimeStage(_Message, frozen=True, tag=True):
    """Run a loaded stage on made-up inputs, `runs` times, when the device has nothing else to do.

    Answered by Timed; after `limit_s` no further run begins.
    """

    session: Address
    epoch: Count
    stage: Text
    runs: Annotated[int, msgspec.Meta(ge=1, le=100)]
    limit_s: Annotated[float, msgspec.Meta(ge=0, le=60)]


class Timed(_Message, frozen=True, tag=True):
    """Seconds of each run; the first waited `queue_s` for the device."""

    seconds: Annotated[tuple[float, ...], msgspec.Meta(max_length=100)]
    queue_s: float


class RunProfile(_Message, frozen=True, tag=True):
    """Measure a submodel here; the payload holds the feeds (codec.pack_tensors). The device idles
    for `pause_s` before each whole run.
    """

    digest: Text
    engine: EngineSpec
    kernel_runs: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    whole_runs: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    pause_s: Pause = 0.0


class KernelSeconds(_Message, frozen=True):
    """One kernel's times, one per run (engine.KernelTimes)."""

    node: Text
    op_type: Text
    seconds: tuple[float, ...]


class Profiled(_Message, frozen=True, tag=True):
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


class Failure(_Message, frozen=True, tag=True):
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


class Call(_Message, frozen=True, tag=True):
    id: Count
    reply_to: Address
    body: CallBody


class Reply(_Message, frozen=True, tag=True):
    id: Count
    body: ReplyBody


Message = Activation | Ack | RequestFailed | CancelRequest | Call | Reply | Probe | ProbeBack
