"""Every fixture of every rule: what it has to find, and where it has to find nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from graphkit.check import registry
from graphkit.check.subject import Subject
from graphkit.model.model import Model
from graphkit.rewrite import registry as passes

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "rules"
BUILTIN = [n for n, one in registry.installed().items() if one.module.startswith("graphkit.check.rules.")]


@dataclass(frozen=True)
class Case:
    """One fixture: the model, what is to be found, and what it is to be built with."""

    path: Path
    finds: tuple[str, ...]
    runtime: str
    targets: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def subject(self) -> Subject:
        text = "\n".join(line for line in self.path.read_text().splitlines() if not line.startswith("#"))
        name, _, version = self.runtime.partition(" ")
        numbers = tuple(int(n) for n in version.split(".") if n)
        model = Model.from_proto(onnx.parser.parse_model(text))
        return Subject(model, self.targets, name, numbers)


def read(path: Path) -> Case:
    told: dict[str, list[str]] = {"rule": [], "finds": [], "runtime": [], "targets": []}
    for line in path.read_text().splitlines():
        key, colon, value = line.removeprefix("# ").partition(":")
        if line.startswith("# ") and colon:
            told[key].append(value.strip())
    assert told["rule"] == [path.parent.name]
    return Case(path, tuple(told["finds"]), "".join(told["runtime"]), tuple("".join(told["targets"]).split()))


CASES = [read(path) for path in sorted(FIXTURES.rglob("*.onnxtxt"))]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fixture(case: Case) -> None:
    rule = registry.installed()[case.path.parent.name].load().from_spec("")
    subject = case.subject()
    before = b"".join(subject.model.export())
    found = list(rule.check(subject))
    said = [f"{f.where}: {f.message}" for f in found]
    assert len(said) == len(case.finds), said
    for wanted, message in zip(case.finds, said, strict=True):
        assert wanted in message
    assert all(f.rule == rule.name and f.severity in ("error", "warning", "note") for f in found)
    assert b"".join(subject.model.export()) == before, "a rule changes nothing"
    for finding in found:
        if finding.fix:
            passes.load_pass(finding.fix)  # there is such a pass, and it has these options


@pytest.mark.parametrize("name", BUILTIN)
def test_every_rule_finds_once_and_is_silent_once(name: str) -> None:
    own = [c for c in CASES if c.path.parent.name == name]
    assert any(c.finds for c in own), "no fixture in which it finds something"
    assert any(not c.finds for c in own), "no fixture in which it finds nothing"


def test_every_fixture_belongs_to_a_rule() -> None:
    assert {c.path.parent.name for c in CASES} == set(BUILTIN)
