"""``graphkit diff``: where two models, or a model and its engine, compute different things."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphkit.cli._progress import Progress
from graphkit.cli._types import SizeParam, ToleranceParam

if TYPE_CHECKING:
    from graphkit.report.diffs import DiffReport

_FILE = click.Path(path_type=Path)


@click.command("diff", short_help="Compare two models, or a model and its engine.")
@click.argument("a", metavar="A", type=_FILE)
@click.argument("b", metavar="B", type=_FILE)
@click.option(
    "--trt",
    type=click.Choice(["auto", "tensorrt", "rtx"]),
    default="auto",
    show_default=True,
    help="Which TensorRT to use: auto takes TensorRT where it is installed, else TensorRT-RTX.",
)
@click.option(
    "--atol",
    multiple=True,
    type=ToleranceParam(),
    metavar="[TENSOR=]X",
    help="The absolute error to allow, of all tensors or of one, in place of the automatic tolerance.",
)
@click.option(
    "--rtol",
    multiple=True,
    type=ToleranceParam(),
    metavar="[TENSOR=]X",
    help="The same, as a share of the reference; both add up.",
)
@click.option(
    "--inputs",
    multiple=True,
    type=_FILE,
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
    "--shapes",
    multiple=True,
    metavar="NAME=DIMS",
    help="Shape of a made input, images=1x3x64x64; or three, min/opt/max: all three are run.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How many sets of inputs to make.",
)
@click.option(
    "--determinism",
    type=click.IntRange(min=2),
    metavar="N",
    help="Run the engine N times on the same inputs: every bit has to agree.",
)
@click.option(
    "--same-rows",
    is_flag=True,
    help="Also run with one row repeated along the batch: all have to come out alike.",
)
@click.option("--rebuild", is_flag=True, help="See inside an engine without marks: build it again with them.")
@click.option(
    "--reference-precision",
    type=click.Choice(["float32", "model"]),
    default="float32",
    show_default=True,
    help="What the reference computes half precision in: float32, or as the model says.",
)
@click.option(
    "--memory",
    type=SizeParam(),
    default="512M",
    show_default=True,
    help="What tensors may take; weights come on top.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="FILE.py:NAME",
    help="A metric of your own: a function of two arrays, reference and actual.",
)
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="Write a report, by the ending .json, .html or .xml (JUnit); - is JSON on stdout. Repeatable.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    default=10,
    show_default=True,
    help="How many kernels (or nodes) the table lists.",
)
@click.option(
    "--no-drift",
    is_flag=True,
    help="Do not build the engine a second time, without marks, to prove that marks changed no kernel.",
)
@click.option(
    "--model",
    type=_FILE,
    metavar="ONNX",
    help="The model that both were built from, when A and B are engines.",
)
@click.option(
    "--other-model", is_flag=True, help="Accept an engine or a capture of another ONNX file than A."
)
@click.option("-v", "--verbose", is_flag=True, help="List every kernel, output and unpaired tensor.")
def command(
    a: Path,
    b: Path,
    reports: tuple[Path, ...],
    metrics: tuple[str, ...],
    top: int,
    verbose: bool,
    no_drift: bool,
    **options: Any,
) -> int:
    """Compare B with A, tensor by tensor, and name the first place where they part.

    A is an ONNX model; B is an engine of it, a capture of one, or another ONNX model. Or both are engines or
    captures. An engine is run here, on the GPU; captures and models need neither GPU nor TensorRT.

    Exit codes: 0 they match, 1 they do not, 2 they could not be compared.

    \b
    graphkit diff model.onnx model.engine
    graphkit diff model.onnx run.capture --report diff.html
    graphkit diff before.onnx after.onnx --atol logits=1e-3
    graphkit diff old.engine new.engine --model model.onnx
    graphkit diff old.capture new.capture
    """
    from graphkit.cli import _diff_report
    from graphkit.compare.custom import load_metrics
    from graphkit.engine.layers import layers_path

    read = {"A": a, "B": b, "the file of --model": options["model"]}
    read |= {"the layer map of A": layers_path(a), "the layer map of B": layers_path(b)}
    read |= {f"--inputs {path}": path for path in options["inputs"]}
    read |= {f"the file of --metric {m}": Path(m.rpartition(":")[0]) for m in metrics}
    _diff_report.check(reports, {role: path for role, path in read.items() if path is not None})
    for name in ("atol", "rtol"):
        options[name] = _by_tensor(options[name])
    options["metrics"] = load_metrics(metrics)
    from graphkit.compare.diff import diff

    with Progress() as progress:
        found = diff(a, b, **options, drift=not no_drift, progress=progress)
    _show(found, reports, verbose, top)
    for name in _unknown(found, options):
        click.echo(f"warning: {name}: no tensor of that name was compared", err=True)
    _diff_report.write(found, reports)
    return 0 if found.ok else 1


def _unknown(found: DiffReport, options: Mapping[str, Any]) -> list[str]:
    """Tolerances, as options, of tensors that were not compared."""
    known = {o.name for o in found.outputs} | {"", *(t for x in found.layers for t in (x.tensor, *x.paired))}
    given = {n: options[n] for n in ("atol", "rtol") if isinstance(options[n], dict)}
    return [f"--{n} {tensor}" for n, bounds in given.items() for tensor in bounds if tensor not in known]


def _by_tensor(given: Sequence[tuple[str, float]]) -> Mapping[str, float] | float | None:
    """One number for all, or numbers by tensor, "" standing for all others; None when none is given."""
    values = dict(given)
    return values.get("") if set(values) <= {""} else values


def _show(found: DiffReport, reports: Sequence[Path], verbose: bool, top: int) -> None:
    """Print for a person: on stderr when a report goes to stdout."""
    from graphkit.cli import _report
    from graphkit.report import diff_text

    err = any(_report.is_stdout(path) for path in reports)
    stream = sys.stderr if err else sys.stdout
    width = max(60, shutil.get_terminal_size().columns) if stream.isatty() else 110
    with suppress(BrokenPipeError):  # a reader that has gone changes nothing of what was found
        click.echo(diff_text.render(found, verbose=verbose, top=top, width=width), err=err)
