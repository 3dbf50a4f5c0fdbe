"""Reference numbers: ONNX Runtime, and onnx's ReferenceEvaluator for small models whose ops it lacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import onnx
from onnx import ModelProto

from graphkit.errors import BadInput
from graphkit.model import records, wire
from graphkit.run import outline
from graphkit.run.limits import TooMuch, stoppable
from graphkit.run.session import Feed, OrtModel, Values, with_outputs

# numpy in Python: enough to judge one block of a network, hopeless for a whole one
REFERENCE_BYTES = 64 << 20
REFERENCE_NODES = 2000


class CannotRun(BadInput):
    """No runtime at hand can run the model; says which operator or limit stands in the way."""


class OverLimit(CannotRun):
    """Running the model takes longer, or more memory, than it may: no word on whether the model is right."""


class Runnable(Protocol):
    """A loaded model; ``name`` says what runs it."""

    name: str

    def run(self, feed: Feed) -> Values:
        """All outputs by name; raises CannotRun when this feed does not run."""


class _Ort:
    def __init__(self, model: bytes, folder: Path | None) -> None:
        self.name = ort_name()
        self._model = OrtModel(model, folder)

    def run(self, feed: Feed) -> Values:
        try:
            return self._model.run(feed)
        except TooMuch as error:
            raise OverLimit(str(error)) from error
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            raise CannotRun(brief(error)) from error


class _Reference:
    def __init__(self, model: ModelProto, outputs: Sequence[str]) -> None:
        from onnx.reference import ReferenceEvaluator

        from graphkit.run.contrib import OLD_OPS, OPS

        old = any(o.domain in ("", "ai.onnx") and 7 <= o.version < 14 for o in model.opset_import)
        self.name = f"onnx reference evaluator {onnx.__version__}"
        self._outputs = [o.name for o in model.graph.output] + list(outputs)
        self._evaluator = ReferenceEvaluator(model, new_ops=[*OPS, *(OLD_OPS if old else ())])

    def run(self, feed: Feed) -> Values:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy on NaN, overflow, division by zero
                found = stoppable(lambda: self._evaluator.run(self._outputs, dict(feed)))
        except TooMuch as error:
            raise OverLimit(str(error)) from error
        except Exception as error:  # any numpy or onnx error: this feed does not run here
            raise CannotRun(brief(error)) from error
        return dict(zip(self._outputs, found, strict=True))


def ort_name() -> str:
    """The name and settings of the first-choice runtime, for reports."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} (CPU, graph optimisations off)"


def open_model(
    parts: Sequence[bytes | memoryview],
    folder: Path | None = None,
    outputs: Sequence[str] = (),
    *,
    only: str | None = None,
) -> Runnable:
    """Load a model whose wire bytes are ``parts`` joined, with ``outputs`` exposed after its own.

    External data is looked for in ``folder``. ``only`` is "ort" or "reference" to take just that runtime.
    Raises CannotRun, naming custom operators that nothing at hand implements.
    """
    reason = "ONNX Runtime was not asked"
    if only != "reference":
        try:
            return _Ort(_named_overloads(with_outputs(parts, outputs)), folder)
        except Exception as error:  # see above: no common base class
            reason = brief(error)
        if only == "ort":
            raise CannotRun(reason)
    return _open_reference(parts, folder, outputs, reason)


def _open_reference(
    parts: Sequence[bytes | memoryview], folder: Path | None, outputs: Sequence[str], reason: str
) -> Runnable:
    if sum(len(p) for p in parts) > REFERENCE_BYTES:
        raise CannotRun(reason)
    model = onnx.load_from_string(b"".join(parts))
    unknown = custom_ops(model)
    if unknown:
        raise CannotRun(f"no runtime at hand implements {', '.join(unknown)}")
    count = sum(1 for _ in outline.nodes(model))
    if count > REFERENCE_NODES or outline.weight_bytes(model) > REFERENCE_BYTES:
        raise CannotRun(f"{reason} (and it is too large for onnx's reference evaluator: {count} nodes)")
    try:
        if folder is not None:
            onnx.load_external_data_for_model(model, str(folder))
        _name_overloads(model)
        return _Reference(model, outputs)
    except Exception as error:  # the evaluator raises whatever its op table raises
        raise CannotRun(f"{reason}; onnx's reference evaluator: {brief(error)}") from error


