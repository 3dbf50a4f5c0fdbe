"""A session over one segment: results go to numpy's memory where their shapes are known."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkit.run.held import array_of, buffer, held
from graphkit.run.reference import CannotRun, brief, open_model
from graphkit.run.segments import Part
from graphkit.run.tensors import Tensors

Values = dict[str, Any]
_FAILED = re.compile(r"while running (?P<op>\S+) node\. Name:'(?P<name>.*?)' Status Message: (?P<why>.*)")


class PartSession:
    """ONNX Runtime over one part, its graph optimisations off.

    No arena and no memory patterns: what a run frees goes back to the system. No prepacked weights: they
    would be a second copy, made for one run. Raises what ONNX Runtime raises when it cannot load the part.
    """

    def __init__(self, part: Part, folder: Path | None) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
        # each session has threads of its own: those that wait must not keep cores from the one that runs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if folder is not None:
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(folder))
        self._session = onnxruntime.InferenceSession(part.model, options, providers=["CPUExecutionProvider"])
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        self._tensors_only = all(e.type.startswith("tensor(") and e.type != "tensor(string)" for e in ends)
        self.part = Part(b"", part.fed, part.fetched, part.rounded)

    def run(self, values: Mapping[str, Any], tensors: Tensors) -> Values:
        """The outputs by the names they have in the whole model, and their shapes noted in ``tensors``."""
        try:
            if not self._tensors_only:
                return self._plain(values)
            try:
                return self._bound(values, tensors, known=True)
            except Exception as error:  # as above; a shape that depends on the data may be another one now
                if "hape" not in str(error):
                    raise
                return self._bound(values, tensors, known=False)
        except Exception as error:
            raise CannotRun(_said(error)) from error

    def _bound(self, values: Mapping[str, Any], tensors: Tensors, *, known: bool) -> Values:
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        fed = {name: held(value) for name, value in values.items()}
        for name, value in fed.items():
            binding.bind_ortvalue_input(name, value)
        results: Values = {}
        for fetched, name in self.part.fetched.items():
            shape = tensors.shape(name) if known else None
            target = buffer(shape, tensors.elem_type(name)) if shape is not None else None
            if target is None:
                binding.bind_output(fetched)
            else:
                results[name] = target
                binding.bind_ortvalue_output(fetched, held(target))
        self._session.run_with_iobinding(binding)
        found = binding.get_outputs()
        for name, value in zip(self.part.fetched.values(), found, strict=True):
            if name not in results:
                assert isinstance(value, OrtValue)
                results[name] = array_of(value)
                tensors.note(name, results[name].shape, int(value.element_type()))
        return results

    def _plain(self, values: Mapping[str, Any]) -> Values:
        """For sequences, optionals and text, which cannot be bound."""
        feed = {name: value for name, value in values.items() if value is not None}
        found = self._session.run(list(self.part.fetched), feed)
        return dict(zip(self.part.fetched.values(), found, strict=True))


def _said(error: Exception) -> str:
    """What stopped a run, the node first, where ONNX Runtime names one."""
    text = brief(error)
    found = _FAILED.search(text)
    return f"node '{found['name']}' ({found['op']}): {found['why']}" if found else text


class EvaluatedPart:
    """A part that ONNX Runtime has no kernel for, on onnx's ReferenceEvaluator.

    Raises CannotRun when that cannot run it either.
    """

    def __init__(self, part: Part, folder: Path | None) -> None:
        self._model = open_model([part.model], folder, only="reference")
        self.part = Part(b"", part.fed, part.fetched, part.rounded)

    def run(self, values: Mapping[str, Any], tensors: Tensors) -> Values:
        """As PartSession's."""
        found = self._model.run({n: array_of(v) if hasattr(v, "data_ptr") else v for n, v in values.items()})
        return {name: found[fetched] for fetched, name in self.part.fetched.items()}


def give_back() -> None:
    """Return freed memory to the system: glibc keeps large aligned blocks and does not fit new ones in."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
