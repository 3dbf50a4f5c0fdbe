"""``graphkit build``: an engine from an ONNX file, and which ONNX nodes each of its kernels computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphkit.cli._progress import Progress
from graphkit.cli._types import SizeParam
from graphkit.errors import BuildFailed

if TYPE_CHECKING:
    from graphkit.engine.layers import LayerMap
    from graphkit.run.build import BuildReport

_FILE = click.Path(path_type=Path)
_MOST = 20  # kinds of complaint that are listed without --verbose


@click.command("build", short_help="Build an engine, and the map of its kernels.")
@click.argument("model", metavar="MODEL", type=_FILE)
@click.option("-o", "--output", required=True, type=_FILE, metavar="OUT", help="Where to write the engine.")
@click.option(
    "--trt",
    type=click.Choice(["auto", "tensorrt", "rtx"]),
    default="auto",
    show_default=True,
    help="Which TensorRT to use: auto takes TensorRT where it is installed, else TensorRT-RTX.",
)
@click.option(
    "--shapes",
    multiple=True,
    metavar="NAME=MIN/OPT/MAX",
    help="Smallest, usual and largest shape of a dynamic input, or one for all three; once for each input.",
)
@click.option(
    "--compute-capability",
    "compute_capabilities",
    multiple=True,
    metavar="X.Y",
    help="The GPU to build for, 8.9 for instance: it need not be here (TensorRT-RTX); once for each.",
)
@click.option(
    "--plain",
    is_flag=True,
    help="Mark nothing and list no kernels: capture and diff then see outputs only.",
)
@click.option(
    "--tf32/--no-tf32",
    default=True,
    help="Let float32 convolutions and products round to TF32; on by default.",
)
@click.option("--workspace", type=SizeParam(), metavar="SIZE", help="The most scratch memory, as in 2G.")
@click.option(
    "--optimization-level",
    type=click.IntRange(0, 5),
    metavar="0-5",
    help="How long to look for fast kernels: 0 takes what comes first, 5 tries most.",
)
@click.option(
    "--timing-cache", type=_FILE, metavar="FILE", help="Timings of kernels: read, and kept up to date."
)
@click.option("-v", "--verbose", is_flag=True, help="List every kernel with its ONNX nodes.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    model: Path,
    output: Path,
    trt: str,
    shapes: tuple[str, ...],
    compute_capabilities: tuple[str, ...],
    plain: bool,
    tf32: bool,
    workspace: int | None,
    optimization_level: int | None,
    timing_cache: Path | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Build the ONNX file MODEL into the engine OUT, and write which kernels it has beside it.

    OUT.layers.json (model.layers.json for model.engine) lists every kernel with its tensors and the ONNX
    nodes that it computes. The tensors between kernels are marked, so that `graphkit capture` and `graphkit
    diff` can read them; the kernels stay the same. It builds for the GPU of this machine, or, without any,
    for the one that --compute-capability names.

    Exit codes: 0 built, 1 TensorRT refuses the model, 2 bad usage or bad input; only 0 writes files.

    \b
    graphkit build model.onnx -o model.engine
    graphkit build model.onnx -o model.engine --compute-capability 8.9
    graphkit build model.onnx -o model.engine --shapes images=1x3x320x320/1x3x640x640/4x3x640x640
    """
    from graphkit.run.build import build

    try:
        with Progress() as progress:
            done = build(
                model,
                output,
                trt=trt,
                plain=plain,
                shapes=shapes,
                compute_capabilities=compute_capabilities,
                tf32=tf32,
                workspace=workspace,
                optimization_level=optimization_level,
                timing_cache=timing_cache,
                progress=progress,
            )
    except BuildFailed as error:
        if not quiet:
            _complain(error, verbose)
        raise
    if not quiet:
        for line in _told(done, verbose):
            click.echo(line)
        for warning in done.warnings:
            click.echo(f"warning: {warning}", err=True)


def _complain(error: BuildFailed, verbose: bool) -> None:
    """What was refused, a line for each kind; all of it only when there is more than the error line says."""
    from graphkit.model.disk import shown
    from graphkit.run.complaints import summary

    lines = [str(f) for f in error.findings] if verbose else summary(error.findings)
    if len(lines) < 2:
        return
    for line in lines if verbose else lines[:_MOST]:
        click.echo(f"refused: {shown(line, 400)}", err=True)
    if not verbose and len(lines) > _MOST:
        click.echo(f"refused: {len(lines) - _MOST} more kinds; --verbose lists them", err=True)


def _told(done: BuildReport, verbose: bool) -> list[str]:
    layers = done.layers[0]
    name, number = next((n, v) for n, v in done.versions.items() if n != "graphkit")
    targets = ", ".join(layers.meta["compute_capabilities"]) or "this GPU"
    took = f"{done.seconds['total']:.1f} s"
    lines = [f"{done.engine}: {done.size:,} bytes for {targets}, by {name} {number} in {took}"]
    nodes = {n for k in layers.kernels for n in k.onnx_nodes}
    source = {"log": "the build log", "inspector": "the engine"}.get(layers.source, "nowhere")
    told = (
        f"{_count(len(layers.kernels), 'kernel')} with {_count(len(nodes), 'ONNX node')}, read from {source}"
    )
    lines.append(f"{done.layers_file}: {told}")
    renamed = len(layers.meta["renamed"])
    if renamed:
        lines.append(f"{_count(renamed, 'node')} got a name of its own: 'renamed' there says which")
    marks = "are marked: graphkit diff can read them" if done.marked else "are not marked"
    lines.append(f"the tensors between kernels {marks}")
    return [*lines, *_kernels(layers)] if verbose else lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _kernels(layers: LayerMap) -> list[str]:
    """A line for each kernel: its type and name, what it writes, and its nodes."""
    from graphkit.model.disk import shown

    lines = []
    for kernel in layers.kernels:
        made = ", ".join(f"{t.dtype}{list(t.dims)}" for t in kernel.outputs)
        nodes = ", ".join(kernel.onnx_nodes) or "-"
        lines.append(shown(f"  {kernel.type} {kernel.name} -> {made or '-'}: {nodes}", 300))
    return lines
