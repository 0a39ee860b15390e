"""`import cutset`: few names, each loaded when it is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cutset


def test_all_is_what_is_exported() -> None:
    assert cutset.__all__ == sorted(cutset.__all__)
    for name in cutset.__all__:
        found = getattr(cutset, name)
        assert found.__name__ == name
        assert found.__module__.startswith("cutset.")
    assert set(cutset.__all__) <= set(dir(cutset))
    assert not set(cutset._HOMES) - set(cutset.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = cutset.nope


def test_every_error_is_caught_by_the_base() -> None:
    errors = [
        value
        for value in (getattr(cutset, name) for name in cutset.__all__)
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(errors) > 5
    assert all(issubclass(error, cutset.CutsetError) for error in errors)


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("onnx", "onnx_ir", "scipy", "ortools", "onnxruntime", "numpy", "zenoh", "cutset.api")
    code = (
        "import sys, cutset\n"
        f"print([m for m in {heavy!r} if m in sys.modules])\n"
        "cutset.WorkerLostError, cutset.Cluster\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_submodules_hide_no_public_name() -> None:
    # A submodule becomes an attribute of the package when it is imported, over any lazy name.
    code = (
        "import cutset, cutset.cli.main, cutset.api, cutset.demo\n"
        "print([n for n in cutset.__all__ if not callable(getattr(cutset, n))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
