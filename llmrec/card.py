"""The model card of a finished run, rendered from `model_cards/model.md.jinja`, or `baseline.md.jinja` there."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, StrictUndefined

import llmrec
from llmrec import assets
from llmrec.recipe import AnyRecipe, Recipe


def render_card(recipe: AnyRecipe, figures: dict[str, Any]) -> str:
    """Markdown with Hub metadata.

    Args:
        recipe: the resolved recipe. figures: the content of `eval.json`.
    """
    name = "model.md.jinja" if isinstance(recipe, Recipe) else "baseline.md.jinja"
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(assets.path("model_cards", name).read_text())
    ks = sorted({int(name.partition("@")[2]) for name in figures["test"]["metrics"]})
    lines = {"llmrec" if isinstance(recipe, Recipe) else recipe.makes: figures["test"], **figures["baselines"]}
    return template.render(recipe=recipe, figures=figures, ks=ks, lines=lines, version=llmrec.__version__)
