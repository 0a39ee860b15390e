"""Many questions at once against one at a time, and roles of many cuts against one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.problem import Problem
from cutset.solvers.two_way.cut_batch import CutBatch
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats, Members, Role, TensorRoles, moving
from cutset.solvers.two_way.two_stage import Pair
from cutset.testing.problems import random_problem


def price(pair: Pair, members: Members, first: float, second: float, per_byte: Floats) -> float:
    total = first * pair.first_s[members].sum() + second * pair.second_s[~members].sum()
    moved = moving(pair.problem.graph, members)
    return float(total + sum(per_byte[role] * size for role, size in moved))


def finite(problem: Problem) -> Pair | None:
    names = [device.name for device in problem.cluster.devices]
    if len(names) < 2:
        return None
    pair = Pair(problem, names[0], names[1])
    usable = np.isfinite(pair.first_s).all() and np.isfinite(pair.second_s).all()
    return pair if usable else None


@given(st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_batch_equals_oracle(seed: int) -> None:
    pair = finite(random_problem(seed, max_devices=2))
    if pair is None:
        return
    count = len(pair.first_s)
    oracle = CutOracle(pair.problem.graph)
    batch = CutBatch(oracle, pair.first_s, pair.second_s, frozenset())
    rng = np.random.default_rng(seed)
    questions = 5
    first, second = rng.uniform(0, 2, (2, questions))
    per_byte = 10 ** rng.uniform(-9, -6, (questions, len(Role)))
    per_byte[:, Role.CUT_OUTPUT] *= -0.1
    per_byte[0, :] = 0.0
    low, high = np.zeros((questions, count), np.bool_), np.ones((questions, count), np.bool_)
    found = batch.minimise(first, second, per_byte, low, high)
    values = []
    for i in range(questions):
        roles = {role: float(per_byte[i, role]) for role in Role}
        cut = oracle.minimise(pair.first_s * first[i], pair.second_s * second[i], roles)
        assert cut is not None
        values.append(price(pair, cut.first_part, first[i], second[i], per_byte[i]))
        mine = price(pair, found[i], first[i], second[i], per_byte[i])
        assert mine == pytest.approx(values[i], rel=1e-9, abs=1e-15)
    # Where a cheapest cut is between the limits, it is found again.
    some = rng.integers(0, 2, (questions, count)).astype(np.bool_)
    within = [np.flatnonzero(row) for row in some]
    for i, chosen in enumerate(within):
        ancestors = [j for k in chosen if found[i, k] for j in _before(pair, int(k))]
        low[i, [k for k in chosen if found[i, k]] + ancestors] = True
    again = batch.minimise(first, second, per_byte, low, high)
    for i in range(questions):
        assert (again[i] >= low[i]).all()
        mine = price(pair, again[i], first[i], second[i], per_byte[i])
        assert mine == pytest.approx(values[i], rel=1e-9, abs=1e-15)


def _before(pair: Pair, position: int) -> list[int]:
    mask = pair.problem.graph.ancestors[position]
    return [j for j in range(position) if mask >> j & 1]


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_roles_of_many_cuts(seed: int) -> None:
    graph = random_problem(seed).graph
    rng = np.random.default_rng(seed)
    members = rng.integers(0, 2, (6, len(graph.operators))).astype(np.bool_)
    for row in members:  # down-sets
        for i in range(len(row)):
            row[i] &= all(row[j] for j in graph.predecessors[i])
    bytes_, count = TensorRoles(graph).sums(members)
    for row, sums, amounts in zip(members, bytes_, count, strict=True):
        moved = moving(graph, row)
        for role in Role:
            sizes = [size for one, size in moved if one is role]
            assert (sums[role], amounts[role]) == (sum(sizes), len(sizes))
