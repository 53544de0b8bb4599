"""Errors that teach: what came, what was allowed, what to do next.

Everything a user can get wrong raises a subclass of `LlmrecError`; the command line prints its message without a
traceback. A bug in llmrec itself raises an ordinary Python error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class LlmrecError(Exception):
    """Base of all errors that a user can cause and mend."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes: Python would call the class with the message alone, whatever it asks for."""
        return _revive, (type(self), self.args, self.__dict__)


class DataError(LlmrecError):
    """A table, a row or a value that cannot be used; names file, row and column where it can."""

    def __init__(
        self, problem: str, *, fix: str, where: str | None = None, row: int | None = None, column: str | None = None
    ) -> None:
        place = ", ".join(
            part
            for part in (
                where,
                f"row {row} (the first is row 0)" if row is not None else None,
                f"column '{column}'" if column else None,
            )
            if part
        )
        super().__init__(f"{place + ': ' if place else ''}{problem} {fix}")
        self.where, self.row, self.column, self.problem, self.fix = where, row, column, problem, fix


class RecipeError(LlmrecError):
    """A recipe key or value that llmrec does not know."""


class ArtifactError(LlmrecError):
    """A model folder, index or cache entry that is missing, damaged or made for something else."""


class DecodingError(LlmrecError):
    """A request that the decoder cannot answer (an unknown prefix, an unsupported model)."""


class MissingExtraError(LlmrecError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}'. Install it with: pip install 'llmrec[{extra}]'")


def _revive(kind: type[LlmrecError], words: tuple[Any, ...], state: dict[str, Any]) -> LlmrecError:
    error = kind.__new__(kind, *words)
    error.__dict__.update(state)
    return error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known word, or all of them: `Did you mean 'rqkmeans'?`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(known)}."
