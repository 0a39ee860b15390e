"""A small board has no planner: commands that need one say what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cutset.cli import main


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "onnx" or "onnx_io" in m]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main.run(["inspect", str(tmp_path / "model.onnx")]) == 2
    said = capsys.readouterr().err
    assert "onnx" in said
    assert "pip install 'cutset[plan]'" in said
    assert "Traceback" not in said
