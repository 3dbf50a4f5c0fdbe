"""Reads the kernels that TensorRT prints when it has built an engine: its verbose log, no GPU needed.

Formats: ``Layers:`` with ``Name: …, LayerType: …`` (TensorRT-RTX 1.4 and 1.7, TensorRT 8.5 to 11, profiling
verbosity DETAILED), and ``Engine Layer Information:`` with ``Layer(Type): name, Tactic: …`` (TensorRT 8).
Some versions print more fields than others; only those that are needed are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from graphkit.engine.kernel import (
    EngineTensor,
    Kernel,
    dims_of,
    dtype_of,
    nodes_of_metadata,
    nodes_of_name,
)

__all__ = ["parse_log", "sections"]

_HEAD = re.compile(r"(?:^|.*?\] )Name: (?P<name>.*?), LayerType: (?P<type>[^,]+), Inputs: \[(?P<rest>.*)$")
_OUTPUTS = re.compile(r"\], Outputs: \[(?= ?\{ Name: |\])")
_CONSTANTS = re.compile(r"\], Constants: \[(?= ?\{ Name: |$)")
_END = re.compile(r" \}\](?=, |$)|^\](?=, |$)")
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<dims>[-\d,]*)\](?P<rest>.*?) \}"
    r"(?=, \{ Name: |$)"
)
_DATATYPE = re.compile(r", (?:Format/)?Datatype: ([^,]*)")
_TACTIC = re.compile(r", TacticName: (.*?)(?=, [A-Z]\w*: |$)")
_VALUE = re.compile(r", (?:TacticValue|Tactic): (0x[0-9a-f]+|\d+)")
_STREAM = re.compile(r", StreamId: (\d+)")
_OLD = re.compile(r"(?:^|.*?\] )Layer\((?P<type>\w+)\): (?P<name>.*), Tactic: (?P<tactic>\w+), (?P<ends>.*)$")
_OLD_TENSOR = re.compile(
    r"(?P<name>\S.*?)(?:\[(?P<a>\w+)\((?P<da>[-\d,:]*)\)\]| \((?P<b>\w+)\[(?P<db>[-\d,:]*)\]\))(?=, |$)"
)
_HEADING = re.compile(r"(?:Engine Layer Information|Layers):\s*$")


def parse_log(lines: Iterable[str]) -> list[Kernel]:
    """The kernels of the last engine that the log tells of, in the engine's order; empty for none.

    ``lines`` may hold anything else, and each may have several lines in it.
    """
    found = sections(lines)
    return found[-1] if found else []


def sections(lines: Iterable[str]) -> list[list[Kernel]]:
    """The kernels of every engine in the log: one list for each time that TensorRT lists layers."""
    found: list[list[Kernel]] = []
    for line in _split(lines):
        if _HEADING.search(line):
            found.append([])
            continue
        kernel = _kernel(line)
        if kernel is not None:
            if not found:  # an excerpt without its heading
                found.append([])
            found[-1].append(kernel)
    return [f for f in found if f]


def _split(lines: Iterable[str]) -> Iterator[str]:
    """Lines by line feed alone: str.splitlines would also break at the separators inside Metadata."""
    for text in lines:
        yield from (part.rstrip("\r") for part in text.split("\n"))


def _kernel(line: str) -> Kernel | None:
    head = _HEAD.match(line)
    if head is None:
        return _old(line) if "Layer(" in line else None
    split = _OUTPUTS.split(head["rest"], maxsplit=1)
    if len(split) != 2:
        return None
    inputs, *constants = _CONSTANTS.split(split[0], maxsplit=1)
    end = _END.search(split[1])
    outputs, tail = (split[1][: end.end()], split[1][end.end() :]) if end else (split[1], "")
    fields, has, metadata = tail.partition(", Metadata:")
    tactic = _TACTIC.search(fields) or _VALUE.search(fields)
    stream = _STREAM.search(fields)
    return Kernel(
        head["name"],
        head["type"],
        nodes_of_metadata(metadata) if has else nodes_of_name(head["name"]),
        _tensors(inputs),
        _tensors(outputs),
        _tensors("".join(constants)),
        tactic[1] if tactic else "",
        int(stream[1]) if stream else 0,
    )


def _tensors(text: str) -> tuple[EngineTensor, ...]:
    found = []
    for match in _TENSOR.finditer(text.strip().removesuffix("]")):
        datatype = _DATATYPE.search(match["rest"])
        dims = dims_of(d for d in match["dims"].split(",") if d)
        found.append(EngineTensor(match["name"], dims, dtype_of(datatype[1]) if datatype else ""))
    return tuple(found)


def _old(line: str) -> Kernel | None:
    match = _OLD.match(line)
    if match is None:
        return None
    before, arrow, after = match["ends"].rpartition(" -> ")
    if not arrow:
        return None
    nodes = nodes_of_name(match["name"])
    return Kernel(
        match["name"], match["type"], nodes, _old_tensors(before), _old_tensors(after), (), match["tactic"]
    )


def _old_tensors(text: str) -> tuple[EngineTensor, ...]:
    found = []
    for match in _OLD_TENSOR.finditer(text):
        # "Int8(1,3:32,4,4)" says that a dim is kept in vectors of 32: to ONNX it is the 3
        dims = dims_of(d.partition(":")[0] for d in (match["da"] or match["db"] or "").split(",") if d)
        found.append(EngineTensor(match["name"].removeprefix(", "), dims, dtype_of(match["a"] or match["b"])))
    return tuple(found)
