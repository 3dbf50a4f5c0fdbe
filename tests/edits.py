"""Making one edit in many models, and finding what it changed on the wire."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from tests import corpus, one_feature, wiretools
from tests.features.base import Feature

MODEL = onnx.ModelProto.DESCRIPTOR
NAME = "an edited name"
FEATURES = [feature for feature in one_feature.features() if feature.proto.HasField("graph")]


class Changed(Exception):
    """More than the edit changed, or less."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Changed(what)


@dataclass(frozen=True)
class Subject:
    """A model to edit: opened afresh for each edit."""

    name: str
    data: bytes
    folder: Path | None = None

    def open(self) -> Model:
        return Model.from_file(ModelFile.from_bytes(self.data, self.folder))


def exported(model: Model) -> bytes:
    return b"".join(model.export())


def the_one(before: bytes, after: bytes, kind: str) -> tuple[wiretools.Step, ...]:
    """The path of the only message of type ``kind`` that differs; Changed when anything else does."""
    found = wiretools.differences(before, after, MODEL)
    require(found, "the edit is not in the file")
    paths = {difference.innermost(kind) for difference in found}
    outside = [d.path for d in found if not d.innermost(kind)]
    require(not outside, f"changed outside of any {kind}: {outside[:3]}")
    require(len(paths) == 1, f"{len(paths)} messages of type {kind} changed")
    return paths.pop()


def places(subject: Subject, rng: random.Random, most: int) -> list[tuple[int, int]]:
    """Scope and ordinal of up to ``most`` nodes; where there are more, of a few of each kind of scope."""
    model = subject.open()
    everything = [(s, n) for s, scope in enumerate(model.scopes()) for n in range(len(scope.nodes))]
    if len(everything) <= most:
        return everything
    kinds: dict[str, list[tuple[int, int]]] = {}
    for scope, ordinal in everything:
        one = model.scopes()[scope]
        kinds.setdefault(
            "function" if one.label.startswith("function") else str(one.parent is None), []
        ).append((scope, ordinal))
    return [rng.choice(kind) for kind in kinds.values()]


def sweep(subjects: Iterable[Subject], edit: Callable[[Subject, random.Random], None]) -> None:
    """Run ``edit`` over all models; fail with every one that went wrong."""
    failures = []
    for subject in subjects:
        try:
            edit(subject, random.Random(subject.name))
        except Exception as error:  # any, to name the model
            failures.append(f"{subject.name}: {type(error).__name__}: {str(error)[:200]}")
    assert not failures, f"{len(failures)} models:\n" + "\n".join(failures[:40])


def in_pieces(feature: Feature) -> bool:
    """A graph in several pieces has to become one before anything in it can be edited."""
    return sum(field.number == 7 for field in wiretools.fields(feature.data)) > 1


def one_features(folder: Path, *without: str) -> Iterator[Subject]:
    """The one-feature models but those in pieces and those whose ids start so; data goes to ``folder``."""
    for number, feature in enumerate(FEATURES):
        if in_pieces(feature) or feature.id.startswith(without):
            continue
        if feature.files:
            (folder / str(number)).mkdir()
            feature.write(folder / str(number))
        yield Subject(feature.id, feature.data, folder / str(number))


def node_tests(step: int = 1) -> Iterator[Subject]:
    """Every ``step``-th of ONNX's node tests."""
    return (Subject(name, data) for name, data in corpus.node_tests()[::step])


def of_files(paths: Iterable[Path]) -> Iterator[Subject]:
    return (Subject(str(path), path.read_bytes(), path.parent) for path in paths)
