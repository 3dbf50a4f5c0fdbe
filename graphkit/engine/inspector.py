"""Reads the kernels from an engine inspector's JSON (``EngineInspector``, ``trtexec --exportLayerInfo``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graphkit.engine.kernel import (
    EngineTensor,
    Kernel,
    dims_of,
    dtype_of,
    nodes_of_metadata,
    nodes_of_name,
)
from graphkit.errors import BadInput

__all__ = ["parse_inspector"]


def parse_inspector(text: str) -> list[Kernel]:
    """The kernels in the engine's order.

    Layers are records when the engine was built with profiling verbosity DETAILED; from one built without
    they are names alone, and so are the kernels: no tensors, no nodes but those of the name. Raises BadInput
    when ``text`` is not an inspector's JSON.
    """
    try:
        layers = json.loads(text)["Layers"]
        return [_kernel(layer) for layer in layers]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"not the JSON of an engine inspector ({type(error).__name__}: {error}); "
            "ask for LayerInformationFormat.JSON"
        ) from error


def _kernel(layer: str | Mapping[str, Any]) -> Kernel:
    if isinstance(layer, str):
        return Kernel(layer, "", nodes_of_name(layer), (), ())
    name = str(layer["Name"])
    metadata = layer.get("Metadata")
    return Kernel(
        name,
        str(layer.get("LayerType", "")),
        nodes_of_name(name) if metadata is None else nodes_of_metadata(str(metadata)),
        _tensors(layer.get("Inputs")),
        _tensors(layer.get("Outputs")),
        _tensors(layer.get("Constants")),
        str(layer.get("TacticName") or layer.get("TacticValue") or ""),
        int(layer.get("StreamId") or 0),
    )


def _tensors(records: Any) -> tuple[EngineTensor, ...]:
    found = []
    for record in records or ():
        said = record.get("Datatype") or record.get("Format/Datatype") or ""
        dims = dims_of(record.get("Dimensions") or ())
        found.append(EngineTensor(str(record["Name"]), dims, dtype_of(str(said))))
    return tuple(found)
