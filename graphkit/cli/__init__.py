"""The ``graphkit`` command: one file for each subcommand, errors on one line, exit codes 0, 1 and 2."""

from __future__ import annotations

import os
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from graphkit.errors import GraphkitError

__all__ = ["main"]

_LONGEST = 1000


class _ReaderGone(Exception):
    """Whoever read our output has gone."""


class _Commands(click.Group):
    """Finds its commands in this package: public module ``x`` holds the command ``x`` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would exit with 1, which is a refusal
            raise _ReaderGone from error
        except (KeyboardInterrupt, EOFError) as error:  # click would print an empty line first
            raise click.Abort from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "graphkit",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command; with ``standalone_mode`` every error becomes one line and an exit code."""
        # Libraries warn of what they skip, with a path into their source: none of ours to show.
        warnings.simplefilter("ignore")
        _open_streams()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            result = super().main(args, prog_name, complete_var, False, **extra)
            sys.stdout.flush()
        except GraphkitError as error:
            if os.environ.get("GRAPHKIT_TRACEBACK") and error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            _fail(str(error), error.exit_code)
        except click.ClickException as error:
            _fail(_usage(error), 2)
        except (KeyboardInterrupt, click.Abort):
            _fail("interrupted", 130)
        except (
            BrokenPipeError,
            _ReaderGone,
        ):  # the reader of our output has gone: no error of ours, and nobody to tell
            _abandon_stdout()
            sys.exit(0)
        except Exception as error:
            if os.environ.get("GRAPHKIT_TRACEBACK"):
                raise
            _fail(_unexpected(error), 2)
        sys.exit(result if isinstance(result, int) else 0)


def _open_streams() -> None:
    """A stream that the shell closed takes what is printed, and loses it."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _abandon_stdout() -> None:
    """Let Python's last flush go nowhere: it would fail once more, with an exit code of its own."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: str, code: int) -> NoReturn:
    """One line on stderr, whatever the text has in it; then exit."""
    line = " ".join(text.split()) or "unknown error"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # names come from anywhere
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _abandon_stdout()
    click.echo(f"graphkit: error: {line}", err=True)
    sys.exit(code)


def _usage(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text}; see `{context.command_path} --help`"


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "out of memory; nothing was written"
    from graphkit.rewrite.failure import describe_crash

    said = describe_crash(error)
    return f"internal error: {said}; set GRAPHKIT_TRACEBACK=1 to see where, and report it"


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from graphkit import __version__

        click.echo(f"graphkit, version {__version__}")
        ctx.exit()


@click.group(
    "graphkit",
    cls=_Commands,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Rewrite ONNX models and lose nothing: what a pass did not touch keeps its bytes, what it did its
    numbers.

    Exit codes: 0 done, 1 nothing was written: the numbers changed, or a pass failed, 2 bad usage or bad
    input. With GRAPHKIT_TRACEBACK=1 in the environment, an error shows where it was raised.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
