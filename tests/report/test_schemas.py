"""The schema of layer maps is what layer maps are; both schemas travel with the package."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from graphkit.engine.layers import EngineTensor, Kernel, LayerMap, load_all, to_bytes
from tests.report.diff_reports import complaints

TENSOR = EngineTensor("__mye1", (1, -1, 3), "float16")
KERNELS = (
    Kernel("__myl_a", "fusion", ("conv0", "sig0"), (TENSOR,), (TENSOR,), (TENSOR,), "0x1", 1),
    Kernel("signal", "signal", (), (), ()),
)


@pytest.mark.parametrize("maps", [1, 2])
def test_layer_maps_are_what_the_schema_says(maps: int, tmp_path: Path) -> None:
    layers = [LayerMap(KERNELS, "log", {"trt": {"version": "1.4"}, "options": ["--tf32"]})] * maps
    (tmp_path / "m.layers.json").write_bytes(to_bytes(layers))
    tree = json.loads((tmp_path / "m.layers.json").read_bytes())
    assert complaints(tree, "layers-1") == []
    assert load_all(tmp_path / "m.layers.json") == layers


def test_the_schema_sees_what_is_wrong() -> None:
    tree = LayerMap(KERNELS).to_json()
    tree["kernels"][0]["outputs"][0]["dims"] = ["?"]
    del tree["kernels"][1]["onnx_nodes"]
    tree["schema"] = "graphkit.layers/2"
    assert len(complaints(tree, "layers-1")) == 3


@pytest.mark.parametrize("name", ["diff-1", "layers-1"])
def test_schemas_are_in_the_package(name: str) -> None:
    tree = json.loads((resources.files("graphkit.report") / "schemas" / f"{name}.json").read_text("utf-8"))
    assert tree["title"].replace("graphkit.", "").replace("/", "-") == name
