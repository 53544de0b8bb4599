"""The API reference: every module has a page, and a page says what the docstrings say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from loading import module_from

from llmrec.recommenders.base import Recommender

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return module_from(ROOT / "tools" / "api_reference.py")


def test_every_module_has_a_page(tool: ModuleType, tmp_path: Path) -> None:
    count = tool.write_reference(tmp_path)
    left_out = {ROOT / (name.replace(".", "/") + ".py") for name in tool.NOT_ALONE}
    sources = [path for path in (ROOT / "llmrec").rglob("*.py") if path not in left_out]
    assert count == len(sources)
    for path in sources:
        name = path.relative_to(ROOT).with_suffix("")
        page = name.parent if name.name == "__init__" else name
        assert (tmp_path / page).with_suffix(".html").is_file(), name
    page = (tmp_path / "llmrec" / "recommenders" / "base.html").read_text()
    assert str(Recommender.__doc__).splitlines()[0].split('"')[0] in page
    assert "Real, distinct items, best first" in page
    assert "Recommender" in (tmp_path / "llmrec.html").read_text()
