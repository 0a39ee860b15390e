"""Why there is no plan, and that what is said to be enough is enough."""

import contextlib
import math
import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutset import strategies
from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import (
    InfeasibleError,
    NoPlanFoundError,
    PlanningError,
    UnsupportedProblemError,
)
from cutset.estimate import estimate
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem
from cutset.solvers import fitting, least_memory
from cutset.solvers.all_plans import few_plans, untiled_plans
from cutset.solvers.least_memory import Least, least_short, with_memory
from cutset.solvers.one_stage import value_of
from cutset.solvers.packing import packed
from cutset.solvers.relaxation import (
    Way,
    impossible,
    infeasible,
    ways_with_more_memory,
)
from cutset.solvers.scopes import FULL
from cutset.solvers.throughput.dag_pipeline import best_dag_plan
from cutset.solvers.two_way.search import search
from cutset.testing.problems import random_problem


def chain(memory: tuple[int, ...], room: tuple[float, ...], colocate: str | None = None) -> Problem:
    """A chain of operators and equal devices a, b, … with all links; 5 bytes a stage."""
    operators = tuple(
        Operator(f"o{i}", "Any", (f"t{i}",), (f"t{i + 1}",), memory_bytes=m, colocate=colocate)
        for i, m in enumerate(memory)
    )
    tensors = {f"t{i}": Tensor(f"t{i}", 100) for i in range(len(memory) + 1)}
    graph = Graph("g", operators, tensors, ("t0",), (f"t{len(memory)}",), stage_memory_bytes=5)
    names = "abcdef"[: len(room)]
    cluster = Cluster(
        tuple(Device(n, "k", memory_bytes=m) for n, m in zip(names, room, strict=True)),
        (),
        "a",
        "a",
        default_link=Link("", "", 1e8, 0.0),
    )
    cost = TableCost({"k": {op.name: 0.001 for op in operators}})
    return Problem(graph, cluster, cost, Objective.THROUGHPUT)


def reason(problem: Problem) -> InfeasibleError:
    error = impossible(problem)
    assert error is not None
    return error


def test_the_sum_of_memory() -> None:
    error = reason(chain((20, 20, 20), (25, 25)))
    assert "60 bytes" in error.message
    assert "40 beside 5 bytes for a stage" in error.message
    assert error.remedy is not None
    assert error.remedy.startswith("they are 20 bytes short")


def test_an_operator_larger_than_every_device() -> None:
    error = reason(chain((20, 70), (30, 60, 40)))
    assert "operator 'o1' alone needs 75 bytes" in error.message
    assert error.field == "devices.b.memory"
    assert "15 bytes short" in str(error)
    error = reason(chain((20, 40), (50, 60), colocate="pair"))
    assert "the colocate group 'pair' alone needs 65 bytes" in error.message
    assert "5 bytes short" in str(error)


def test_operators_and_groups_that_nothing_runs() -> None:
    problem = chain((1, 1), (math.inf, math.inf), colocate="pair")
    assert "'o1' can run on no device" in str(
        reason(replace(problem, cost=TableCost({"k": {"o0": 1.0}})))
    )
    devices = (Device("a", "k"), Device("b", "other"))
    mixed = replace(
        problem,
        cluster=replace(problem.cluster, devices=devices),
        cost=TableCost({"k": {"o0": 1.0}, "other": {"o1": 1.0}}),
    )
    assert "no device of the cluster can run all of the colocate group 'pair'" in str(reason(mixed))


def test_no_way_from_the_source_or_to_the_sink() -> None:
    problem = chain((1, 1), (3, 30))  # a holds no operator, and b has no link
    alone = replace(problem.cluster, default_link=None)
    assert "no link from 'a' to 'b'" in str(reason(replace(problem, cluster=alone)))
    one_way = replace(alone, links=(Link("a", "b", 1e8, 0.0),))
    error = reason(replace(problem, cluster=one_way))
    assert "no link from 'b' to 'a'" in str(error)
    assert "makes a graph output" in str(error)
    both = replace(one_way, links=(*one_way.links, Link("b", "a", 1e8, 0.0)))
    assert impossible(replace(problem, cluster=both)) is None


