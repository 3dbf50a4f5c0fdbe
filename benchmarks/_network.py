"""The graph of a LLaMA-like decoder: what `make_transformer.py` writes, node by node."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

ALIGNMENT = 4096  # a page, so that the data file can be mapped
MASKED = -1e9  # added to the score of a token that must not be seen


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes of the model; the defaults give 2.2 GB of float32 weights."""

    layers: int = 40
    hidden: int = 1024
    heads: int = 16
    kv_heads: int = 4
    ffn: int = 3072
    vocab: int = 32000
    silu: str = "sigmoid"  # "sigmoid": Mul(x, Sigmoid(x)); "swish": the Swish of opset 24
    opset: int = 24
    seed: int = 0

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def check(self) -> None:
        """Raises ValueError when the sizes do not fit each other."""
        if self.hidden % self.heads or self.head % 2:
            raise ValueError(f"hidden ({self.hidden}) over heads ({self.heads}) must be an even number")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.silu == "swish" and self.opset < 24:
            raise ValueError("Swish needs opset 24")


@dataclass(frozen=True)
class Weight:
    """One tensor in the data file: normal values of standard deviation `scale` around `mean`."""

    shape: tuple[int, ...]
    offset: int
    mean: float
    scale: float


@dataclass
class Builder:
    """Collects nodes, small initializers, and where each weight will lie in the data file."""

    location: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    weights: list[Weight] = field(default_factory=list)
    end: int = 0  # bytes of the data file so far

    def __call__(self, op: str, *inputs: str, name: str, **attrs: Any) -> str:
        """Adds a node called `name/op` and returns the name of its output."""
        path = f"{name}/{op}"
        self.nodes.append(helper.make_node(op, inputs, [f"{path}_output_0"], path, **attrs))
        return f"{path}_output_0"

    def scalar(self, value: float, name: str) -> str:
        """A Constant node, as exporters write them."""
        return self("Constant", name=name, value=numpy_helper.from_array(np.array(value, np.float32)))

    def small(self, values: npt.ArrayLike, dtype: type = np.int64) -> str:
        """An initializer kept inside the model; the same values are stored once."""
        array: npt.NDArray[Any] = np.array(values, dtype)
        label = "_".join(map(str, array.ravel())) if array.size < 8 else f"{zlib.crc32(array.tobytes()):08x}"
        name = f"const_{array.dtype}_{label}" if array.ndim else f"scalar_{array.dtype}_{label}"
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int, mean: float = 0.0, scale: float = 0.02) -> str:
        """A float32 initializer in the data file."""
        size = 4 * math.prod(shape)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", self.end), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor
        self.weights.append(Weight(shape, self.end, mean, scale))
        self.end += -(-size // ALIGNMENT) * ALIGNMENT
        return name


def rms_norm(b: Builder, x: str, size: int, name: str) -> str:
    """x / sqrt(mean(x²) + 1e-6) · weight, over the last axis."""
    square = b("Pow", x, b.scalar(2.0, f"{name}/exponent"), name=name)
    mean = b("ReduceMean", square, b.small([-1]), name=name, keepdims=1)
    root = b("Sqrt", b("Add", mean, b.scalar(1e-6, f"{name}/epsilon"), name=name), name=name)
    inverse = b("Div", b.small(1, np.float32), root, name=name)
    scaled = b("Mul", x, inverse, name=f"{name}/normalize")
    weight = b.weight(f"{name.strip('/').replace('/', '.')}.weight", size, mean=1.0)
    return b("Mul", weight, scaled, name=name)


def linear(b: Builder, x: str, rows: int, columns: int, name: str) -> str:
    """x · weight, without a bias."""
    weight = b.weight(f"{name.strip('/').replace('/', '.')}.weight", rows, columns)
    return b("MatMul", x, weight, name=name)


def rotary(b: Builder, x: str, head: int, angles: tuple[str, str], name: str) -> str:
    """Rotates the two halves of each head by the position: x · cos + (−x2, x1) · sin."""
    last, half, end = b.small([-1]), b.small([head // 2]), b.small([head])
    first = b("Slice", x, b.small([0]), half, last, name=f"{name}/first")
    second = b("Slice", x, half, end, last, name=f"{name}/second")
    turned = b("Concat", b("Neg", second, name=name), first, name=name, axis=-1)
    cosine = b("Mul", x, angles[0], name=f"{name}/cos")
    return b("Add", cosine, b("Mul", turned, angles[1], name=f"{name}/sin"), name=name)


def repeat(b: Builder, x: str, expanded: str, merged: str, name: str) -> str:
    """Gives each query head its key or value head: [b, kv, s, d] -> [b, heads, s, d]."""
    grouped = b("Unsqueeze", x, b.small([2]), name=name)
    return b("Reshape", b("Expand", grouped, expanded, name=name), merged, name=name)


def sizes(b: Builder, x: str, name: str) -> tuple[str, str]:
    """The dynamic batch and sequence of x, as tensors of one element."""
    shape = b("Shape", x, name=name)
    found = []
    for axis, label in enumerate(("batch", "sequence")):
        dim = b("Gather", shape, b.small(axis), name=f"{name}/{label}", axis=0)
        found.append(b("Unsqueeze", dim, b.small([0]), name=f"{name}/{label}"))
    return found[0], found[1]


def attention(b: Builder, c: Config, x: str, angles: tuple[str, str], mask: str, name: str) -> str:
    """Grouped-query attention with rotary positions; x is [batch, sequence, hidden]."""
    batch, sequence = sizes(b, x, name)
    heads, groups, kv, head = (b.small([n]) for n in (c.heads, c.heads // c.kv_heads, c.kv_heads, c.head))

    def dims(label: str, *parts: str) -> str:
        return b("Concat", *parts, name=f"{name}/{label}", axis=0)

    def split(label: str, count: int, shape: str) -> str:
        y = linear(b, x, c.hidden, count * c.head, f"{name}/{label}_proj")
        y = b("Reshape", y, shape, name=f"{name}/{label}")
        return b("Transpose", y, name=f"{name}/{label}", perm=[0, 2, 1, 3])

    kv_shape = dims("kv_shape", batch, sequence, kv, head)
    query = split("q", c.heads, dims("q_shape", batch, sequence, heads, head))
    key, value = split("k", c.kv_heads, kv_shape), split("v", c.kv_heads, kv_shape)
    query = rotary(b, query, c.head, angles, f"{name}/rotary_q")
    key = rotary(b, key, c.head, angles, f"{name}/rotary_k")
    expanded = dims("expanded_shape", batch, kv, groups, sequence, head)
    merged = dims("merged_shape", batch, heads, sequence, head)
    key = repeat(b, key, expanded, merged, f"{name}/repeat_k")
    value = repeat(b, value, expanded, merged, f"{name}/repeat_v")
    mixed = weighted_values(b, c, query, key, value, mask, name)
    mixed = b("Reshape", mixed, dims("out_shape", batch, sequence, b.small([c.hidden])), name=name)
    return linear(b, mixed, c.hidden, c.hidden, f"{name}/o_proj")


def weighted_values(b: Builder, c: Config, query: str, key: str, value: str, mask: str, name: str) -> str:
    """softmax(q · kᵀ / √d + mask) · v, as [batch, sequence, heads, head]."""
    key = b("Transpose", key, name=f"{name}/key", perm=[0, 1, 3, 2])
    scores = b("MatMul", query, key, name=f"{name}/scores")
    scores = b("Mul", scores, b.small(1 / math.sqrt(c.head), np.float32), name=f"{name}/scale")
    weights = b("Softmax", b("Add", scores, mask, name=f"{name}/mask"), name=name, axis=-1)
    mixed = b("MatMul", weights, value, name=f"{name}/values")
    return b("Transpose", mixed, name=f"{name}/mixed", perm=[0, 2, 1, 3])


def mlp(b: Builder, c: Config, x: str, name: str) -> str:
    """down(silu(gate(x)) · up(x))."""
    gate = linear(b, x, c.hidden, c.ffn, f"{name}/gate_proj")
    if c.silu == "swish":
        active = b("Swish", gate, name=f"{name}/act")
    else:
        active = b("Mul", gate, b("Sigmoid", gate, name=f"{name}/act"), name=f"{name}/act")
    gated = b("Mul", active, linear(b, x, c.hidden, c.ffn, f"{name}/up_proj"), name=name)
    return linear(b, gated, c.ffn, c.hidden, f"{name}/down_proj")


def positions(b: Builder, c: Config) -> tuple[tuple[str, str], str]:
    """The rotary cosines and sines [sequence, head], and the causal mask [batch, 1, sequence, sequence]."""
    name = "/model/positions"
    length = b("Gather", b("Shape", "input_ids", name=name), b.small(1), name=name, axis=0)
    index = b("Range", b.small(0), length, b.small(1), name=name)
    rows, columns = (b("Unsqueeze", index, b.small([axis]), name=f"{name}/{axis}") for axis in (1, 0))
    frequencies = b.small(10000.0 ** -(np.arange(0, c.head, 2) / c.head), np.float32)
    angle = b("Mul", b("Cast", rows, name=name, to=TensorProto.FLOAT), frequencies, name=name)
    angle = b("Concat", angle, angle, name=name, axis=-1)
    angles = b("Cos", angle, name=name), b("Sin", angle, name=name)
    none, masked = b.small(0, np.float32), b.small(MASKED, np.float32)
    future = b("Where", b("Greater", columns, rows, name=name), masked, none, name=f"{name}/causal")
    real = b("Cast", "attention_mask", name=f"{name}/padding", to=TensorProto.BOOL)
    real = b("Unsqueeze", real, b.small([1, 2]), name=f"{name}/padding")
    padding = b("Where", real, none, masked, name=f"{name}/padding")
    return angles, b("Add", future, padding, name=f"{name}/mask")


def network(b: Builder, c: Config) -> str:
    """All nodes, from `input_ids` to the name of the last tensor."""
    angles, mask = positions(b, c)
    table = b.weight("model.embed_tokens.weight", c.vocab, c.hidden)
    x = b("Gather", table, "input_ids", name="/model/embed_tokens")
    for index in range(c.layers):
        name = f"/model/layers.{index}"
        normed = rms_norm(b, x, c.hidden, f"{name}/input_layernorm")
        mixed = attention(b, c, normed, angles, mask, f"{name}/self_attn")
        x = b("Add", x, mixed, name=f"{name}/attention")
        normed = rms_norm(b, x, c.hidden, f"{name}/post_attention_layernorm")
        x = b("Add", x, mlp(b, c, normed, f"{name}/mlp"), name=name)
    x = rms_norm(b, x, c.hidden, "/model/norm")
    return linear(b, x, c.hidden, c.vocab, "/lm_head")
