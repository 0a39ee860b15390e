"""cutset's Python API, and the one place where measuring, planning and running meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cutset import engine, profiler
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.deploying import deploy_adaptive
from cutset.adaptation.live import Line
from cutset.adaptation.policies import LoadAware
from cutset.adaptation.policy import Policy
from cutset.changes import parse_change
from cutset.cluster import Cluster, Engine
from cutset.comparison import TIME_LIMIT_S, Comparison
from cutset.comparison import compare as compare_strategies
from cutset.cost import CostModel, LoadedCost, TableCost
from cutset.deployed import Deployed
from cutset.errors import InvalidFileError, TransportError, UsageError, WorkerLostError
from cutset.estimate import estimate
from cutset.feeds import random_feeds
from cutset.memory import MemoryCost, cost_for, with_memory
from cutset.onnx_io import Model, load_model, submodels, whole
from cutset.plan import Plan
from cutset.planner import solve as solve_problem
from cutset.ports import Array
from cutset.problem import Estimate, Objective, Problem, Solution, Strategy, check_memory
from cutset.profiles import Profile, resolve
from cutset.report import in_flight_for
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import Deployment
from cutset.runtime.routing import engine_spec, tensor_spec
from cutset.runtime.undeployed import Undeployed
from cutset.runtime.worker import load_engine
from cutset.serde import (
    WorkloadDocument,
    read_cluster,
    read_plan,
    read_profile,
    workload_document,
    write_workload,
)
from cutset.simulation import Simulation, what_if
from cutset.simulation import simulate as simulate_problem
from cutset.verify import compare_all

Feeds = Mapping[str, Array]
Note = Callable[[str], None]


def load(path: str | Path, input_shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """A model, prepared for cutting. `input_shapes` gives open dimensions their sizes.

    Raises InvalidModelError that names file, field, value and remedy.
    """
    return load_model(path, input_shapes)


def profile(
    model: Model,
    cluster: Cluster | str | Path | None = None,
    *,
    feeds: Feeds | None = None,
    kind: str = "local",
    fresh: bool = False,
    insecure: bool = False,
    coordinator: Coordinator | None = None,
    note: Note = lambda _: None,
) -> Profile:
    """Measure the model on the devices of a cluster and their links, or here as `kind`.

    Times of operators are reused from earlier measurements of the same model on the same kind of
    device, engine and threads, unless `fresh`. `feeds` is one request (default: random).
    Raises ProfileError, TransportError, WorkerLostError.
    """
    feeds = feeds or random_feeds(model.ports, 1)[0]
    if cluster is None and coordinator is None:
        return profiler.profile_here(model, feeds, kind, fresh=fresh)
    if coordinator is not None:
        return profiler.profile_cluster(model, coordinator, feeds, fresh=fresh, note=note)
    assert cluster is not None
    with Coordinator(as_cluster(cluster), insecure=insecure) as own:
        return profiler.profile_cluster(model, own, feeds, fresh=fresh, note=note)


def problem(
    model: Model,
    cluster: Cluster | str | Path,
    profile: Profile | str | Path,
    *,
    objective: str = "latency",
    load: Mapping[str, float] | None = None,
) -> Problem:
    """The planning problem: the model on the cluster at the profile's costs.

    `load` slows devices by a factor (LoADPart's k). Raises InvalidFileError where the profile is
    another model's, or a link has no bandwidth.
    """
    measured = _profile_of(model, profile)
    cost: CostModel = TableCost(measured.compute_s)
    if load:
        cost = LoadedCost(cost, load)
    resolved = resolve(as_cluster(cluster), measured)
    graph = with_memory(model.graph, _memory_cost(resolved, measured))
    return Problem(graph, resolved, cost, Objective(objective))


def export(
    model: Model,
    profile: Profile | str | Path,
    path: str | Path | None = None,
    *,
    cluster: Cluster | str | Path | None = None,
) -> WorkloadDocument:
    """The model and its measured costs as a workload, written to `path` if one is given.

    It has the kinds that the profile measured; with `cluster`, those of its devices. Planning it
    on the cluster gives what planning the model gives. Raises InvalidFileError where the profile is
    another model's.
    """
    measured = _profile_of(model, profile)
    kinds = sorted(measured.compute_s)
    if cluster is not None:
        kinds = sorted({device.kind for device in as_cluster(cluster).devices})
    graph = with_memory(model.graph, cost_for(measured, kinds))
    seconds = {kind: measured.compute_s.get(kind, {}) for kind in kinds}
    document = workload_document(graph, seconds, model.graph.digest)
    if path is not None:
        write_workload(path, document)
    return document


def _profile_of(model: Model, profile: Profile | str | Path) -> Profile:
    """The profile, refused with InvalidFileError where it is another model's."""
    measured = as_profile(profile)
    if measured.graph_digest != model.graph.digest:
        raise InvalidFileError(
            "the profile was measured on another model or input shape",
            file=str(profile) if isinstance(profile, str | Path) else None,
            field="graph_digest",
            value=measured.graph_digest[:16],
            remedy=f"profile this one ({model.graph.digest[:16]})",
        )
    return measured


def solve(
    model: Model,
    cluster: Cluster | str | Path,
    profile: Profile | str | Path,
    *,
    objective: str = "latency",
    strategy: str | Strategy = "auto",
    time_limit_s: float = math.inf,
    seed: int = 0,
) -> Solution:
    """The best plan with its estimate, bound, proof, verdict and break-evens.

    Raises InfeasibleError, UnsupportedProblemError, UsageError for an unknown strategy.
    """
    stated = problem(model, cluster, profile, objective=objective)
    return solve_problem(stated, strategy, time_limit_s=time_limit_s, seed=seed)


def simulate(
    model: Model,
    cluster: Cluster | str | Path,
    profile: Profile | str | Path,
    plan: Plan | Solution | str | Path,
    *,
    requests: int = 200,
    in_flight: int | None = None,
    changes: Sequence[str] = (),
) -> Simulation:
    """A plan played by discrete events, without hardware: latency, long-run period, what is busy.

    `changes` are made first, such as "link:pi>server=5Mbit/s" or "device:server.load=3".
    `in_flight` None: as many requests at a time as make it fast. Raises InvalidFileError where the
    plan is another graph's, InfeasibleError where it cannot run, UsageError for a bad change.
    """
    stated = problem(model, cluster, profile)
    return simulate_problem(
        what_if(stated, map(parse_change, changes)),
        as_plan(plan),
        requests=requests,
        in_flight=in_flight,
    )


def compare(
    model: Model,
    cluster: Cluster | str | Path,
    profile: Profile | str | Path,
    *,
    objective: str = "latency",
    strategies: Sequence[str | Strategy] | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    seed: int = 0,
    note: Note = lambda _: None,
) -> Comparison:
    """Every strategy (or those given) on the same problem, best first, each within the time limit.

    One that declines or fails is a row with the reason. `cutset.page.write_page` makes a report.
    Raises UsageError for an unknown strategy.
    """
    stated = problem(model, cluster, profile, objective=objective)
    return compare_strategies(stated, strategies, time_limit_s=time_limit_s, seed=seed, note=note)


def deploy(
    model: Model,
    cluster: Cluster | str | Path,
    plan: Plan | Solution | str | Path | None = None,
    *,
    profile: Profile | str | Path | None = None,
    in_flight: int | None = None,
    fallback: Literal["local"] | None = None,
    deadline_s: float = 120.0,
    adapt: bool | Callable[[Cuts], Policy[Any]] = False,
    server: str | None = None,
    on_line: Callable[[Line], None] = lambda _: None,
    insecure: bool = False,
    coordinator: Coordinator | None = None,
    note: Note = lambda _: None,
) -> Deployed:
    """Run a plan: a session whose requests are answered by its devices. A context manager.

    `in_flight` requests may be under way at once (default: 1 for a latency plan, as many as fill
    the pipeline for a throughput plan). With `fallback="local"`, this device alone answers when the
    others cannot, or not before the deadline, also where one is not there at the start.
    `deadline_s` is that of requests that state none.
    Memory limits are enforced by the numbers of `profile`, as when the plan was made with it.

    With `adapt`, there is no plan: every cut between this device and `server` (default: the one
    other device) that may be best is loaded, and each request takes the one that is best for what
    was observed until then (docs/adaptation.md). It may be a policy's constructor instead of the
    default's. `on_line` hears each second what is believed and decided. It needs the `profile`.
    Raises InfeasibleError over a memory limit, TransportError, WorkerLostError, UsageError.
    """
    if fallback not in (None, "local"):
        raise UsageError(
            "no such fallback", field="fallback", value=fallback, remedy='use "local" or None'
        )
    devices = coordinator.cluster if coordinator is not None else as_cluster(cluster)
    if not (isinstance(adapt, bool) or callable(adapt)):
        raise UsageError(
            "neither a policy's constructor nor True",
            field="adapt",
            value=adapt,
            remedy="write adapt=True",
        )
    if adapt:
        if plan is not None or profile is None:
            raise UsageError(
                "to adapt, a profile is needed and a plan is not: each request's cut is chosen",
                field="plan" if plan is not None else "profile",
                remedy="leave `plan` out" if plan is not None else "give the model's profile",
            )
        stated = problem(model, devices, profile)
        _check_kinds(devices, server, profile)
        own = coordinator or Coordinator(devices, insecure=insecure)
        try:
            answer, takes_s = _local(model, devices) if fallback == "local" else (None, 0.0)
            adaptive = deploy_adaptive(
                model,
                stated,
                own,
                server=server,
                policy=adapt if callable(adapt) else lambda cuts: LoadAware(),
                window=1 if in_flight is None else in_flight,
                without_server=answer is not None,
                on_line=on_line,
                note=note,
            )
            session = adaptive.session(fallback=answer, fallback_s=takes_s, deadline_s=deadline_s)
        except BaseException:
            if coordinator is None:
                own.close()
            raise
        return Deployed(None, session, adaptive, own, owns=coordinator is None)
    if plan is None:
        raise UsageError("a plan is needed", field="plan", remedy="give one, or adapt=True")
    chosen = as_plan(plan)
    if in_flight is None:
        in_flight = 1
        if isinstance(plan, Solution):
            guess = plan.estimate
            throughput = plan.objective is Objective.THROUGHPUT
            in_flight = in_flight_for(guess.latency_s, guess.period_s, throughput)
    pieces = submodels(model, chosen)
    own = coordinator or Coordinator(devices, insecure=insecure)
    try:
        note("sending the stages to their devices")
        measured = None if profile is None else as_profile(profile)
        graph = with_memory(model.graph, _memory_cost(devices, measured))
        answer, takes_s = _local(model, devices) if fallback == "local" else (None, 0.0)
        deployment: Deployment | Undeployed
        try:
            deployment = own.deploy(chosen, pieces, graph, window=in_flight)
        except (TransportError, WorkerLostError) as error:
            if answer is None:
                raise
            note(f"this device answers alone: {error}")
            inputs = {name: tensor_spec(graph, name) for name in graph.inputs}
            deployment = Undeployed(error, inputs, graph.outputs, in_flight)
        session = deployment.session(fallback=answer, fallback_s=takes_s, deadline_s=deadline_s)
    except BaseException:
        if coordinator is None:
            own.close()
        raise
    return Deployed(chosen, session, deployment, own, owns=coordinator is None)


def evaluate(stated: Problem, plan: Plan) -> Estimate:
    """The plan's estimate; raises InfeasibleError also where it exceeds a memory limit."""
    scored = estimate(stated, plan)
    check_memory(stated, scored.memory_bytes)
    return scored


def unsplit(model: Model, spec: Engine | None = None) -> engine.OrtRunnable:
    """The model as its file has it, in this process: what split outputs are compared with."""
    return engine.load(model.path, spec or Engine(threads=1))


def engine_spread(model: Model, feeds: Sequence[Feeds], expected: Sequence[Feeds]) -> float:
    """How much the unsplit model differs from itself (max_rel) without the engine's optimisations.

    A cut may change which kernels the engine picks; this is what that freedom alone amounts to.
    """
    plain = engine.load(model.path, Engine(threads=1), optimise=False)
    pairs = zip(feeds, expected, strict=True)
    return compare_all((plain.run(request), answer) for request, answer in pairs).max_rel


def _local(
    model: Model, cluster: Cluster
) -> tuple[Callable[[Mapping[str, Array]], dict[str, Array]], float]:
    """The whole model on the source device, and how long it takes (seconds)."""
    source = cluster.by_name[cluster.source]
    runnable = load_engine(whole(model), engine_spec(source))
    feeds = random_feeds(model.ports, 1)[0]
    return runnable.run, max(engine.whole_times(runnable, feeds, 2))


def _check_kinds(cluster: Cluster, server: str | None, profile: Profile | str | Path) -> None:
    """Raise InvalidFileError where the profile has no times of the device or of the server."""
    measured = as_profile(profile).compute_s
    for device in cluster.devices:
        taken = server in (None, device.name) or device.name == cluster.source
        if taken and device.kind not in measured:
            raise InvalidFileError(
                f"the profile has no times of device {device.name!r}",
                file=str(profile) if isinstance(profile, str | Path) else None,
                field="measurements",
                value=", ".join(sorted(measured)) or "none",
                remedy=f"measure its kind, {device.kind!r}: `cutset profile … --cluster …`",
            )


def _memory_cost(cluster: Cluster, profile: Profile | None) -> MemoryCost:
    return cost_for(profile, {device.kind for device in cluster.devices})


def as_cluster(cluster: Cluster | str | Path) -> Cluster:
    return cluster if isinstance(cluster, Cluster) else read_cluster(cluster)


def as_profile(profile: Profile | str | Path) -> Profile:
    return profile if isinstance(profile, Profile) else read_profile(profile)


def as_plan(plan: Plan | Solution | str | Path) -> Plan:
    if isinstance(plan, Solution):
        return plan.plan
    return plan if isinstance(plan, Plan) else read_plan(plan)
