"""The ``custom-op`` rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.report.checks import Finding

_STANDARD = frozenset({"", "ai.onnx"})


class CustomOp(Rule):
    """An operator of a domain of its own, for which TensorRT looks for a plugin.

    ## Why
    The parser asks for a plugin of the operator's name; whether the program that builds has it cannot be told
    from the file. Nothing is loaded to find out: a model is untrusted input.

    ## Example
    ```
    y = com.example.FancyNms (boxes, scores)
    ```

    ## Mend
    Load the plugin library where the engine is built and run; or export without the operator.

    ## Source
    [Plugins](https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/extending-custom-layers.html)
    """

    name = "custom-op"
    severity = "note"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Nodes of other domains that no local function of the model stands for."""
        own = {(f.gs.domain, f.gs.name) for f in subject.model.functions}
        for graph, node in subject.nodes():
            domain = str(node.domain or "")
            if domain not in _STANDARD and (domain, node.op) not in own:
                yield self.finding(
                    f"is of the domain '{domain}': TensorRT needs a plugin for it", graph=graph, node=node
                )
