"""The stages of one run, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmrec.errors import RecipeError
from llmrec.pipeline.cache import Stage, StageCache
from llmrec.recipe import AnyRecipe

TRAIN = "train"
ALIGN = "align"


@dataclass(frozen=True)
class Plan:
    """The stages of a recipe, in order; each reads the ones before it."""

    recipe: AnyRecipe
    cache: StageCache
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            RecipeError: the recipe has none, as that of a baseline has no index.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise RecipeError(f"recipe '{self.recipe.name}' has no stage '{name}'; it has {', '.join(names)}.")
        return self.stages[names.index(name)]

    @property
    def data(self) -> Stage:
        """Tables, read and filtered."""
        return self.stage("data")

    @property
    def index(self) -> Stage:
        """The codes of the items."""
        return self.stage("index")

    @property
    def train(self) -> Stage:
        """The trained recommender."""
        return self.stage(TRAIN)

    @property
    def aligned(self) -> dict[str, Stage]:
        """The stages of `align`, by their names in the recipe."""
        return {stage.label: stage for stage in self.stages if stage.name == ALIGN}

    @property
    def evaluate(self) -> Stage:
        """What was measured."""
        return self.stage("evaluate")

    @property
    def models(self) -> dict[str, Stage]:
        """The stages that make a model, by name: `train`, and those of `align` in their order."""
        return {TRAIN: self.train, **self.aligned}

    def up_to(self, name: str) -> tuple[Stage, ...]:
        """The stages up to the last of this name: `data`, `index`, `train` (with all alignment) or `evaluate`.

        Raises:
            RecipeError: the recipe has no such stage.
        """
        last = [*self.models.values()][-1] if name == TRAIN else self.stage(name)
        return self.stages[: self.stages.index(last) + 1]

    @property
    def folder(self) -> Path:
        """The finished model folder."""
        return self.recipe.output / self.recipe.name
