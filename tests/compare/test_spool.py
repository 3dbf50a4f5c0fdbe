"""Tensors come back as they were put, from memory or from disk, and nothing is left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from graphkit.compare.spool import Spool

ARRAYS = {
    "float": np.arange(100, dtype=np.float32).reshape(4, 25).T,
    "bf16": np.arange(6).astype(ml_dtypes.bfloat16),
    "int4": np.arange(7).astype(ml_dtypes.int4),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(3.5),
    "text": np.array(["a", "bc"], object),
}


@pytest.mark.parametrize("memory", [0, 120, 1 << 20])
def test_what_comes_back_is_what_was_put(
    memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool(memory) as spool:
        for name, array in ARRAYS.items():
            spool.put(name, array)
        for name, array in reversed(ARRAYS.items()):
            found = spool.get(name)
            assert found is not None and found.dtype == array.dtype and found.shape == array.shape
            assert np.array_equal(found, array) and name in spool
        assert spool.get("none") is None
        assert spool.dtypes() == {name: array.dtype for name, array in ARRAYS.items()}
    assert list(tmp_path.iterdir()) == []
