"""What the options of ``fix-shapes`` say: sizes by input and by symbol, checked against the model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphkit import BadOption, Graph
from graphkit.model.surgeon import Tensor
from graphkit.rewrite.options import items

Dim = int | str | None


@dataclass
class Sizes:
    """New shapes of inputs, by name, and sizes of symbols."""

    graph: Graph
    shapes: dict[str, list[Dim]] = field(default_factory=dict)
    symbols: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, options: Mapping[str, str]) -> None:
        """Take all options in. Raises BadOption, in one line, for what does not fit the model or itself."""
        inputs = {t.name: t for t in self.graph.inputs}
        known = {d for t in inputs.values() for d in t.shape or () if is_symbol(d)}
        for key, text in options.items():
            name, _, value = (
                f"{key}={text}".rpartition("=") if key not in inputs.keys() | known else (key, "", text)
            )
            item = f"{name}={value}"
            if name in inputs and (
                name not in known or not value.strip().isdigit() or len(inputs[name].shape or ()) == 1
            ):
                self._input(inputs[name], value.strip(), item)
            elif name in known:
                self._symbol(name, _size(value.strip(), item), item)
            else:
                self._nowhere(name, value.strip(), inputs, known, options)
        for tensor in inputs.values():
            self.shapes.setdefault(tensor.name, list(tensor.shape) if tensor.shape is not None else [])
            if tensor.shape is None and not self.shapes[tensor.name] and tensor.name not in options:
                del self.shapes[tensor.name]

    def _nowhere(
        self,
        name: str,
        value: str,
        inputs: Mapping[str, Tensor],
        known: Iterable[Any],
        options: Mapping[str, str],
    ) -> None:
        """A name that the model does not have: a symbol that has its size by now (a second run), or wrong.

        It is wrong when another dim is open that may have been meant, and no input has a dim of that size.
        """
        named = [(n, t) for n, t in inputs.items() if n not in options and t.type in (None, "tensor_type")]
        free = [n for n, t in named if t.shape is None or any(map(is_free, t.shape))]
        others = [*sorted({d for _, t in named for d in t.shape or () if is_symbol(d)} - set(options)), *free]
        close = difflib.get_close_matches(name, [*others, "max-size"], 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        sized = re.fullmatch(r"0*[1-9][0-9]{0,17}", value) is not None
        fixed = sized and any(d == int(value) for t in inputs.values() for d in t.shape or ())
        if not sized or (others and not fixed):
            problem = f"fix-shapes: '{name}' is neither an input nor a symbol"
            raise BadOption(f"{problem}; {_known(inputs, known)}{hint}")
        self.notes.append(f"no input has a dim '{name}' (any more), so nothing is done for it{hint}")

    def _input(self, tensor: Tensor, text: str, item: str) -> None:
        name = tensor.name
        if tensor.type not in (None, "tensor_type"):
            raise BadOption(f"fix-shapes: {item}: input '{name}' is a {tensor.type}, which has no shape")
        declared = None if tensor.shape is None else list(tensor.shape)
        tokens = _tokens(text, declared, item)
        if declared is None:
            declared = [None] * len(tokens)
        if len(tokens) != len(declared):
            had = f"{len(declared)} dims ({spelled(declared)})"
            raise BadOption(f"fix-shapes: {item}: input '{name}' has {had}, not {len(tokens)}")
        pairs = enumerate(zip(declared, tokens, strict=True))
        self.shapes[name] = [self._dim(name, place, was, token, item) for place, (was, token) in pairs]

    def _dim(self, name: str, place: int, was: Dim, token: str, item: str) -> Dim:
        if token == "?" or (is_symbol(was) and token == was):
            return was
        if not token.isdigit():
            told = f"is '{was}'" if is_symbol(was) else "has no symbol" if is_free(was) else f"is {was}"
            raise BadOption(
                f"fix-shapes: {item}: dim {place} of '{name}' {told}; write a size, or ? to leave it"
            )
        size = _size(token, item)
        if is_symbol(was):
            self._symbol(str(was), size, item)
        elif not is_free(was) and was != size:
            raise BadOption(f"fix-shapes: {item}: dim {place} of '{name}' is {was} in the model, not {size}")
        return size

    def _symbol(self, symbol: str, size: int, item: str) -> None:
        before = self.symbols.setdefault(symbol, (size, item))
        if before[0] != size:
            raise BadOption(
                f"fix-shapes: symbol '{symbol}' is {before[0]} by '{before[1]}' and {size} by '{item}'"
            )

    def applied(self, shape: Iterable[Dim]) -> list[Dim]:
        """A shape with the symbols that have a size replaced."""
        return [self.symbols[d][0] if isinstance(d, str) and d in self.symbols else d for d in shape]


def is_free(dim: Any) -> bool:
    """Whether a declared dim is open and has no name: two dims called ``?`` are not one symbol."""
    return dim is None or dim in ("", "?", "*") or (isinstance(dim, int) and dim < 0)


def is_symbol(dim: Any) -> bool:
    """Whether a declared dim is a name, which stands for one size wherever it is used."""
    return isinstance(dim, str) and not is_free(dim)


def spelled(shape: Iterable[Dim]) -> str:
    """A shape as the option takes it."""
    return "x".join("?" if is_free(d) else str(d) for d in shape) or "scalar"


def _tokens(text: str, declared: list[Dim] | None, item: str) -> list[str]:
    """The dims of ``1x3x?xheight``; a symbol of the model may have an x in its name."""
    if text == "scalar":
        return []
    if declared is not None:
        parts = [
            rf"\d+|\?|{re.escape(d)}" if isinstance(d, str) and is_symbol(d) else r"\d+|\?" for d in declared
        ]
        found = re.fullmatch("[xX]".join(f"({p})" for p in parts), text)
        if found is not None and parts:
            return list(found.groups())
    tokens = re.split("[xX]", text)
    if not all(tokens) or re.search(r"[\[\]();\s]", text):
        raise BadOption(
            f"fix-shapes: '{item}' is no shape; write sizes with x between them, as in 1x3x640x640, or scalar"
        )
    return tokens


def _size(text: str, item: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) == 0:
        raise BadOption(f"fix-shapes: '{item}' is no size; write a whole number above 0")
    return int(text)


def _known(inputs: Mapping[str, Tensor], symbols: Iterable[Any]) -> str:
    told = ", ".join(
        f"{n} ({spelled(t.shape) if t.shape is not None else 'any shape'})" for n, t in inputs.items()
    )
    names = ", ".join(sorted(map(str, symbols)))
    return f"inputs are {told or 'none'}" + (f"; symbols are {names}" if names else "; there are no symbols")


def told(arguments: str, options: Iterable[str]) -> str | None:
    """How a shape is written, with the user's own as the example, when ``arguments`` write one otherwise.

    That is ``images=1,3,640,640``, with or without brackets, and ``images:1x3x640x640``: no ``=`` is there.
    """
    name, dims, bare = "", list[str](), False
    for key, raw in items(arguments):
        if key in options:
            continue
        if raw is not None:
            if bare:
                break
            name, dims = key, [raw]
        elif not bare and ":" in key:
            name, _, shape = key.rpartition(":")
            dims, bare = [shape], True
        else:
            dims, bare = [*dims, key], True
    if not bare:
        return None
    dims = [d for d in (d.strip(" []()") for d in dims) if d]
    if dims and re.fullmatch(r"[^\dxX?]\D*", dims[-1]):
        return f"fix-shapes: '{dims[-1]}' needs a value: write {dims[-1]}=640 or {dims[-1]}=1x3x640x640"
    shape = "x".join(dims)
    shown = shape if name and re.fullmatch(r"(\w+|\?)([xX](\w+|\?))*", shape) else "1x3x640x640"
    return f"a shape is written 1x3x640x640: --pass fix-shapes:{name or 'images'}={shown}"
