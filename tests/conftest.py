"""Fixtures that many tests share: the real data, and a tiny world."""

from __future__ import annotations

from pathlib import Path

import pytest
import quiet  # noqa: F401 - before what imports torch
from worlds import TinyWorld, make_tiny_world

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets (../shared/data) are not beside this checkout; their licences forbid copying")
    return folder


@pytest.fixture(scope="session")
def tiny_world() -> TinyWorld:
    return make_tiny_world()
