"""The zoo: same seed, same model; outputs depend on the input; absent packages are named."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest

from cutset import zoo
from cutset.errors import UsageError
from cutset.zoo import found


def test_the_same_seed_gives_the_same_model() -> None:
    one, same, other = (zoo.build("unet", side=32, width=0.25, seed=s) for s in (0, 0, 1))
    assert one.SerializeToString() == same.SerializeToString() != other.SerializeToString()


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "efficientnet_b1",
        "inception_resnet_v2",
        "xception",
        "vit_s",
    ],
)
def test_outputs_are_not_saturated(name: str) -> None:
    model = zoo.build(name, side=96, width=0.25)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, 3, 96, 96)).astype(np.float32) for _ in range(2)]
    first, second = (session.run(None, {"image": image})[0] for image in images)
    assert first.max() < 0.99
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet50", 25_636_712),
        ("mobilenet_v2", 3_538_984),
        ("efficientnet_b1", 7_856_239),
        ("inception_resnet_v2", 55_873_736),
    ],
)
def test_as_many_parameters_as_published(name: str, published: int) -> None:
    model = zoo.build(name)
    found = sum(math.prod(weight.dims) for weight in model.graph.initializer)
    assert found == pytest.approx(published, rel=0.0015)  # biases under norms, scales of norms


def test_a_light_model_depends_on_its_input() -> None:
    assert "resnet50" in zoo.light_names()
    model = zoo.light("squeezenet")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, 3, 224, 224)).astype(np.float32) for _ in range(2)]
    first, second = (session.run(None, {name: image})[0] for image in images)
    assert first.max() < 0.99
    assert np.abs(first - second).max() > 1e-3 * np.abs(first).max()


def test_unknown_and_absent_models_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for look in (zoo.build, zoo.light, zoo.pretrained):
        with pytest.raises(UsageError, match=r"no such.*nope"):
            look("nope")
    monkeypatch.setattr(found, "PRETRAINED", {"absent": ("no-such-distribution", "a.onnx")})
    with pytest.raises(UsageError, match=r"pip install .*no-such-distribution"):
        zoo.pretrained("absent")
