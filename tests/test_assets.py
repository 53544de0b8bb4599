"""Prompts, recipes and card templates are found in a checkout and in an installed wheel, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrec import assets
from llmrec.errors import LlmrecError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder as a wheel lays it out, beside somebody else's folder `prompts`."""
    package = tmp_path / "site-packages" / "llmrec"
    for name in ("prompts/next_item.jinja", "prompts/.hidden", "recipes/sft/beauty.yaml", "recipes/demo.yaml"):
        file = package / "_assets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    stranger = tmp_path / "site-packages" / "prompts"
    stranger.mkdir()
    (stranger / "next_item.jinja").write_text("not ours")
    monkeypatch.setattr(assets, "_PACKAGE", package)
    return package


@pytest.mark.parametrize("kind", assets.KINDS)
def test_a_checkout_serves_its_own_top_level_folders(kind: assets.Kind) -> None:
    names = assets.names(kind)
    assert names, f"the checkout has no {kind}"
    for name in names:
        assert assets.path(kind, name) == ROOT / kind / name
        assert assets.path(kind, name).is_file()


def test_a_wheel_serves_its_packed_copies(installed: Path) -> None:
    assert assets.path("prompts", "next_item.jinja").read_text() == "prompts/next_item.jinja"


def test_names_are_sorted_and_reach_into_sub_folders(installed: Path) -> None:
    assert assets.names("recipes") == ["demo.yaml", "sft/beauty.yaml"]
    assert assets.path("recipes", "sft/beauty.yaml").read_text() == "recipes/sft/beauty.yaml"


def test_hidden_files_are_no_assets(installed: Path) -> None:
    assert assets.names("prompts") == ["next_item.jinja"]


def test_a_misspelt_name_is_answered_with_the_closest(installed: Path) -> None:
    with pytest.raises(LlmrecError, match=r"'next_itm\.jinja' among the prompts\. Did you mean 'next_item\.jinja'\?"):
        assets.path("prompts", "next_itm.jinja")


def test_a_misspelt_kind_is_answered_with_the_closest() -> None:
    with pytest.raises(LlmrecError, match="Did you mean 'prompts'"):
        assets.names("prompt")  # type: ignore[arg-type]


def test_a_name_cannot_lead_out_of_the_folder(installed: Path) -> None:
    (installed / "_assets" / "secret.txt").write_text("secret")
    with pytest.raises(LlmrecError, match="There is no"):
        assets.path("prompts", "../secret.txt")


def test_an_installation_without_the_folder_says_so(installed: Path) -> None:
    with pytest.raises(LlmrecError, match="model_cards: this folder is missing"):
        assets.names("model_cards")
