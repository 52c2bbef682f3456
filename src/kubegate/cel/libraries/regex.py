"""Regular expressions: RE2, as in Go, which takes no longer than the text is long whatever the pattern."""

from __future__ import annotations

from typing import Any

from kubegate.api import goregexp
from kubegate.cel.functions import Library
from kubegate.cel.values import EvaluationError

library = Library()
overload = library.overload


def compiled(pattern: str) -> Any:
    """Raises EvaluationError with Go's words for a pattern that is none."""
    try:
        return goregexp.compiled(pattern)
    except goregexp.BadPattern as error:
        raise EvaluationError(str(error)) from None


def _given(pattern: str) -> Any:
    """What an object brings; a pattern that the expression itself holds is looked at when that is compiled."""
    try:
        return goregexp.compiled(pattern)
    except goregexp.BadPattern as error:
        raise EvaluationError(f"Illegal regex: {error}") from None


def is_valid(pattern: str) -> bool:
    try:
        compiled(pattern)
    except EvaluationError:
        return False
    return True


@overload("string.find(string) -> string")
def _find(text: str, pattern: str) -> str:
    found = _given(pattern).search(text)
    return str(found.group(0)) if found else ""


@overload("string.findAll(string) -> list(string)")
def _find_all(text: str, pattern: str) -> list[str]:
    return _find_some(text, pattern, -1)


@overload("string.findAll(string, int) -> list(string)")
def _find_some(text: str, pattern: str, count: int) -> list[str]:
    found: list[str] = []
    for match in _given(pattern).finditer(text):
        if 0 <= count <= len(found):
            break
        found.append(match.group(0))
    return found
