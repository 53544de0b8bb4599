"""What docs/threat_model.md says of a model folder and is shown nowhere else: nothing in it is run as code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from deploy.files import ROOT

from llmrec.errors import RecipeError
from llmrec.recipe import load_recipe

SOURCES = sorted((ROOT / "llmrec").rglob("*.py"))


def test_remote_code_is_never_trusted_and_nothing_is_unpickled() -> None:
    assert len(SOURCES) > 50
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg not in ("trust_remote_code", "allow_pickle"), path
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not named & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "yaml.unsafe_load", "yaml.full_load"), path


def test_a_recipe_makes_no_objects(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (tmp_path / "recipe.yaml").write_text(
        f"extends: demo\nname: !!python/object/apply:pathlib.Path.touch [{touched}]\n"
    )
    with pytest.raises(RecipeError, match="YAML"):
        load_recipe(tmp_path / "recipe.yaml")
    assert not touched.exists()


def test_every_test_that_the_threat_model_names_is_there() -> None:
    text = (ROOT / "docs" / "threat_model.md").read_text()
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
    assert len(named) > 10
    assert all("def test_" in (ROOT / name).read_text() for name in named)
