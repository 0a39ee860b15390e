"""Loading: what the graph says, what its digest covers, and what is said about bad files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from cutset import engine, zoo
from cutset.cluster import Engine
from cutset.errors import InvalidModelError, UsageError
from cutset.feeds import random_feeds
from cutset.onnx_io import (
    attach_preprocessing,
    cut_report,
    load_model,
    operator_times,
    parse_preprocessing,
    whole,
)


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    path = tmp_path / "resnet18.onnx"
    onnx.save(zoo.build("resnet18", side=64, width=0.25), str(path))
    return path


def test_operators_are_what_the_engine_fuses(resnet: Path) -> None:
    graph = load_model(resnet).graph
    first = graph.operators[0]
    assert first.op_type == "Conv"
    assert len(first.onnx_nodes) == 3  # Conv, BatchNormalization and Relu are one kernel
    assert first.window == {
        "kernel": (7, 7),
        "stride": (2, 2),
        "pads": (3, 3, 3, 3),
        "dilation": (1, 1),
    }
    assert first.flops == pytest.approx(2 * 16 * 32 * 32 * 3 * 49, rel=0.05)
    assert first.weight_bytes == 4 * (16 * 3 * 49 + 4 * 16)
    assert first.memory_bytes == round(2.9 * first.weight_bytes) + 4 * 16 * 32 * 32
    assert graph.stage_memory_bytes == 20_000_000


def test_the_report_finds_the_articulations(resnet: Path) -> None:
    model = load_model(resnet)
    report = cut_report(model)
    assert len(report.articulations) == len(report.blocks) - 1 > 10
    assert sum(map(len, report.blocks)) == len(model.graph.operators)
    point = report.articulations[0]
    assert point.size_bytes == sum(model.graph.tensors[t].size_bytes for t in point.tensors)
    assert report.uncut == ()


def test_the_digest_covers_model_and_shapes(tmp_path: Path) -> None:
    path = zoo.pretrained("ppocr_det")
    small = load_model(path, {"x": (1, 3, 32, 32)}).graph
    same = load_model(path, {"x": (1, 3, 32, 32)}).graph
    larger = load_model(path, {"x": (1, 3, 64, 32)}).graph
    assert small.digest == same.digest != larger.digest
    copy = tmp_path / "copy.onnx"
    proto = onnx.load(str(path))
    proto.doc_string = "another"
    onnx.save(proto, str(copy))
    assert load_model(copy, {"x": (1, 3, 32, 32)}).graph.digest != small.digest


def test_kernel_times_cover_all_operators(resnet: Path) -> None:
    model = load_model(resnet)
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)}
    kernels = engine.kernel_times(whole(model), Engine(threads=1), feeds, 3)
    assert all(len(kernel.seconds) == 3 for kernel in kernels)
    times = operator_times(model, kernels)
    assert list(times) == [op.name for op in model.graph.operators]
    total = sum(time.min_s for time in times.values())
    assert total == pytest.approx(sum(kernel.min_s for kernel in kernels))


def test_inserted_kernels_are_charged_to_their_neighbours(resnet: Path) -> None:
    model = load_model(resnet)
    a, b = model.graph.operators[:2]

    def kernel(node: str, seconds: float, op_type: str = "X") -> engine.KernelTimes:
        return engine.KernelTimes(node, op_type, (seconds,))

    times = operator_times(
        model,
        [
            kernel("ReorderInput_token_1", 1.0, "ReorderInput"),
            kernel(f"{a.outputs[0]}_nchwc", 2.0),
            kernel("ReorderOutput", 4.0, "ReorderOutput"),
            kernel("ReorderInput", 8.0, "ReorderInput"),
            kernel(b.onnx_nodes[0], 16.0),
            kernel("unheard_of", 32.0),
        ],
    )
    assert times[a.name].min_s == 7.0
    assert times[b.name].min_s == 56.0


def test_kernels_that_took_an_activation_in_are_their_operators(tmp_path: Path) -> None:
    """AlexNet's last layers are matrix products with a Relu: "fused NAME/MatMulAddFusion"."""
    onnx.save(zoo.build("alexnet", side=64), str(tmp_path / "m.onnx"))
    model = load_model(tmp_path / "m.onnx")
    feeds = random_feeds(model.ports, 1)[0]
    kernels = engine.kernel_times(whole(model), Engine(threads=1), feeds, 3)
    times = operator_times(model, kernels)
    products = [op.name for op in model.graph.operators if "matmul" in op.name]
    assert len(products) == 3
    assert all(times[name].min_s > 0 for name in products)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("uint8,hwc,swap,scale=1/255,mean=0.485;0.456;0.406,std=0.229;0.224;0.225", (64, 64, 3)),
        ("uint8,nchw,scale=0.5,mean=7", (1, 3, 64, 64)),
        ("uint8,nhwc,size=32x32,resize=64x64", (1, 32, 32, 3)),
    ],
)
def test_attached_preprocessing_equals_numpy(
    spec: str, shape: tuple[int, ...], resnet: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    steps = parse_preprocessing(spec)
    x = image.astype(np.float32)
    if len(x.shape) == 3:
        x = x[None]
    if "hwc" in steps.layout:
        x = x.transpose(0, 3, 1, 2)
    if steps.swap:
        x = x[:, ::-1]
    if steps.resize:  # by a factor of 2 with half-pixel centres: weights 3/4 and 1/4
        for axis in (2, 3):
            before, after = (np.roll(x, shift, axis) for shift in (1, -1))
            index = [slice(None)] * 4
            index[axis] = slice(0, 1)
            before[tuple(index)] = x[tuple(index)]
            index[axis] = slice(-1, None)
            after[tuple(index)] = x[tuple(index)]
            pair = [0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after]
            x = np.stack(pair, axis + 1).reshape(
                [2 * n if i == axis else n for i, n in enumerate(x.shape)]
            )
    x = x * np.float32(steps.scale)
    x = x - np.asarray(steps.mean or (0,), np.float32).reshape(1, -1, 1, 1)
    x = x / np.asarray(steps.std or (1,), np.float32).reshape(1, -1, 1, 1)
    attached = tmp_path / "attached.onnx"
    attached.write_bytes(attach_preprocessing(resnet, spec))
    model = load_model(attached)
    assert (model.inputs[0].name, model.inputs[0].dtype) == ("image", "uint8")
    found = engine.load(whole(model), Engine(threads=1)).run({"image": image})
    session = ort.InferenceSession(str(resnet), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": np.ascontiguousarray(x, np.float32)})
    (result,) = found.values()
    assert np.abs(result - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "spec", ["", "uint9", "scale=x", "scale=1/0", "mean=1;a", "std=0", "resize=0x3", "hwc,chw"]
)
def test_bad_preprocessing_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="--pre"):
        parse_preprocessing(spec)


def test_preprocessing_must_fit_the_model(resnet: Path) -> None:
    with pytest.raises(UsageError, match="3 channels"):
        attach_preprocessing(resnet, "uint8,hwc,mean=1;2")
    with pytest.raises(UsageError, match="64x64"):
        attach_preprocessing(resnet, "uint8,hwc,resize=32x32")


def test_missing_and_broken_files(tmp_path: Path, resnet: Path) -> None:
    with pytest.raises(InvalidModelError, match="cannot be read"):
        load_model(tmp_path / "none.onnx")
    bad = tmp_path / "bad.onnx"
    for content in (b"", b"hello, this is text", resnet.read_bytes()[:5000]):
        bad.write_bytes(content)
        with pytest.raises(InvalidModelError, match="not an ONNX model") as caught:
            load_model(bad)
        assert "\n" not in str(caught.value)
        assert "bad.onnx" in str(caught.value)


def test_versions_and_unknown_operators(tmp_path: Path, resnet: Path) -> None:
    path = tmp_path / "changed.onnx"
    proto = onnx.load(str(resnet))
    proto.opset_import[0].version = 99
    onnx.save(proto, str(path))
    with pytest.raises(InvalidModelError, match=r"unsupported operator set.*99"):
        load_model(path)
    for domain, op_type in (("", "Nonsense"), ("my.domain", "Custom")):
        proto = onnx.load(str(resnet))
        proto.graph.node[3].op_type, proto.graph.node[3].domain = op_type, domain
        if domain:
            proto.opset_import.append(helper.make_opsetid(domain, 1))
        onnx.save(proto, str(path))
        with pytest.raises(InvalidModelError, match=op_type) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


def test_shapes_that_are_missing_or_wrong() -> None:
    path = zoo.pretrained("ppocr_det")
    with pytest.raises(InvalidModelError, match=r"dynamic.*such as x=1,3,64,64"):
        load_model(path)
    with pytest.raises(InvalidModelError, match="3 dimensions"):
        load_model(path, {"x": (3, 64, 64)})
    with pytest.raises(InvalidModelError, match="dimension 1 is 3"):
        load_model(path, {"x": (1, 4, 64, 64)})
    with pytest.raises(InvalidModelError, match="no such input"):
        load_model(path, {"y": (1, 3, 64, 64)})


def test_external_data_must_be_there_and_inside(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = zoo.build("resnet18", side=64, width=0.25)
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=64)
    digest = load_model(path).graph.digest
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[100] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    assert load_model(path).graph.digest != digest
    (tmp_path / "w.bin").write_bytes(data[:1000])
    with pytest.raises(InvalidModelError, match="truncated"):
        load_model(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InvalidModelError, match="missing"):
        load_model(path)
    outside = onnx.load(str(path), load_external_data=False)
    for tensor in outside.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../w.bin"
    onnx.save(outside, str(path))
    with pytest.raises(InvalidModelError, match="outside"):
        load_model(path)
