"""The main job on emulated devices: measure, plan, deploy, run, compare; then follow the link.

The source device is this process, slowed to a share of a core; the server is a process of its own;
they talk over links held to a stated rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cutset import api
from cutset.adaptation.words import line_in_words
from cutset.cluster import Cluster
from cutset.demo import ocr
from cutset.demo.following import Followed, follow
from cutset.deployed import Deployed
from cutset.errors import UsageError
from cutset.onnx_io import Model
from cutset.onnx_io.attach import attach_preprocessing
from cutset.plan import Plan, Stage
from cutset.ports import Array
from cutset.problem import Problem, Solution
from cutset.profiles import Profile
from cutset.report import percentile
from cutset.runner import RunRecord, run_requests
from cutset.runtime.coordinator import Coordinator
from cutset.serde import read_cluster, write_profile
from cutset.units import format_rate
from cutset.verify import Comparison
from cutset.zoo import pretrained

CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices:
  pi: {}
  server: {engine: {threads: 1}}
links:
  - {from: pi, to: server, bandwidth: 20Mbit/s, latency: 2ms, both: true}
lab: {pi: {cpu: 0.25}}      # pi is slowed to a quarter of a core of this machine
"""
SOURCE, SERVER = "pi", "server"
TARGET_S = 4.0  # how long running one plan should take
MOST_REQUESTS = 25

Note = Callable[[str], None]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Ran:
    """One plan, predicted beside measured (median); seconds. The bound is the best plan's."""

    name: str
    where: str
    predicted_s: float
    measured_s: float
    bound_s: float
    requests: int
    comparison: Comparison

    @property
    def off(self) -> float:
        return self.measured_s / self.predicted_s - 1

    @property
    def gap(self) -> float:
        """How much of the predicted latency the bound leaves open."""
        return max(0.0, (self.predicted_s - self.bound_s) / self.predicted_s)


@dataclass(frozen=True)
class Network:
    """A model with its preprocessing inside, what it is asked, and what it must answer."""

    title: str
    model: Model
    metadata: Mapping[str, str]
    feeds: tuple[Feeds, ...]
    expected: tuple[Feeds, ...]


@dataclass(frozen=True)
class Section:
    """What was found out about one network."""

    network: Network
    solution: Solution
    rows: tuple[Ran, ...]


@dataclass(frozen=True)
class Outcome:
    sections: tuple[Section, ...]
    followed: Followed
    text: tuple[str, ...]
    text_unsplit: tuple[str, ...]
    folder: Path

    @property
    def equal(self) -> bool:
        rows = [row for section in self.sections for row in section.rows]
        same = all(r.comparison.equal() for r in rows) and self.followed.comparison.equal()
        return same and self.text == self.text_unsplit


def available() -> bool:
    """Whether the package that carries the models is installed."""
    try:
        pretrained("ppocr_det")
    except UsageError:
        return False
    return True


def prepare(folder: Path, note: Note) -> tuple[Cluster, Network, Network, tuple[str, ...]]:
    """The files of the demo in `folder`, both networks, and the text as the unsplit models read it.

    Raises UsageError where the models' package is not installed.
    """
    from PIL import Image

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cluster.yaml").write_text(CLUSTER)
    except OSError as error:
        raise UsageError(
            f"the folder cannot be written: {error.strerror or error}",
            field="--folder",
            value=folder,
            remedy="give one that can be made here",
        ) from None
    image = ocr.page()
    Image.fromarray(image).save(folder / "page.png")
    note("reading the page with the unsplit models")
    detector = _attached(
        folder / "detector.onnx", pretrained("ppocr_det"), ocr.DETECTOR_PRE, image.shape[:2]
    )
    # Other pages for the same network, so that answers to different requests differ.
    pages = [np.ascontiguousarray(np.roll(image, 48 * i, axis=0)) for i in range(4)]
    finding = _network("detector: where is text?", detector, pages)
    name = detector.outputs[0].name
    boxes = ocr.text_boxes(finding.expected[0][name][0, 0])
    width = ocr.line_width(boxes)
    lines = [ocr.line_image(image, box, width) for box in boxes]
    np.save(folder / "lines.npy", np.stack(lines))
    recogniser = _attached(
        folder / "recogniser.onnx",
        pretrained("ppocr_rec"),
        ocr.RECOGNISER_PRE,
        (ocr.LINE_HEIGHT, width),
    )
    reading = _network("recogniser: what does a line say?", recogniser, lines)
    return read_cluster(folder / "cluster.yaml"), finding, reading, texts(reading, reading.expected)


