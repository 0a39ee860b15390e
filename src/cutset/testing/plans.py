"""Plans of any shape, at random or all of them: what evaluator, simulator and proofs are tested on.

Every untiled plan is a topological order cut into runs, each run a stage on some device.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from cutset.errors import InvalidFileError
from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.solvers import scopes
from cutset.solvers.all_plans import (
    one_stage_plans,
    pipeline_plans,
    stage_per_device_plans,
    untiled_plans,
)
from cutset.solvers.one_stage import value_of
from cutset.testing.problems import two_stage_plans

TWO_STAGES: Final = "plans of at most two stages"  # search.scope_of says on which devices


def known_scope(scope: str) -> str | None:
    """The words without the names of devices; None where it is not known what they describe."""
    if scope.startswith(TWO_STAGES):
        return TWO_STAGES
    if scope == scopes.ONE_STAGE or scope.startswith("plans of one stage on "):
        return scopes.ONE_STAGE
    return scope if scope in _ENUMERATIONS else None


def plans_of(problem: Problem, scope: str) -> Iterator[Plan] | None:
    """All plans that a scope's words describe, or enough of them to hold the best; None where the
    words are not known. Some may not be able to run (`value_s` says inf)."""
    known = known_scope(scope)
    return None if known is None else _ENUMERATIONS[known](problem)


_ENUMERATIONS: Mapping[str, Callable[[Problem], Iterator[Plan]]] = {
    scopes.FULL: untiled_plans,
    scopes.STAGE_PER_DEVICE: stage_per_device_plans,
    scopes.PIPELINES: pipeline_plans,
    TWO_STAGES: two_stage_plans,
    scopes.ONE_STAGE: one_stage_plans,
}


@lru_cache(maxsize=4096)
def best_s(problem: Problem, scope: str, most_plans: int = 4000) -> float | None:
    """The least value in seconds of the plans that a known scope describes; inf where none can run.

    None where they are more than `most_plans`: then nothing is tried.
    """
    count = sum(1 for _ in itertools.islice(_ENUMERATIONS[scope](problem), most_plans + 1))
    if count > most_plans:
        return None
    return min((value_s(problem, p) for p in _ENUMERATIONS[scope](problem)), default=math.inf)


def value_s(problem: Problem, plan: Plan) -> float:
    """The evaluator's value in seconds; inf where the plan is not valid, cannot run or fit."""
    try:
        return value_of(problem, plan)
    except InvalidFileError:  # tears a colocate group apart
        return math.inf


def random_plan(problem: Problem, seed: int, merge: float = 0.6) -> Plan:
    """A valid plan of any number of stages; operators that must be together are.

    Neighbours in a random order join a stage with probability `merge` where their device is the
    same. Memory, costs and links are not looked at: the evaluator may still refuse it.
    """
    rng = random.Random(f"plan {seed}")
    graph = problem.graph
    names = [d.name for d in problem.cluster.devices]
    groups: dict[str, str] = {}
    runs: list[tuple[str, list[str]]] = []
    for i in random_order(graph, rng):
        op = graph.operators[i]
        stay = runs[-1][0] if runs and rng.random() < merge else None
        device = stay or rng.choice(names)
        if op.colocate is not None:
            device = groups.setdefault(op.colocate, device)
        if runs and runs[-1][0] == device and (stay is not None or rng.random() < merge):
            runs[-1][1].append(op.name)
        else:
            runs.append((device, [op.name]))
    stages = tuple(Stage(f"s{i}", device, tuple(ops)) for i, (device, ops) in enumerate(runs))
    return Plan(stages, graph.digest)


def random_order(graph: Graph, rng: random.Random) -> list[int]:
    """A topological order drawn at random."""
    waiting = [len(before) for before in graph.predecessors]
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        i = ready.pop(rng.randrange(len(ready)))
        order.append(i)
        for j in graph.successors[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                ready.append(j)
    return order
