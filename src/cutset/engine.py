"""What runs submodels on a device: a small protocol, ONNX Runtime behind it, and pacing.

ONNX Runtime is imported when a model is loaded, not before: what only passes submodels on needs
no engine.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutset.cluster import Engine
from cutset.errors import CutsetError, InvalidModelError, ProfileError, UsageError
from cutset.pacing import Paced, Runnable, warm_up
from cutset.ports import Array, Port, check_feeds


@dataclass(frozen=True)
class Submodel:
    """A stage as a model of its own: what travels to a device and is run there.

    `model` is a serialised ONNX ModelProto; `weights` its external data (file name -> bytes),
    empty where the weights are inside `model`. `digest` is the SHA-256 of all of it, by which
    devices cache it.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes
    weights: Mapping[str, bytes]
    digest: str
    #: (offset, size) of large weights inside `model`, in order: other submodels may have them too.
    shared: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    @property
    def size_bytes(self) -> int:
        """What travels to a device that has nothing of it."""
        return len(self.model) + sum(map(len, self.weights.values()))


#: A model that does next to nothing (Identity on one float, ONNX opset 13): what loading it takes
#: is the engine's, not a model's.
TINY = Submodel(
    "tiny",
    ("x",),
    ("y",),
    bytes.fromhex(
        "08083a370a100a017812017922084964656e746974791201745a0f0a0178120a0a08080112040a0208"
        "01620f0a0179120a0a08080112040a02080142040a00100d"
    ),
    {},
    "0" * 64,
)

#: Short names of execution providers; ONNX Runtime's own names are taken as they are.
PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "acl": "ACLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
}

_DTYPES: Mapping[str, str] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "object",
}


def write_submodel(submodel: Submodel, folder: Path) -> Path:
    """Write the model and its weights; returns the model's path. Weights that are there stay."""
    for name, data in submodel.weights.items():
        path = folder / name
        if path.parent != folder or path.name != name:
            raise InvalidModelError(
                "a weights file must be a plain name", field="weights", value=name
            )
        if not path.exists() or path.stat().st_size != len(data):
            path.write_bytes(data)
    target = folder / f"{submodel.digest}.onnx"
    target.write_bytes(submodel.model)
    return target


def load(
    submodel: Submodel | Path, engine: Engine | None = None, *, optimise: bool = True
) -> OrtRunnable:
    """Load a submodel, or a model file with its weights beside it, into ONNX Runtime.

    Raises UsageError where the provider is not installed, InvalidModelError where the model cannot
    be loaded.
    """
    engine = engine or Engine()
    options = session_options(engine.threads)
    if not optimise:
        options.graph_optimization_level = _onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    return OrtRunnable(_session(submodel, engine, options))


def session_options(threads: int | None) -> Any:
    """Options for measured runs: `threads` inside an operator (None: physical cores), one operator
    at a time, and no spinning, which would burn the time of other devices' processes here.
    """
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def engine_key(provider: str, version: str | None = None) -> str:
    """The engine as profiles name it, such as "onnxruntime-1.31.1/cpu"."""
    return f"onnxruntime-{version or _onnxruntime().__version__}/{provider.lower()}"


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "ONNX Runtime is not installed",
            field="engine",
            remedy='install it: pip install "cutset[cpu]" (or onnxruntime-gpu)',
        ) from None
    # Newer versions report events to their maker unless told not to: nothing of a user's leaves.
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def _session(submodel: Submodel | Path, engine: Engine, options: Any) -> Any:
    ort = _onnxruntime()
    provider = PROVIDERS.get(engine.provider.lower(), engine.provider)
    available = ort.get_available_providers()
    if provider not in available:
        raise UsageError(
            "the engine's provider is not available on this machine",
            field="engine.provider",
            value=engine.provider,
            remedy=f"available are {', '.join(_short(name) for name in available)}",
        )
    providers: list[Any] = [(provider, dict(engine.options))]
    if provider != PROVIDERS["cpu"]:
        providers.append(PROVIDERS["cpu"])
    if isinstance(submodel, Path):
        source: str | bytes = str(submodel)
    else:
        source = submodel.model
        if submodel.weights:
            names = list(submodel.weights)
            buffers = [submodel.weights[name] for name in names]
            options.add_external_initializers_from_files_in_memory(
                names, buffers, [len(b) for b in buffers]
            )
    try:
        return ort.InferenceSession(source, options, providers=providers)
    except Exception as error:  # ONNX Runtime raises a type of its own for each status
        raise InvalidModelError(
            f"ONNX Runtime cannot load it: {_first_line(error)}",
            file=str(submodel) if isinstance(submodel, Path) else None,
            field=None if isinstance(submodel, Path) else f"submodel {submodel.name!r}",
            remedy="check that this machine's onnxruntime runs the unsplit model",
        ) from None


def _short(provider: str) -> str:
    return next((short for short, name in PROVIDERS.items() if name == provider), provider)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).split(" : ", 3)[-1][:300]


