"""What each tool does with one model, in a process of its own: `python _contenders.py NAME IN OUT [OPTIONS]`.

A contender is a function that imports its tool and returns the work to do, so that imports and work are timed
apart. OPTIONS is JSON: `shapes` {input: sizes} to fix, `passes` for graphkit. Each tool is used the way its
own documentation uses it; where it can leave the weights on the disk, that way is measured too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[], object]


def graphkit(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """graphkit's passes through its function."""
    from graphkit import rewrite
    from graphkit.model import graph, pattern  # noqa: F401  rewrite() imports them when it is first called

    verify = bool(options.get("verify"))
    return lambda: rewrite(model, options.get("passes", []), out, verify=verify)


def onnx_copy(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnx: load and save, weights and all."""
    import onnx

    return lambda: save(onnx.load(model), out, model)


def onnx_structure(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnx: load and save the graph alone; the weights stay where they are."""
    import onnx

    return lambda: onnx.save(onnx.load(model, load_external_data=False), out)


def graphsurgeon_copy(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnx-graphsurgeon: import and export, weights and all."""
    import onnx
    import onnx_graphsurgeon as gs

    return lambda: save(gs.export_onnx(gs.import_onnx(onnx.load(model))), out, model)


def graphsurgeon_swish(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnx-graphsurgeon: the same rewrite by hand, the weights left where they are."""
    import onnx
    import onnx_graphsurgeon as gs

    def work() -> None:
        graph = gs.import_onnx(onnx.load(model, load_external_data=False))
        for sigmoid in [node for node in graph.nodes if node.op == "Sigmoid"]:
            readers = sigmoid.outputs[0].outputs
            if len(readers) == 1 and readers[0].op == "Mul" and sigmoid.inputs[0] in list(readers[0].inputs):
                out_tensor = readers[0].outputs[0]
                readers[0].outputs.clear()
                graph.layer(
                    name=readers[0].name, op="Swish", inputs=[sigmoid.inputs[0]], outputs=[out_tensor]
                )
        onnx.save(gs.export_onnx(graph.cleanup().toposort()), out)

    return work


def onnxscript_swish(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnxscript: the same rewrite as a rule of its rewriter, the weights left where they are."""
    import onnx_ir as ir
    from onnxscript.rewriter import pattern, rewrite

    def swish(op: Any, x: Any) -> Any:
        return op.Swish(x)

    def spelled_out(op: Any, x: Any) -> Any:
        return op.Mul(x, op.Sigmoid(x))

    rules = pattern.RewriteRuleSet([pattern.RewriteRule(spelled_out, swish)], commute=True)
    return lambda: ir.save(rewrite(ir.load(model), rules), out)


def onnxscript_copy(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnx_ir, which onnxscript stands on: load and save, the weights left where they are."""
    import onnx_ir as ir

    return lambda: ir.save(ir.load(model), out)


def onnxscript_optimize(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnxscript: its optimizer, the weights left where they are."""
    import onnx_ir as ir
    from onnxscript import optimizer

    def work() -> None:
        source = ir.load(model) if "shapes" not in options else ir.from_proto(fixed(model, options))
        ir.save(optimizer.optimize(source), out)

    return work


def onnxslim(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnxslim: slim."""
    import onnxslim as tool

    shapes = [f"{name}:{','.join(map(str, dims))}" for name, dims in options.get("shapes", {}).items()]
    return lambda: tool.slim(str(model), str(out), input_shapes=shapes or None)


def onnxsim(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnxsim: simplify, from file to file."""
    import onnxsim as tool

    shapes = options.get("shapes")
    return lambda: tool.simplify(str(model), output_path=str(out), overwrite_input_shapes=shapes)


def onnxoptimizer(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """onnxoptimizer: its default passes, to a fixed point."""
    import onnxoptimizer as tool

    return lambda: save(tool.optimize(fixed(model, options), fixed_point=True), out, model)


def onnxruntime(model: Path, out: Path, options: dict[str, Any]) -> Work:
    """ONNX Runtime: the model after its basic optimisations."""
    import onnxruntime as ort

    def work() -> None:
        settings = ort.SessionOptions()
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(out)
        data = fixed(model, options).SerializeToString() if "shapes" in options else str(model)
        ort.InferenceSession(data, settings, providers=["CPUExecutionProvider"])

    return work


def fixed(model: Path, options: dict[str, Any]) -> Any:
    """The model with the input sizes of the options, and without the shapes that were noted before."""
    import onnx

    proto = onnx.load(model)
    for value in proto.graph.input:
        for dim, size in zip(
            value.type.tensor_type.shape.dim, options.get("shapes", {}).get(value.name, ()), strict=False
        ):
            dim.dim_value = size
    if options.get("shapes"):
        del proto.graph.value_info[:]
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return proto


def save(proto: Any, out: Path, model: Path) -> None:
    """onnx.save; the weights go to one data file beside it when those of `model` were in one."""
    import onnx

    if model.with_name(f"{model.name}.data").exists():
        onnx.save(proto, out, save_as_external_data=True, location=f"{out.name}.data")
    else:
        onnx.save(proto, out)


CONTENDERS: dict[str, Callable[[Path, Path, dict[str, Any]], Work]] = {
    function.__name__: function
    for function in (
        *(graphkit, onnx_copy, onnx_structure, graphsurgeon_copy, graphsurgeon_swish, onnxscript_copy),
        *(onnxscript_swish, onnxscript_optimize, onnxslim, onnxsim, onnxoptimizer, onnxruntime),
    )
}


def main(name: str, model: str, out: str, options: str = "{}") -> None:
    """Does one contender's work and reports the seconds of its imports and of its work."""
    start = time.perf_counter()
    work = CONTENDERS[name](Path(model), Path(out), json.loads(options))
    imported = time.perf_counter()
    work()
    seconds = {"imports": imported - start, "seconds": time.perf_counter() - imported}
    print(f"\n@report {json.dumps(seconds)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
