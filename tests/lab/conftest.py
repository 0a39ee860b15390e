"""What tests with a real lab need: a machine that can make one, and folders of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_here import CLUSTER, cluster

from cutset import lab
from cutset.lab import Lab, places


@pytest.fixture(scope="module")
def possible() -> None:
    lacks = lab.unavailable()
    if lacks is not None:
        pytest.skip(lacks)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, so that the lab of somebody else stays what it is."""
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "lab"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("cluster.yaml").write_text(json.dumps(CLUSTER))  # JSON is YAML
    return tmp_path / "lab"


@pytest.fixture
def up(folder: Path) -> Iterator[Lab]:
    with lab.up(cluster(), tied=True) as made:
        yield made
