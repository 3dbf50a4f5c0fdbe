"""Planted faults: the kernel that has one is accused, and no other, whatever follows from it.

Simulated ones spoil one kernel of a recorded engine, computed again in the engine's precision; recorded ones
come from engines whose weights were spoilt before they were built.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fixtures.engines.make_models import plant
from graphkit.compare.engines import RunResult, analyse
from graphkit.compare.flat import Flattener
from graphkit.engine.boundary import Boundary
from graphkit.run.capture_file import Capture
from tests.compare.planting import FAULTS
from tests.compare.recorded import HEALTHY, MODELS, NAMES, PLANTED, planted, recorded, simulated

CAUSES = {
    "gain": {"scale"},
    "swap": {"layout"},
    "nan": {"NaN origin", "float16 overflow"},
    "overflow": {"overflow", "float16 overflow"},
}


def accused(result: RunResult) -> set[str]:
    return {layer.kernel for layer in result.layers if not layer.ok}


def victims(name: str, fault: str, count: int) -> list[Boundary]:
    """So many kernels of a recorded engine, spread over it from the first to the last."""
    found = simulated(name).candidates(FAULTS[fault])
    places = np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))
    return [found[place] for place in places]


def hard(name: str, fault: str, victim: Boundary) -> bool:
    """Two channels swapped in one of the outputs of a kernel that has several (a residual and its LayerNorm).

    Everything after it changes so much that further kernels can be accused besides; it is still the first.
    """
    return fault == "swap" and len(recorded(name).kernels[victim.kernel or 0].outputs) > 1


def check(name: str, fault: str, victim: Boundary) -> None:
    spoilt = simulated(name).spoil(victim, FAULTS[fault])
    found = recorded(name).analysed(spoilt, reference=simulated(name).reference)
    kernel = recorded(name).kernels[victim.kernel or 0].name
    said = [(layer.kernel, layer.share, layer.cause) for layer in found.layers if not layer.ok]
    bad = found.first_bad
    assert bad is not None, f"{fault} in {kernel}: nothing was found"
    if hard(name, fault, victim):
        assert bad.kernel == kernel, f"{fault} in {kernel}: {said}"
        return
    assert len(accused(found)) == 1 and kernel in bad.region, f"{fault} in {kernel}: {said}"
    if bad.tensor == victim.name:
        assert bad.cause in CAUSES[fault], said


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_simulated_fault_is_found_in_its_kernel(name: str, fault: str) -> None:
    found = victims(name, fault, 3)
    assert len(found) >= (1 if name == "lstm" else 2)
    for victim in found:
        check(name, fault, victim)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", HEALTHY)
def test_a_simulated_fault_is_found_in_every_kernel(name: str, fault: str) -> None:
    for victim in victims(name, fault, 40):
        check(name, fault, victim)


@pytest.mark.parametrize("name", NAMES)
def test_a_simulated_engine_without_a_fault_is_healthy(name: str) -> None:
    found = recorded(name).analysed(simulated(name).spoil(None))
    assert accused(found) == set()


def recordings() -> Iterator[Any]:
    for entry in planted():
        yield pytest.param(entry, id=f"{entry['model']}-{entry['fault']}-{entry['node']}")


def test_faults_of_every_kind_were_recorded_in_five_models() -> None:
    found = planted()
    assert {e["fault"] for e in found} == set(FAULTS)
    assert len({e["model"] for e in found}) >= 5
    assert {p.name for p in PLANTED.glob("*.capture")} == {e["file"] for e in found}


@pytest.mark.parametrize("entry", list(recordings()))
def test_a_recorded_fault_is_found_in_its_kernel(entry: dict[str, str], tmp_path: Path) -> None:
    capture = Capture.load(PLANTED / entry["file"])
    assert capture.layers is not None
    model = MODELS / f"{entry['model']}.onnx"
    if entry["fault"] == "overflow":  # of the engine, whose float16 ends where the reference's fp32 does not
        spoilt = plant(onnx.load(model), entry["node"], "overflow")
        model = tmp_path / "spoilt.onnx"
        onnx.save(spoilt, model)
    (run,) = capture.runs
    flat = Flattener(model).flat({n: a.read() for n, a in run.inputs.items()})
    found = analyse(flat, run, capture.layers.kernels, tf32=True)
    bad = found.first_bad
    said = [
        (layer.kernel, layer.onnx_nodes, layer.share, layer.cause) for layer in found.layers if not layer.ok
    ]
    assert bad is not None and len(accused(found)) == 1, said
    of = {k.name: k.onnx_nodes for k in capture.layers.kernels}
    assert any(entry["node"] in of[kernel] for kernel in bad.region), said
