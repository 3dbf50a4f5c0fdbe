"""Writes the pages that come from the code: docs/passes/, docs/rules/, docs/cli.md, the passes in README.md.

python docs/generate.py            write what is out of date
python docs/generate.py --check    write nothing; name what is out of date and exit 1
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from graphkit.check import registry as rules
from graphkit.check.verdicts import OWN
from graphkit.cli import main
from graphkit.cli.explain import page_of
from graphkit.cli.passes import summary_of
from graphkit.rewrite import registry

ROOT = Path(__file__).resolve().parent.parent
NOTICE = "<!-- Written by docs/generate.py; edit the {source} and run `make docs`. -->\n\n"
TABLE = re.compile(r"(<!-- passes: .*? -->\n).*?(<!-- /passes -->)", re.DOTALL)
WIDTH = 100
GROUPS = {
    "mend": "Mend for TensorRT",
    "simplify": "Simplify",
    "edit": "Edit",
}


def pages() -> dict[Path, str]:
    """Every generated file and the text it should have."""
    passes = builtin_passes()
    readme = ROOT / "README.md"
    folder = ROOT / "docs" / "passes"
    texts = {folder / f"{name}.md": pass_page(cls) for name, cls in passes.items()}
    texts[folder / "README.md"] = NOTICE.format(source="passes") + "# Passes\n\n" + tables(passes)
    texts |= rule_pages()
    texts[ROOT / "docs" / "cli.md"] = cli_page()
    inserted = lists(passes)
    texts[readme] = TABLE.sub(lambda m: m[1] + inserted + m[2], readme.read_text("utf-8"))
    return texts


def rule_pages() -> dict[Path, str]:
    """A page for each built-in rule, and the list of them, with the findings that no rule makes."""
    folder = ROOT / "docs" / "rules"
    every = sorted(rules.rules().items())
    found = {n: c for n, c in every if c.__module__.startswith("graphkit.check.rules.")}
    texts = {folder / f"{name}.md": pass_page(cls) for name, cls in found.items()}
    rows = [f"| [`{n}`]({n}.md) | {c.severity} | {cell(summary_of(c))} |\n" for n, c in found.items()]
    own = [f"| `{name}` | {cell(said)} |\n" for name, said in OWN.items()]
    text = "# Rules\n\n| rule | severity | what it finds |\n|---|---|---|\n" + "".join(rows)
    text += "\nFindings that no rule makes:\n\n| id | what it says |\n|---|---|\n" + "".join(own)
    texts[folder / "README.md"] = NOTICE.format(source="rules") + text
    return texts


def builtin_passes() -> dict[str, type[Any]]:
    """The passes of graphkit_passes, by name; other plug-ins that happen to be installed are left out."""
    found = sorted(registry.passes().items())
    return {name: cls for name, cls in found if cls.__module__.split(".")[0] == "graphkit_passes"}


def groups(passes: dict[str, type[Any]]) -> dict[str, dict[str, type[Any]]]:
    """The passes by group, in the order in which somebody who has a model needs them."""
    unknown = {cls.group for cls in passes.values()} - set(GROUPS)
    if unknown:
        raise SystemExit(f"group '{min(unknown)}' is in no list: add it to GROUPS of docs/generate.py")
    return {g: {n: c for n, c in passes.items() if c.group == g} for g in GROUPS}


def tables(passes: dict[str, type[Any]]) -> str:
    """A table for each group."""
    parts = [f"## {GROUPS[g]}\n\n{table(some, '')}" for g, some in groups(passes).items() if some]
    return "\n".join(parts)


def lists(passes: dict[str, type[Any]]) -> str:
    """The names alone, a line for each group: the README has no room for more."""
    lines = []
    for group, some in groups(passes).items():
        links = " · ".join(f"[`{name}`](docs/passes/{name}.md)" for name in some)
        lines.append(f"- **{GROUPS[group]}**: {links}\n")
    return "".join(lines)


def table(passes: dict[str, type[Any]], folder: str) -> str:
    rows = [f"| [`{name}`]({folder}{name}.md) | {cell(summary_of(cls))} |\n" for name, cls in passes.items()]
    return "| pass | what it does |\n|---|---|\n" + "".join(rows)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def pass_page(cls: type[Any]) -> str:
    """What ``graphkit explain`` prints; an option without help fails here: none stays undocumented."""
    for field in cls.options():
        if not field.metadata.get("help"):
            raise SystemExit(f"option '{field.name}' of {cls.kind} '{cls.name}' has no help")
    return NOTICE.format(source="docstring") + page_of(cls) + "\n"


def cli_page() -> str:
    """`--help` of the group and of every command, at a fixed width."""
    with click.Context(main, info_name="graphkit", terminal_width=WIDTH, **main.context_settings) as context:
        parts = [help_block(main, context)]
        for name in main.list_commands(context):
            command = main.get_command(context, name)
            if command is not None and not command.hidden:
                with click.Context(command, context, name, terminal_width=WIDTH) as inner:
                    parts.append(f"## graphkit {name}\n\n" + help_block(command, inner))
    return NOTICE.format(source="commands") + "# Command line\n\n" + "\n".join(parts)


def help_block(command: click.Command, context: click.Context) -> str:
    return f"```\n$ {context.command_path} --help\n{command.get_help(context)}\n```\n"


def stale() -> list[Path]:
    """Files whose text is not what the code says, and pages of passes that are gone."""
    texts = pages()
    folders = (ROOT / "docs" / "passes", ROOT / "docs" / "rules")
    gone = [p for folder in folders for p in folder.glob("*.md") if p not in texts]
    return [p for p, text in texts.items() if not p.exists() or p.read_text("utf-8") != text] + gone


def write() -> None:
    texts = pages()
    for path in stale():
        if path not in texts:
            path.unlink()
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[path], "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


def run(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    if not arguments:
        write()
        return 0
    wrong = stale()
    for path in wrong:
        print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
