"""The best pipeline against all pipelines, on small problems with every corner of the model."""

import itertools
import math
import random
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Proposal
from cutset.solvers import scopes
from cutset.solvers.one_stage import value_of
from cutset.solvers.throughput.block_chain import block_chain, coarse
from cutset.solvers.throughput.pipeline_walks import Walks
from cutset.solvers.throughput.pipelines import Search, best_pipeline
from cutset.testing import graphs
from cutset.testing.problems import random_problem


def chain_problem(seed: int, devices: int = 4, operators: int = 6) -> Problem:
    """A chain with side tensors: skips over blocks, inputs read late, outputs made early."""
    rng = random.Random(f"chain {seed}")
    base = random_problem(seed)
    count = rng.randint(1, operators)
    inputs = [f"x{i}" for i in range(rng.randint(0, 2))]
    tensors = {x: Tensor(x, rng.choice((0, 1000, 5000))) for x in inputs}
    known, made_before, listed = list(inputs), None, []
    for i in range(count):
        reads = [made_before] if made_before else []
        reads += [t for t in known if rng.random() < 0.25 and t != made_before]
        made = [f"t{i}_{j}" for j in range(rng.choice((1, 1, 2)))]
        tensors |= {t: Tensor(t, rng.choice((0, 500, 1000, 3000, 8000))) for t in made}
        memory = rng.choice((0, 10, 20, 50))
        together = rng.choice((*[None] * 10, "g"))
        listed.append(
            Operator(
                f"o{i}", "Any", tuple(reads), tuple(made), memory_bytes=memory, colocate=together
            )
        )
        known += made
        made_before = made[0]
    outputs = {made_before} | {t for t in known if rng.random() < 0.15}
    graph = Graph(
        "chain",
        tuple(listed),
        tensors,
        tuple(inputs),
        tuple(sorted(t for t in outputs if t)),
        stage_memory_bytes=rng.choice((0, 5)),
    )
    names = ["a", "b", "c", "d"][: rng.randint(1, devices)]
    seconds = {
        name: {
            op.name: rng.choice((0.0, 0.001, 0.002, 0.005, 0.01))
            for op in listed
            if rng.random() > 0.03
        }
        for name in names
    }
    links = tuple(
        Link(a, b, rng.choice((1e6, 5e6, 2e7, 1e8)), 0.0)
        for a, b in itertools.permutations(names, 2)
        if rng.random() > 0.1
    )
    pool = base.cluster.devices
    made_devices = tuple(
        replace(
            rng.choice(pool), name=name, kind=name, memory_bytes=rng.choice((math.inf, 150, 80))
        )
        for name in names
    )
    cluster = Cluster(
        made_devices, links, rng.choice(names), rng.choice(names), multicast=rng.random() < 0.2
    )
    return Problem(graph, cluster, TableCost(seconds), Objective.THROUGHPUT)


def brute_force_s(problem: Problem) -> float:
    chain = block_chain(problem)
    devices, blocks = len(chain.names), len(chain.edges) - 1
    best = math.inf
    for k in range(1, min(devices, blocks) + 1):
        for path in itertools.permutations(range(devices), k):
            for cuts in itertools.combinations(range(1, blocks), k - 1):
                plan = chain.plan(problem.graph, path, (*cuts, blocks))
                best = min(best, value_of(problem, plan))
    return best


def solved(problem: Problem, budget: Budget | None = None) -> Proposal:
    found = best_pipeline(problem, budget or Budget())
    assert found is not None
    return found


def check(problem: Problem) -> None:
    best = brute_force_s(problem)
    found = best_pipeline(problem, Budget())
    if found is None:
        assert math.isinf(best)
        return
    assert found.scope == scopes.PIPELINES
    assert value_of(problem, found.plan) == pytest.approx(best, rel=1e-9)
    assert found.bound_s == pytest.approx(best, rel=1e-9)


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_equals_brute_force_on_chains(seed: int) -> None:
    check(chain_problem(seed))


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_on_any_graph(seed: int) -> None:
    check(replace(random_problem(seed), objective=Objective.THROUGHPUT))


