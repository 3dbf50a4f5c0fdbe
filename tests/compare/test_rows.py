"""Equal rows of a batch: told apart only by what rounding cannot do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from graphkit.compare.rows import rows_differ, same_rows
from graphkit.errors import BadInput
from graphkit.run.capture_file import CapturedRun, CaptureWriter

RNG = np.random.default_rng(9)


def run_of(
    inputs: Mapping[str, np.ndarray],
    tensors: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray] = {},
) -> CapturedRun:
    with CaptureWriter(None, {}) as writer:
        writer.begin_run("run")
        for name, value in inputs.items():
            writer.add_input(name, value)
        for name, value in tensors.items():
            writer.add_tensor(name, value)
        for name, value in outputs.items():
            writer.add_output(name, value)
    return writer.capture.runs[0]


def alike(dtype: str = "float32", batch: int = 4) -> np.ndarray:
    return np.repeat(RNG.standard_normal((1, 6, 5)), batch, axis=0).astype(dtype)


X = alike()


def test_the_first_row_is_repeated_along_the_batch_of_every_input_that_has_one() -> None:
    values = {
        "x": RNG.standard_normal((4, 3)).astype(np.float32),
        "ids": np.arange(8).reshape(4, 2),
        "table": np.arange(6.0).reshape(3, 2),
        "scalar": np.float32(2).reshape(()),
    }
    with same_rows(run_of(values, {})) as path:
        found = dict(np.load(path))
    assert not path.exists()
    assert set(found) == set(values)
    for name in ("x", "ids"):
        assert found[name].shape == values[name].shape and found[name].dtype == values[name].dtype
        assert all(np.array_equal(row, values[name][0]) for row in found[name])
    assert all(np.array_equal(found[name], values[name]) for name in ("table", "scalar"))


@pytest.mark.parametrize("shape", [(1, 3), ()])
def test_a_batch_of_one_row_shows_nothing(shape: tuple[int, ...]) -> None:
    with (
        pytest.raises(BadInput, match="no input has a batch of more than one row"),
        same_rows(run_of({"x": np.zeros(shape, np.float32)}, {})),
    ):
        pass


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_that_are_alike_but_for_rounding_are_fine(dtype: str) -> None:
    y = alike(dtype)
    y[2] = np.nextafter(y[2], np.array(np.inf, dtype), dtype=dtype)
    assert rows_differ(run_of({"x": X}, {"y": y}, {"z": alike()})) is None


def test_the_first_tensor_and_its_row_are_named() -> None:
    y, z = alike(), alike()
    y[3, 2, 2] += np.abs(y[0]).max() / 10
    z[1] = 0
    assert rows_differ(run_of({"x": X}, {"w": alike(), "y": y}, {"z": z})) == (
        "y",
        3,
        pytest.approx(0.1, rel=1e-3),
    )
    name, row, _ = rows_differ(run_of({"x": X}, {"w": alike()}, {"z": z})) or ("", 0, 0.0)
    assert (name, row) == ("z", 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_differs(bad: float) -> None:
    y = alike()
    y[1, 0, 0] = bad
    assert (rows_differ(run_of({"x": X}, {"y": y})) or ("",))[0] == "y"
    y[:, 0, 0] = bad
    assert rows_differ(run_of({"x": X}, {"y": y})) is None


def test_what_has_no_batch_in_front_is_not_compared() -> None:
    """Padded rows, sums over the batch, copies of the inputs."""
    tensors = {
        "flat": np.arange(8.0),
        "scalar": np.float64(1).reshape(()),
        "x": np.arange(120.0).reshape(4, 6, 5),
    }
    assert rows_differ(run_of({"x": X}, tensors)) is None


def test_whole_numbers_have_to_agree() -> None:
    ids = np.repeat(np.arange(6)[None], 4, axis=0)
    assert rows_differ(run_of({"x": X}, {"y": ids})) is None
    ids[2, 5] = 9
    assert (rows_differ(run_of({"x": X}, {"y": ids})) or ("",))[0] == "y"
