"""A rewrite without a pass writes the bytes that it read: ONNX's own models, real ones, every odd feature."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from graphkit import rewrite
from graphkit.cli import main
from graphkit.errors import GraphkitError
from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from tests import corpus, one_feature
from tests.features.base import Feature

FEATURES = one_feature.features()
WITH_DATA = [feature for feature in FEATURES if feature.files]


def exported(model: Model) -> bytes:
    """The bytes that ``model`` would be saved as."""
    return b"".join(model.export())


def report(failures: Iterable[str]) -> None:
    """Fail with every model that went wrong, not only the first."""
    listed = list(failures)
    assert not listed, f"{len(listed)} models:\n" + "\n".join(listed[:40])


def in_memory(name: str, data: bytes, folder: Path | None = None) -> str | None:
    """What went wrong for one model, if anything did."""
    try:
        model = Model.from_file(ModelFile.from_bytes(data, folder))
        for scope in model.scopes():
            scope.counts()
        return None if exported(model) == data else f"{name}: other bytes"
    except GraphkitError as error:
        return f"{name}: refused: {error}"
    except Exception as error:  # a corpus test says which model it was
        return f"{name}: {type(error).__name__}: {error}"


def on_disk(path: Path, out: Path, through: str = "api") -> str | None:
    """The same through files: what is written, by the public function or by the command."""
    if through == "api":
        try:
            rewrite(path, output=out)
        except GraphkitError as error:
            return f"{path}: refused: {error}"
    else:
        result = CliRunner().invoke(main, ["rewrite", str(path), "-o", str(out)])
        if result.exit_code or result.exception:
            return f"{path}: exit {result.exit_code}: {result.output}{result.exception!r}"
    return None if out.read_bytes() == path.read_bytes() else f"{path}: other bytes"


def test_features_are_many_and_distinct() -> None:
    ids = [feature.id for feature in FEATURES]
    assert len(ids) == len(set(ids)) >= 900


def test_features_are_what_they_claim(tmp_path: Path) -> None:
    """Those that say so are valid models: a suite of broken files would prove little."""
    wrong = []
    for feature in FEATURES:
        try:
            if feature.checked:
                onnx.checker.check_model(feature.data)
            else:
                onnx.ModelProto.FromString(feature.data)
        except Exception as error:  # any, to name the feature
            wrong.append(f"{feature.id}: {error}")
    report(wrong)
    assert sum(feature.checked for feature in FEATURES) >= 350


def test_node_tests() -> None:
    cases = corpus.node_tests()
    assert len(cases) >= 1700
    report(filter(None, (in_memory(name, data) for name, data in cases)))


def test_one_feature_models_in_memory(tmp_path: Path) -> None:
    failures = []
    for feature in FEATURES:
        if feature.files:
            feature.write(tmp_path)
        failures.append(in_memory(feature.id, feature.data, tmp_path))
    report(filter(None, failures))


def test_wheel_models(tmp_path: Path) -> None:
    models = corpus.wheel_models()
    assert len(models) >= 140
    report(filter(None, (in_memory(str(path), path.read_bytes()) for path in models)))
    report(filter(None, (on_disk(path, tmp_path / "out.onnx") for path in models[::10])))


@pytest.mark.parametrize("name", corpus.PACKAGES)
def test_package_models(name: str, tmp_path: Path) -> None:
    report(filter(None, (on_disk(path, tmp_path / "out.onnx") for path in corpus.package_models(name))))


def test_shared_models(tmp_path: Path) -> None:
    report(filter(None, (on_disk(path, tmp_path / "out.onnx", "cli") for path in corpus.shared_models())))


def sample() -> list[Feature]:
    """One feature of each kind, and every fifteenth."""
    first = {feature.id.partition("/")[0]: feature for feature in FEATURES}
    return list({feature.id: feature for feature in (*first.values(), *FEATURES[::15])}.values())


@pytest.mark.parametrize("through", ["api", "cli"])
def test_one_feature_models_on_disk(through: str, tmp_path: Path) -> None:
    failures = []
    for number, feature in enumerate(sample()):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = feature.write(folder)
        failures.append(on_disk(path, folder / "out.onnx", through))
        failures[-1] = failures[-1] and f"{feature.id}: {failures[-1]}"
    report(filter(None, failures))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("feature", WITH_DATA, ids=lambda feature: feature.id)
def test_external_data_goes_along(feature: Feature, tmp_path: Path) -> None:
    """Beside its source the output shares the data files; elsewhere it gets copies of them."""
    source, elsewhere = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    elsewhere.mkdir()
    path = feature.write(source)
    before = snapshot(source)
    rewrite(path, output=source / "beside.onnx")
    assert snapshot(source) == before | {"beside.onnx": feature.data}
    rewrite(path, output=elsewhere / "model.onnx")
    assert snapshot(elsewhere) == before
    shutil.rmtree(source)
    assert exported(Model.load(elsewhere / "model.onnx")) == feature.data


def test_data_is_found_beside_the_model_and_not_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = one_feature.by_id("external_data/one")
    (tmp_path / "model").mkdir()
    (tmp_path / "decoy").mkdir()
    feature.write(tmp_path / "model")
    (tmp_path / "decoy" / "weights.bin").write_bytes(b"\xff" * 16384)
    monkeypatch.chdir(tmp_path / "decoy")
    model = Model.load(os.path.join("..", "model", "model.onnx"))
    weight = next(t for node in model.main.nodes for t in node.inputs if t.name == "w")
    value = model.main.value(weight)
    assert value is not None and value.tobytes() == feature.files["weights.bin"][:16]
    assert exported(model) == feature.data


def test_in_place(tmp_path: Path) -> None:
    """IN may be OUT."""
    for name in ("external_data/subfolder", "order_of_fields/everything"):
        path = one_feature.by_id(name).write(tmp_path)
        before = snapshot(tmp_path)
        rewrite(path, output=path)
        assert snapshot(tmp_path) == before
        path.unlink()


def test_text_keeps_its_layout(tmp_path: Path) -> None:
    text = '# a comment\n<ir_version: 10,   opset_import: ["" : 21]>\n'
    text += "g (float[N] x) => (float[N] y)\n{ y = Relu(x) }\n\n"
    (tmp_path / "in.onnxtxt").write_text(text)
    assert on_disk(tmp_path / "in.onnxtxt", tmp_path / "out.onnxtxt") is None


def test_reading_values_is_not_editing() -> None:
    """Looking at every constant, shape, type, producer and consumer leaves the model as it was."""
    failures = []
    for feature in FEATURES:
        if feature.files or feature.id.startswith("odd_tensor/"):
            continue
        model = Model.from_file(ModelFile.from_bytes(feature.data))
        for scope in model.scopes():
            for node in scope.nodes:
                for tensor in (*node.inputs, *node.outputs):
                    scope.value(tensor), scope.shape(tensor), scope.dtype(tensor)
                    scope.producer(tensor), scope.consumers(tensor), scope.is_output(tensor)
        if exported(model) != feature.data:
            failures.append(feature.id)
    report(failures)


def test_protos_in_and_out() -> None:
    for feature in sample():
        if not feature.files:
            assert Model.from_proto(feature.proto).to_proto() == feature.proto, feature.id
