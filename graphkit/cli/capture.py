"""``graphkit capture``: run an engine on the GPU and save what it computed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphkit.cli._progress import Progress
from graphkit.cli._types import SizeParam
from graphkit.errors import BadOutput

if TYPE_CHECKING:
    from graphkit.run.capture_file import Capture

    Dims = dict[str, tuple[int, ...]]

_DIMS = re.compile(r"(?P<name>.+)=(?P<dims>\d+(?:x\d+)*|scalar)")


@click.command("capture", short_help="Save what an engine computes, kernel by kernel.")
@click.argument("model", metavar="ONNX", type=click.Path(path_type=Path))
@click.argument("engine", metavar="ENGINE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Where to write the capture.",
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Inputs: a .npz, a .npy, a folder of those, or Polygraphy's .json or data loader .py; else made.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="The seed of inputs that are made.",
)
@click.option(
    "--sets",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How many sets of inputs to make.",
)
@click.option(
    "--shapes",
    multiple=True,
    metavar="DIMS",
    help="Shape of a made input, NAME=1x3x640x640, repeatable; or min, opt, max of the engine's profile, or "
    "several of these: min,opt,max.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How often to run on each set of inputs; every run is captured.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    help="Runs before the first captured one: 3 with --specialization lazy, else 0.",
)
@click.option(
    "--specialization",
    type=click.Choice(["none", "lazy", "eager"]),
    default="none",
    show_default=True,
    help="Whether TensorRT-RTX fits kernels to the present shapes; with lazy, values change between runs.",
)
@click.option(
    "--trt",
    type=click.Choice(["auto", "tensorrt", "rtx"]),
    default="auto",
    show_default=True,
    help="Which TensorRT runs the engine: auto takes TensorRT where it is installed, else TensorRT-RTX.",
)
@click.option("--compress", is_flag=True, help="Deflate the file: smaller, and slower to write.")
@click.option("--other-model", is_flag=True, help="Accept an engine of another ONNX file.")
@click.option(
    "--run-results",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the values as Polygraphy's run results (JSON).",
)
@click.option(
    "--memory",
    type=SizeParam(),
    default="512M",
    show_default=True,
    help="How many bytes of tensors to hold before they go to the disk.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    model: Path,
    engine: Path,
    output: Path,
    inputs: Path | None,
    seed: int,
    sets: int,
    shapes: tuple[str, ...],
    iterations: int,
    warmup: int | None,
    specialization: str,
    trt: str,
    compress: bool,
    other_model: bool,
    run_results: Path | None,
    memory: int,
    quiet: bool,
) -> None:
    """Run ENGINE, built from ONNX, on the GPU, and save inputs, outputs and the tensors between its kernels.

    OUT is one file that numpy can open; `graphkit diff ONNX OUT` compares it with the model on any machine,
    without GPU and TensorRT. The tensors between kernels are there when `graphkit build` made the engine
    (without --plain); of other engines, inputs and outputs are saved.

    \b
    graphkit capture model.onnx model.engine -o run.capture
    graphkit capture model.onnx model.engine -o run.capture --inputs images.npz --iterations 2
    """
    from graphkit.model.apart import check_apart
    from graphkit.model.atomic import check_target
    from graphkit.run.capture import capture, files_read

    if run_results is not None:
        if check_target(run_results) == check_target(output):
            raise BadOutput(f"--run-results {run_results}: is OUT too; give it a file of its own")
        check_apart(run_results, files_read(model, engine, inputs))
    points, dims = _shapes(shapes)
    with Progress() as progress:
        done = capture(
            model,
            engine,
            output,
            inputs=inputs,
            seed=seed,
            sets=sets,
            shapes=points or dims or None,
            iterations=iterations,
            warmup=warmup,
            specialization=specialization,
            trt=trt,
            compress=compress,
            memory=memory,
            other_model=other_model,
            progress=progress,
        )
    if run_results is not None:
        _export(done, run_results)
    if not quiet:
        click.echo(_told(done, output))


def _shapes(given: Sequence[str]) -> tuple[list[str], Dims]:
    """(points of the profile, dims by input) that ``--shapes`` asks for."""
    from graphkit.run.engine_io import POINTS

    points: list[str] = []
    dims: Dims = {}
    for text in given:
        found = _DIMS.fullmatch(text)
        if found is not None:
            sizes = () if found["dims"] == "scalar" else found["dims"].split("x")
            dims[found["name"]] = tuple(int(n) for n in sizes)
        elif set(text.split(",")) <= set(POINTS):
            points += text.split(",")
        else:
            raise click.UsageError(f"--shapes '{text}': write NAME=1x3x640x640, or min, opt, max")
    if points and dims:
        raise click.UsageError(
            "--shapes: dims and points of the profile contradict each other; give one kind"
        )
    return points, dims


def _export(done: Capture, path: Path) -> None:
    from graphkit.run.capture_file import save_run_results

    save_run_results(done, path)


def _told(done: Capture, output: Path) -> str:
    """What was captured, in one line or two."""
    first = done.runs[0]
    size = output.stat().st_size / 1e6
    runs = f"{len(done.runs)} runs" if len(done.runs) > 1 else "1 run"
    outputs = f"{len(first.outputs)} output{'s' if len(first.outputs) != 1 else ''}"
    line = f"{output}: {runs}, {len(first.tensors)} tensors between kernels, {outputs}, {size:.1f} MB"
    skipped = done.meta.get("skipped")
    if skipped:
        line += f"\nleft out, of dtypes that a capture cannot hold: {', '.join(sorted(skipped))}"
    if not done.marked:
        line += (
            "\nthe engine reports nothing between its kernels; build it with graphkit build, without --plain"
        )
    return line
