"""``graphkit capture`` on the command line: real engines, and no GPU needed for what is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from graphkit.cli import main
from graphkit.run import capture as module
from graphkit.run.capture_file import Capture
from tests.run.simulated import Engine, host_device, trt
from tests.run.test_capture import IO, PROFILE, TEXT, kernels


def no_gpu() -> bool:
    from graphkit.errors import NoRuntime
    from graphkit.run.gpu import device

    try:
        with device():
            return False
    except NoRuntime:
        return True


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and an engine of it that TensorRT-RTX built."""
    folder = tmp_path_factory.mktemp("built")
    model, engine = folder / "m.onnx", folder / "m.engine"
    onnx.save(onnx.parser.parse_model(TEXT), model)
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(model))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", *PROFILE["x"])
    config.add_optimization_profile(profile)
    if no_gpu():
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine.write_bytes(bytes(builder.build_serialized_network(network, config)))
    return model, engine


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(main, ["capture", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(folder: Path, *arguments: object) -> str:
    """One line, exit 2, and no file."""
    before = set(folder.iterdir())
    result = run(*arguments, code=2)
    assert result.stderr.count("\n") == 1 and result.stdout == "", result.output
    assert set(folder.iterdir()) == before
    return str(result.stderr)


@pytest.mark.skipif(not no_gpu(), reason="there is a GPU here")
def test_no_driver(built: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graphkit", "capture", *map(str, built), "-o", str(tmp_path / "c")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and result.stdout == "", result
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("graphkit: error: "), result.stderr
    assert "no NVIDIA driver" in result.stderr and "cudaError 35" in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_said_before_a_gpu_is_asked_for(built: tuple[Path, Path], tmp_path: Path) -> None:
    model, engine = built
    out = tmp_path / "c"
    (tmp_path / "empty").touch()
    np.save(tmp_path / "x.npy", np.zeros((2, 5), np.float32))
    assert "there is no such file; graphkit build makes an engine" in refused(
        tmp_path, model, tmp_path / "none.engine", "-o", out
    )
    assert "is empty" in refused(tmp_path, model, tmp_path / "empty", "-o", out)
    assert "not an ONNX model" in refused(tmp_path, engine, model, "-o", out)
    assert "there is no such file" in refused(tmp_path, tmp_path / "none.onnx", engine, "-o", out)
    assert "should be float32 [n,4], and is float32 [2,5]" in refused(
        tmp_path, model, engine, "-o", out, "--inputs", tmp_path / "x.npy"
    )
    assert "is a directory" in refused(tmp_path, model, engine, "-o", tmp_path)
    assert "there is no folder" in refused(tmp_path, model, engine, "-o", tmp_path / "no" / "c")
    assert "there is no folder" in refused(
        tmp_path, model, engine, "-o", out, "--run-results", tmp_path / "no" / "r"
    )
    contradiction = refused(
        tmp_path, model, engine, "-o", out, "--inputs", tmp_path / "x.npy", "--shapes", "min"
    )
    assert "contradict" in contradiction
    layers = {"schema": "graphkit.layers/1", "kernels": [], "onnx": {"sha256": "ab" * 32}}
    (tmp_path / "m.layers.json").write_text(json.dumps(layers))
    (tmp_path / "m.engine").write_bytes(engine.read_bytes())
    assert "was built from another ONNX file" in refused(tmp_path, model, tmp_path / "m.engine", "-o", out)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (["x"], "write NAME=1x3x640x640"),
        (["x=1xa"], "write NAME=1x3x640x640"),
        (["min,middle"], "write NAME=1x3x640x640"),
        (["x=1x4", "max"], "contradict each other"),
    ],
)
def test_shapes_that_are_none(shapes: list[str], says: str) -> None:
    options = [part for text in shapes for part in ("--shapes", text)]
    assert says in run("m.onnx", "m.engine", "-o", "c", *options, code=2).stderr


@pytest.fixture
def simulated(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine(IO, kernels, (PROFILE,))
    monkeypatch.setattr(module, "device", host_device)
    monkeypatch.setattr(module.Job, "_open", lambda self, log: engine)
    return engine


def test_what_it_says_and_writes(built: tuple[Path, Path], simulated: Engine, tmp_path: Path) -> None:
    from polygraphy.comparator import RunResults

    out, results = tmp_path / "c", tmp_path / "r.json"
    said = run(*built, "-o", out, "--shapes", "x=3x4", "--iterations", 2, "--run-results", results).stdout
    assert (
        said.startswith(f"{out}: 2 runs, 6 tensors between kernels, 2 outputs, 0.0 MB")
        and said.count("\n") == 1
    )
    found = Capture.load(out)
    assert [r.shapes for r in found.runs] == [{"x": (3, 4)}] * 2 and found.meta["options"]["iterations"] == 2
    ((_, iterations),) = RunResults.load(str(results))
    assert len(iterations) == 2 and {"h", "state", "state#2", "y"} <= set(iterations[0])
    assert run(*built, "-o", out, "--shapes", "min,max", "-q", "--compress").stdout == ""
    assert [r.label for r in Capture.load(out).runs] == ["min", "max"]


def test_an_engine_without_marks_says_how_to_get_more(
    built: tuple[Path, Path], simulated: Engine, tmp_path: Path
) -> None:
    simulated.kernels = lambda feed: (v for v in kernels(feed) if v[0] in IO)
    said = run(*built, "-o", tmp_path / "c").stdout
    assert "build it with graphkit build, without --plain" in said
