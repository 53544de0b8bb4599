"""A plug-in is a class whose fields are its settings: typed, frozen, saved as JSON, refused when misspelt.

Every source, encoder, index, engine, trainer and recommender derives from `Component`; its fields are what a recipe may
say about it. What it learns lives elsewhere (a returned value, or a private attribute set by `fit`).
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from llmrec.errors import RecipeError, did_you_mean


class Component(BaseModel):
    """Settings with unknown names refused. Use `parse` on text from people, the constructor in code."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @classmethod
    def parse(cls, settings: dict[str, Any], where: str = "") -> Self:
        """Build from a recipe's mapping.

        Raises:
            RecipeError: a name is unknown (with the closest known one) or a value has the wrong type.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise RecipeError("\n".join(_explain(cls, line, where) for line in error.errors())) from None

    def settings(self) -> dict[str, Any]:
        """The fields as JSON values, for hashing and saving."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """A short text that changes when the files that this component reads change; empty when it reads none."""
        return ""


def _explain(cls: type[BaseModel], line: Any, where: str) -> str:
    path = ".".join(str(part) for part in ([where] if where else []) + list(line["loc"]))
    if line["type"] == "extra_forbidden":
        return f"{path}: unknown setting. {did_you_mean(str(line['loc'][-1]), _fields_at(cls, line['loc'][:-1]))}"
    if line["type"] == "missing":
        return f"{path}: this setting has no default; give it a value."
    return f"{path}: {line['msg']} (got {line['input']!r})."


def _fields_at(cls: Any, path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = getattr(cls, "model_fields", {}).get(part)
        if field is None:
            break
        cls = field.annotation
    return list(getattr(cls, "model_fields", {}))
