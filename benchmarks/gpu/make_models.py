"""Writes the models of the GPU benchmark, in a compact form that `fill.py` completes where they are used.

    python benchmarks/gpu/make_models.py OUT_DIR --models-dir DIR --models-dir DIR --minilm DIR [--small]

- `yolov5n_*`, `common_det` (ddddocr), `ppocr_*` (PaddleOCR), `fp8_conv_gemm`: what `--models-dir` has of it.
- `minilm`: the encoder and sentence embedding of a BERT, from its `config.json` and `model.safetensors`.
- `lstm`, `vit` (as timm writes it), `resnet50` and `densenet121` (the graphs in ONNX's own test data, whose
  weights are constants there): random weights from fixed seeds, activations near 1 through all layers.

`OUT_DIR/b` receives `minilm`, `OUT_DIR/a` all others. `--small` writes complete variants for development to
`OUT_DIR/small`: fewer layers, channels, pixels and words, and links to `OUT_DIR/a`.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime as ort
import torch
from fill import drawn, fill, shrink
from onnx import numpy_helper
from torch import Tensor, nn

FILES = {  # the benchmark's name: the file's
    "yolov5n_op12": "yolov5n_op12.onnx",
    "yolov5n_dynamic": "yolov5n_op17_dynamic.onnx",
    "common_det": "common_det.onnx",
    "ppocr_det": "ch_PP-OCRv4_det_infer.onnx",
    "ppocr_rec": "ch_PP-OCRv4_rec_infer.onnx",
    "ppocr_cls": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "fp8_conv_gemm": "fp8_conv_gemm.onnx",
}
TABLES = {"word": 2000, "position": 64, "token_type": 2}  # of BERT's embeddings: rows in the small variant


class Block(nn.Module):
    """A pre-norm transformer block with one linear layer for queries, keys and values, as timm writes it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.heads = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6), heads
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim * 4), nn.GELU(), nn.Linear(dim * 4, dim))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        size = self.proj.in_features // self.heads
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * size**-0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, blocks: int, pixels: int, dim: int = 192, heads: int = 3, patch: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, (pixels // patch) ** 2 + 1, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(dim, 1e-6), nn.Linear(dim, 1000)
        for parameter in self.parameters():  # no two alike, which the exporter would merge
            parameter.data += 0.03 * torch.randn(parameter.shape)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls, x], dim=1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


class Recurrent(nn.Module):
    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.lstm, self.gru, self.head = nn.LSTM(32, hidden), nn.GRU(hidden, hidden), nn.Linear(hidden, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(x)[0])[0])


