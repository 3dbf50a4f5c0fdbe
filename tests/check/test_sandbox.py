"""Models that crash, hang or flood what looks at them cost their own verdicts, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import graphkit
from graphkit.check import registry
from tests.rewrite.test_registry import install_distribution

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")

# Stands for a parser that does what the name of the model's graph says.
TROUBLE = """
import os
import signal
import time

from graphkit import Rule


class Trouble(Rule):
    "Crashes, hangs, or takes memory."

    name = "trouble"

    def check(self, subject):
        what = subject.graph.gs.name
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "hang":
            time.sleep(600)
        if what == "flood":
            kept = []
            while True:
                kept.append(bytearray(b"x" * (16 << 20)))
        if what == "raise":
            raise ValueError("no luck")
        if what == "leave":
            os._exit(3)
        return []
"""
NAMES = ("fine", "crash", "hang", "flood", "raise", "leave", "fine")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    site = tmp_path / "site"
    install_distribution(site, "trouble_rules", {"trouble": TROUBLE}, group="graphkit.rules")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    registry.installed.cache_clear()
    paths = []
    for number, name in enumerate(NAMES):
        text = (
            f'<ir_version: 10, opset_import: ["": 20]> {name} (float[2] x) => (float[2] y) {{ y = Relu (x) }}'
        )
        paths.append(tmp_path / f"{number}-{name}.onnx")
        onnx.save(onnx.parser.parse_model(text), paths[-1])
    return paths


def test_each_costs_its_own_verdict(models: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    report = graphkit.check(
        models,
        targets=["sm89", "sm120"],
        timeout=3,
        memory=1 << 30,
        jobs=2,
        progress=lambda stage, done, total: seen.append((done, total)),
    )
    registry.installed.cache_clear()
    assert [Path(m.path).stem.partition("-")[2] for m in report.models] == list(NAMES)
    said = {
        Path(m.path).stem.partition("-")[2]: [(f.rule, f.message) for f in m.findings] for m in report.models
    }
    assert said["fine"] == []
    assert said["crash"] == [("crashed", "the rules crashed (signal 11)")]
    assert said["hang"] == [("crashed", "the rules took longer than 3 s; --timeout allows more")]
    assert said["flood"] == [("crashed", "the rules took more than 1024 MiB of memory; --memory allows more")]
    assert said["leave"] == [("crashed", "the rules crashed (exit 3)")]
    ((rule, message),) = said["raise"]
    assert rule == "rule-failed" and "no luck" in message
    # the parser and the builder were asked all the same
    assert all(m.verdicts == {"sm89": "ok", "sm120": "ok"} for m in report.models)
    assert not report.ok
    assert seen[0] == (0, len(NAMES)) and seen[-1] == (len(NAMES), len(NAMES))


def test_what_is_no_model_is_a_finding(tmp_path: Path, models: list[Path]) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"\x0a\xff\xff")
    report = graphkit.check([tmp_path / "odd.onnx", models[0]], targets=["8.9"])
    registry.installed.cache_clear()
    odd, fine = report.models
    assert [f.rule for f in odd.findings] == ["unreadable"] and odd.verdicts == {"sm89": "fails-parse"}
    assert fine.verdicts == {"sm89": "ok"}
