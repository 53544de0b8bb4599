"""The model card of a finished run, rendered from a template in `model_cards/`."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, StrictUndefined

import llmrec
from llmrec import assets
from llmrec.recipe import AnyRecipe, BaselineRecipe, DistillRecipe


def render_card(recipe: AnyRecipe, figures: dict[str, Any]) -> str:
    """Markdown with Hub metadata.

    Args:
        recipe: the resolved recipe. figures: the content of `eval.json`.
    """
    of_class = {BaselineRecipe: "baseline.md.jinja", DistillRecipe: "student.md.jinja"}
    name = of_class.get(type(recipe), "model.md.jinja")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = environment.from_string(assets.path("model_cards", name).read_text())
    ks = sorted({int(name.partition("@")[2]) for name in figures["test"]["metrics"]})
    own = recipe.makes if isinstance(recipe, BaselineRecipe) else "llmrec"
    lines = {own: figures["test"], **figures["baselines"]}
    return template.render(recipe=recipe, figures=figures, ks=ks, lines=lines, version=llmrec.__version__)