class OrtRunnable:
    """A model in an ONNX Runtime session."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(map(_port, session.get_inputs()))
        self.outputs = tuple(map(_port, session.get_outputs()))
        self.input_names = tuple(port.name for port in self.inputs)
        self.output_names = tuple(port.name for port in self.outputs)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model's author wrote into it, by key."""
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Raises UsageError for feeds that do not fit, CutsetError where the run itself fails."""
        check_feeds(self.inputs, feeds)
        try:
            results = self._session.run(self.output_names, dict(feeds))
        except Exception as error:  # ONNX Runtime raises a type of its own for each status
            raise CutsetError(f"ONNX Runtime failed: {_first_line(error)}", field="run") from None
        return dict(zip(self.output_names, results, strict=True))


def _port(value: Any) -> Port:
    kind = value.type
    dtype = _DTYPES.get(kind) or (
        kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else "object"
    )
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape or ())
    return Port(value.name, dtype, shape)


@dataclass(frozen=True)
class KernelTimes:
    """One kernel of the engine's own graph, as its profile names it; seconds, one per run."""

    node: str
    op_type: str
    seconds: tuple[float, ...]

    @property
    def min_s(self) -> float:
        return min(self.seconds)

    @property
    def stdev_s(self) -> float:
        mean = math.fsum(self.seconds) / len(self.seconds)
        spread = math.fsum((s - mean) ** 2 for s in self.seconds)
        return math.sqrt(spread / max(1, len(self.seconds) - 1))


def whole_times(
    runnable: Runnable, feeds: Mapping[str, Array], runs: int, pause_s: float = 0.0
) -> tuple[float, ...]:
    """Seconds of each of `runs` runs, after a warm-up; unprofiled, paced where the runnable is.

    Before each, the thread idles for `pause_s`, as a device does that waits for a request.
    """
    warm_up(runnable, feeds)
    if isinstance(runnable, Paced):
        runnable.learn(feeds)
    found = []
    for _ in range(runs):
        if pause_s:
            time.sleep(pause_s)
        start = time.perf_counter()
        runnable.run(feeds)
        found.append(time.perf_counter() - start)
    return tuple(found)


def kernel_times(
    submodel: Submodel | Path, engine: Engine, feeds: Mapping[str, Array], runs: int
) -> tuple[KernelTimes, ...]:
    """Every kernel's times over `runs` runs by ONNX Runtime's profile, in the order they run.

    A kernel inside a body of If or Loop counts in the kernel that holds the body. Profiling costs
    5–31%: use these as weights, not as times. Raises ProfileError where the provider reports none.
    """
    with tempfile.TemporaryDirectory(prefix="cutset-") as folder:
        options = session_options(engine.threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(submodel, engine, options)
        runnable = OrtRunnable(session)
        warm = 2
        for _ in range(warm + runs):
            runnable.run(feeds)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return parse_profile(events, skip_runs=warm, runs=runs)


def parse_profile(
    events: Sequence[Mapping[str, Any]], skip_runs: int, runs: int
) -> tuple[KernelTimes, ...]:
    """The top-level kernels of an ONNX Runtime profile. Raises ProfileError where there are none.

    A kernel that did not run in every run counts 0 s where it did not.
    """
    kernels = [
        e
        for e in events
        if e.get("cat") == "Node" and str(e.get("name", "")).endswith("_kernel_time")
    ]
    spans = sorted(
        (int(e["ts"]), int(e["ts"]) + int(e["dur"]))
        for e in events
        if e.get("cat") == "Session" and e.get("name") == "model_run"
    )[skip_runs:]
    if not kernels or len(spans) < runs:
        raise ProfileError(
            "the engine reported no kernel times",
            field="engine.provider",
            remedy="profile on a provider that does (cpu), or profile spans between cuts",
        )
    times: dict[str, list[float]] = {}
    op_types: dict[str, str] = {}
    # Longest first among those that begin together: what holds others comes before them.
    kernels.sort(key=lambda e: (int(e["ts"]), -int(e["dur"])))
    run, covered_until = 0, 0
    for event in kernels:
        start, duration = int(event["ts"]), int(event["dur"])
        while run < len(spans) and start > spans[run][1]:
            run, covered_until = run + 1, 0
        if run == len(spans):
            break
        if start < spans[run][0] or start + duration <= covered_until:
            continue
        covered_until = start + duration
        name = str(event["name"]).removesuffix("_kernel_time")
        op_types.setdefault(name, str(event.get("args", {}).get("op_name", "")))
        times.setdefault(name, [0.0] * runs)[run] += duration * 1e-6
    return tuple(KernelTimes(name, op_types[name], tuple(s)) for name, s in times.items())


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once; at least 1."""
    try:
        usable = os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no affinity to ask
        return os.cpu_count() or 1
    cores = set()
    for cpu in usable:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(
                ((topology / "physical_package_id").read_text(), (topology / "core_id").read_text())
            )
        except OSError:
            return len(usable)
    return max(1, len(cores))