_OVERLOAD = 13  # field of FunctionProto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto


def _named_overloads(data: bytes) -> bytes:
    """The same model, its overloads named apart if it has any."""
    functions = wire.payloads(memoryview(data), wire.scan(data), records.MODEL_FUNCTIONS)
    if not any(f.number == _OVERLOAD for view in functions for f in wire.scan(view)):
        return data
    model = onnx.load_from_string(data)
    _name_overloads(model)
    return model.SerializeToString()


def _name_overloads(model: ModelProto) -> None:
    """Put the overload of functions into their names: the runtimes run any one of that name."""
    known = {(_domain(f.domain), f.name, f.overload) for f in model.functions if f.overload}
    for node in outline.nodes(model) if known else ():
        if (_domain(node.domain), node.op_type, node.overload) in known:
            node.op_type, node.overload = f"{node.op_type}__overload_{node.overload}", ""
    for function in model.functions if known else ():
        function.name += f"__overload_{function.overload}" if function.overload else ""
        function.overload = ""


def run(
    model: str | Path | bytes,
    feeds: Iterable[Mapping[str, Any]],
    outputs: Sequence[str] | None = None,
    *,
    folder: Path | None = None,
) -> list[Values]:
    """Run a model on each feed; ``outputs`` names tensors to give besides (or instead of) graph outputs.

    A path's external data resolves beside it, bytes' in ``folder``. Returns one dict of values a feed.
    Raises CannotRun when no runtime at hand can.
    """
    if isinstance(model, bytes):
        data = model
    else:
        path = Path(model)
        data, folder = path.read_bytes(), path.resolve().parent
    own = {o.name for o in outline.outline(onnx.load_from_string(data)).graph.output}
    loaded = open_model([data], folder, [n for n in outputs or () if n not in own])
    found = [loaded.run(feed) for feed in feeds]
    return found if outputs is None else [{n: f[n] for n in outputs} for f in found]


def custom_ops(model: ModelProto) -> list[str]:
    """Operators that neither onnx, nor the model's own functions, nor graphkit define, as domain::op.

    What counts is the model's own opset version: an operator that came later, or one with an attribute
    that onnx's has not, is somebody's own by the same name.
    """
    from graphkit.run.contrib import OPS

    own = {(f.domain, f.name) for f in model.functions} | {(op.op_domain, op.__name__) for op in OPS}
    opsets = {_domain(o.domain): o.version for o in model.opset_import}
    bodies = [(opsets, [n for g in outline.graphs(model) for n in g.node])]
    bodies += [
        ({_domain(o.domain): o.version for o in f.opset_import} or opsets, list(f.node))
        for f in model.functions
    ]
    found = set()
    for versions, nodes in bodies:
        for node in nodes:
            domain = _domain(node.domain)
            if (domain, node.op_type) not in own and not _defined(node, domain, versions.get(domain)):
                found.add(f"{domain}::{node.op_type}" if domain else node.op_type)
    return sorted(found)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _defined(node: onnx.NodeProto, domain: str, version: int | None) -> bool:
    """Whether onnx has the operator at that version, with these attributes."""
    if version is None or version > onnx.defs.onnx_opset_version() and domain == "":
        return bool(onnx.defs.has(node.op_type, domain))
    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return False
    return all(a.name in schema.attributes for a in node.attribute)


def lacks_kernel(error: BaseException) -> bool:
    """Whether ONNX Runtime gave up for want of an operator or kernel, not because the model is wrong."""
    text = str(error)
    return any(said in text for said in _LACKS)


_LACKS = (
    "Could not find an implementation",
    "is not a registered function/op",
    "No Op registered",
    "is not currently registered or supported",
    "only *guarantees* support",  # an opset newer than the build
)


def brief(error: BaseException) -> str:
    """The error's first line, without ONNX Runtime's prefix, at most 300 characters."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(":", 3)[-1].strip()
    return text[:300]
