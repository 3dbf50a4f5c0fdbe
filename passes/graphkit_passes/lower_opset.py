"""The ``lower-opset`` pass."""

from __future__ import annotations

import onnx

from graphkit import BadOption, Graph, NotApplicable, Pass, Tally, option
from graphkit.model.graph import Node
from graphkit.model.operators import domain_of
from graphkit.model.scopes import lookup
from graphkit_passes._functions import Functions
from graphkit_passes._lower import drop_unread, rule_for
from graphkit_passes._lowering import Lowering
from graphkit_passes._opset_form import Form
from graphkit_passes._opsets import OLDEST, form_of, require_fit, settle
from graphkit_passes._shared import Known, root_of


class LowerOpset(Pass):
    """Bring a model to an older opset of the default domain, when every node can be said in it.

    ## Why
    A parser reads operators up to the opset of its time: TensorRT 8.6 those of opset 17. Exporting again with
    another `opset_version` needs the code, and the newest exporters write opset 18 at least.
    `onnx.version_converter` goes down for few operators, and drops local functions.

    | of the newer opset | becomes |
    |---|---|
    | axes, sizes of parts, `num_outputs` | the attribute or input of the older version, when constant |
    | attributes that only the newer version has, at their default | nothing |
    | `Pad` and `Resize` along some axes | along all |
    | `GridSample` with `linear`, `cubic` | `bilinear`, `bicubic` |
    | an operator that is not there yet | what `decompose` makes of it |
    | the rest | stays, when the older version takes its dtypes |

    ## Example
    `lower-opset:to=17` on
    ```
    <opset_import: ["": 20]>
    m = ReduceMean (x, axes)     # axes is {1}
    y = Gelu (m)
    ```
    gives
    ```
    <opset_import: ["": 17]>
    m = ReduceMean <axes = [1]> (x)
    a = Mul (m, c)               # 1 / sqrt 2
    b = Erf (a)
    d = Mul (m, half)
    e = Add (b, one)
    y = Mul (d, e)
    ```

    ## When it refuses
    The whole model stays as it is, and each node that stands in the way is named, when one of them
    - has an operator that is not there yet, and that cannot be written in another way;
    - has an attribute, an input or a dtype that the older version has not, as `Pad` with `mode=wrap`;
    - needs axes or sizes that are not constant;
    - lies in a local function, where dtypes are not known (`inline-functions` puts them in their place), and
      has changed between the two opsets.

    `to` is 11 at least: before that, axes may not be negative. A model of that opset, or an older one, stays.

    ## Source
    [versions of all operators](https://onnx.ai/onnx/operators/) ·
    [what TensorRT 8.6 reads](https://github.com/onnx/onnx-tensorrt/blob/8.6-GA/docs/operators.md)
    """

    name = "lower-opset"
    group = "mend"

    to: int = option(default=17, help="the opset to bring the model to")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Find a form for every node; only then change anything."""
        if not OLDEST <= self.to <= onnx.defs.onnx_opset_version():
            raise BadOption(f"to={self.to}: give an opset from {OLDEST} to {onnx.defs.onnx_opset_version()}")
        roots = [r for r in (graph, *graph.model.functions) if _imports(r) and r.opset > self.to]
        if not roots:
            return
        plan = _Plan(graph, self.to, {id(r.gs) for r in roots})
        plan.make()
        if plan.refused:
            plan.undo()
            for scope, node, reason in plan.refused:
                tally.refuse(scope, node, reason)
            return
        tally.rewrite(plan.settle())
        for root in roots:
            tally.rewrite()
            root.gs.opset = self.to


def _imports(root: Graph) -> bool:
    """Whether a function imports the default domain itself."""
    return bool(lookup({o.domain: o.version for o in root.gs.import_domains or []}, ""))


class _Plan:
    """What becomes of every node."""

    def __init__(self, main: Graph, opset: int, roots: set[int]) -> None:
        self._main, self._opset, self._roots = main, opset, roots
        self._known = Known(main.model)
        self._functions = Functions(main.model)
        self._forms: list[Form] = []
        self._written: list[Lowering] = []
        self.refused: list[tuple[Graph, Node, str]] = []

    def make(self) -> None:
        for scope in self._main.scopes():
            if id(root_of(scope).gs) not in self._roots:
                continue
            for node in list(scope.nodes):
                if domain_of(node) or self._functions.called_by(node) is not None:
                    continue
                try:
                    self._node(scope, node)
                except NotApplicable as error:
                    self.refused.append((scope, node, str(error)))

    def _node(self, scope: Graph, node: Node) -> None:
        low = Lowering(scope, node, self._known, self._opset)
        try:
            form = form_of(low, self._opset)
        except NotApplicable as error:
            rule = rule_for(scope, node)
            if rule is None:
                raise
            try:
                low.run(rule)
                self._written.append(low)
                require_fit(low)
            except NotApplicable as other:
                raise NotApplicable(f"{error}; {other}") from other
            return
        if form is not None:
            self._forms.append(form)

    def undo(self) -> None:
        """Take out what was written."""
        for low in self._written:
            low.undo()

    def settle(self) -> int:
        """Change the nodes; returns how many."""
        changed = [f for f in self._forms if _differs(f)]
        read = [t for f in changed for t in f.low.node.inputs] + [
            t for w in self._written for t in w.node.inputs
        ]
        for form in changed:
            settle(form)
        for low in self._written:
            low.commit()
        drop_unread(self._main, read)
        return len(changed) + len(self._written)


def _differs(form: Form) -> bool:
    node = form.low.node
    old = [t if t.name else None for t in node.inputs]
    while old and old[-1] is None:
        old.pop()
    same = len(old) == len(form.inputs) and all(a is b for a, b in zip(old, form.inputs, strict=True))
    return (
        not same
        or node.attrs.keys() != form.attrs.keys()
        or any(
            value is not form.attrs[key] and (not isinstance(value, _PLAIN) or value != form.attrs[key])
            for key, value in node.attrs.items()
        )
    )


_PLAIN = (int, float, str, bytes, list)
