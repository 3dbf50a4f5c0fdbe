"""What fuse-layer-norm and fuse-rms-norm share: a walk over every normalisation that is written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphkit import Builder, Graph, NotApplicable, Tally
from graphkit.model.graph import Node
from graphkit.model.matching import output_ids
from graphkit_passes._looking import Look
from graphkit_passes._norm_fit import Fit, Made
from graphkit_passes._norm_island import Island
from graphkit_passes._norm_match import Finder, Norm
from graphkit_passes._norm_skip import SKIPS, SkipNorm
from graphkit_passes._shared import Known


@dataclass(frozen=True)
class Target:
    """The operator that replaces a normalisation, the first opset that has it, and whether it has a bias."""

    op: str
    opset: int
    centred: bool

    def require(self, graph: Graph) -> None:
        """NotApplicable below the first opset."""
        if graph.opset < self.opset:
            raise NotApplicable(f"opset {graph.opset} has no {self.op}; convert to opset {self.opset} first")


@dataclass
class Fusing:
    """One run over a model."""

    target: Target
    tally: Tally
    island: bool = False
    moved: bool = False
    _made: Made = field(default_factory=dict)

    def run(self, main: Graph) -> None:
        """Rewrite every scope below ``main``: first the operators of others, then what is written out."""
        outputs = output_ids(main)
        with Known.during(main.model) as known:
            for scope in main.scopes():
                look = Look(scope, known, outputs)
                self._made = {}
                for node in [n for d, op in SKIPS[self.target.op] for n in look.nodes(op, domain=d)]:
                    self._try(look, node, self._skip)
                for root in Finder(look).roots():
                    if look.holds(root):
                        self._try(look, root, self._at)

    def _try(self, look: Look, node: Node, rewrite: Callable[[Look, Node], bool]) -> None:
        try:
            self.tally.rewrite(int(rewrite(look, node)))
        except NotApplicable as error:
            self.tally.refuse(look.graph, node, str(error))

    def _skip(self, look: Look, node: Node) -> bool:
        self.target.require(look.graph)
        return SkipNorm(self.target.op)(look, node)

    def _at(self, look: Look, root: Node) -> bool:
        norm = Finder(look).find(root, centred=self.target.centred)
        if norm is None:
            return False
        fit = Fit(look, norm, biased=self.target.centred, moved=self.moved)
        try:
            self.target.require(look.graph)
            self._fuse(look, norm, fit)
        except NotApplicable:
            if not self.island or not self._is_narrow(look, norm, fit):
                raise
            Island(look, fit.region, norm.core).build()
        return True

    def _fuse(self, look: Look, norm: Norm, fit: Fit) -> None:
        found = fit.fitted()
        scale, bias = fit.affine(found, self._made)
        inputs = [found.x, scale, *([bias] if bias is not None else [])]
        attrs = {"axis": -len(found.dims), "epsilon": norm.epsilon}
        op = Builder(look.graph, found.nodes[-1], found.nodes[::-1])
        if found.perm is not None:
            inputs[0] = op.Transpose(found.x, perm=found.perm)
        made = op[self.target.op](*inputs, **attrs)
        if found.perm is not None:
            made = op.Transpose(made, perm=[found.perm.index(i) for i in range(len(found.perm))])
        look.replace(found.end, made, op.made, found.nodes)

    def _is_narrow(self, look: Look, norm: Norm, fit: Fit) -> bool:
        """Whether the squares are float16, and so is the result."""
        squares = [look.dtype(n.outputs[0]) for n in fit.region if n.op in ("Pow", "Mul", "ReduceSumSquare")]
        types = {str(t) for t in [*squares, look.dtype(norm.core)]}
        return types == {"float16"}
