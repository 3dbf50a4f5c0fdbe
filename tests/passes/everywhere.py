"""What any pass owes on any model: an equivalent result or a refusal, no crash, and rest after one run.

Specs of passes that need the names of a model are made for it, from a seeded choice of its tensors.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphkit.errors import GraphkitError, PassFailed, RewriteRefused
from graphkit.model.file import ModelFile
from graphkit.model.model import Model
from graphkit.report.records import Verification
from graphkit.rewrite import registry
from graphkit.rewrite.stages import Stages, verify_one
from graphkit.rewrite.touched import Snapshot
from graphkit.rewrite.validity import invalid, unknown

BUILTIN = [n for n, one in registry.installed().items() if one.module.startswith("graphkit_passes.")]
OPPOSITES = {"silu": "fuse-silu", "decompose": "fuse-"}  # what one makes, the other takes apart
NUMBERS_DECIDE = ("set-batch", "unbake-batch")  # their pages say so: rows that mix are found by running
ODD = {
    **{
        (p, f"test_affine_grid_2d{n}_expanded"): "its Range is given a tensor of one dim"
        for p in ("fold-constants", "simplify")
        for n in ("", "_align_corners")
    },
    **{
        (
            p,
            "test_attention_4d_gqa_with_past_and_present_fp16",
        ): "ORT's float16 kernel is further from float64"
        for p in ("lower-opset:to=11", "decompose:target=rtx-1.7", "decompose:target=trt-8.6")
    },
    ("simplify", "light/light_inception_v2"): "its norm reads a tensor whose range is 3e-4",
}
"""What is left as it is, and why: what the proof refuses, and no pass can see."""
MEMORY = 2 << 30


@dataclass(frozen=True)
class Outcome:
    """One run: ``bad`` says what is wrong, and is empty when nothing is."""

    specs: tuple[str, ...]
    model: str
    fired: bool = False
    refused: bool = False
    bad: str = ""
    not_run: str = ""


def fresh(source: Path | bytes) -> Model:
    """The model, read anew."""
    if isinstance(source, Path):
        return Model.load(source)
    return Model.from_file(ModelFile.from_bytes(source))


def specs(name: str, model: Model, rng: random.Random) -> Iterator[str]:
    """How pass ``name`` may be asked for on this model; nothing where it does not fit."""
    main = model.main
    inner = [t.name for n in main.nodes for t in n.outputs if t.name and t.name.isidentifier()]
    ends = [t.name for t in main.outputs if t.name.isidentifier()]
    given = [t for t in main.inputs if t.name.isidentifier()]
    floats = [t.name for t in given if str(t.dtype) == "float32"]
    some = rng.choice(inner) if inner else ""
    match name:
        case "extract" if some:
            yield f"extract:outputs={some}"
        case "cut" if some:
            yield f"cut:after={some}"
        case "insert" if some:
            yield f"insert:on={some}"
        case "replace" if some:
            yield from _replacement(model, rng)
        case "set-dtype" if floats:
            yield f"set-dtype:{rng.choice(floats)}={rng.choice(['float16', 'uint8', 'float64'])}"
        case "add-output" if some:
            yield f"add-output:names={some}"
        case "remove-output" if len(ends) > 1:
            yield f"remove-output:names={rng.choice(ends)}"
        case "swap-layout" if [t for t in given if t.shape is not None and len(t.shape) == 4]:
            image = next(t for t in given if t.shape is not None and len(t.shape) == 4)
            yield f"swap-layout:{image.name}=nhwc"
        case "preprocess" if [t for t in given if t.shape is not None and len(t.shape) == 4]:
            yield "preprocess:scale=255,mean=0.5,std=0.25,layout=nhwc,dtype=uint8"
        case "set-batch" if given:
            yield f"set-batch:size={rng.choice(['2', '3', 'batch'])}"
        case "rename":
            yield "rename:pattern=^(?!p_),to=p_"
        case "fix-shapes":
            symbols = [d for t in given for d in t.shape or () if isinstance(d, str) and d.isidentifier()]
            yield f"fix-shapes:{rng.choice(symbols)}=2" if symbols else "fix-shapes"
        case "lower-opset":
            yield f"lower-opset:to={rng.choice([11, 13, 16, 17, 18])}"
        case "decompose":
            yield f"decompose:target={rng.choice(['rtx-1.4', 'rtx-1.7', 'trt-8.6'])}"
        case "append-nms":
            yield "append-nms:op=onnx"
        case "merge" | "extract" | "cut" | "insert" | "replace" | "set-dtype" | "add-output":
            return
        case "remove-output" | "swap-layout" | "preprocess" | "set-batch":
            return
        case _:
            yield name


def _replacement(model: Model, rng: random.Random) -> Iterator[str]:
    nodes = [n for n in model.main.nodes if len([t for t in n.outputs if t.name]) == 1]
    nodes = [n for n in nodes if all(t.name.isidentifier() for t in (*n.inputs, *n.outputs) if t.name)]
    if nodes:
        node = rng.choice(nodes)
        read = "+".join(
            dict.fromkeys(t.name for t in node.inputs if t.name and not model.main.is_constant(t))
        )
        if read:
            yield f"replace:inputs={read},outputs={node.outputs[0].name},op=Plugin,domain=test"


def seeded(*parts: str) -> random.Random:
    """A generator of random numbers that depends on nothing but these texts."""
    return random.Random(zlib.crc32("\0".join(parts).encode()))


def alone(name: str, label: str, source: Path | bytes) -> list[Outcome]:
    """Run one pass on one model, in every way that fits it."""
    try:
        model = fresh(source)
    except GraphkitError:
        return []
    return [checked([spec], label, source) for spec in specs(name, model, seeded(name, label))]


def pipeline(number: int, label: str, source: Path | bytes) -> Outcome:
    """Run random pipeline ``number`` on one model: three to eight passes, one of them an edit at most."""
    rng = seeded("pipeline", str(number), label)
    names = rng.sample(BUILTIN, rng.randint(3, 8))
    chosen: list[str] = []
    try:
        model = fresh(source)
    except GraphkitError:
        return Outcome((), label)
    for name in names:
        made = list(specs(name, model, rng))
        if not made:
            continue
        chosen.append(made[0])
        try:
            registry.load_pass(made[0]).run(model)
        except GraphkitError:
            chosen.pop()
            model = _after(source, chosen)
    return checked(chosen, label, source)


def _after(source: Path | bytes, chosen: Sequence[str]) -> Model:
    model = fresh(source)
    for spec in chosen:
        registry.load_pass(spec).run(model)
    return model


def checked(chosen: Sequence[str], label: str, source: Path | bytes) -> Outcome:
    """Run passes in order; each must rest at once, and all together keep what the model computes."""
    outcome = Outcome(tuple(chosen), label)
    try:
        model = fresh(source)
        edits, fired = [], False
        for number, spec in enumerate(chosen):
            report = registry.load_pass(spec).run(model)
            fired |= bool(report.rewrites)
            if model.bridge is not None:
                edits.append(number)
            restless = _restless(model, spec) if report.rewrites and model.bridge is None else ""
            if restless:
                return Outcome(tuple(chosen), label, True, bad=restless)
        return _proven(outcome, chosen, source, model, edits, fired)
    except (PassFailed, RewriteRefused) as error:
        expected = isinstance(error, PassFailed) and not re.search(
            r"Error:|checker|cannot be written", str(error)
        )
        return Outcome(tuple(chosen), label, refused=True, bad="" if expected else str(error))
    except GraphkitError:
        return Outcome(tuple(chosen), label, refused=True)
    except Exception as error:
        return Outcome(tuple(chosen), label, bad=f"crash: {type(error).__name__}: {error}")


def _restless(model: Model, spec: str) -> str:
    data = b"".join(model.export())
    again = Model.from_file(ModelFile.from_bytes(data, model.file.folder))
    report = registry.load_pass(spec).run(again)
    if report.rewrites or b"".join(again.export()) != data:
        return f"a second run of '{spec}' makes {report.rewrites} rewrites"
    return ""


def _proven(
    outcome: Outcome,
    chosen: Sequence[str],
    source: Path | bytes,
    model: Model,
    edits: Sequence[int],
    fired: bool,
) -> Outcome:
    parts = model.export()
    if not fired:
        same = b"".join(parts) == bytes(model.file.data)
        return outcome if same else Outcome(outcome.specs, outcome.model, bad="0 rewrites, and other bytes")
    wrong = _invalid(model, source)
    if wrong:
        return Outcome(outcome.specs, outcome.model, True, bad=f"invalid: {wrong}")
    found = _verified(chosen, source, edits)
    by_numbers = found.status == "differs" and (found.culprit or "").partition(":")[0] in NUMBERS_DECIDE
    bad = f"{found.culprit or ''} {found.reason}" if found.status == "differs" and not by_numbers else ""
    bad = "" if any((spec, outcome.model) in ODD for spec in chosen) else bad
    return Outcome(
        outcome.specs, outcome.model, True, bad=bad, not_run=found.reason if found.status == "not-run" else ""
    )


def _invalid(model: Model, source: Path | bytes) -> str:
    wrong = invalid(model)
    if wrong is None:
        return ""
    original = fresh(source)
    if invalid(original) is None:
        return wrong
    odd = unknown(original)
    return (invalid(model, odd) or "") if invalid(original, odd) is None else ""


def _verified(chosen: Sequence[str], source: Path | bytes, edits: Sequence[int]) -> Verification:
    file = fresh(source).file
    steps = [registry.load_pass(s) for s in chosen]
    if edits:
        return Stages(file, steps, edits, 0, MEMORY, lambda *_: None).prove()
    model = Model.from_file(file)
    before = Snapshot(model)
    for step in steps:
        step.run(model)
    return verify_one(file, model.export(), before, model, memory=MEMORY)
