"""What an adaptive deployment refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from cutset import api, zoo
from cutset.cluster import Cluster, Device, Link
from cutset.errors import InvalidFileError, UnsupportedProblemError, UsageError
from cutset.plan import Plan
from cutset.profiles import Measurement, Profile


@pytest.fixture
def model(tmp_path: Path) -> api.Model:
    onnx.save(zoo.build("squeezenet", side=32, width=0.25), str(tmp_path / "m.onnx"))
    return api.load(tmp_path / "m.onnx")


CLUSTER = Cluster(
    (Device("pi", "board"), Device("server", "big")),
    (),
    "pi",
    "pi",
    default_link=Link("", "", 1e6, 0.0),
)


def profile(model: api.Model, *kinds: str) -> Profile:
    names = [op.name for op in model.graph.operators]
    times = tuple(Measurement(kind, "ort", 1, name, 0.001) for kind in kinds for name in names)
    return Profile(model.graph.digest, times)


def test_a_profile_of_another_kind_is_named(model: api.Model) -> None:
    with pytest.raises(InvalidFileError, match=r"no times of device 'server'.*board.*'big'"):
        api.deploy(model, CLUSTER, profile=profile(model, "board"), adapt=True)


def test_a_plan_is_refused_and_a_profile_needed(model: api.Model) -> None:
    with pytest.raises(UsageError, match="leave `plan` out"):
        api.deploy(model, CLUSTER, Plan(()), profile=profile(model, "board", "big"), adapt=True)
    with pytest.raises(UsageError, match="give the model's profile"):
        api.deploy(model, CLUSTER, adapt=True)
    with pytest.raises(UsageError, match="a plan is needed"):
        api.deploy(model, CLUSTER)


@pytest.mark.parametrize("server", ["nope", "pi"])
def test_a_server_that_is_none_is_named(model: api.Model, server: str) -> None:
    known = profile(model, "board", "big")
    with pytest.raises(UnsupportedProblemError, match=f"server.*{server}.*other devices are"):
        api.deploy(model, CLUSTER, profile=known, adapt=True, server=server)


def test_what_is_no_policy_and_no_number_of_requests_is_refused(model: api.Model) -> None:
    known = profile(model, "board", "big")
    with pytest.raises(UsageError, match="write adapt=True"):
        api.deploy(model, CLUSTER, profile=known, adapt="yes")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="window must be from 1"):
        api.deploy(model, CLUSTER, profile=known, adapt=True, in_flight=0)
