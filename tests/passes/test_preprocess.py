"""The ``preprocess`` pass: pixels in, the numbers of the normalized image out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit import BadOption
from graphkit.testing import assert_equivalent, run
from graphkit_passes._pixels import Pixels
from graphkit_passes.preprocess import Preprocess
from tests.passes.named_edits import applied, close, parse, slowly, values
from tests.tensorrt import verdicts

IMAGENET = "mean=0.485+0.456+0.406,std=0.229+0.224+0.225,scale=255"


@dataclass(frozen=True)
class Net:
    """What reads the image: convolutions with or without padding, bias and groups, or something else."""

    pads: int = 0
    auto_pad: str = "NOTSET"
    group: int = 1
    bias: bool = True
    dtype: str = "float32"
    convs: int = 1
    shape: bool = False
    first: str = ""
    opset: int = 17


nets = st.builds(
    Net,
    pads=st.sampled_from([0, 1]),
    group=st.sampled_from([1, 3]),
    bias=st.booleans(),
    dtype=st.sampled_from(["float32", "float32", "float64", "float16"]),
    convs=st.integers(1, 2),
    shape=st.booleans(),
    first=st.sampled_from(["", "", "Relu"]),
    opset=st.sampled_from([7, 11, 17]),
)


def build(net: Net) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(net.dtype))
    source, nodes, tensors, outputs = "x", [], [], []
    if net.first:
        source = "f"
        nodes.append(helper.make_node(net.first, ["x"], ["f"]))
    for i in range(net.convs):
        shapes = {f"w{i}": (6, 3 // net.group, 3, 3)} | ({f"b{i}": (6,)} if net.bias else {})
        tensors += [
            numpy_helper.from_array(rng.normal(size=s).astype(net.dtype), n) for n, s in shapes.items()
        ]
        padding = {"auto_pad": net.auto_pad} if net.auto_pad != "NOTSET" else {"pads": [net.pads] * 4}
        nodes.append(
            helper.make_node("Conv", [source, *shapes], [f"y{i}"], f"conv{i}", group=net.group, **padding)
        )
        outputs.append(helper.make_tensor_value_info(f"y{i}", kind, ["N", 6, None, None]))
    if net.shape:
        nodes.append(helper.make_node("Shape", ["x"], ["s"]))
        outputs.append(helper.make_tensor_value_info("s", 7, [4]))
    image = helper.make_tensor_value_info("x", kind, ["N", 3, 6, 7])
    graph = helper.make_graph(nodes, "g", [image], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=8)


def normalized(pixels: np.ndarray, step: Preprocess) -> np.ndarray:
    """Pixels [N, H, W, C] of the caller as a training script makes an image [N, C, H, W] of them."""
    channels = []
    for place in range(3):
        own = pixels[..., 2 - place if step.bgr else place].astype(np.float64) / step.scale
        mean, std = (v[place % len(v)] if v else d for v, d in ((step.mean, 0.0), (step.std, 1.0)))
        channels.append((own - mean) / std)
    return np.stack(channels, 1)


@st.composite
def steps(draw: Any) -> Preprocess:
    mean, std = (draw(st.sampled_from([(), one, three])) for one, three in (MEANS, STDS))
    return Preprocess(
        mean=mean,
        std=std,
        scale=draw(st.sampled_from([1.0, 255.0])),
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        dtype=draw(st.sampled_from(["uint8", "float32"])),
        bgr=draw(st.booleans()),
    )


MEANS, STDS = ((0.5,), (0.485, 0.456, 0.406)), ((0.25,), (0.229, 0.224, 0.225))


@slowly
@given(nets, steps())
def test_random_networks(net: Net, step: Preprocess) -> None:
    model = build(net)
    got, report = run(step, model)
    if not report.rewrites:
        assert (step.dtype, step.layout, step.bgr) == (net.dtype, "nchw", False)
        assert not (step.mean or step.std) and step.scale == 1
        return
    assert_equivalent(step, model)
    onnx.checker.check_model(got, full_check=True)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 6, 7, 3)).astype(step.dtype)
    outputs = [o.name for o in model.graph.output]
    before = values(model, {"x": normalized(pixels, step).astype(net.dtype)}, outputs)
    after = values(got, {"x": pixels if step.layout == "nhwc" else np.moveaxis(pixels, -1, 1)}, outputs)
    largest = max(np.abs(v).max() for v in before.values())
    close(after, before, largest * (1e-2 if net.dtype == "float16" else 1e-5))


@pytest.mark.parametrize(
    ("net", "ops"),
    [
        (Net(), "Cast Transpose Conv"),
        (Net(bias=False, shape=True), "Cast Transpose Conv Shape"),
        (Net(auto_pad="VALID"), "Cast Transpose Conv"),
        (Net(pads=1), "Cast Transpose Sub Conv"),
        (Net(auto_pad="SAME_UPPER"), "Cast Transpose Sub Conv"),
        (Net(group=3), "Cast Transpose Gather Sub Mul Conv"),
        (Net(first="Relu"), "Cast Transpose Gather Sub Mul Relu Conv"),
        (Net(dtype="float16"), "Cast Transpose Gather Sub Mul Cast Conv"),
    ],
)
def test_what_is_left_to_do_at_run_time(net: Net, ops: str) -> None:
    got = applied(f"preprocess:{IMAGENET},layout=nhwc,dtype=uint8,bgr=true", build(net))
    assert " ".join(n.op_type for n in got.graph.node) == ops


@pytest.mark.parametrize("wrong", ["_pads_nothing", "_takes"])
def test_a_fold_that_is_not_exact_would_be_found(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof does not believe the pass: forgotten padding, or channels of the wrong group, differ."""
    monkeypatch.setattr(Pixels, wrong, lambda self, conv: True)
    net = Net(pads=1) if wrong == "_pads_nothing" else Net(group=3)
    with pytest.raises(AssertionError, match="differs"):
        assert_equivalent(f"preprocess:{IMAGENET},layout=nhwc,dtype=uint8,bgr=true", build(net))


