"""Which devices are slowed: those of this machine, and those of the lab; shares change live."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cutset.cluster import Device
from cutset.pacing import Paced
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.local_transport import LocalNetwork
from cutset.runtime.routing import engine_spec
from cutset.runtime.worker import Worker

DEVICE = Device("pi", "pi", cpu_share=0.25)


def test_a_real_device_is_not_slowed_by_its_share_in_emulation() -> None:
    real = replace(DEVICE, endpoint="tcp/10.0.0.5:7447")
    assert engine_spec(DEVICE).cpu_share == 0.25
    assert engine_spec(DEVICE).threads == 1
    assert engine_spec(real).cpu_share is None
    assert engine_spec(real).threads is None
    in_lab = replace(real, in_lab=True)
    assert engine_spec(in_lab).cpu_share == 0.25
    assert engine_spec(in_lab).threads == 1


def test_a_new_share_reaches_the_stages_that_are_loaded(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker("pi", LocalNetwork().join("pi"), SubmodelCache(str(tmp_path)))
    paced = Paced(SimpleNamespace(input_names=(), output_names=()), 0.25)  # type: ignore[arg-type]
    epochs = [SimpleNamespace(runnables=(paced, object()))]
    monkeypatch.setattr(worker.host, "epochs", lambda: epochs)
    worker.pace(0.5)
    assert paced.share == 0.5