def test_two_stages_are_too_few_but_three_fit() -> None:
    problem = chain((20, 20, 20), (25, 25, 25))
    with pytest.raises(InfeasibleError) as caught:
        search(problem, Budget())
    assert "none of the plans of at most two stages" in str(caught.value)
    assert "20 bytes short" in str(caught.value)
    assert "some plan fits these devices" in str(caught.value)
    assert len(best_dag_plan(problem, Budget()).plan.stages) == 3


def test_pieces_that_do_not_pack() -> None:
    problem = chain((30, 30, 30), (50, 50, 10))
    assert impossible(problem) is None
    with pytest.raises(InfeasibleError) as caught:
        best_dag_plan(problem, Budget())
    assert "device 'a' needs 65 bytes for its part" in str(caught.value)
    assert "15 bytes short" in str(caught.value)


def test_memory_is_not_named_where_more_of_it_would_not_help() -> None:
    problem = chain((20, 70), (30, 60))
    devices = tuple(replace(d, kind=d.name) for d in problem.cluster.devices)
    cost = TableCost({"a": {"o0": 0.001}, "b": {"o1": 0.001}})
    apart = replace(problem.cluster, devices=devices, default_link=None)
    apart_too = replace(problem, cluster=apart, cost=cost)
    assert "o1' alone needs 75 bytes" in reason(apart_too).message
    error = fitting.no_plan(apart_too)
    assert isinstance(error, InfeasibleError)
    assert "bytes" not in str(error)
    assert re.search("link|no cost", str(error))


def test_says_when_not_all_was_tried() -> None:
    error = infeasible(chain((1,), (9,)), "plans", [Way(3, (("a", 12),))], tried_all=False)
    assert "not every plan was tried" in str(error)


@given(st.integers(0, 10**6))
@example(5342)  # an operator runs only where nothing from the source gets to, after others
@settings(max_examples=300, deadline=None)
def test_what_is_ruled_out_is_and_what_is_enough_suffices(seed: int) -> None:
    problem = replace(random_problem(seed, 6, 4), objective=Objective.THROUGHPUT)
    short = replace(
        problem,
        cluster=replace(
            problem.cluster,
            devices=tuple(
                replace(d, memory_bytes=min(d.memory_bytes, 70)) for d in problem.cluster.devices
            ),
        ),
    )
    for tried in (problem, short):
        try:
            best_dag_plan(tried, Budget(), kicks=0)
            found, text = True, ""
        except InfeasibleError as error:
            found, text = False, str(error)
        except PlanningError:
            continue
        assert found or re.search(r"short|link|no device|no cost", text)
        if impossible(tried) is not None:
            assert not found
        for way in ways_with_more_memory(tried)[:1]:
            needs = dict(way.needs)
            more = tuple(
                replace(d, memory_bytes=needs.get(d.name, d.memory_bytes))
                for d in tried.cluster.devices
            )
            best_dag_plan(
                replace(tried, cluster=replace(tried.cluster, devices=more)), Budget(), kicks=0
            )


HOPELESS = {
    "sum of two": chain((20, 20), (20, 20)),
    "sum of three": chain((20, 20, 20, 20), (25, 25, 25)),
    "one device": chain((30, 30), (50,)),
    "an operator": chain((20, 70), (30, 60, 40)),
    "a group": chain((20, 40), (50, 60), colocate="pair"),
    "a stage": chain((1, 1, 1), (4, 4)),
    "pieces for two": chain((30, 30, 30), (50, 50)),
    "pieces for three": chain((30, 30, 30), (50, 50, 10)),
    "pieces for four": chain((30, 30, 30, 30, 30), (50, 70, 10, 40)),
    "no cost": replace(chain((1, 1), (99, 99)), cost=TableCost({"k": {"o0": 0.001}})),
}
NO_LINKS = chain((20, 20), (25, 25))
HOPELESS["no links"] = replace(NO_LINKS, cluster=replace(NO_LINKS.cluster, default_link=None))
ONE_WAY = replace(HOPELESS["no links"].cluster, links=(Link("a", "b", 1e8, 0.0),))
HOPELESS["one way"] = replace(NO_LINKS, cluster=ONE_WAY)


