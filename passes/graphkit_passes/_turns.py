"""The walk of ``fuse-transpose``: where fewer nodes are left when axes are in another order."""

from __future__ import annotations

from functools import partial

from graphkit import Graph, NotApplicable, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._shared import FLOATS, Known, root_of
from graphkit_passes._standing import Standing
from graphkit_passes._turning import Place, Turning, could_take, reduces

_JOINING = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "Where",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "PRelu",
        "Concat",
    ]
)
_OLDEST = 7  # before that, operands broadcast in other ways


class Turns:
    """One run over a model."""

    def __init__(self, main: Graph, tally: Tally) -> None:
        self._main = main
        self._tally = tally
        self._known = Known.of(main.model)
        self._standing = Standing(main)
        self._turned: dict[int, list[int]] = {}  # id of a tensor -> the order that it is in since a transpose

    def run(self) -> None:
        """Every change leaves fewer transposes, so that this ends."""
        while True:
            refused: list[tuple[Graph, Node, str]] = []
            done = 0
            for graph in self._standing.scopes:
                opset = root_of(graph).opset
                if opset >= _OLDEST and any(n.op == "Transpose" for n in graph.nodes):
                    here = {id(n) for n in graph.nodes}
                    perm = partial(self._perm, graph)
                    self._place = Place(graph, self._standing, perm, here, opset)
                    self._turned.clear()
                    done += self._walk(graph, refused)
            self._standing.sweep()
            self._tally.rewrite(done)
            if not done:
                break
        for scope, node, reason in refused:
            self._tally.refuse(scope, node, reason)

    def _walk(self, graph: Graph, refused: list[tuple[Graph, Node, str]]) -> int:
        done = 0
        for node in list(graph.nodes):
            if domain_of(node) or len(node.outputs) != 1 or not node.outputs[0].name:
                continue
            try:
                done += self._visit(graph, node)
            except NotApplicable as error:
                refused.append((graph, node, str(error)))
            self._follow(graph, node)
        return done

    def _follow(self, graph: Graph, node: Node) -> None:
        """Note the order of a result that a Transpose makes, or that follows from one order of all inputs."""
        if not node.outputs:
            return  # it is gone
        if node.op == "Transpose":
            perm = self._perm(graph, node)
            if perm is not None:
                self._turned[id(node.outputs[0])] = perm
        elif self._turned and could_take(node):
            orders = [self._turned.get(id(t)) for t in node.inputs if t.name and not graph.is_constant(t)]
            if orders and orders[0] is not None and all(o == orders[0] for o in orders):
                self._turned[id(node.outputs[0])] = orders[0]

    def _visit(self, graph: Graph, node: Node) -> bool:
        if node.op == "Transpose":
            return self._second(graph, node)
        if node.op in _JOINING:
            return self._join(graph, node)
        if node.op == "Gemm":
            return self._gemm(graph, node)
        if node.op == "MatMul":
            return self._matmul(graph, node)
        return reduces(node) and attribute(graph, node, "keepdims") == 0 and self._reduce(graph, node)

    # -- two transposes

    def _second(self, graph: Graph, node: Node) -> bool:
        """A transpose and those before it, next to it or with nodes in between that take any order."""
        first = self._transpose(graph, node.inputs[0])
        if first is not None and "perm" not in node.attrs and "perm" not in first.attrs:
            return self._cancel(graph, node, first.inputs[0])
        second, start = self._perm(graph, node), self._turned.get(id(node.inputs[0]))
        if second is None or start is None or len(start) != len(second):
            return False
        part = Turning(self._place, node, start)
        if not part.take(node.inputs[0]):
            return False
        both = [start[axis] for axis in second]
        gain = part.dying() + (both == sorted(both))
        if not gain:
            return False
        shared = part.open_tensor()
        if shared is not None:
            raise NotApplicable(f"'{shared.name}' between it and the transpose before is read elsewhere too")
        made = part.turned(node.inputs[0])
        if both == sorted(both) and not self._is_new(made):
            return self._cancel(graph, node, made)
        if both != sorted(both):
            (made,) = graph.add("Transpose", [made], {"perm": both}, before=node, of=[node])
        return self._put(graph, node, made)

    def _cancel(self, graph: Graph, node: Node, x: Tensor) -> bool:
        self._standing.stand_in_or_copy(graph, node.outputs[0], x)
        self._standing.remove(graph, [node])
        return True

    def _put(self, graph: Graph, node: Node, made: Tensor) -> bool:
        graph.replace(node.outputs[0], made)
        self._standing.remove(graph, [node])
        return True

    def _is_new(self, tensor: Tensor) -> bool:
        return bool(tensor.inputs) and self._main.model.records.was(tensor) is None

    def _perm(self, graph: Graph, node: Node) -> list[int] | None:
        """The order of a Transpose; None when it depends on a rank that is not known."""
        found = attribute(graph, node, "perm")
        if found is None:
            rank = self._rank(graph, node.inputs[0])
            return None if rank is None else list(range(rank))[::-1]
        return found if isinstance(found, list) else None

    def _rank(self, graph: Graph, tensor: Tensor) -> int | None:
        if graph.is_constant(tensor):
            shape = graph.shape(tensor)
        else:
            shape = None if root_of(graph).is_function else self._known.types.shape(tensor)
        return None if shape is None else len(shape)

    # -- one transpose for several

    def _join(self, graph: Graph, node: Node) -> bool:
        """All inputs are transposed alike: one transpose behind the node does."""
        orders = [self._turned.get(id(t)) for t in node.inputs]
        start = next((o for o in orders if o is not None), None)
        if start is None or sum(o == start for o in orders) < 2:
            return False
        part = Turning(self._place, node, start)
        if not part.takes(node) or not all(part.take(t) for t in part.data(node)):
            return False
        if part.dying() < 2 or part.open_tensor() is not None:
            return False
        made = part.rebuilt(node)
        (made,) = graph.add("Transpose", [made], {"perm": start}, before=node, of=[node])
        return self._put(graph, node, made)

    def _reduce(self, graph: Graph, node: Node) -> bool:
        start = self._turned.get(id(node.inputs[0]))
        if start is None:
            return False
        part = Turning(self._place, node, start)
        if not part.take(node.inputs[0]) or not part.dying() or part.open_tensor() is not None:
            return False
        made = part.reduced(node)
        return made is not None and self._put(graph, node, made)

    # -- matrices

    def _gemm(self, graph: Graph, node: Node) -> bool:
        """Let Gemm itself transpose."""
        done = False
        for place, name in enumerate(("transA", "transB")):
            before, turned = self._only(graph, node, place), attribute(graph, node, name)
            if before is None or not isinstance(turned, int) or not self._turns(graph, before):
                continue
            self._standing.require_visible(before.inputs[0])
            self._standing.lose(node.inputs[place])
            graph.rewire(node, node.inputs[place], before.inputs[0])
            node.attrs[name] = 1 - turned
            done = True
        return done

    def _matmul(self, graph: Graph, node: Node) -> bool:
        """A product of matrices, one of which is transposed, is a Gemm."""
        before = [self._only(graph, node, place) for place in (0, 1)]
        turned = [n is not None and self._turns(graph, n) for n in before]
        if not any(turned) or self._place.opset < 11:
            return False
        for tensor, is_turned in zip(node.inputs, turned, strict=True):
            self._standing.require_visible(tensor.inputs[0].inputs[0] if is_turned else tensor)
            rank = 2 if is_turned else self._rank(graph, tensor)
            if rank is None:
                raise NotApplicable(f"'{tensor.name}' beside a transposed matrix is not known to be a matrix")
            if rank != 2:
                return False
        dtypes = [graph.dtype(t) if graph.is_constant(t) else self._known.types.dtype(t) for t in node.inputs]
        if not any(d is not None and d.name in FLOATS for d in dtypes):
            return False
        plain = zip(before, turned, node.inputs, strict=True)
        inputs = [n.inputs[0] if n is not None and is_turned else t for n, is_turned, t in plain]
        attrs = {name: 1 for name, is_turned in zip(("transA", "transB"), turned, strict=True) if is_turned}
        (made,) = graph.add("Gemm", inputs, attrs, before=node, of=[node])
        return self._put(graph, node, made)

    def _only(self, graph: Graph, node: Node, place: int) -> Node | None:
        """The transpose that makes an input for this node alone."""
        tensor = node.inputs[place]
        before = self._transpose(graph, tensor)
        if before is None or self._standing.is_end(tensor):
            return None
        alone = all(r is node for r in tensor.outputs) and sum(t is tensor for t in node.inputs) == 1
        return before if alone and not graph.is_constant(before.inputs[0]) else None

    def _transpose(self, graph: Graph, tensor: Tensor) -> Node | None:
        """The transpose that makes a tensor."""
        before = graph.producer(tensor)
        if before is None or before.op != "Transpose" or domain_of(before):
            return None
        return before

    def _turns(self, graph: Graph, transpose: Node) -> bool:
        """Whether a transpose makes rows of the columns of a matrix."""
        return self._perm(graph, transpose) == [1, 0]
