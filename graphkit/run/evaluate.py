"""Values of nodes whose inputs are constant: one ONNX Runtime session for all, a fallback for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from graphkit.errors import BadInput
from graphkit.run.limits import limited
from graphkit.run.reference import CannotRun, brief, open_model
from graphkit.run.session import OrtModel

_MIN_IR = 10  # initializers need no input (IR 4), and 4-bit types exist
_SECONDS, _MEMORY = 10.0, 2 << 30  # for all nodes: constants that take more are better computed at run time
_MAX_BYTES = (1 << 31) - (1 << 20)  # protobuf's limit, less what is no tensor


@dataclass(frozen=True)
class Setting:
    """What the operators of the nodes mean: opset versions by domain, and the local functions they call."""

    opsets: Mapping[str, int]
    functions: Sequence[onnx.FunctionProto] = ()
    ir_version: int = _MIN_IR

    def model(self, nodes: Iterable[NodeProto], constants: Iterable[TensorProto]) -> ModelProto:
        """A model of these nodes alone, without inputs; every named result is an output without a type."""
        graph = onnx.GraphProto(name="constants")
        graph.node.extend(nodes)
        graph.initializer.extend(constants)
        for name in (o for n in graph.node for o in n.output if o):
            graph.output.add().name = name
        imports = [helper.make_opsetid(d, v) for d, v in self.opsets.items()]
        made = ModelProto(ir_version=max(self.ir_version, _MIN_IR), graph=graph, opset_import=imports)
        made.functions.extend(self.functions)
        return made


@dataclass
class Evaluation:
    """What came of it: values by tensor name, and for the nodes that did not run, by place, the reason."""

    values: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


def evaluate(
    nodes: Sequence[NodeProto], constants: Mapping[str, TensorProto], setting: Setting
) -> Evaluation:
    """Compute every output of ``nodes``, which stand in order and read ``constants`` and each other.

    All run in one ONNX Runtime session with its optimisations off. When that fails, halves are tried, down
    to the single node; a node that ONNX Runtime cannot run goes to onnx's reference evaluator. Names are
    unique. Nodes that read the result of one that failed are left out without a reason of their own.
    """
    work = _Work(constants, setting, Evaluation())
    with limited(_SECONDS, _MEMORY):
        work.run(nodes)
    return work.done


@dataclass
class _Work:
    constants: Mapping[str, TensorProto]
    setting: Setting
    done: Evaluation

    def run(self, nodes: Sequence[NodeProto]) -> None:
        """Evaluate all nodes; halves of what fails wait on a stack, the first half on top."""
        stack = [list(enumerate(nodes))]
        by_ort = True
        while stack:
            part = self._ready(stack.pop())
            if not part:
                continue
            reason = self._by_ort([n for _, n in part]) if by_ort else "ONNX Runtime does not know the opset"
            if reason is None:
                continue
            by_ort = by_ort and self._ort_knows_opset()
            if len(part) > 1 and by_ort:
                middle = len(part) // 2
                stack += [part[middle:], part[:middle]]
                continue
            for index, node in part:
                if self._ready([(index, node)]):
                    self._by_reference(index, node, reason)

    def _ready(self, part: list[tuple[int, NodeProto]]) -> list[tuple[int, NodeProto]]:
        """The nodes of a stretch whose inputs are known, or made by one of it before them."""
        made: set[str] = set()
        ready = []
        for index, node in part:
            if all(not n or n in self.constants or n in self.done.values or n in made for n in node.input):
                ready.append((index, node))
                made.update(node.output)
        return ready

    def _model(self, nodes: Sequence[NodeProto]) -> ModelProto:
        made = {o for n in nodes for o in n.output}
        needed = dict.fromkeys(i for n in nodes for i in n.input if i and i not in made)
        return self.setting.model(nodes, [self._constant(name) for name in needed])

    def _constant(self, name: str) -> TensorProto:
        if name not in self.constants:
            return numpy_helper.from_array(self.done.values[name], name)
        found = TensorProto()
        found.CopyFrom(self.constants[name])
        found.name = name
        return found

    def _by_ort(self, nodes: Sequence[NodeProto]) -> str | None:
        """Run nodes in one session; None when their values are known now, else why not."""
        try:
            model = self._model(nodes)
            if model.ByteSize() > _MAX_BYTES:
                return "more than 2 GiB of constants"
            found = OrtModel(model.SerializeToString()).run({})
        except Exception as error:  # ONNX Runtime's errors share no base class of their own
            return brief(error)
        wrong = next((n for n, v in found.items() if not isinstance(v, np.ndarray)), None)
        if wrong is not None:
            return "its result is no tensor"
        self.done.values.update(found)
        return None

    def _by_reference(self, index: int, node: NodeProto, reason: str) -> None:
        try:
            parts = [self._model([node]).SerializeToString()]
            found = open_model(parts, only="reference").run({})
        except (BadInput, ValueError) as error:
            said = str(error) if isinstance(error, CannotRun) else brief(error)
            self.done.failures[index] = f"{reason}; {said}" if "was not asked" not in said else reason
            return
        if not all(isinstance(v, np.ndarray | np.generic) for v in found.values()):
            self.done.failures[index] = "its result is no tensor"
            return
        self.done.values.update({n: np.asarray(v) for n, v in found.items()})

    def _ort_knows_opset(self) -> bool:
        """Whether ONNX Runtime loads any model at all with these imports; asked only after a failure."""
        one = numpy_helper.from_array(np.ones(1, np.float32), "one")
        trial = self.setting.model([helper.make_node("Identity", ["one"], ["same"])], [one])
        try:
            OrtModel(trial.SerializeToString())
        except Exception:  # see above
            return False
        return True
