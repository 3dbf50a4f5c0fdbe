"""What passes that edit by name share: tensors by name, their types, and nodes put in at the ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from graphkit import BadOption, Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.surgeon import Constant, Variable, onnx_dtype, surgeon_dtype, unlink
from graphkit.rewrite.options import split
from graphkit.rewrite.suggest import did_you_mean
from graphkit_passes._names import definitions
from graphkit_passes._shared import Known

Dim = int | str | None


def bare(arguments: str, key: str) -> str:
    """``a+b`` in front, without a key, is the value of the option ``key``."""
    first = split(arguments, ",")[0]
    return f"{key}={arguments}" if first and len(split(first, "=")) == 1 else arguments


class Names:
    """The tensors of a model by name; ``who`` is the pass that asks, for messages."""

    def __init__(self, graph: Graph, who: str) -> None:
        self._graph = graph
        self._who = who
        self.main: dict[str, Tensor] = {}
        self._elsewhere: dict[str, Graph] = {}
        for found in definitions(graph.model):
            if found.scope is graph and not found.ghost:
                self.main.setdefault(found.tensor.name, found.tensor)
            else:
                self._elsewhere.setdefault(found.tensor.name, found.scope)

    def tensor(self, name: str) -> Tensor:
        """The tensor of the main graph with that name; BadOption says what there is instead."""
        if name in self.main:
            return self.main[name]
        if name in self._elsewhere:
            where = self._elsewhere[name].label
            raise BadOption(f"{self._who}: '{name}' lies in {where}; name a tensor of the main graph")
        raise self.unknown("tensor", name, self.main)

    def computed(self, name: str) -> Tensor:
        """A tensor of the main graph that a node makes; a constant or a graph input is BadOption."""
        tensor = self.tensor(name)
        if not tensor.inputs or self._graph.is_constant(tensor):
            what = "a constant" if self._graph.is_constant(tensor) else "a graph input"
            raise BadOption(f"{self._who}: '{name}' is {what}; name a tensor that a node computes")
        return tensor

    def end(self, kind: str, name: str) -> Tensor:
        """The graph input or output (``kind`` is one of the words) of that name."""
        listed = {t.name: t for t in (self._graph.inputs if kind == "input" else self._graph.outputs)}
        if name not in listed:
            raise self.unknown(kind, name, listed)
        return listed[name]

    def unknown(self, kind: str, name: str, known: Iterable[str]) -> BadOption:
        """There is no such name: the closest ones, or all when they are few."""
        names = list(known)
        hint = did_you_mean(name, names)
        if not hint:
            listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            plural = f"{kind.replace(' or ', 's and ')}s"
            hint = f"the {plural} are {listed}" if names else f"there are no {plural}"
        return BadOption(f"{self._who}: there is no {kind} '{name}'; {hint}")


_SHOWN = 8


def distinct(who: str, names: Sequence[str], what: str) -> None:
    """BadOption for a name given twice, and for one that is empty."""
    for name in names:
        if not name or names.count(name) > 1:
            told = f"'{name}' is given twice as {what}" if name else f"{what} has an empty name"
            raise BadOption(f"{who}: {told}")


def is_tensor(tensor: Tensor) -> bool:
    """Whether this is no sequence, map or optional."""
    return getattr(tensor, "type", None) in (None, "tensor_type")


class Types:
    """What is known of tensors that are to become inputs or outputs; inference runs when first needed."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known = Known.of(graph.model)
        self.notes: list[str] = []

    def of(self, tensor: Tensor) -> tuple[Any, list[Dim]]:
        """Dtype and shape, in GraphSurgeon's terms: inferred, else what the file says, which a note tells.

        NotApplicable when either is not known: an interface has to say both.
        """
        if not is_tensor(tensor):
            raise NotApplicable(f"it is a {tensor.type}, not a tensor")
        dtype = self._known.dtype(self._graph, tensor)
        if dtype is None:
            raise NotApplicable("its dtype cannot be inferred, and the file does not say it")
        inferred, told = self._known.types.shape(tensor), self._graph.shape(tensor)
        if inferred is None and told is None:
            raise NotApplicable("its rank cannot be inferred, and the file does not say it")
        if inferred is None:
            self.notes.append(f"the shape of '{tensor.name}' cannot be inferred: it is what the file says")
        return surgeon_dtype(onnx_dtype(dtype)), _merged(inferred, told)

    def declare(self, tensors: Iterable[Tensor], tally: Tally) -> bool:
        """Annotate what becomes an input or output; when a type is not known, refuse and return False."""
        told = []
        for tensor in tensors:
            try:
                told.append((tensor, *self.of(tensor)))
            except NotApplicable as error:
                tally.refuse(self._graph, tensor, str(error))
                return False
        for tensor, dtype, shape in told:
            declare(tensor, dtype, shape)
        for note in self.notes:
            tally.note(note)
        return True

    def annotate(self, tensors: Iterable[Tensor]) -> None:
        """Write down what is known of tensors whose makers nobody can infer any more."""
        for tensor in tensors:
            with suppress(NotApplicable):
                declare(tensor, *self.of(tensor))

    def shape(self, tensor: Tensor) -> list[Dim] | None:
        """The shape, as far as it is known; None when the rank is not."""
        inferred, told = self._known.types.shape(tensor), self._graph.shape(tensor)
        return None if inferred is None and told is None else _merged(inferred, told)


