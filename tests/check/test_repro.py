"""``--repro``: the smallest part of a model that is still refused in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import graphkit
from graphkit.check import registry
from graphkit.check.repro import minimal
from graphkit.check.subgraph import Parts
from tests.check.checking import DETECTOR, hopeless, save
from tests.check.test_check_cli import old, rtx
from tests.rewrite.test_registry import install_distribution


@pytest.mark.parametrize(("total", "wanted"), [(1, {0}), (40, {17}), (40, {3, 4, 31}), (9, set(range(9)))])
def test_minimal_leaves_what_is_needed_and_no_more(total: int, wanted: set[int]) -> None:
    asked: list[Sequence[int]] = []

    def fails(some: Sequence[int]) -> bool:
        asked.append(some)
        return wanted <= set(some)

    assert set(minimal(range(total), fails)) == wanted
    assert len(asked) < 120
    assert minimal(range(total), fails, lambda: True) == list(range(total))  # no time: what there is


@old
def test_of_a_detector_one_node_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "repros"
    report = graphkit.check(DETECTOR, repro=folder, ignore=["missing-nms"])
    (path,) = folder.iterdir()
    assert path.name == "detector-Swish.onnx"
    assert {f.repro for f in report.findings} == {str(path)} and len(report.findings) == 57
    part = onnx.load(path)
    onnx.checker.check_model(part, full_check=True)
    assert [n.op_type for n in part.graph.node] == ["Swish"]
    (again,) = graphkit.check(path).models
    assert again.verdict == "fails-parse" and again.findings[0].message == report.findings[0].message
    graphkit.check(DETECTOR, repro=folder)
    assert {p.name for p in folder.iterdir()} == {"detector-Swish.onnx", "detector-Swish-2.onnx"}


@old
def test_of_what_the_builder_refuses(tmp_path: Path) -> None:
    body = """g (float[2,4,24] q, float[2,6,24] k, float[2,6,24] v) => (float[2,4,24] y) {
        a = Relu (q)
        b = Neg (a)
        c = Attention <kv_num_heads: int = 3, q_num_heads: int = 3> (b, k, v)
        y = Sigmoid (c)
    }"""
    report = graphkit.check(save(tmp_path / "m.onnx", body, opset=23), repro=tmp_path / "r")
    (failed,) = (f for f in report.findings if f.rule == "builder")
    assert report.models[0].verdict == "fails-build"
    part = onnx.load(failed.repro)
    onnx.checker.check_model(part)
    assert [n.op_type for n in part.graph.node] == ["Attention"]
    (again,) = graphkit.check(failed.repro).models
    assert again.verdict == "fails-build"


@rtx
def test_a_model_that_is_fine_or_none_has_no_repro(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"\x0a\xff")
    fine = save(tmp_path / "fine.onnx", "g (float[2] x) => (float[2] y) { y = Relu (x) }")
    graphkit.check([tmp_path / "odd.onnx", fine], repro=tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []


@rtx
def test_data_files_and_subgraphs_are_taken_along(tmp_path: Path) -> None:
    body = """g (bool c, float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> {
        a = Mul (x, w)
        b = If (c) <
            then_branch = t () => (float[2] p) { p = acme.Magic (a) },
            else_branch = e () => (float[2] q) { q = Neg (w) }
        >
        y = Relu (b)
    }"""
    model = onnx.load(save(tmp_path / "in.onnx", body, domain="acme"))
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight), weight.name))
    path = tmp_path / "large.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    parts = Parts(path)
    number = parts.find("b", "If")
    assert number is not None
    data = parts.model([number])
    assert data is not None
    graph = onnx.load_from_string(data).graph
    assert {i.name for i in graph.input} == {"c", "a"} and [t.name for t in graph.initializer] == ["w"]
    assert not graph.initializer[0].external_data and len(graph.initializer[0].raw_data) == 8
    assert parts.find("nobody", "If") is None


CRASH = """
import os
import signal
from graphkit import Rule
import graphkit.run.judge as judge

real = judge.judge


def crashing(trt, source, *rest):
    if any(n.op == "Neg" for n in source.model.main.nodes):
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from real(trt, source, *rest)


judge.judge = crashing


class Planted(Rule):
    "Stands for a parser that crashes on Neg."

    name = "planted"

    def check(self, subject):
        return []
"""


@rtx
def test_of_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_distribution(tmp_path / "site", "crash_rules", {"planted": CRASH}, group="graphkit.rules")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    body = "g (float[2] x) => (float[2] y) { a = Relu (x)  b = Sin (a)  c = Neg (b)  y = Cos (c) }"
    try:
        registry.installed.cache_clear()
        report = graphkit.check(save(tmp_path / "m.onnx", body), repro=tmp_path / "r")
    finally:
        registry.installed.cache_clear()
    (finding,) = report.findings
    assert (finding.rule, finding.message) == ("crashed", "the parser crashed (signal 11)")
    assert report.models[0].verdict == "crashed"
    assert finding.repro == str(tmp_path / "r" / "m-crashed.onnx")
    assert [n.op_type for n in onnx.load(finding.repro).graph.node] == ["Neg"]


@rtx
def test_what_no_pass_mends_still_has_one(tmp_path: Path) -> None:
    report = graphkit.check(hopeless(tmp_path / "m.onnx"), repro=tmp_path / "r")
    told = [f for f in report.findings if f.rule == "parser"]
    assert told and all(f.fix == "" and Path(f.repro).name == "m-Magic.onnx" for f in told)