def play(folder: Path, note: Note) -> Outcome:
    """The whole demo. Raises what measuring, planning and running raise."""
    cluster, finding, reading, unsplit = prepare(folder, note)
    with Coordinator(cluster) as coordinator:
        sections = []
        answers: Mapping[int, Feeds] = {}
        profiles: dict[str, Profile] = {}
        for network in (finding, reading):
            note(f"measuring the {network.title.partition(':')[0]} on {SOURCE} and {SERVER}")
            profile = api.profile(
                network.model, feeds=network.feeds[0], coordinator=coordinator, fresh=True
            )
            profiles[network.title] = profile
            write_profile(folder / f"{network.model.path.stem}-profile.json", profile)
            section, answers = _compare_plans(network, cluster, profile, coordinator, note)
            sections.append(section)
        text = texts(reading, [answers[i] for i in range(len(reading.feeds))])
        note("loading every cut of the recogniser that may be best")
        followed = follow(
            reading.model,
            reading.feeds,
            reading.expected,
            cluster,
            profiles[reading.title],
            coordinator,
            lambda rate_bps: _link_is(coordinator, rate_bps, note),
            on_line=lambda line, cuts: note(line_in_words(line, cuts)),
        )
    return Outcome(tuple(sections), followed, text, unsplit, folder)


def _attached(target: Path, source: Path, pre: str, size: Sequence[int]) -> Model:
    target.write_bytes(attach_preprocessing(source, f"{pre},size={size[0]}x{size[1]}"))
    return api.load(target)


def _network(title: str, model: Model, images: Sequence[Array]) -> Network:
    feeds = tuple({model.inputs[0].name: image} for image in images)
    whole = api.unsplit(model)
    return Network(
        title, model, whole.metadata, feeds, tuple(whole.run(request) for request in feeds)
    )


def texts(network: Network, answers: Sequence[Feeds]) -> tuple[str, ...]:
    """The lines that the recogniser's answers spell."""
    characters = network.metadata["character"]
    name = network.model.outputs[0].name
    return tuple(ocr.decode(answer[name][0], characters) for answer in answers)


def _compare_plans(
    network: Network,
    cluster: Cluster,
    profile: Profile,
    coordinator: Coordinator,
    note: Note,
) -> tuple[Section, Mapping[int, Feeds]]:
    """Local, both ways to offload, and the best plan, run one after another."""
    stated = api.problem(network.model, cluster, profile)
    solution = api.solve(network.model, cluster, profile)
    if solution.interrupted:
        raise KeyboardInterrupt
    operators = [op.name for op in stated.graph.operators]
    pre = [name for name in operators if name.startswith("preprocessing/")]
    rest = [name for name in operators if name not in pre]
    plans = {
        "local": plan_of((SOURCE, operators)),
        "offload, fp32 input": plan_of((SOURCE, pre), (SERVER, rest)),
        "offload, uint8 input": plan_of((SERVER, operators)),
        "best plan": solution.plan,
    }
    rows = []
    answers: Mapping[int, Feeds] = {}
    for name, plan in plans.items():
        note(f"running the {network.title.partition(':')[0]}: {name}")
        with api.deploy(network.model, cluster, plan, coordinator=coordinator) as session:
            record = measured(session, network)
        rows.append(_ran(name, stated, plan, solution.bound_s, record))
        answers = record.outputs
    return Section(network, solution, tuple(rows)), answers


def _link_is(coordinator: Coordinator, bandwidth_bps: float, note: Note) -> None:
    note(f"the link is at {format_rate(bandwidth_bps)} now")
    set_links(coordinator, bandwidth_bps)


def set_links(coordinator: Coordinator, bandwidth_bps: float) -> None:
    """Change the link under whatever runs; bits per second."""
    for source, target in ((SOURCE, SERVER), (SERVER, SOURCE)):
        coordinator.set_link(source, target, bandwidth_bps=bandwidth_bps)


def plan_of(*parts: tuple[str, Sequence[str]]) -> Plan:
    """Stages one after another; parts without operators are left out."""
    return Plan(
        tuple(Stage(f"s{i}", device, tuple(ops)) for i, (device, ops) in enumerate(parts) if ops)
    )


def measured(session: Deployed, network: Network) -> RunRecord:
    """Requests one after another, more of them where they are quick. Raises the first failure.

    The first one tells how long they take; it is not counted, as a new stage's memory is cold.
    """
    first = run_requests(session, network.feeds, requests=1)
    takes_s = max(first.latencies_s, default=TARGET_S)
    requests = max(6, len(network.feeds), min(MOST_REQUESTS, round(TARGET_S / takes_s)))
    record = run_requests(
        session,
        network.feeds,
        requests=requests,
        expected=network.expected,
        keep_outputs=True,
    )
    for found in (first, record):
        if found.first_error is not None:
            raise found.first_error
        if found.interrupted:
            raise KeyboardInterrupt
    return record


def _ran(name: str, stated: Problem, plan: Plan, bound_s: float, record: RunRecord) -> Ran:
    scored = api.evaluate(stated, plan)
    assert record.comparison is not None
    return Ran(
        name,
        describe(plan),
        scored.latency_s,
        percentile(record.latencies_s, 0.5),
        bound_s,
        record.answered,
        record.comparison,
    )


def describe(plan: Plan) -> str:
    """Where a plan computes its operators, in words: "server 319, pi 8"."""
    if len(plan.stages) == 1:
        return f"all on {plan.stages[0].device}"
    return ", ".join(f"{s.device} {len(s.operators)}" for s in plan.stages)
