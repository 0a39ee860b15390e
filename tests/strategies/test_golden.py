"""Golden plans: what every shipped strategy gives on fixed problems.

A line is `strategy: milliseconds, proof, stages`, or the error's class. `python FILE` prints the
lines as they are now: check a new one by hand before it is added.
"""

from __future__ import annotations

import pytest

from cutset import strategies
from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import PlanningError
from cutset.graph import Graph, Operator, Tensor
from cutset.planner import solve
from cutset.problem import Objective, Problem


def chain() -> Problem:
    """Latency. The server is ten times as fast, 1 byte takes 1 µs; `b` shrinks the tensor."""
    links = (Link("pi", "server", 8e6, 0.001), Link("server", "pi", 8e6, 0.001))
    return _problem(
        {"a": "x", "b": "a", "c": "b", "d": "c"},
        {"x": 100_000, "a": 50_000, "b": 5_000, "c": 20_000, "d": 1_000},
        {"pi": (10, 20, 100, 60), "server": (1, 2, 10, 6)},
        Cluster((Device("pi", "pi"), Device("server", "server")), links, "pi", "pi"),
    )


def branches() -> Problem:
    """Latency. Three equal devices; three branches of 30 ms; 1 ms for a tensor to cross."""
    return _problem(
        {"stem": "x", "one": "stem", "two": "stem", "three": "stem", "join": "one two three"},
        {"x": 1000, "stem": 1000, "one": 1000, "two": 1000, "three": 1000, "join": 1000},
        dict.fromkeys(("a", "b", "c"), (5, 30, 30, 30, 5)),
        _mesh(Device("a", "a"), Device("b", "b"), Device("c", "c")),
    )


def pipeline() -> Problem:
    """Throughput. Six operators, of which no device holds more than three; `slow` is what it says.

    The least tensors are behind c and e.
    """
    fast = dict.fromkeys(("a", "b", "c"), (10, 10, 10, 10, 10, 10))
    return _problem(
        {"a": "x", "b": "a", "c": "b", "d": "c", "e": "d", "f": "e"},
        {"x": 9000, "a": 20_000, "b": 20_000, "c": 2000, "d": 20_000, "e": 4000, "f": 100},
        fast | {"slow": (50, 50, 50, 50, 50, 50)},
        _mesh(*(Device(n, n, memory_bytes=3000) for n in ("a", "b", "c", "slow"))),
        Objective.THROUGHPUT,
    )


def _mesh(*devices: Device) -> Cluster:
    """Every pair is linked: 1 byte takes 1 µs. Source and sink are the first."""
    names = [d.name for d in devices]
    links = tuple(Link(m, n, 8e6, 0.0) for m in names for n in names if m != n)
    return Cluster(devices, links, names[0], names[0])


def _problem(
    reads: dict[str, str],
    sizes: dict[str, int],
    milliseconds: dict[str, tuple[int, ...]],
    cluster: Cluster,
    objective: Objective = Objective.LATENCY,
) -> Problem:
    """Operator `n` makes tensor `n`; 1000 bytes of memory each. The last one is the result."""
    graph = Graph(
        "golden",
        tuple(
            Operator(name, "Any", tuple(inputs.split()), (name,), memory_bytes=1000)
            for name, inputs in reads.items()
        ),
        {name: Tensor(name, size) for name, size in sizes.items()},
        ("x",),
        (next(reversed(reads)),),
    )
    seconds = {
        kind: {name: ms / 1000 for name, ms in zip(reads, row, strict=True)}
        for kind, row in milliseconds.items()
    }
    return Problem(graph, cluster, TableCost(seconds), objective)


# By hand. chain: 10 + 20 ms on pi, 5 + 1 to cross, 10 + 6 on the server, 1 + 1 back: 54. branches:
# 5 ms, the stem reaches b at 6 and c at 7, whose results are at a at 37 and 38, 5 more: 43.
# pipeline: two operators a device take 20 ms, and so does a tensor between them; three take 30.
PROBLEMS = {"chain": chain, "branches": branches, "pipeline": pipeline}

GOLDEN = {
    "chain": """
        auto: 54 ms, optimal, pi: a b | server: c d
        balance: 54 ms, none, pi: a b | server: c d
        bottleneck: UnsupportedProblemError
        brute_force: 54 ms, optimal, pi: a b | server: c d
        dads: 54 ms, none, pi: a b | server: c d
        envelope: 54 ms, optimal, pi: a b | server: c d
        greedy_joint: UnsupportedProblemError
        heft: 54 ms, none, pi: a b | server: c d
        kpath: UnsupportedProblemError
        loadpart: 54 ms, none, pi: a b | server: c d
        makespan: 54 ms, optimal, pi: a b | server: c d
        neurosurgeon: 54 ms, none, pi: a b | server: c d
        random_cut: UnsupportedProblemError
        single_device: 122 ms, optimal, server: a b c d
    """,
    "branches": """
        auto: 43 ms, optimal, a: stem | a: one | b: two | c: three | a: join
        balance: 43 ms, none, a: stem | a: one | b: two | c: three | a: join
        bottleneck: UnsupportedProblemError
        brute_force: 43 ms, optimal, a: stem | a: one | b: two | c: three | a: join
        dads: 100 ms, none, a: stem one two three join
        envelope: 100 ms, optimal, a: stem one two three join
        greedy_joint: UnsupportedProblemError
        heft: 43 ms, none, a: stem | a: one | b: two | c: three | a: join
        kpath: UnsupportedProblemError
        loadpart: 100 ms, none, a: stem one two three join
        makespan: 43 ms, optimal, a: stem | a: one | b: two | c: three | a: join
        neurosurgeon: 100 ms, none, a: stem one two three join
        random_cut: UnsupportedProblemError
        single_device: 100 ms, optimal, a: stem one two three join
    """,
    "pipeline": """
        auto: 20 ms, optimal, a: a b | b: c d | c: e f
        balance: 30 ms, none, a: a b c | b: d e f
        bottleneck: 20 ms, optimal, a: a b | b: c d | c: e f
        brute_force: 20 ms, optimal, a: a b | b: c d | c: e f
        dads: UnsupportedProblemError
        envelope: 30 ms, optimal, a: a b c | b: d e f
        greedy_joint: 30 ms, none, a: a b c | b: d e f
        heft: UnsupportedProblemError
        kpath: 30 ms, none, a: a b c | b: d e f
        loadpart: UnsupportedProblemError
        makespan: UnsupportedProblemError
        neurosurgeon: UnsupportedProblemError
        random_cut: 150 ms, none, slow: a b c | a: d e f
        single_device: InfeasibleError
    """,
}


def line(problem: Problem, name: str) -> str:
    try:
        found = solve(problem, name)
    except PlanningError as error:
        return f"{name}: {type(error).__name__}"
    stages = " | ".join(f"{s.device}: {' '.join(s.operators)}" for s in found.plan.stages)
    return f"{name}: {found.value_s * 1000:.6g} ms, {found.proof}, {stages}"


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", strategies.available())
def test_golden_plan(problem: str, name: str) -> None:
    golden = [text.strip() for text in GOLDEN[problem].strip().splitlines()]
    found = line(PROBLEMS[problem](), name)
    assert found in golden, f"{problem} has no such line:\n    {found}"


if __name__ == "__main__":
    for title, made in PROBLEMS.items():
        print(title, *(line(made(), name) for name in strategies.available()), sep="\n    ")
