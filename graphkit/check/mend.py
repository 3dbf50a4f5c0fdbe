"""Which pass mends what TensorRT refuses: each is tried on the part that fails, and TensorRT asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphkit.errors import GraphkitError

if TYPE_CHECKING:
    from pathlib import Path

    from graphkit.check.subgraph import Parts
    from graphkit.run.trt import Trt

__all__ = ["mends"]

_MOST = 8  # kinds of complaint of one model
_STEPS = (0, 1, 3, 7)  # how far back from the node a part reaches
_LARGEST = 64 << 20  # bytes of a part that is worth trying


def mends(
    trt: Trt, path: Path, complaints: Sequence[Mapping[str, Any]], scratch: Path
) -> Iterator[tuple[int, str]]:
    """(number of the complaint, spec of the pass) for those that some pass mends.

    A complaint is the finding that was made of it, as JSON. The parser alone is asked: what fails in the
    builder has no part that is sure to fail in the same way.
    """
    from graphkit.check.subgraph import Parts

    wanted = [
        (i, c) for i, c in enumerate(complaints) if not c["fix"] and c["rule"] == "parser" and c["node"]
    ]
    if not wanted:
        return
    parts, known = Parts(path), dict[tuple[str, str], str]()
    for number, complaint in wanted:
        kind = complaint["op"], complaint["message"]
        if kind not in known and len(known) < _MOST:
            known[kind] = _found(trt, parts, complaint, scratch)
        if known.get(kind):
            yield number, known[kind]


def _found(trt: Trt, parts: Parts, complaint: Mapping[str, Any], scratch: Path) -> str:
    """The first pass that makes the part with the node one that the parser takes; empty when none does."""
    number = parts.find(complaint["node"], complaint["op"])
    if number is None:
        return ""
    tried: set[int] = set()
    for steps in _STEPS:
        some = parts.before(number, steps)
        data = parts.model(some) if len(some) not in tried else None
        tried.add(len(some))
        if data is None or len(data) > _LARGEST or _parses(trt, data, scratch):
            continue
        for spec in _candidates(trt):
            if _mended(trt, data, spec, scratch):
                return spec
    return ""


def _candidates(trt: Trt) -> Iterator[str]:
    """The passes that mend for TensorRT, as far as they need no word of the user."""
    from graphkit.rewrite.options import MISSING, default_of
    from graphkit.rewrite.registry import installed

    for name, one in installed().items():
        try:
            cls = one.load()
        except GraphkitError:
            continue
        if cls.group == "mend" and not any(default_of(f) is MISSING for f in cls.options()):
            yield f"decompose:target={trt.target}" if name == "decompose" else name


def _mended(trt: Trt, data: bytes, spec: str, scratch: Path) -> bool:
    from graphkit.model.file import ModelFile
    from graphkit.model.model import Model
    from graphkit.rewrite.registry import load_pass

    model = Model.from_file(ModelFile.from_bytes(data))
    try:
        report = load_pass(spec).run(model)
        changed = b"".join(model.export()) if report.rewrites and model.bridge is None else b""
    except GraphkitError:
        return False
    return bool(changed) and _parses(trt, changed, scratch)


def _parses(trt: Trt, data: bytes, scratch: Path) -> bool:
    from graphkit.run.compile import parse, quiet
    from graphkit.run.source import Source
    from graphkit.run.trt import collect

    scratch.write_bytes(data)
    try:
        source = Source.load(scratch)
    except GraphkitError:
        return False
    with collect(), quiet():
        return not parse(trt, source, marked=False)[1]