def test_weights_that_others_read_stay_for_them() -> None:
    model = build(Net())
    model.graph.node.append(helper.make_node("Conv", ["y0", "v"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 6, 1, 1), np.float32), "v"))
    model.graph.node.append(helper.make_node("Identity", ["w0"], ["u"]))
    model.graph.output.append(helper.make_tensor_value_info("u", 1, [6, 3, 3, 3]))
    got = applied("preprocess:scale=255", model)
    names = {t.name: t for t in got.graph.initializer}
    old = {t.name: t for t in model.graph.initializer}
    assert names["w0"] == old["w0"] and names["v"] == old["v"] and "w0_pixels" in names


def test_weights_that_an_input_overrides_are_left_alone() -> None:
    model = build(Net())
    model.graph.input.append(helper.make_tensor_value_info("w0", 1, [6, 3, 3, 3]))
    got = applied(f"preprocess:{IMAGENET}", model)
    assert [n.op_type for n in got.graph.node] == ["Sub", "Mul", "Conv"]


def test_another_preprocess_goes_in_front() -> None:
    """Only the very same pass is known to have been there."""
    once = applied("preprocess:mean=0.5,std=0.5", build(Net(first="Relu")))
    twice, report = run("preprocess:scale=255,dtype=uint8", once)
    assert report.rewrites == 1
    assert [n.op_type for n in twice.graph.node] == ["Cast", "Mul", "Sub", "Mul", "Relu", "Conv"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "is asked for nothing"),
        ("scale=0", "neither std nor scale may be 0"),
        ("std=0.5+0+1", "neither std nor scale may be 0"),
        ("mean=nan", "must be finite"),
        ("mean=1+2", "'x' has 3 channels, and mean or std 2 values"),
        ("dtype=int8", "must be uint8|float16|float32"),
        ("scale=255,input=images", "there is no input 'images'"),
    ],
)
def test_what_cannot_be(spec: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        run(f"preprocess:{spec}", build(Net()))
    assert said in str(caught.value)


def test_two_images_have_to_be_told_apart() -> None:
    model = parse("""g (float[1,3,4,4] left, float[1,3,4,4] right, float[2] k) => (float[1,3,4,4] y)
      { y = Sub (left, right) }""")
    with pytest.raises(BadOption, match="say which input with input=NAME; those it may be are left, right"):
        run("preprocess:scale=255", model)
    assert run("preprocess:scale=255,input=right", model)[1].rewrites == 1


def test_tensorrt_builds_it() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")
    spec = f"preprocess:{IMAGENET},layout=nhwc,dtype=uint8,bgr=true"
    nets = {"folded": Net(), "padded": Net(pads=1), "nodes": Net(first="Relu"), "half": Net(dtype="float16")}
    built = {name: applied(spec, build(net)) for name, net in nets.items()}
    built["part"] = applied("extract:inputs=x_centered,outputs=y0", built["padded"])
    said = verdicts({name: model.SerializeToString() for name, model in built.items()})
    assert said == dict.fromkeys(built, "")
