"""What TensorRT's parser and builder say about a model, in plain words: which node, why, and what to do.

The texts were gathered from the 1,884 models of ONNX's node tests and real models, on TensorRT-RTX 1.4 and
1.7. Names of passes are data here: what they name need not be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkit.run.trt import Trt, api

__all__ = ["Complaint", "of_builder", "of_parser", "summary"]


@dataclass(frozen=True)
class Complaint:
    """One thing that TensorRT refuses.

    ``node`` is the node's name as TensorRT was given it, ``index`` its place among its graph's nodes (-1:
    not said), ``stack`` the local functions around it, outermost first; ``mend`` the spec of a pass that
    may help, or empty; ``raw`` what TensorRT said.
    """

    reason: str
    op: str = ""
    node: str = ""
    index: int = -1
    stack: tuple[str, ...] = ()
    mend: str = ""
    raw: str = ""
    stage: str = "parse"

    @property
    def where(self) -> str:
        """Operator, node and functions; empty when TensorRT names none."""
        what = " ".join(p for p in (self.op, f"'{self.node}'" if self.node else "") if p)
        return f"{what} in {' > '.join(self.stack)}" if self.stack else what

    @property
    def needs_gpu(self) -> bool:
        """Whether this says only that the builder cannot answer without a GPU."""
        return self.stage == "build" and bool(_NEEDS_GPU.search(self.raw))

    def __str__(self) -> str:
        advice = f"; try --pass {self.mend}" if self.mend else ""
        return f"{self.where}: {self.reason}{advice}" if self.where else f"{self.reason}{advice}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# (pattern of what TensorRT says, plain reason, pass that may help). {0}, {1}… are the pattern's groups.
_SAID: tuple[tuple[str, str, str], ...] = (
    (r"DOUBLE|\bdouble\b|FLOAT64", "float64 is not supported; export the model in float32", "fp64-to-fp32"),
    (
        r"Failed to convert ONNX date type|Unsupported ONNX data type|convertDtype",
        "a tensor of a dtype that TensorRT lacks (int16, uint16, uint32, uint64, float64, string, complex)",
        "",
    ),
    (
        r"must be an initializer|is_weights\(\)",
        "an input that has to be a constant is computed, or is an input of the model",
        "inline-parameters",
    ),
    (
        r"input has type Int32 but must have type FP8",
        "int32 cannot be dequantized: keep this bias in float and leave its Q/DQ pair out",
        "drop-bias-qdq",
    ),
    (
        r"legalUINT8|type (?:is )?UInt8|of UINT8",
        "uint8 is supported for inputs and outputs only",
        "retarget-uint8",
    ),
    (
        r"unsupported input type of BOOL",
        "bool is not supported here; cast to int32 before and back after",
        "",
    ),
    (
        r"only supports? \w+ nodes with one output|more? than 1 outputs|mode than 1 outputs",
        "all but the first output have to go unused",
        "",
    ),
    (r"reshape changes volume|Shape Error", "its shapes do not fit: {0}", "fix-shapes"),
    (
        r"axis is not a constant|Cannot infer squeeze dimensions|isDynamic\(shape\)",
        "its axes or sizes are not known before it runs",
        "fix-shapes",
    ),
    (
        r"is a shape|shape tensor",
        "its sizes are an input of the model; make them constants",
        "fold-constants",
    ),
    (r"isInFlight", "its sizes are computed in a way that this version cannot follow", "fold-constants"),
    (r"training_mode|isTraining", "it is in training mode; export the model for inference", ""),
)
_BUILDER: tuple[tuple[str, str, str], ...] = (
    (
        r"generateForCurrent",
        "this version needs a GPU to build this model, whatever it is built for; build where one is, or with "
        "a newer version",
        "",
    ),
    (
        r"Cannot compile for target\(s\) (\w+), because the model contains HW-specific datatypes: (\w+)",
        "{0} has no {1}",
        "",
    ),
    (
        r"target compute capability .*not supported|Unsupported SM",
        "that compute capability is not supported",
        "",
    ),
    (
        r"CHECK\(dtype == .*(?:Float|Half|BF16|FP8E4M3)",
        "int8 convolutions in Q/DQ build from TensorRT-RTX 1.7 on",
        "",
    ),
    (
        r"composite_op->is_decomposable",
        "this Attention has no kernel of its own; export it as MatMul and Softmax",
        "",
    ),
    (
        r"cannot be quantized by (\S+?)\. You might want to add a DQ node before",
        "it computes on the int8 tensor '{0}'; put a DequantizeLinear before it",
        "",
    ),
    (
        r"has datatype (\w+) but is not (?:consumed|produced) by",
        "{0} is supported between QuantizeLinear and DequantizeLinear only",
        "",
    ),
    (
        r"zero_point. which is not an initializer",
        "the zero point of its Q/DQ has to be a constant",
        "fold-constants",
    ),
    (
        r"must be same as inferred output type (\w+)",
        "TensorRT computes this output as {0}, not as the model declares it",
        "",
    ),
    (r"no optimization profile has been defined", "its inputs have dynamic shapes; give --shapes", ""),
    (
        r"has no runners that implement it|Could not find any implementation",
        "it has no kernel on this machine; one that TensorRT implements as a plugin needs a GPU to build",
        "",
    ),
    (
        r"\((\S+): Input dimensions with this name have different constant values",
        "the model calls several dims '{0}', and --shapes gives them different sizes",
        "fix-shapes",
    ),
    (
        r"different constant values or have contradictory IOptimizationProfile|kMIN|kOPT|kMAX",
        "--shapes asks for a size that the model does not allow, or two inputs that share one differ",
        "",
    ),
    (
        r"out of memory|OutOfMemory|insufficient memory",
        "not enough memory; give less with --workspace, or more",
        "",
    ),
    (r"graphScope\.cpp.*kUNDEFINED", "a bug of this version: it loses the scope of nodes in a subgraph", ""),
)
_NEEDS_GPU = re.compile(
    r"generateForCurrent|has no runners that implement it|Could not find any implementation"
)
_UNKNOWN = re.compile(r"Op type (\S+) is not supported|No importer registered for op: (\S+)")
_NOISE = re.compile(r"catchCudaError|^\s*$")
_NODE = re.compile(r"ForeignNode\[([^\].]+)|\(([^\s():]+): [a-z]")
# Operators that a pass writes in others, and the first version that needs it no more.
_MENDS = {"Swish": ("silu", {"tensorrt_rtx": (1, 5)})}


# numpy's names of the dtypes that a network's inputs and outputs can have; float64 becomes float32 there.
_KNOWN = frozenset(
    {"float32", "float16", "bfloat16", "float64", "int64", "int32", "int8", "uint8", "int4", "bool"}
    | {"float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn"}
)


def of_parser(parser: api.OnnxParser, trt: Trt, dtypes: Mapping[str, str] | None = None) -> list[Complaint]:
    """One complaint for each error of a parser, in its order; ``dtypes`` are those of the model's inputs and
    outputs, by name: an error about one of them does not say which."""
    found = []
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        # local_function_stack, node_name and node_operator came with TensorRT 8.6 to 10
        stack = tuple(getattr(error, "local_function_stack", list)())
        op = getattr(error, "node_operator", str)()
        name = getattr(error, "node_name", str)()
        reason, mend = _plain(error.desc(), op, error.func(), trt)
        odd = [f"'{n}' is {d}" for n, d in (dtypes or {}).items() if d not in _KNOWN]
        if not op and odd and "a dtype that TensorRT lacks" in reason:
            reason = f"{', '.join(odd)}, a dtype that TensorRT lacks"
        found.append(Complaint(reason, op, name, error.node(), stack, mend, error.desc()))
    return found


def _plain(said: str, op: str, func: str, trt: Trt) -> tuple[str, str]:
    unknown = _UNKNOWN.search(said)
    if unknown or said.strip() in ("false", "Assertion failed: false", ""):
        # An importer that is there to say no says only `false`, from a function called checkOp.
        return _missing(op or func.removeprefix("check"), trt)
    found = _translated(said, _SAID)
    if found is not None:
        return found
    return _tidy(said), ""


def _missing(op: str, trt: Trt) -> tuple[str, str]:
    mend, since = _MENDS.get(op, ("", {}))
    first = since.get(trt.name)
    reason = f"{trt.title} does not support {op or 'this operator'}"
    if first is not None and trt.numbers < first:
        reason += f" ({'.'.join(map(str, first))} does)"
    return reason, mend


def _translated(said: str, table: Sequence[tuple[str, str, str]]) -> tuple[str, str] | None:
    for pattern, reason, mend in table:
        match = re.search(pattern, said, re.DOTALL)
        if match is not None:
            groups = match.groups() or (_tidy(said),)
            return reason.format(*groups), mend
    return None


def _tidy(said: str) -> str:
    """The part of a message that is for people: of ``a && "b"`` the b, of an assertion what follows it."""
    quoted = re.search(r'&& "([^"]+)"', said)
    if quoted:
        return quoted[1].rstrip(".")
    text = " ".join(said.split())
    inner = re.search(r"Error Code \d+: [\w ]+\((.*?)(?: In [\w:()]+ at |$)", text)
    text = inner[1] if inner else text
    text = re.sub(r"^Assertion failed: .*?(?<!:): (?=[A-Z0-9])", "", text)
    text = re.sub(r"^Parameter check failed, condition: \S.*?\. (?=[A-Z])", "", text)
    text = re.sub(r"^Parameter check failed, condition: ", "TensorRT needs ", text)
    text = re.sub(r"^\S+: (?=[A-Z])", "", text)  # the node's name, which is told beside it
    return text.rstrip(". ")[:300] or "TensorRT gives no reason"


def of_builder(lines: Iterable[str]) -> list[Complaint]:
    """What the builder's errors say, each once; what only follows from another is left out."""
    found: dict[str, Complaint] = {}
    for line in lines:
        if _NOISE.search(line):
            continue
        reason, mend = _translated(line, _BUILDER) or (_tidy(line), "")
        node = _NODE.search(line)
        name = next((g for g in node.groups() if g), "") if node else ""
        found.setdefault(reason, Complaint(reason, node=name, mend=mend, raw=line, stage="build"))
    return list(found.values())


def summary(complaints: Sequence[Complaint], limit: int = 0) -> list[str]:
    """One line for each kind of complaint (operator and reason), the first node of each named."""
    kinds: dict[tuple[str, str, str], list[Complaint]] = {}
    for one in complaints:
        kinds.setdefault((one.op, one.reason, one.mend), []).append(one)
    lines = []
    for same in kinds.values():
        others = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
        advice = f"; try --pass {same[0].mend}" if same[0].mend else ""
        where = f"{same[0].where}{others}: " if same[0].where else ""
        lines.append(f"{where}{same[0].reason}{advice}")
    return lines[:limit] if limit else lines