def refusals(problem: Problem) -> dict[tuple[str, Objective], PlanningError]:
    """Why each strategy has no plan, by objective; those that cover no memory limits left out."""
    found = {}
    for objective in Objective:
        for name in strategies.available():
            if objective in strategies.load(name).info.objectives:
                with pytest.raises(PlanningError) as caught:
                    solve(replace(problem, objective=objective), name, explain=False)
                if not isinstance(caught.value, UnsupportedProblemError):
                    found[name, objective] = caught.value
    return found


def with_more(problem: Problem, error: PlanningError) -> Problem:
    """The problem with what the error says that devices need, and as much more as it says."""
    needs = re.findall(r"device '(\w+)' (?:needs|has) (\d+) bytes", error.message)
    shorts = re.findall(r"(\d+) bytes(?= and|\s(?:short|more))", error.remedy or "")
    assert len(needs) == len(shorts) > 0
    more = {name: float(n) for name, n in needs}
    devices = []
    for d in problem.cluster.devices:
        devices.append(replace(d, memory_bytes=more.get(d.name, d.memory_bytes)))
    for (name, needed), short in zip(needs, shorts, strict=True):
        assert int(needed) - problem.device(name).memory_bytes == int(short) > 0
    return replace(problem, cluster=replace(problem.cluster, devices=tuple(devices)))


NAMED = re.compile("at best|it is enough if")
ANY_PLAN = ("auto", "balance", "bottleneck", "brute_force", "heft", "makespan")


@pytest.mark.parametrize("cause", HOPELESS)
def test_one_cause_has_one_word_and_its_remedy_is_true(cause: str) -> None:
    problem = HOPELESS[cause]
    errors = refusals(problem)
    said = {str(e) for (name, _), e in errors.items() if name in ANY_PLAN}
    assert len(said) == 1, said
    for name in {name for name, _ in errors}:  # also of those that look at few plans
        assert len({str(e) for (n, _), e in errors.items() if n == name}) == 1
    for (name, objective), error in errors.items():
        assert isinstance(error, InfeasibleError)
        if NAMED.search(error.message) and name in (*ANY_PLAN, "single_device", "envelope"):
            relaxed = replace(with_more(problem, error), objective=objective)
            assert solve(relaxed, name, explain=False).value_s < math.inf


@given(st.integers(0, 10**6), st.integers(5, 60))
@settings(max_examples=60, deadline=None)
def test_what_auto_says_is_enough_is(seed: int, most: int) -> None:
    problem = random_problem(seed, 6, 4)
    devices = tuple(
        replace(d, memory_bytes=min(d.memory_bytes, most)) for d in problem.cluster.devices
    )
    problem = replace(problem, cluster=replace(problem.cluster, devices=devices))
    error = refused(problem, "auto")
    if error is None:
        return
    proven = isinstance(error, InfeasibleError)
    assert proven or isinstance(error, NoPlanFoundError)
    assert not proven or refused(problem, "brute_force") is not None
    if NAMED.search(error.message):
        assert refused(with_more(problem, error), "auto") is None


def refused(problem: Problem, strategy: str) -> PlanningError | None:
    try:
        solve(problem, strategy, explain=False)
    except PlanningError as error:
        return error
    return None


def test_what_is_not_proven_is_not_called_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = HOPELESS["pieces for three"]
    error = fitting.no_plan(problem)
    assert isinstance(error, InfeasibleError)
    assert error.scope == FULL
    assert "at best device 'a' needs 65 bytes" in error.message
    monkeypatch.setattr(fitting, "least_short", lambda _: Least())
    unproven = fitting.no_plan(problem)
    assert isinstance(unproven, NoPlanFoundError)
    assert "though there may be one" in unproven.message
    assert "it is enough if device 'a' has 65 bytes, though less may do" in unproven.message
    assert "15 bytes more" in (unproven.remedy or "")


