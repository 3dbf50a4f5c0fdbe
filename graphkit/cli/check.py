"""``graphkit check``: whether TensorRT builds a model, what is wrong with it, and which pass mends that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphkit.cli._progress import Progress
from graphkit.cli._types import SizeParam
from graphkit.errors import BadOption, BadOutput

if TYPE_CHECKING:
    from graphkit.report.checks import Report

_FILE = click.Path(path_type=Path)
_FORMATS = ("text", "json", "sarif", "junit", "github")


@click.command("check", short_help="Ask TensorRT's parser and builder, without a GPU.")
@click.argument("models", metavar="MODEL…", nargs=-1, type=_FILE)
@click.option(
    "--target",
    "targets",
    metavar="SM,…",
    help="GPUs to build for, sm89,sm120 for instance; this one, else sm89, if none is named.",
)
@click.option("--trt", type=click.Choice(["auto", "tensorrt", "rtx"]), help="Which TensorRT to ask.")
@click.option(
    "--shapes", multiple=True, metavar="NAME=MIN/OPT/MAX", help="Shapes of a dynamic input; once for each."
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note"]),
    help="The least severity that makes the exit code 1.  [default: error]",
)
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave the findings of a rule out.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True, help="How to print."
)
@click.option("--report", type=_FILE, metavar="FILE", help="Write it there, not to stdout.")
@click.option("--fix", is_flag=True, help="Run the passes that mend what was found; needs -o.")
@click.option("-o", "--output", type=_FILE, metavar="OUT", help="Where --fix writes; a folder for several.")
@click.option("--repro", type=_FILE, metavar="DIR", help="Write the smallest model that still fails there.")
@click.option("--baseline", type=_FILE, metavar="FILE", help="Findings that are accepted.")
@click.option("--write-baseline", type=_FILE, metavar="FILE", help="Accept all that is found now.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Models at a time.  [default: cores]")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), metavar="S", help="Seconds a model.  [default: 300]"
)
@click.option("--memory", type=SizeParam(), help="Memory a model.  [default: 8G]")
@click.option("--config/--no-config", default=True, help="Read [tool.graphkit.check] of pyproject.toml.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules, and stop.")
@click.option("-v", "--verbose", is_flag=True, help="List every finding, with TensorRT's own words.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    models: tuple[Path, ...],
    form: str,
    report: Path | None,
    fix: bool,
    output: Path | None,
    repro: Path | None,
    write_baseline: Path | None,
    config: bool,
    list_rules: bool,
    verbose: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Look at each MODEL, and say whether TensorRT builds it for each target, and what to do if not.

    Rules look at the file; then the real parser and builder answer, each model in a process of its own.

    Exit codes: 0 nothing found that is as grave as --fail-on, 1 something was, 2 bad usage or bad input.

    \b
    graphkit check model.onnx
    graphkit check model.onnx --target sm89,sm120 --fix -o mended.onnx
    graphkit check models/*.onnx --format junit --report check.xml
    """
    if list_rules:
        _list_rules()
        return
    _check_usage(models, fix, output)
    _check_apart(models, {"--report": report, "--write-baseline": write_baseline, "-o": output})
    options = _options(given, config)
    if write_baseline is not None:
        options["baseline"] = None  # it may be the one that is made
    with Progress() as progress:
        found = _checked(models, options, progress, output, repro)
    _written_baseline(found, write_baseline)
    _tell(found, form, report, verbose, quiet)
    if not found.ok and write_baseline is None:
        sys.exit(1)


def _check_usage(models: tuple[Path, ...], fix: bool, output: Path | None) -> None:
    if not models:
        raise click.UsageError("give at least one MODEL; --rules lists what is looked for")
    missing = next((m for m in models if not m.exists()), None)
    if missing is not None:
        raise click.UsageError(f"{missing}: there is no such file")
    if fix and output is None:
        raise click.UsageError("--fix needs -o OUT: the original stays as it is")
    if output is not None and not fix:
        raise click.UsageError("-o goes with --fix; --report says where to write the findings")