def _merged(inferred: Sequence[Dim] | None, told: Sequence[Dim] | None) -> list[Dim]:
    """Sizes that inference knows, and the names that the file gives the other dims."""
    if inferred is None or (told is not None and len(told) == len(inferred)):
        found = [None] * len(told or ()) if inferred is None else list(inferred)
        return [a if isinstance(a, int) and a >= 0 else b for a, b in zip(found, told or (), strict=True)]
    return list(inferred)


def declare(tensor: Tensor, dtype: Any, shape: Sequence[Dim]) -> None:
    """Annotate a tensor, unless it says that already."""
    if tensor.dtype is None or tensor.dtype != dtype:  # to numpy, None is float64
        tensor.dtype = dtype
    if tensor.shape is None or list(tensor.shape) != list(shape):
        tensor.shape = list(shape)


def successor(graph: Graph, tensor: Tensor, hint: str) -> Tensor:
    """A new tensor that takes the name of an input or output ``tensor``, which goes on inside as ``hint``.

    The inner tensor stays the object that it was: its readers, maker and annotations need no other edit.
    """
    name = tensor.name
    graph.rename(tensor, graph.model.fresh_name(hint))
    return Variable(name)


def lead(
    graph: Graph,
    op: str,
    source: Tensor,
    made: Tensor,
    attrs: Mapping[str, Any],
    extra: Sequence[Tensor] = (),
) -> None:
    """A node in front of all others that makes ``made``, which had no maker, of ``source``."""
    was = graph.model.first_names([made]) or [made.name]
    first = graph.nodes[0] if graph.nodes else None
    (out,) = graph.add(op, [source, *extra], attrs, name=f"{made.name}/{op}", before=first)
    graph.model.note_origin(out.inputs[0], was)
    graph.replace(made, out)


def trail(graph: Graph, op: str, source: Tensor, made: Tensor, attrs: Mapping[str, Any]) -> None:
    """A node behind all others that makes ``made``, a new tensor, of ``source``."""
    (out,) = graph.add(op, [source], attrs, name=f"{made.name}/{op}")
    node = out.inputs[0]
    graph.model.note_origin(node, graph.model.first_names([source]))
    list.__setitem__(node.outputs, 0, made)
    list.append(made.inputs, node)


def point(node: Node, place: int, tensor: Tensor) -> None:
    """Let a node read ``tensor`` as its input ``place``; GraphSurgeon's own lists go by names."""
    unlink(node.inputs[place].outputs, node)
    list.__setitem__(node.inputs, place, tensor)
    list.append(tensor.outputs, node)


def detach(graph: Graph, tensor: Tensor, hint: str = "") -> Tensor:
    """Let the node that makes ``tensor`` write a new tensor instead, which is returned."""
    (maker,) = tensor.inputs
    spare = Variable(graph.model.fresh_name(hint or f"{tensor.name}_unused"))
    place = next(i for i, t in enumerate(maker.outputs) if t is tensor)
    unlink(tensor.inputs, maker)
    list.__setitem__(maker.outputs, place, spare)
    list.append(spare.inputs, maker)
    return spare


def quoted(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(f"'{n}'" for n in names)


def defaults(graph: Graph) -> list[Tensor]:
    """The inputs of the main graph that have an initializer, which a caller may override."""
    record = graph.model.records.scopes[id(graph.gs)]
    return [i.tensor for i in record.initializers.values() if i.overridable]


def is_default(graph: Graph, tensor: Tensor) -> bool:
    """Whether a tensor is an initializer that a caller may override."""
    record = graph.model.records.initializers.get(id(tensor))
    return isinstance(tensor, Constant) and record is not None and record.overridable