@given(st.integers(0, 10**6), st.integers(5, 90), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_called_the_least_is(seed: int, most: int, few: bool) -> None:
    """By enumeration and by the integer program: no plan needs fewer bytes more in all."""
    problem = replace(random_problem(seed, 5, 3), objective=Objective.THROUGHPUT)
    devices = tuple(
        replace(d, memory_bytes=min(d.memory_bytes, most + 7 * i))
        for i, d in enumerate(problem.cluster.devices)
    )
    problem = replace(problem, cluster=replace(problem.cluster, devices=devices))
    ample = with_memory(problem, {d.name: math.inf for d in devices})
    shorts = []
    for plan in untiled_plans(ample):
        with contextlib.suppress(InfeasibleError):
            needs = estimate(ample, plan).memory_bytes
            limits = {name: problem.device(name).memory_bytes for name in needs}
            shorts.append(sum(max(n - limits[name], 0) for name, n in needs.items()))
    least = min(shorts, default=math.inf)
    with pytest.MonkeyPatch.context() as patch:
        if not few:
            patch.setattr(least_memory, "few_plans", lambda _: None)
        found = least_short(replace(problem))
        assert found.short_bytes <= least * (1 + 1e-9) + 1e-6
        if few and len(shorts) <= 500:
            assert found.short_bytes == least
        if least > 0:
            error = fitting.no_plan(problem, proven=True)
            if "at best" in error.message:
                named = re.findall(r"(\d+) bytes(?= and|\sshort)", error.remedy or "")
                assert sum(map(int, named)) == pytest.approx(least, abs=0.6)
        else:
            assert found.plan is not None or not few


def test_the_integer_program_says_what_is_least_where_plans_are_many() -> None:
    """Twelve pieces for four devices: devices filled in the order of the graph waste some room."""
    problem = chain((7, 5, 9, 4, 8, 6, 3, 9, 5, 7, 4, 8), (19, 19, 19, 17))
    problem = replace(problem, graph=replace(problem.graph, stage_memory_bytes=0))
    assert few_plans(problem, 500) is None
    error = fitting.no_plan(problem)
    assert isinstance(error, InfeasibleError)
    least = packed(problem).short_bytes
    assert least == pytest.approx(75 - (19 + 19 + 19 + 17))
    assert "at best" in error.message
    assert "1 bytes short" in (error.remedy or "")
    assert min(ways_with_more_memory(problem)).short_bytes > 1
    assert fitting.fitting_plan(with_more(problem, error)) is not None


@given(st.integers(0, 10**6), st.integers(5, 90))
@settings(max_examples=150, deadline=None)
def test_only_what_nothing_fits_is_proven_too_much(seed: int, most: int) -> None:
    problem = replace(random_problem(seed, 5, 3), objective=Objective.LATENCY)
    devices = tuple(
        replace(d, memory_bytes=min(d.memory_bytes, most)) for d in problem.cluster.devices
    )
    problem = replace(problem, cluster=replace(problem.cluster, devices=devices))
    if packed(problem).short_bytes > 0:
        assert not any(value_of(problem, p) < math.inf for p in untiled_plans(problem))


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_what_lacks_links_is_said_to_lack_them(seed: int, draw: Random) -> None:
    problem = random_problem(seed, 5, 3)
    links = tuple(link for link in problem.cluster.links if draw.random() < 0.5)
    problem = replace(problem, cluster=replace(problem.cluster, links=links))
    possible = any(value_of(problem, p) < math.inf for p in untiled_plans(problem))
    if impossible(problem) is not None:
        assert not possible
    if not possible:
        assert re.search(r"short|link|no device", str(fitting.no_plan(problem, proven=True)))