def _check_apart(models: tuple[Path, ...], written: dict[str, Path | None]) -> None:
    """Raise BadOutput, before any work, for what cannot be written or would replace something of ours."""
    from graphkit.cli import _report
    from graphkit.model.atomic import check_target

    taken = {os.path.realpath(m): "a model that is checked" for m in models}
    for option, path in written.items():
        if path is None or _report.is_stdout(path) or _report.is_stream(path):
            continue
        other = taken.setdefault(os.path.realpath(path), f"what {option} writes")
        if other != f"what {option} writes":
            raise BadOutput(f"{option} {path}: is {other}; give a file of its own")
        if option != "-o":  # which may be a folder
            try:
                check_target(path)
            except BadOutput as error:
                raise BadOutput(f"{option} {error}") from error


def _options(given: dict[str, Any], config: bool) -> dict[str, Any]:
    """The command line's options over those of pyproject.toml."""
    from graphkit.check import config as settings
    from graphkit.rewrite.options import Size

    file = settings.find(Path.cwd()) if config else None
    options = {} if file is None else settings.load(file)
    if given["targets"]:
        options["target"] = [t.strip() for t in given["targets"].split(",") if t.strip()]
    options["ignore"] = [*options.get("ignore", ()), *given["ignore"]]
    plain = {k: v for k, v in given.items() if k not in ("targets", "ignore") and v not in (None, ())}
    options |= plain
    if isinstance(options.get("memory"), str):
        try:
            options["memory"] = int(Size.parse(options["memory"]))
        except ValueError as error:
            raise BadOption(f"{file}: memory is '{options['memory']}'; write 512M or 8G") from error
    options["targets"] = options.pop("target", ())
    return options


def _checked(
    models: tuple[Path, ...],
    options: dict[str, Any],
    progress: Progress,
    output: Path | None,
    repro: Path | None,
) -> Report:
    from graphkit.check.check import check

    return check(list(models), **options, output=output, repro=repro, progress=progress)


def _written_baseline(found: Report, path: Path | None) -> None:
    if path is None:
        return
    from graphkit.check.baseline import Baseline
    from graphkit.model.atomic import write_atomic

    write_atomic(path, [Baseline.dumps(found).encode()])


def _tell(found: Report, form: str, report: Path | None, verbose: bool, quiet: bool) -> None:
    from graphkit.cli import _report

    def made() -> str:
        return _rendered(found, form, verbose)

    if report is not None and not _report.is_stdout(report):
        _report.write_made(made, report)
    elif not quiet:
        click.echo(made().rstrip("\n"))


def _rendered(found: Report, form: str, verbose: bool) -> str:
    from graphkit.report import json

    if form == "json":
        return json.dumps(found)
    if form == "text":
        from graphkit.report.check_text import render

        return render(found, verbose=verbose) + "\n"
    from graphkit.report import check_formats

    if form == "sarif":
        return check_formats.sarif(found, {name: said for name, _, said in _rules()})
    return check_formats.junit(found) if form == "junit" else check_formats.github(found)


def _list_rules() -> None:
    for line in _rules():
        click.echo("{:<24}  {:<8}  {}".format(*line))


def _rules() -> Iterator[tuple[str, str, str]]:
    """Each rule, its severity and what it finds in a line; of one that cannot be used, why."""
    from graphkit.check.registry import installed
    from graphkit.check.verdicts import OWN
    from graphkit.cli.passes import summary_of
    from graphkit.errors import GraphkitError

    for name, one in installed().items():
        try:
            cls = one.load()
        except GraphkitError as error:
            yield name, "", f"cannot be used: {error}"
        else:
            yield name, cls.severity, summary_of(cls)
    yield from ((name, "", said) for name, said in OWN.items())
