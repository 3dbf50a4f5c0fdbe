"""Which operators each version of TensorRT and TensorRT-RTX takes, and in which forms.

TensorRT-RTX 1.4.0.76, 1.5.0.114, 1.6.1.120 and 1.7.1.116 were measured: each of the 1,884 node tests of
onnx 1.23 was given to the parser and the builder, as it is and with all inputs but one as initializers; an
operator counts as known when some test of it builds. TensorRT: the importers that
https://github.com/onnx/onnx-tensorrt registers in its branches 8.0-GA to 10.1-GA; from there on its
docs/Changelog.md (to 10.15) and the notes of 11.0 (https://github.com/onnx/onnx-tensorrt/pull/1054).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from graphkit import BadOption
from graphkit_passes._attention_forms import odd_form
from graphkit_passes._lower_grid import mode_of
from graphkit_passes._lowering import Lowering
from graphkit_passes._shared import FLOATS

Version = tuple[int, int]
_FIRST = {
    ("8.0", ""): "NonMaxSuppression",
    ("8.2", "1.4"): "Einsum GatherND IsNaN Round Scatter ScatterElements ScatterND Sign",
    ("8.4", "1.4"): "HardSwish Shrink Xor",
    ("8.5", "1.4"): "GridSample MeanVarianceNormalization Mod OneHot RandomNormal RandomNormalLike Trilu",
    ("8.5", ""): "NonZero RoiAlign",
    ("8.6", "1.4"): "GroupNormalization IsInf LayerNormalization",
    ("9.1", "1.4"): "CastLike",
    ("9.2", "1.4"): "Hardmax",
    ("10.0", "1.4"): "Gelu Mish",
    ("10.1", ""): "DeformConv",
    ("10.4", "1.4"): "BlackmanWindow HammingWindow HannWindow",
    ("10.5", "1.4"): "STFT",
    ("10.14", "1.4"): "Attention",
    ("10.15", "1.4"): "RMSNormalization RotaryEmbedding TensorScatter",
    ("11.0", "1.5"): "Swish",
    ("", ""): "AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor "
    "CausalConvWithState CenterCropPad Col2Im Compress ConcatFromSequence ConvInteger CumProd DFT Det "
    "DynamicQuantizeLinear ImageDecoder LinearAttention MatMulInteger MaxRoiPool MaxUnpool "
    "MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement "
    "OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct "
    "SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss "
    "SplitToSequence StringConcat StringNormalizer StringSplit SwiGLU TfIdfVectorizer Unique",
}
"""First versions of TensorRT and of TensorRT-RTX (empty: none); all others are known since 8.0 and 1.4."""

SINCE = {op: first for first, ops in _FIRST.items() for op in ops.split()}
_OLDEST = {"trt": (8, 0), "rtx": (1, 4)}
_NEWEST = {"trt": (11, 99), "rtx": (1, 7)}
_CALLED = {"trt": "TensorRT", "rtx": "TensorRT-RTX"}


@dataclass(frozen=True)
class Target:
    """A version of TensorRT (``line`` is ``trt``) or of TensorRT-RTX (``rtx``)."""

    line: str
    version: Version

    def __str__(self) -> str:
        return f"{_CALLED[self.line]} {self.version[0]}.{self.version[1]}"

    def knows(self, op: str) -> bool:
        """Whether it has an importer for an operator of the default domain."""
        first = SINCE.get(op, ("8.0", "1.4"))[self.line == "rtx"]
        return bool(first) and self.version >= _version(first)

    def objects(self, low: Lowering) -> str:
        """What it has against the form of a node whose operator it knows; empty for nothing."""
        form = _FORMS.get(low.node.op)
        return form(low, self) if form is not None else ""


def _version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def parse(text: str) -> Target:
    """``rtx-1.4`` or ``trt-10.3``. BadOption for what is none, and for versions that nothing is known of."""
    found = re.fullmatch(r"(rtx|trt)-(\d+(?:\.\d+)?)(?:\.\d+)*", text)
    if found is None:
        raise BadOption(f"'{text}' is no target; write rtx-1.4, or trt-10.3")
    line, version = found[1], _version(found[2])
    if not _OLDEST[line] <= version <= _NEWEST[line]:
        low, high = ".".join(map(str, _OLDEST[line])), ".".join(map(str, _NEWEST[line])).replace(".99", "")
        raise BadOption(f"'{text}': what {_CALLED[line]} knows is on record from {low} to {high}")
    return Target(line, version)


def _float_mod(low: Lowering, target: Target) -> str:
    floats = low.dtype(low.x).name in FLOATS
    return "it takes the Mod of floats with fmod=1 alone" if floats and not low.attr("fmod") else ""


def _grid(low: Lowering, target: Target) -> str:
    """https://github.com/onnx/onnx-tensorrt/pull/1060"""
    renamed = target.line == "rtx" and target.version >= (1, 6)
    if not renamed and low.graph.opset >= 20 and "mode" in low.node.attrs and mode_of(low) != "nearest":
        return "it takes the modes of opset 20 for nearest"
    if not renamed and low.graph.opset >= 20 and low.rank(low.x) != 4:
        return "it samples images of two dims alone"
    return ""


def _few_outputs(low: Lowering, target: Target) -> str:
    return "it takes one output alone" if low.has(1) or low.has(2) else ""


def _no_bool(low: Lowering, target: Target) -> str:
    return "it does not reduce booleans" if low.dtype(low.x).name == "bool" else ""


def _only(*dtypes: str) -> Callable[[Lowering, Target], str]:
    def form(low: Lowering, target: Target) -> str:
        found = low.dtype(low.x).name
        return "" if found in dtypes else f"it has no {low.node.op} of {found}"

    return form


def _fixed_eye(low: Lowering, target: Target) -> str:
    dims = low.shape(low.x) or (None,)
    return "" if all(isinstance(d, int) for d in dims) else "it needs a fixed shape"


_FORMS: dict[str, Callable[[Lowering, Target], str]] = {
    "Attention": lambda low, target: odd_form(low),
    "Celu": _only("float32", "float64"),
    "EyeLike": _fixed_eye,
    "GridSample": _grid,
    "LayerNormalization": _few_outputs,
    "Mod": _float_mod,
    "Range": _only("float32", "int32", "int64"),
    "ReduceMax": _no_bool,
    "ReduceMin": _no_bool,
}
"""Forms that TensorRT-RTX 1.4 to 1.7 refuse, or read wrongly; TensorRT has the same parser."""
