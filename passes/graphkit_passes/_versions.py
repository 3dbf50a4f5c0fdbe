"""One set of opset versions for two models, where every operator is the same in both."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.defs

from graphkit import Model, NotApplicable
from graphkit.model.operators import domain_of
from graphkit_passes._names import root


def versions(first: Model, other: Model) -> dict[str, int]:
    """The opset versions by domain that hold for both; NotApplicable where an operator would change."""
    found: dict[str, int] = {}
    for domain in dict.fromkeys(("", *_domains(first), *_domains(other))):
        pair = [(m.main.version(domain), m) for m in (first, other) if m.main.version(domain)]
        if not pair:
            continue
        low, high = min(v for v, _ in pair), max(v for v, _ in pair)
        raised = [_changes(m, domain, low, high) for v, m in pair if v == low != high]
        if not any(raised):
            found[domain] = high
            continue
        if any(_changes(m, domain, low, high) for v, m in pair if v == high):
            raise NotApplicable(
                f"the models use versions {low} and {high} of {domain or 'ai.onnx'}, and {raised[0]} is not "
                "the same in both; convert one of them first"
            )
        found[domain] = low
    return found


def _domains(model: Model) -> Iterator[str]:
    return ("" if o.domain == "ai.onnx" else o.domain for o in model.main.gs.import_domains or [])


def _changes(model: Model, domain: str, low: int, high: int) -> str:
    """An operator of the model's graphs that is another one in the other version; empty when none is."""
    scopes = (s for s in model.scopes() if not root(s).is_function)
    ops = {n.op for s in scopes for n in s.nodes if domain_of(n) == domain}
    own = {f.gs.name for f in model.functions if (f.gs.domain or "") == domain}
    return next((op for op in sorted(ops - own) if _since(op, low, domain) != _since(op, high, domain)), "")


def _since(op: str, version: int, domain: str) -> object:
    """The version that brought an operator in its present form; what ONNX lacks is equal to nothing."""
    if version > onnx.defs.onnx_opset_version() and not domain:
        return object()
    try:
        return onnx.defs.get_schema(op, version, domain).since_version
    except onnx.defs.SchemaError:
        return object()
