"""``graphkit rewrite``: run passes on a model and write the result, or refuse to."""

from __future__ import annotations

from pathlib import Path

import click

from graphkit.cli._progress import Progress
from graphkit.cli._types import PassSpec, SizeParam
from graphkit.errors import BadOutput, GraphkitError


@click.command("rewrite")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option(
    "--pass",
    "specs",
    multiple=True,
    type=PassSpec(),
    metavar="SPEC",
    help="A pass, NAME[:KEY=VALUE,…] or ./FILE.py:NAME.",
)
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML list of passes, run before --pass.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT", help="Where to write."
)
@click.option("--verify/--no-verify", default=True, help="Compare outputs before and after; on by default.")
@click.option(
    "--verify-memory",
    type=SizeParam(),
    default="4G",
    show_default=True,
    help="The most memory that verification takes.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the inputs that it makes.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write what was done as JSON."
)
@click.option("-v", "--verbose", is_flag=True, help="List every refusal.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    source: Path,
    specs: tuple[str, ...],
    recipe: Path | None,
    output: Path,
    verify: bool,
    verify_memory: int,
    seed: int,
    report: Path | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Rewrite the model IN with passes, in the order given, and write it to OUT.

    Nothing that a pass does not touch changes by a byte. The rewritten model is checked and run beside the
    original; when the numbers differ, nothing is written, and the exit code is 1.

    \b
    graphkit rewrite model.onnx --pass silu -o out.onnx
    graphkit rewrite model.onnx --pass fold-constants:max-size=1M --pass ./mine.py:trim -o out.onnx
    """
    from graphkit.report import json, text
    from graphkit.rewrite.pipeline import rewrite

    if report is not None:
        _check_report(report, source, output)
    try:
        with Progress() as progress:
            done = rewrite(
                source,
                specs,
                output,
                recipe=recipe,
                verify=verify,
                verify_memory=verify_memory,
                seed=seed,
                progress=progress,
            )
    except GraphkitError as error:
        so_far = getattr(error, "report", None)
        if report is not None and so_far is not None:
            json.write(so_far, report)
        if so_far is not None and not quiet:
            click.echo(text.render(so_far, verbose=verbose))
        raise
    if report is not None:
        json.write(done, report)
    if not quiet:
        click.echo(text.render(done, verbose=verbose))


def _check_report(report: Path, source: Path, output: Path) -> None:
    """A report that cannot be written is said before any work; so is one that would overwrite a model."""
    from graphkit.report.json import check_report

    for role, path in (("IN", source), ("OUT", output)):
        if report.resolve() == path.resolve():
            raise BadOutput(f"--report {report}: is {role} too; give the report a file of its own")
    check_report(report)
