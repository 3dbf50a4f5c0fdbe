"""The registry: plug-ins are found, clashes and broken ones are told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphkit import BadPass, UnknownPass, apply, load_pass, passes
from graphkit.rewrite import registry
from tests.rewrite.helpers import SILU_TWICE, ops, proto

PLUGIN = Path(__file__).parent.parent / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the example plug-in."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin"
    __import__("shutil").copytree(PLUGIN, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(folder), str(source)], check=True
    )
    return folder


@pytest.fixture
def fresh() -> Iterator[None]:
    registry.installed.cache_clear()
    yield
    registry.installed.cache_clear()


@pytest.fixture
def plugin(site: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))


def test_an_installed_plug_in_is_found(plugin: None) -> None:
    assert "double-up" in passes()
    assert registry.installed()["double-up"].package == "graphkit-example-plugin"
    step = load_pass("double-up:factor=2.5")
    assert str(step) == "double-up:factor=2.5"
    assert ops(apply(proto(SILU_TWICE), "double-up"))["Add"] == 1


def test_the_command_lists_explains_and_runs_it(site: Path, tmp_path: Path) -> None:
    def graphkit(*arguments: str) -> str:
        command = [sys.executable, "-m", "graphkit", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    listed = graphkit("passes")
    (line,) = (line for line in listed.splitlines() if line.startswith("double-up"))
    assert "Replace a product with 2 by a sum" in line and line.endswith("graphkit-example-plugin")
    assert "`factor=number` (default `2.0`)" in graphkit("explain", "double-up")
    import onnx

    onnx.save(proto(SILU_TWICE), tmp_path / "in.onnx")
    said = graphkit(
        "rewrite", str(tmp_path / "in.onnx"), "--pass", "double-up", "-o", str(tmp_path / "out.onnx")
    )
    assert "numbers held" in said and ops(onnx.load(tmp_path / "out.onnx"))["Add"] == 1


def test_an_unknown_pass_has_close_names(plugin: None) -> None:
    with pytest.raises(UnknownPass, match="no pass 'dobule-up'; did you mean double-up"):
        load_pass("dobule-up")
    with pytest.raises(UnknownPass, match="`graphkit passes` lists"):
        load_pass("zzzzzz")


def install_distribution(
    folder: Path, package: str, modules: dict[str, str], value: str = "", group: str = "graphkit.passes"
) -> None:
    """Write what pip would: a package, and the metadata with its entry point."""
    (folder / package).mkdir(parents=True)
    for name, text in {"__init__": "", **modules}.items():
        (folder / package / f"{name}.py").write_text(text)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{package} = {value or package}\n")


PASS = """
from graphkit import Pass
class P(Pass):
    "Does nothing."
    name = "{}"
    def apply(self, graph, tally):
        tally.note("here")
"""


@pytest.fixture
def folder(tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_two_passes_of_one_name(folder: Path) -> None:
    install_distribution(folder, "clash_a", {"same": PASS.format("same")})
    install_distribution(folder, "clash_b", {"same": PASS.format("same")})
    with pytest.raises(BadPass, match="two installed passes are named 'same': clash_a.same .* clash_b.same"):
        load_pass("same")


def test_a_broken_module_breaks_only_itself(folder: Path) -> None:
    install_distribution(
        folder, "partly", {"good_one": PASS.format("good-one"), "broken": "1/0", "_hidden": "1/0"}
    )
    assert load_pass("good-one").name == "good-one"
    with pytest.raises(
        BadPass, match=r"partly.broken of partly does not import: ZeroDivisionError.*\(broken.py:1\)"
    ):
        load_pass("broken")
    from click.testing import CliRunner

    from graphkit.cli import main

    shown = CliRunner().invoke(main, ["passes"]).stdout
    assert "cannot be used" in shown and "good-one" in shown


def test_file_and_pass_must_agree(folder: Path) -> None:
    install_distribution(
        folder,
        "named",
        {"one": PASS.format("two"), "none": "", "many": PASS.format("many") * 2 + "\nclass Q(P): pass"},
    )
    with pytest.raises(BadPass, match="must hold the pass 'one', and holds 'two'"):
        load_pass("one")
    with pytest.raises(BadPass, match="must hold one pass, and holds 0"):
        load_pass("none")


def test_entry_points_to_a_class_a_module_and_nothing(folder: Path) -> None:
    install_distribution(folder, "direct", {"inner": PASS.format("chosen")}, "direct.inner:P")
    install_distribution(folder, "single", {"lone": PASS.format("lone")}, "single.lone")
    assert load_pass("chosen").name == "chosen" and load_pass("lone").name == "lone"
    install_distribution(folder, "gone", {}, "no_such_package_here")
    registry.installed.cache_clear()
    with pytest.raises(BadPass, match="no module no_such_package_here"):
        passes()


def test_a_clash_or_a_broken_entry_breaks_only_itself(folder: Path) -> None:
    install_distribution(
        folder, "clash_c", {"same": PASS.format("same"), "fine_one": PASS.format("fine-one")}
    )
    install_distribution(folder, "clash_d", {"same": PASS.format("same")})
    install_distribution(folder, "lost", {}, "no_such_package_there")
    registry.installed.cache_clear()
    assert load_pass("fine-one").name == "fine-one"
    from click.testing import CliRunner

    from graphkit.cli import main

    lines = CliRunner().invoke(main, ["passes"]).stdout.splitlines()
    (clash,) = (line for line in lines if line.startswith("same "))
    assert "cannot be used: two installed passes are named 'same'" in clash and "clash_c, clash_d" in clash
    assert any(line.startswith("lost ") and "no module no_such_package_there" in line for line in lines)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("Double-UP", "did you mean double-up"),
        ("double", "did you mean double-up"),
        ("double-up,other", "give each pass its own --pass"),
        ("./fn:swish", r"a pass in a file is written ./fn.py:NAME"),
    ],
)
def test_what_was_meant(plugin: None, spec: str, said: str) -> None:
    with pytest.raises(UnknownPass, match=said):
        load_pass(spec)
