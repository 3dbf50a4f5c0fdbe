"""What TensorRT prints about an engine's layers, in every version's spelling, becomes one kind of record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphkit import BadInput, LayerMap
from graphkit.engine.layers import (
    EngineTensor,
    Kernel,
    load_all,
    parse_inspector,
    parse_log,
    sections,
    to_bytes,
)

DATA = Path(__file__).parent / "data"


def lines_of(name: str) -> list[str]:
    return (DATA / name).read_bytes().decode().split("\n")


@pytest.mark.parametrize("name", ["rtx-1.4.log", "rtx-1.7.log"])
def test_a_log_of_tensorrt_rtx_gives_its_kernels_in_order(name: str) -> None:
    kernels = parse_log(lines_of(name))
    assert len(kernels) == 12
    silu = kernels[4]
    assert silu.name == "__myl_SiluReluExpLog1IsinSele_myl0_4"
    assert silu.type == "kgen"
    assert silu.onnx_nodes == ("same", "node_of_f", "node_of_q1 | call (fn)", "innr | call (fn)")
    assert silu.inputs == (EngineTensor("__myln_k_arg__bb1_5_myl0", (1, 8, 16, 16), "float32"),)
    assert [t.name for t in silu.outputs] == ["y", "f.1_myl0"]
    assert silu.tactic == "__myl_SiluReluExpLog1IsinSele_0xe7f1889250cafa8f1719876bc25c9914"
    assert kernels[7].onnx_nodes == ("ifn", "inn | t (then_branch) | ifn (If)")
    assert kernels[6].outputs == () and kernels[6].tactic == ""  # it jumps


def test_two_versions_tell_the_same_of_one_model() -> None:
    old, new = parse_log(lines_of("rtx-1.4.log")), parse_log(lines_of("rtx-1.7.log"))
    assert [(k.type, k.onnx_nodes, k.inputs, k.outputs) for k in old] == [
        (k.type, k.onnx_nodes, k.inputs, k.outputs) for k in new
    ]
    assert [len(k.constants) for k in old] == [0] * 12
    assert [len(k.constants) for k in new] == [0, 0, 3, 3, 0, 0, 0, 3, 0, 0, 0, 0]
    assert new[2].constants[0] == EngineTensor("__mye234dconst_myl0", (8, 8, 3, 3), "float32")


def test_dtypes_and_dynamic_dims() -> None:
    kernels = [*parse_log(lines_of("rtx-1.7-dtypes.log")), *parse_log(lines_of("rtx-1.7-fp8.log"))]
    found = {t.name: t for k in kernels for t in (*k.inputs, *k.outputs)}
    dtypes = {name: found[name].dtype for name in ("z", "u", "q", "w", "y", "xx", "dd")}
    assert dtypes == {
        "z": "int64",
        "u": "uint8",
        "q": "int32",
        "w": "bool",
        "y": "float32",  # the second log's; the first's y is bfloat16
        "xx": "float16",
        "dd": "float32",
    }
    assert found["b"].dtype == "bfloat16"
    assert found["r.1_2_myl0"].dtype == "float8_e4m3fn"
    assert found["d"].dims == found["dd"].dims == (-1, 8)


def test_the_log_of_tensorrt_10() -> None:
    reformat, conv, dynamic = parse_log(lines_of("tensorrt-10.log"))
    assert conv.onnx_nodes == ("/stem/Conv", "/stem/Relu")
    assert conv.name == "/stem/Conv + /stem/Relu" and conv.type == "CaskConvolution"
    assert conv.outputs == (EngineTensor("/stem/Relu_output_0", (1, 64, 112, 112), "int8"),)
    assert (conv.tactic, conv.stream) == ("sm80_xmma_fprop_implicit_gemm", 2)
    assert reformat.is_copy and reformat.onnx_nodes == ()
    assert [t.dtype for t in (*reformat.inputs, *reformat.outputs)] == ["float32", "float16"]
    assert dynamic.inputs[0].dtype == ""  # TensorRT does not say
    assert dynamic.onnx_nodes == ("/head/Softmax",) and dynamic.outputs == ()


def test_the_log_of_tensorrt_8_whose_nodes_are_in_the_names() -> None:
    reformat, conv, pointwise, matmul, foreign = parse_log(lines_of("tensorrt-8.log"))
    assert reformat.is_copy and reformat.onnx_nodes == ()
    assert conv.onnx_nodes == ("w", "Conv_9", "Clip_13")
    assert conv.inputs[0].dims == (1, 3, 224, 224) and conv.inputs[0].dtype == "float16"
    assert pointwise.onnx_nodes == ("Sigmoid_14", "Mul_15")
    assert [(t.name, t.dims) for t in matmul.inputs] == [
        ("582", (-1, -1, 4864)),
        ("(Unnamed Layer* 13) [Shuffle]_output", (1, 4864, 256)),
    ]
    assert foreign.onnx_nodes == ()  # the first and the last of who knows how many
    assert foreign.outputs == (EngineTensor("out", (1, 128, 16384), "float16"),)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_long_message_reads_like_many_lines(end: str) -> None:
    lines = lines_of("rtx-1.4.log")
    assert parse_log([end.join(lines)]) == parse_log(lines)


def test_each_engine_of_a_log_has_its_own_kernels_and_the_last_is_the_log_s() -> None:
    log = [*lines_of("rtx-1.4.log"), "[V] something else", *lines_of("rtx-1.7-fp8.log")]
    assert [len(s) for s in sections(log)] == [12, 5]
    assert parse_log(log) == parse_log(lines_of("rtx-1.7-fp8.log"))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Layers:"],
        ["Name: a, LayerType: kgen, Inputs: ["],
        ["Name: a, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [1], Format/Datatype: Float }"],
        ["Layer(Reformat): cut, Tactic: 0x1, x[Float(1"],
    ],
)
def test_what_is_cut_short_is_no_kernel(lines: list[str]) -> None:
    assert parse_log(lines) == []


def test_syncs_and_copies_are_told_apart_from_work() -> None:
    kernels = parse_log(lines_of("rtx-1.4.log"))
    assert [k.type for k in kernels if k.is_sync] == ["memset", "cjmp", "jmp", "jmp"]
    assert [k.name for k in kernels if k.is_copy] == [
        "__myl_Move_myl0_1",
        "copy_d2h___mye259_myl0_5",
        "__myl_Tran_myl0_8",
    ]


def test_the_inspector_of_tensorrt_10_and_11() -> None:
    (conv,) = parse_inspector((DATA / "tensorrt-10.json").read_text())
    assert conv.onnx_nodes == ("conv0_fwd", "batchnorm0_fwd")  # once each
    assert conv.inputs == (EngineTensor("data", (1, 3, 224, 224), "int8"),)
    assert conv.outputs[0].dtype == "bfloat16" and conv.stream == 1
    (fused,) = parse_inspector((DATA / "tensorrt-11.json").read_text())
    assert fused.onnx_nodes == ("mm", "inn | t (then_branch) | ifn (If)")
    assert fused.inputs == (EngineTensor("x", (-1, 64), "float8_e4m3fn"),)
    assert fused.constants == (EngineTensor("w", (64, 8), "int4"),)


def test_an_engine_without_detail_has_names_alone() -> None:
    kernels = parse_inspector((DATA / "names-only.json").read_text())
    assert [(k.name, k.type, k.outputs) for k in kernels] == [
        ("Conv_0 + Relu_1", "", ()),
        ("{ForeignNode[a...b]}", "", ()),
    ]
    assert [k.onnx_nodes for k in kernels] == [("Conv_0", "Relu_1"), ()]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"Layers": 3}', '{"Layers": [3]}', '{"Layers": [{}]}']
)
def test_other_json_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_inspector(text)
    assert "\n" not in str(refused.value)


KERNEL = Kernel("k", "kgen", ("a|b", "ü"), (), (EngineTensor("\udc80", (1, -1), "int4"),), (), "t", 3)


def test_a_layer_map_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "m.layers.json"
    layers = LayerMap(
        (KERNEL, *parse_log(lines_of("rtx-1.7.log"))), "log", {"trt": {"module": "tensorrt_rtx"}}
    )
    layers.save(path)
    assert LayerMap.load(path) == layers
    tree = json.loads(path.read_text())
    assert tree["schema"] == "graphkit.layers/1"
    assert tree["kernels"][0]["outputs"] == [{"name": "\udc80", "dims": [1, -1], "dtype": "int4"}]
    assert set(tree["kernels"][1]) >= {"name", "type", "onnx_nodes", "inputs", "outputs"}


def test_several_maps_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.layers.json"
    maps = [LayerMap((KERNEL,), "profile-0"), LayerMap((), "profile-1", {"note": 1})]
    path.write_bytes(to_bytes(maps))
    assert load_all(path) == maps
    assert LayerMap.load(path) == maps[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[1]",
        "{}",
        '{"schema": "graphkit.layers/2", "kernels": []}',
        '{"schema": "graphkit.layers/1"}',
        '{"schema": "graphkit.layers/1", "kernels": [{"name": "k"}]}',
        '{"schema": "graphkit.layers/1", "kernels": 3}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_layer_map_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.layers.json"
    path.write_text(text)
    for load in (LayerMap.load, load_all):
        with pytest.raises(BadInput) as refused:
            load(path)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_missing_layer_map_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        LayerMap.load(tmp_path / "none.layers.json")