@pytest.mark.parametrize("held", [False, True])
@given(st.integers(0, 10**6))
@settings(max_examples=120, deadline=None)
def test_no_relaxation_excludes_the_best(held: bool, seed: int) -> None:
    problem = chain_problem(seed)
    best = brute_force_s(problem)
    if math.isinf(best):
        return
    walks = Walks(block_chain(problem).arrays, Budget())
    walks.held = held and walks.can_hold
    assert walks.arranged(best) is True
    every = np.full(len(problem.cluster.devices), 2 ** len(problem.cluster.devices) - 1)
    assert walks.search(every, 10_000) is not False
    assert walks.search(np.zeros_like(every), 10_000) is not False


def roomy(seed: int) -> Problem:
    """A longer chain on fewer devices, which seldom are busy with transfers: stages can end at many
    cuts, of which some are better than others."""
    problem = chain_problem(seed, 3, 9)
    devices = tuple(replace(d, overlap=seed % 4 > 0) for d in problem.cluster.devices)
    return replace(problem, cluster=replace(problem.cluster, devices=devices))


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_neither_labels_nor_the_descent_leave_the_best_out(seed: int) -> None:
    problem = roomy(seed)
    best = brute_force_s(problem)
    if math.isinf(best):
        return
    search = Search(problem, Budget(), block_chain(problem))
    assert search.exact(best) is True
    assert search.value_s == pytest.approx(best, rel=1e-9)
    if best > 0:
        assert search.exact(best * (1 - 1e-6)) is False
    every = np.full(len(problem.cluster.devices), 2 ** len(problem.cluster.devices) - 1)
    for held in (False, search.walks.can_hold):
        search.walks.held = held
        assert search.walks.arranged(best) is True
        assert search.walks.search(every, 10_000) is not False
        assert search.walks.search(np.zeros_like(every), 10_000) is not False


def test_a_later_end_counts_what_its_stage_sends() -> None:
    """Where sending takes a device's time, a later end with fewer bytes may still be too much."""
    problem = chain_problem(855, 4, 8)
    cluster = problem.cluster
    devices = tuple(replace(d, overlap=True) for d in cluster.devices)
    check(replace(problem, cluster=replace(cluster, devices=devices)))


def test_a_chain_of_groups_has_the_same_cuts() -> None:
    problem = wifi(5, 40, 3e6)
    chain = block_chain(problem).arrays
    grouped, cuts = coarse(chain, 10)
    assert cuts[0] == 0
    assert cuts[-1] == len(chain.memory)
    assert cuts == sorted(set(cuts))
    assert len(grouped.memory) == len(cuts) - 1 <= 12
    assert grouped.memory.sum() == chain.memory.sum()
    for i, (begin, end) in enumerate(itertools.pairwise(cuts)):
        assert grouped.compute_s[:, i] == pytest.approx(chain.compute_s[:, begin:end].sum(axis=1))
    short, all_cuts = coarse(chain, 40)
    assert short is chain
    assert all_cuts == list(range(len(chain.memory) + 1))


def wifi(count: int, operators: int, memory: float, seed: int = 0) -> Problem:
    graph, cost = graphs.chain(operators, seed)
    rng = random.Random(seed)
    names = [f"d{i}" for i in range(count)]
    devices = tuple(Device(n, graphs.FAST, memory_bytes=memory) for n in names)
    links = tuple(
        Link(a, b, rng.uniform(1e6, 2e7), 0.001) for a, b in itertools.permutations(names, 2)
    )
    return Problem(graph, Cluster(devices, links, "d0", "d0"), cost, Objective.THROUGHPUT)


def value(problem: Problem) -> float:
    proposal = solved(problem)
    found = value_of(problem, proposal.plan)
    assert proposal.bound_s == pytest.approx(found, rel=1e-9)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_faster_is_never_worse_and_times_scale(seed: int) -> None:
    problem = wifi(8, 20, 2e6, seed)
    cluster = problem.cluster
    before = value(problem)
    rng = random.Random(seed)
    i = rng.randrange(len(cluster.links))
    link = cluster.links[i]
    assert link.bandwidth_bps is not None
    faster = replace(link, bandwidth_bps=link.bandwidth_bps * 3)
    links = (*cluster.links[:i], faster, *cluster.links[i + 1 :])
    better = replace(problem, cluster=replace(cluster, links=links))
    assert value(better) <= before * (1 + 1e-9)
    slow = tuple(replace(x, bandwidth_bps=(x.bandwidth_bps or 0) / 2) for x in cluster.links)
    table = problem.cost.seconds  # type: ignore[attr-defined]
    twice = TableCost({k: {o: 2 * s for o, s in row.items()} for k, row in table.items()})
    scaled = replace(problem, cluster=replace(cluster, links=slow), cost=twice)
    assert value(scaled) == pytest.approx(2 * before, rel=1e-9)


