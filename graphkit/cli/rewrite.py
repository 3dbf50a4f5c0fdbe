"""``graphkit rewrite``: run passes on a model and write the result, or refuse to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from graphkit.cli._progress import Progress
from graphkit.cli._types import PassSpec, SizeParam
from graphkit.errors import BadOutput, GraphkitError

if TYPE_CHECKING:
    from graphkit.report.records import RewriteReport


class _Rewrite(click.Command):
    """Says what to do about the usual slips in a command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        try:
            left = super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if error.param is None or error.param.name != "output":
                raise
            said = "Missing option '-o' / '--output': say where to write, for instance -o out.onnx"
            raise click.UsageError(said, ctx) from None
        if left and not ctx.resilient_parsing:
            ctx.fail(_unexpected(left[0], ctx.params.get("specs") or ()))
        return left


def _unexpected(extra: str, specs: Sequence[str]) -> str:
    """What a word that belongs to no option may have been meant for."""
    if specs and "=" in extra:
        last = specs[-1]
        return f"options follow a colon: {last}{',' if ':' in last else ':'}{extra}"
    if specs and not extra.endswith((".onnx", ".onnxtxt")):
        return f"'{extra}' follows no option; give each pass its own --pass: --pass {extra}"
    return f"Got unexpected extra argument ({extra}); one model is read, and -o says where to write"


@click.command("rewrite", cls=_Rewrite, short_help="Run passes on a model.")
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
    metavar="RECIPE",
    help="A TOML list of passes, a file or one by name (trt), run before --pass.",
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
@click.option(
    "--verify-seconds",
    type=click.FloatRange(min=1),
    metavar="S",
    default=600,
    show_default=True,
    help="The most time that verification takes.",
)
@click.option(
    "--require-proof", is_flag=True, help="Write nothing, and exit with 1, when verification cannot run."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="The seed of the inputs that it makes.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what was done as JSON; - is stdout.",
)
@click.option("-v", "--verbose", is_flag=True, help="List every refusal and every type of node.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    source: Path,
    specs: tuple[str, ...],
    recipe: Path | None,
    output: Path,
    verify: bool,
    verify_memory: int,
    verify_seconds: float,
    require_proof: bool,
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
    graphkit rewrite model.onnx --pass ./mine.py:trim:n=2 -o out.onnx
    """
    from graphkit.cli import _report
    from graphkit.rewrite.pipeline import prepare

    if require_proof and not verify:
        raise click.UsageError("--require-proof and --no-verify contradict each other; leave one out")
    file = None if report is None or _report.is_stdout(report) else report
    if file is not None:
        _report.check(file)
    try:
        with Progress() as progress:
            job = prepare(
                source,
                specs,
                output,
                recipe=recipe,
                verify=verify,
                verify_memory=verify_memory,
                verify_seconds=verify_seconds,
                require_proof=require_proof,
                seed=seed,
                progress=progress,
            )
            if file is not None:
                _report.check_apart(file, job, recipe)
            done = job.run()
    except GraphkitError as error:
        if error.report is not None:
            failed = _tell(error.report, report, verbose, quiet)
            error.args = (f"{error}; {failed}",) if failed else error.args
        raise
    failed = _tell(done, report, verbose, quiet)
    if failed:
        raise BadOutput(f"{failed}; OUT {output} was written all the same")


def _tell(done: RewriteReport, report: Path | None, verbose: bool, quiet: bool) -> str:
    """Write the report, and print it for a person: on stderr when the JSON goes to stdout.

    Returns why the report could not be written; empty when it was, or none was asked for.
    """
    from graphkit.cli import _report
    from graphkit.report import json, text

    failed = ""
    in_stdout = report is not None and _report.is_stdout(report)
    if in_stdout:
        _echo(json.dumps(done), newline=False)
    elif report is not None:
        try:
            _report.write(done, report)
        except BadOutput as error:
            failed = str(error)
    shown = "" if quiet else text.render(done, verbose=verbose)
    if shown:
        _echo(_wrapped(shown, sys.stderr if in_stdout else sys.stdout), err=in_stdout)
    return failed


def _echo(text: str, *, newline: bool = True, err: bool = False) -> None:
    """Print; a reader that has gone changes nothing of what was done."""
    with suppress(BrokenPipeError):
        click.echo(text, nl=newline, err=err)


def _wrapped(text: str, stream: TextIO) -> str:
    """Lines broken between words on a terminal; as they are in a file or a pipe."""
    if not stream.isatty():
        return text
    import shutil
    import textwrap

    width = max(40, shutil.get_terminal_size().columns)
    wrap = textwrap.TextWrapper(
        width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(part for line in text.split("\n") for part in wrap.wrap(line) or [""])