class Bert(nn.Module):
    """BERT's encoder with the given weights, and the mean of its last states, normalised."""

    def __init__(self, config: dict[str, float], weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.config, self.w = config, {k: nn.Parameter(torch.from_numpy(v)) for k, v in weights.items()}
        self.all = nn.ParameterDict({k.replace(".", "_"): v for k, v in self.w.items()})

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        parameters = (self.w[f"{name}.LayerNorm.{kind}"] for kind in ("weight", "bias"))
        return nn.functional.layer_norm(x, x.shape[-1:], *parameters, self.config["layer_norm_eps"])

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        words, places, kinds = (self.w[f"embeddings.{k}_embeddings.weight"] for k in TABLES)
        heads, size = (self.config[k] for k in ("num_attention_heads", "hidden_size"))
        x = self.norm(words[ids] + kinds[types] + places[: ids.shape[1]], "embeddings")
        (b, n, c), bias = x.shape, (1.0 - mask[:, None, None, :].to(x.dtype)) * -10000.0
        for p in (f"encoder.layer.{i}" for i in range(self.config["num_hidden_layers"])):
            parts = [self.linear(x, f"{p}.attention.self.{k}") for k in ("query", "key", "value")]
            q, k, v = (t.view(b, n, heads, c // heads).transpose(1, 2) for t in parts)
            scores = (q @ k.transpose(-1, -2)) / (size // heads) ** 0.5 + bias
            context = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, c)
            x = self.norm(self.linear(context, f"{p}.attention.output.dense") + x, f"{p}.attention.output")
            inner = nn.functional.gelu(self.linear(x, f"{p}.intermediate.dense"))
            x = self.norm(self.linear(inner, f"{p}.output.dense") + x, f"{p}.output")
        kept = mask[:, :, None].to(x.dtype)
        mean = (x * kept).sum(1) / kept.sum(1)
        return x, mean / mean.pow(2).sum(1, keepdim=True).sqrt()


def export(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    """What the TorchScript exporter makes of `module`, once ONNX Runtime agreed with PyTorch about it."""
    file, args = io.BytesIO(), tuple(inputs.values())
    names = {"input_names": list(inputs), "output_names": outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), args, file, dynamo=False, opset_version=17, **names)
        expected = module(*args)
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    for ours, theirs in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=5e-5)
    return onnx.load_from_string(file.getvalue())


def minilm(folder: Path, small: bool) -> onnx.ModelProto:
    config = json.loads((folder / "config.json").read_text())
    data, weights = (folder / "model.safetensors").read_bytes(), {}
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if entry.get("dtype") == "F32":
            begin, end = (start + offset for offset in entry["data_offsets"])
            values = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
            rows = TABLES.get(name.split("_embeddings.")[0].removeprefix("embeddings.")) if small else None
            weights[name] = values[:rows].astype(np.float16).astype(np.float32)
    config |= {"num_hidden_layers": 2} if small else {}
    ids = torch.arange(1000, 1016 if small else 1032)[None]
    inputs = {"input_ids": ids, "attention_mask": (ids < 1012).long(), "token_type_ids": 0 * ids}
    return export(Bert(config, weights), inputs, ["last_hidden_state", "sentence_embedding"])


def light(name: str, seed: int, small: bool) -> onnx.ModelProto:
    """ONNX's light model `name` with seeded weights; with a quarter of the channels if `small`."""
    model = onnx.load(Path(onnx.backend.test.__file__).parent / "data" / "light" / f"light_{name}.onnx")
    graph, model.ir_version = model.graph, 8  # weights need not be inputs as in the file's version 3
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape"]:
        tensors[node.output[0]] = np.zeros(tensors.pop(node.input[0]), np.float32)
        graph.node.remove(node)
    after = {name: node for node in graph.node for name in node.input}
    inputs = [v for v in graph.input if v.name in after and v.name not in tensors]
    del graph.initializer[:], graph.input[:]
    graph.input.extend(inputs)
    places = [(node, at, key) for node in graph.node for at, key in enumerate(node.input) if key in tensors]
    for seen, (node, at, key) in enumerate(places):
        shape = tuple(d // 4 if small and d >= 32 and d != 1000 else d for d in tensors[key].shape)
        op, reader = node.op_type, after.get(node.output[0], node)
        mean, std = 0.0, 0.1
        if op in ("Conv", "Gemm") and at == 1:
            std = (2 / np.prod(shape[1:])) ** 0.5
        elif reader.op_type == "Sum" and at == 1:  # of a branch and a shortcut: activations must not grow
            mean = 0.3 if reader.input[0] == node.output[0] else 0.8
        elif at in (1, 4) or (op, reader.op_type) == ("Unsqueeze", "Mul"):
            mean = 1.0
        values = drawn(shape, seed * 1000 + 500 + seen, mean, std)
        values = tensors[key] // (4 if small else 1) if op == "Reshape" else values
        graph.initializer.append(numpy_helper.from_array(values, key))
    if small:
        for dim in graph.input[0].type.tensor_type.shape.dim[2:]:
            dim.dim_value = 64
        for attribute in (a for n in graph.node if n.op_type == "AveragePool" for a in n.attribute):
            attribute.ints[:] = [min(value, 2) for value in attribute.ints]  # ResNet's last one sees 2 x 2
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path, help="the directory to write to")
    parser.add_argument("--models-dir", type=Path, action="append", default=[], help="third-party files")
    parser.add_argument("--minilm", type=Path, help="config.json and model.safetensors of a BERT")
    parser.add_argument("--small", action="store_true", help="variants for development")
    args = parser.parse_args()
    a, b = (args.out / part for part in (("small", "small") if args.small else ("a", "b")))

    def write(model: onnx.ModelProto, path: Path, seed: int | None = None) -> None:
        shrink(model, seed)
        if args.small:
            fill(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        print(f"{path}: {len(model.graph.node)} nodes, {path.stat().st_size:,} bytes")

    torch.manual_seed(0)
    blocks, pixels = (2, 64) if args.small else (12, 224)
    vit = export(VisionTransformer(blocks, pixels), {"x": torch.randn(1, 3, pixels, pixels)}, ["logits"])
    write(vit, a / "vit.onnx", 1)
    write(export(Recurrent(), {"x": torch.randn(7, 1, 32)}, ["y"]), a / "lstm.onnx", 4)
    write(light("resnet50", 2, args.small), a / "resnet50.onnx", 2)
    write(light("densenet121", 3, args.small), a / "densenet121.onnx", 3)
    if args.minilm:
        write(minilm(args.minilm, args.small), b / "minilm.onnx")
    for name, file in FILES.items():
        target = a / f"{name}.onnx"
        target.unlink(missing_ok=True)
        for source in [d / file for d in args.models_dir if (d / file).is_file()][:1]:
            target.symlink_to(f"../a/{name}.onnx") if args.small else shutil.copyfile(source, target)
            print(f"{target}: from {source}")


if __name__ == "__main__":
    main()