def test_names_change_nothing() -> None:
    problem = wifi(7, 18, 2e6)
    cluster = problem.cluster
    new = {d.name: f"z{9 - i}" for i, d in enumerate(cluster.devices)}
    renamed = replace(
        cluster,
        devices=tuple(replace(d, name=new[d.name]) for d in cluster.devices),
        links=tuple(replace(x, source=new[x.source], target=new[x.target]) for x in cluster.links),
        source=new[cluster.source],
        sink=new[cluster.sink],
    )
    assert value(replace(problem, cluster=renamed)) == value(problem)


def test_devices_of_one_kind_are_told_apart() -> None:
    """Between a and c the link is slow; the way through b, of the same kind, is fast."""
    graph, cost = graphs.chain(9, 2)
    devices = tuple(Device(n, graphs.FAST, memory_bytes=1e6) for n in "abcd")
    fast = {("a", "b"), ("b", "d"), ("d", "c")}
    links = tuple(
        Link(x, y, 1e9 if (x, y) in fast else 1e5, 0.0)
        for x, y in itertools.permutations("abcd", 2)
    )
    problem = Problem(graph, Cluster(devices, links, "a", "c"), cost, Objective.THROUGHPUT)
    solution = solve(problem, "bottleneck")
    assert solution.plan.devices == ("a", "b", "d", "c")
    assert (solution.proof, solution.scope) == ("optimal", scopes.FULL)


@pytest.mark.parametrize("width", [10, 30])
def test_a_beam_ends_whatever_the_number_of_stages(width: int) -> None:
    """29 of 40 devices are needed; of the labels that are dropped on the way none takes room."""
    problem = wifi(40, 80, 9e5)
    search = Search(problem, Budget(), block_chain(problem))
    low, high = search.walks.least(0.0, search.top_s, 1e-3)
    assert search.walks.arranged(high)
    path = search.walks.beam(width, False)
    assert path is not None
    assert len(path[0]) == 29
    plan = search.chain.plan(problem.graph, *path)
    assert low <= value_of(problem, plan) <= high * (1 + 1e-9)


def test_no_pipeline_is_none() -> None:
    graph, cost = graphs.chain(6)
    total = sum(op.memory_bytes for op in graph.operators)
    devices = tuple(Device(n, graphs.FAST, memory_bytes=total * 0.3) for n in "ab")
    links = tuple(Link(x, y, 1e7, 0.0) for x, y in itertools.permutations("ab", 2))
    problem = Problem(graph, Cluster(devices, links, "a", "a"), cost, Objective.THROUGHPUT)
    assert best_pipeline(problem, Budget()) is None


def test_ended_early_it_keeps_what_it_found() -> None:
    problem = wifi(20, 60, 3e6)
    stopper = Budget(value_s=lambda plan: value_of(problem, plan))
    seen = threading.Event()

    class Stopping(Budget):
        def report(self, plan, bound_s=0.0, scope=None):  # type: ignore[no-untyped-def]
            stopper.report(plan, bound_s, scope)
            seen.set()
            self.stopped = True

    proposal = solved(problem, Stopping())
    assert seen.is_set()
    assert value_of(problem, proposal.plan) < math.inf
    assert proposal.bound_s <= value_of(problem, proposal.plan)


def test_same_seed_same_plan() -> None:
    problem = wifi(12, 40, 2e6)
    again = replace(problem)
    assert solved(problem).plan == solved(again).plan


def test_a_fixed_problem_has_a_fixed_plan() -> None:
    plan = solved(wifi(8, 20, 2e6)).plan
    assert plan.devices == ("d0", "d1", "d4")
    assert [len(stage.operators) for stage in plan.stages] == [8, 6, 6]
