"""The tables and plots of docs/benchmarks.md, made from the committed results."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"


def _load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        # Names as common as these must not stay for other tests.
        for file in FOLDER.glob("*.py"):
            sys.modules.pop(file.stem, None)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("tables", monkeypatch)


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("sections", monkeypatch)


@pytest.fixture
def run_all(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("run_all", monkeypatch)


def test_document_holds_the_tables_of_the_committed_results(run_all: ModuleType) -> None:
    committed = (ROOT / "docs" / "benchmarks.md").read_text()
    text, drawn = run_all.document(committed, FOLDER / "results")
    assert text == committed  # else: python benchmarks/run_all.py --tables
    for name, svg in drawn.items():
        assert (ROOT / "docs" / name).read_text() == svg
        pages = (page.read_text() for page in (ROOT / "docs").glob("*.md"))
        assert any(f"({name})" in page for page in pages)
        ElementTree.fromstring(svg)


def test_every_section_states_kind_and_machine(sections: ModuleType) -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in sections.TABLES:
        section = text.partition(f"<!-- begin {name} -->")[2].partition(f"<!-- end {name} -->")[0]
        path = FOLDER / "results" / f"{name}.json"
        if not path.exists():
            assert not section.strip()  # nothing is said of what was not measured
            continue
        result = json.loads(path.read_text())
        assert f"Kind: **{result['kind']}**" in section
        assert result["machine"]["cpu"] in section
        assert result["date"] in section


def test_sections_without_a_result_stay_empty(run_all: ModuleType, tmp_path: Path) -> None:
    for name in ("envelope", "p2", "p3", "worker"):
        (tmp_path / f"{name}.json").write_text((FOLDER / "results" / f"{name}.json").read_text())
    names = ("envelope", "p2", "p3", "worker", "goals", "latency")
    text = "".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in names)
    filled, drawn = run_all.document(text, tmp_path)
    assert "<!-- begin latency -->\n<!-- end latency -->" in filled
    assert "<!-- begin worker -->\n<!-- end worker -->" not in filled
    assert not drawn


def test_fill_replaces_one_section_and_keeps_the_words(sections: ModuleType) -> None:
    result = json.loads((FOLDER / "results" / "worker.json").read_text())
    text = "before\n<!-- begin worker -->\nold\n<!-- end worker -->\nafter\n"
    filled = sections.fill(text, "worker", result)
    assert filled.startswith("before\n<!-- begin worker -->\n")
    assert filled.endswith("<!-- end worker -->\nafter\n")
    assert "old" not in filled
    assert sections.fill(filled, "worker", result) == filled


def test_fill_refuses_a_document_without_the_section(sections: ModuleType) -> None:
    result = json.loads((FOLDER / "results" / "worker.json").read_text())
    with pytest.raises(ValueError, match="begin worker"):
        sections.fill("no markers", "worker", result)


def test_what_misses_its_goal_is_marked(tables: ModuleType) -> None:
    result = json.loads((FOLDER / "results" / "transport.json").read_text())
    result["echo"]["unshaped"]["1000000"]["cutset"]["time_over_tcp"] = 2.5
    assert "**2.500** over" in tables.transport(result)


def test_goals_that_are_missed_are_marked(sections: ModuleType) -> None:
    results = {
        name: json.loads((FOLDER / "results" / f"{name}.json").read_text())
        for name in ("envelope", "p2", "p3")
    }
    row = "| P1: plans equal to min-cut | all | {} of 10000 | {} |"
    text = "<!-- begin goals -->\n<!-- end goals -->"
    assert row.format(10000, "yes") in sections.fill_goals(text, results)
    results["envelope"]["summary"]["equal"] = 9999
    assert row.format(9999, "**no**") in sections.fill_goals(text, results)


def test_many_rows_are_short_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    common = _load("common", monkeypatch)
    rows = [
        {"model": "a [1,  2]", "gap": 1 / 3, "proven": False},
        {"model": "b", "failed": "none", "gap": 0.0},
    ]
    document = {"none": {}, "empty": [], "nested": {"rows": common.columns(rows)}, "last": 1e-9}
    text = common.text(document)
    assert json.loads(text) == {
        **document,
        "nested": {
            "rows": {
                "columns": ["model", "gap", "proven", "failed"],
                "values": [["a [1,  2]", 0.333333, False, None], ["b", 0.0, None, "none"]],
            }
        },
    }
    assert text.count("\n") == 14  # a line for each row


def test_committed_results_of_many_rows_are_small() -> None:
    path = FOLDER / "results" / "p2.json"
    result = json.loads(path.read_text())
    assert len(result["rows"]["values"]) == result["summary"]["problems"]
    proven = result["rows"]["columns"].index("proven")
    assert sum(row[proven] for row in result["rows"]["values"]) == result["summary"]["proven"]
    assert path.stat().st_size < 150 * result["summary"]["problems"]
