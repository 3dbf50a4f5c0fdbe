"""The benchmarks' model generator and harness: what they write is valid, what they measure is what ran."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SMALL = ["--layers", "2", "--hidden", "64", "--vocab", "128", "--ffn", "96"]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_harness")


def make(out: Path, *options: str) -> dict[str, int]:
    command = [sys.executable, str(BENCHMARKS / "make_transformer.py"), str(out), *SMALL, *options]
    written: dict[str, int] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return written


def logits(model: Path, tokens: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    mask = np.ones_like(tokens) if mask is None else mask
    found: np.ndarray = session.run(["logits"], {"input_ids": tokens, "attention_mask": mask})[0]
    return found


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transformer") / "small.onnx"
    make(path)
    return path


def test_transformer_is_valid_and_runs_with_any_number_of_tokens(transformer: Path) -> None:
    onnx.checker.check_model(str(transformer), full_check=True)
    for shape in (1, 3), (2, 7):
        tokens = np.random.default_rng(0).integers(0, 128, shape)
        found = logits(transformer, tokens)
        assert found.shape == (*shape, 128)
        assert np.isfinite(found).all() and found.std() > 0.01


def test_transformer_is_causal_and_minds_its_mask(transformer: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 128, (1, 6))
    whole = logits(transformer, tokens)
    np.testing.assert_allclose(whole[:, :4], logits(transformer, tokens[:, :4]), rtol=1e-3, atol=1e-5)
    without_first = logits(transformer, tokens, np.array([[0, 1, 1, 1, 1, 1]]))
    assert np.abs(whole[:, -1] - without_first[:, -1]).max() > 1e-4


def test_transformer_keeps_its_weights_in_one_file(transformer: Path) -> None:
    model = onnx.load(transformer, load_external_data=False)
    entries = [{e.key: e.value for e in t.external_data} for t in model.graph.initializer if t.external_data]
    assert {entry["location"] for entry in entries} == {"small.onnx.data"}
    spans = sorted((int(entry["offset"]), int(entry["length"])) for entry in entries)
    assert all(a + size <= b for (a, size), (b, _) in zip(spans, spans[1:], strict=False))
    assert sum(spans[-1]) <= transformer.with_name("small.onnx.data").stat().st_size


def test_each_layer_has_a_silu_and_the_spelling_is_an_option(transformer: Path, tmp_path: Path) -> None:
    swish = tmp_path / "swish.onnx"
    make(swish, "--silu", "swish")
    ops = [
        [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
        for path in (transformer, swish)
    ]
    assert (ops[0].count("Sigmoid"), ops[0].count("Swish")) == (2, 0)
    assert (ops[1].count("Sigmoid"), ops[1].count("Swish")) == (0, 2)
    tokens = np.arange(5)[None]
    np.testing.assert_allclose(logits(transformer, tokens), logits(swish, tokens), rtol=1e-3, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        make(tmp_path / "bad.onnx", "--heads", "3")
    assert b"must be an even number" in failure.value.stderr
    assert not list(tmp_path.iterdir())


def test_harness_measures_time_memory_and_what_a_command_reports(harness: ModuleType) -> None:
    report = '@report {"seconds": 0.5, "imports": 0}'
    code = f"import time; x = b'1' * (80 << 20); time.sleep(0.2); print({report!r})"
    sample = harness.measure([sys.executable, "-c", code])
    assert 0.2 <= sample["wall"] < 20
    assert 80e6 < sample["peak"] < 130e6
    assert sample["seconds"] == 0.5 and "error" not in sample


def test_harness_does_not_count_its_own_memory(harness: ModuleType) -> None:
    ballast = np.ones(120 << 20, np.uint8)
    assert harness.measure([sys.executable, "-c", "pass"])["peak"] < ballast.nbytes / 2


def test_harness_keeps_the_reason_of_a_failure(harness: ModuleType, tmp_path: Path) -> None:
    bad = harness.Contender("bad", [sys.executable, "-c", "raise ValueError('no such layer')"])
    results = harness.run_all([bad], 2, lambda contender: {"out": tmp_path / "out"})
    assert results["bad"]["failed"] == "ValueError: no such layer"
    slow = harness.measure([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.5)
    assert slow["error"] == "no result in 0.5 s"


def test_harness_gives_medians_and_removes_what_was_written(harness: ModuleType, tmp_path: Path) -> None:
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
    writer = harness.Contender("writer", [sys.executable, "-c", code, "{out}"], "writes")
    files = {"out": tmp_path / "out"}
    found = harness.run_all([writer], 3, lambda c: files, lambda c, f: {"bytes": f["out"].stat().st_size})
    assert found["writer"]["bytes"] == 1 and found["writer"]["note"] == "writes"
    assert len(found["writer"]["wall_s_runs"]) == 3
    assert not list(tmp_path.iterdir())


def test_results_name_no_path_of_this_machine(harness: ModuleType, tmp_path: Path) -> None:
    path = importlib.import_module("_results").save("trivial", {"results": {}}, tmp_path)
    text = path.read_text()
    assert json.loads(text)["environment"]["versions"]["onnx"] == onnx.__version__
    assert str(Path.home()) not in text or Path.home() == Path("/")
    assert harness.neutral("in /opt/some/place/model.onnx: bad") == "in <path>/model.onnx: bad"
