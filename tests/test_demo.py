"""The demo: its model comes from its script, is mended, becomes an engine, and the planted fault is found."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

import graphkit
from fixtures.demo import make_detector, tour
from fixtures.engines.make_models import plant

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "fixtures" / "demo"
DETECTOR = DEMO / "detector.onnx"
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')"
)
BAD = "the first bad kernel is "


def op_counts(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo fills where no GPU is, and all that it prints."""
    folder = tmp_path_factory.mktemp("demo")
    code = "from pathlib import Path; from fixtures.demo.tour import Tour; import sys; "
    command = [sys.executable, "-c", code + "Tour(Path(sys.argv[1]), False).run()", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_the_script_reproduces_the_file() -> None:
    assert make_detector.detector() == DETECTOR.read_bytes()


def test_the_model_is_the_size_of_a_fixture_and_the_shape_of_yolov5n() -> None:
    assert DETECTOR.stat().st_size < 400_000
    counts = op_counts(DETECTOR)
    assert (counts.total(), counts["Swish"], counts["Conv"], counts["Resize"]) == (179, 57, 60, 2)


def test_every_swish_becomes_a_sigmoid_and_a_mul(demo: tuple[Path, str]) -> None:
    before, after = op_counts(DETECTOR), op_counts(demo[0] / "detector.onnx")
    assert after["Swish"] == 0
    assert after - before == Counter(Sigmoid=57, Mul=57)
    assert "numbers held: 58 tensors compared" in demo[1]


@needs_rtx
def test_tensorrt_rtx_refuses_the_original_and_builds_the_result(demo: tuple[Path, str]) -> None:
    folder, said = demo
    assert "does not support Swish" in said and "try --pass silu" in said
    assert (folder / "detector.engine").stat().st_size > 100_000
    layers = graphkit.LayerMap.load(folder / "detector.layers.json")
    assert layers.meta["compute_capabilities"] == ["8.9"]


@needs_rtx
def test_its_kernels_stand_beside_their_onnx_nodes(demo: tuple[Path, str]) -> None:
    rows = [line.split(maxsplit=2) for line in demo[1].splitlines() if "_myl0_" in line and "/: " in line]
    assert rows[0][1:] == ["1x4x48x48", "/model.0/: conv/Conv, act/Swish/Sigmoid, act/Swish/Mul"]
    assert "more in detector.layers.json" in demo[1]


def test_the_engine_matches_and_the_spoilt_one_is_found_out(demo: tuple[Path, str]) -> None:
    """Two diffs of captures: exit codes 0 and 1, which the demo itself insists on."""
    folder, said = demo
    healthy, _, spoilt = said.partition(" 1% too large")
    assert "MATCH: fixtures/demo/detector.capture" in healthy and BAD not in healthy
    accused = spoilt.partition("ONNX nodes")[2].splitlines()[0]
    assert tour.SPOILT in accused.strip().split(", ")
    assert tour.SPOILT in (folder / "spoilt.html").read_text("utf-8")


def test_no_other_kernel_is_accused(demo: tuple[Path, str]) -> None:
    found = graphkit.diff(demo[0] / "detector.onnx", DEMO / "planted.capture", other_model=True)
    accused = [layer for layer in found.layers if not layer.ok]
    assert len(accused) == 1 and tour.SPOILT in accused[0].onnx_nodes
    assert accused[0] == found.first_bad


def test_the_captures_are_of_these_models_and_fit_into_a_clone(demo: tuple[Path, str]) -> None:
    mended = (demo[0] / "detector.onnx").read_bytes()
    spoilt = plant(onnx.load_model_from_string(mended), tour.SPOILT, "gain")
    models = (mended, spoilt.SerializeToString(deterministic=True))
    for name, data in zip(("detector", "planted"), models, strict=True):
        capture = graphkit.Capture.load(DEMO / f"{name}.capture")
        assert capture.meta["onnx"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert capture.marked and (DEMO / f"{name}.capture").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    "nodes, text",
    [
        (("/a/Conv", "/a/act/Mul"), "/a/: Conv, act/Mul"),
        (("/a/Conv",), "/a/Conv"),
        (("conv", "relu"), "conv, relu"),
        (("/ab/Conv", "/ac/Conv"), "/ab/Conv, /ac/Conv"),
    ],
)
def test_a_scope_that_nodes_share_is_said_once(nodes: tuple[str, ...], text: str) -> None:
    assert tour.listed(nodes) == text


def test_the_demo_stops_where_a_step_does_not_end_as_it_should(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="exit code is 2, and should be 0"):
        tour.graphkit_("diff", "no.onnx", "no.capture")
    assert "$ graphkit diff no.onnx no.capture" in capfd.readouterr().out
