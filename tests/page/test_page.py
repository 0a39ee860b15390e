"""The page: well-formed, escaped, complete in itself, small; what it shows can be chosen."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.comparison import Comparison, compare
from cutset.cost import TableCost
from cutset.graph import Graph, Operator, Tensor
from cutset.page import render, write_page
from cutset.plan import Plan, Stage
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.testing import graphs
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem

EVERY = frozenset(Objective)
VOID = {"meta", "input"}
HOSTILE = "</title><script>alert('x')</script>&\"\u202e\x1b[31m"


@dataclass(frozen=True)
class Scattered:
    """Every operator a stage of its own, on a device drawn by `seed`: the largest page there is."""

    seed: int = 0
    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        rng = random.Random(self.seed)
        names = [d.name for d in problem.cluster.devices]
        stages = [
            Stage(f"s{i}", rng.choice(names), (op.name,))
            for i, op in enumerate(problem.graph.operators)
        ]
        return Proposal(Plan(tuple(stages)))


@dataclass(frozen=True)
class Drawn:
    """Any valid plan."""

    seed: int = 0
    info: ClassVar[StrategyInfo] = StrategyInfo(EVERY, "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return Proposal(random_plan(problem, self.seed))


class Checker(HTMLParser):
    """Tags must be balanced; collects ids, labels' targets, classes and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, attribute: str) -> list[str]:
        return [value for _, found in self.tags if (value := found.get(attribute)) is not None]


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def many_devices(count: int) -> Problem:
    graph, cost = graphs.series_parallel(40, 2)
    two = graphs.two_devices()
    devices = tuple(replace(two.devices[i % 2], name=f"d{i}", egress_bps=1e9) for i in range(count))
    link = replace(two.links[0], source="", target="")
    cluster = replace(two, devices=devices, links=(), source="d0", sink="d0", default_link=link)
    resolved = replace(cluster, links=tuple(cluster.pairs()), default_link=None)
    return Problem(graph, resolved, cost)


def hostile() -> Problem:
    """Names of everything try to leave their place."""
    names = [HOSTILE + str(i) for i in range(4)]
    operators = tuple(
        Operator(names[i], HOSTILE, (f"t{i}{HOSTILE}",), (f"t{i + 1}{HOSTILE}",), memory_bytes=10)
        for i in range(4)
    )
    tensors = {f"t{i}{HOSTILE}": Tensor(f"t{i}{HOSTILE}", 1000) for i in range(5)}
    graph = Graph(HOSTILE, operators, tensors, (f"t0{HOSTILE}",), (f"t4{HOSTILE}",))
    two = graphs.two_devices()
    devices = tuple(replace(d, name=d.name + HOSTILE, kind=d.kind + HOSTILE) for d in two.devices)
    links = tuple(
        replace(x, source=x.source + HOSTILE, target=x.target + HOSTILE) for x in two.links
    )
    cluster = replace(
        two,
        devices=devices,
        links=links,
        source=two.source + HOSTILE,
        sink=two.sink + HOSTILE,
    )
    seconds = {d.kind: dict.fromkeys(names, 0.01 * (i + 1)) for i, d in enumerate(devices)}
    return Problem(graph, cluster, TableCost(seconds))


def compared(problem: Problem) -> Comparison:
    chosen = ["auto", "single_device", "dads", Scattered(1), Scattered(2)]
    return compare(problem, chosen, time_limit_s=20)


PROBLEMS = {
    "one device": lambda: many_devices(1),
    "two devices": lambda: many_devices(2),
    "five devices": lambda: many_devices(5),
    "twenty devices": lambda: many_devices(20),
    "throughput": lambda: replace(many_devices(5), objective=Objective.THROUGHPUT),
    "hostile": hostile,
}


@pytest.fixture(scope="module", params=PROBLEMS)
def page(request: pytest.FixtureRequest) -> tuple[Comparison, str]:
    found = compared(PROBLEMS[request.param]())
    return found, render(found)


def test_it_is_well_formed_and_its_ids_are_unique(page: tuple[Comparison, str]) -> None:
    ids = parsed(page[1]).all("id")
    assert len(ids) == len(set(ids)) > 1


def test_it_needs_nothing_from_elsewhere(page: tuple[Comparison, str]) -> None:
    checker = parsed(page[1])
    names = {tag for tag, _ in checker.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "image", "use", "base", "form"}
    attributes = {key for _, found in checker.tags for key in found}
    assert not attributes & {"src", "href", "xlink:href", "action", "srcset"}
    assert not any(key.startswith("on") for key in attributes)
    assert set(re.findall(r"url\(([^)]*)\)", page[1])) <= {"#arrow"}
    assert "@import" not in page[1]
    assert not re.search(r"\b(https?|ftp|file|data):", page[1])
    assert "default-src 'none'" in page[1]


def test_every_strategy_with_a_plan_can_be_chosen(page: tuple[Comparison, str]) -> None:
    comparison, text = page
    checker = parsed(text)
    radios = [found["id"] for tag, found in checker.tags if tag == "input"]
    sections = [found["class"] for tag, found in checker.tags if tag == "section"]
    labels = [found["for"] for tag, found in checker.tags if tag == "label"]
    assert sections == [f"plan {radio}" for radio in radios]
    assert len(labels) == sum(row.solution is not None for row in comparison.rows)
    assert set(labels) == set(radios)
    assert sum("checked" in found for _, found in checker.tags) == 1
    for radio in radios:
        assert f"#{radio}:checked~.{radio}{{display:block}}" in text


def test_the_same_plan_is_drawn_once() -> None:
    found = compared(many_devices(1))
    assert {len(row.solution.plan.devices) for row in found.rows if row.solution} == {1}
    assert render(found).count("<section") == 1  # a stage, or a stage an operator, takes as long
    problem = many_devices(1)
    slow = tuple(replace(d, stage_overhead_s=0.01) for d in problem.cluster.devices)
    costly = replace(problem, cluster=replace(problem.cluster, devices=slow))
    assert render(compared(costly)).count("<section") == 2


def test_one_device_has_no_drawing_of_links() -> None:
    drawn = "Arrows are the links"
    alone, several = render(compared(many_devices(1))), render(compared(many_devices(2)))
    assert "on 1 device," in alone
    assert drawn not in alone
    assert drawn in several


def test_names_stay_text() -> None:
    text = render(compared(hostile()))
    assert "<script" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    shown = "".join(parsed(text).text)
    assert "<script>" in shown


def test_a_device_has_one_colour_in_every_picture(page: tuple[Comparison, str]) -> None:
    from cutset.page.colours import device_colours

    comparison, text = page
    colours = device_colours(comparison)
    assert len(set(colours.values())) == len(colours) == len(comparison.problem.cluster.devices)
    for row in comparison.rows:
        if row.solution is not None:
            assert all(f'fill="{colours[name]}"' in text for name in row.solution.plan.devices)


def test_verdict_numbers_and_reasons_are_there() -> None:
    problem = replace(many_devices(5), objective=Objective.THROUGHPUT)
    found = compared(problem)
    shown = "".join(parsed(render(found)).text)
    for words in ("requests/s", "bottleneck", "does not apply", "covers latency only", "gap"):
        assert words in shown
    for row in found.rows:
        assert row.strategy in shown


def test_a_thousand_operators_stay_a_small_page(tmp_path: Path) -> None:
    graph, cost = graphs.layered(1000, 1)
    small = many_devices(20)
    problem = replace(small, graph=graph, cost=cost)
    chosen = ["single_device", *(Scattered(seed) for seed in range(9))]
    write_page(tmp_path / "r.html", compare(problem, chosen))
    assert parsed((tmp_path / "r.html").read_text("utf-8")).all("id")
    assert (tmp_path / "r.html").stat().st_size < 2_000_000


def test_it_is_the_same_every_time() -> None:
    found = compared(many_devices(3))
    assert render(found) == render(found)


def test_without_any_plan_it_says_so() -> None:
    problem = many_devices(2)
    devices = tuple(replace(d, memory_bytes=1.0) for d in problem.cluster.devices)
    found = compare(
        replace(problem, cluster=replace(problem.cluster, devices=devices)), ["single_device"]
    )
    text = "".join(parsed(render(found)).text)
    assert "No plan was found" in text
    assert found.failure is not None
    assert found.failure.message in text


@given(st.integers(0, 20_000))
@settings(deadline=None, max_examples=60)
def test_every_corner_of_the_model_can_be_drawn(seed: int) -> None:
    found = compare(random_problem(seed), ["single_device", Drawn(seed), Drawn(seed + 1)])
    parsed(render(found))
