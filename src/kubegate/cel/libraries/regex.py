"""Regular expressions: RE2, as in Go, which takes no longer than the text is long whatever the pattern."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from kubegate.cel import costs
from kubegate.cel.functions import Library
from kubegate.cel.values import EvaluationError

library = Library()
overload = library.overload


class _Invalid(Exception):
    pass


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> Any:
    re2: Any = importlib.import_module("re2")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else b""
        raise _Invalid(words.decode(errors="replace") if isinstance(words, bytes) else str(words)) from None


def compiled(pattern: str) -> Any:
    """Raises EvaluationError with Go's words for a pattern that is none."""
    if len(pattern) > costs.PER_CALL:
        raise EvaluationError("error parsing regexp: expression too large")
    try:
        return _compile(pattern)
    except _Invalid as error:
        what, _, where = str(error).partition(": ")
        raise EvaluationError(f"error parsing regexp: {_GO_WORDS.get(what, what)}: `{where}`") from None


_GO_WORDS = {
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
}


def is_valid(pattern: str) -> bool:
    try:
        compiled(pattern)
    except EvaluationError:
        return False
    return True


@overload("string.find(string) -> string")
def _find(text: str, pattern: str) -> str:
    found = compiled(pattern).search(text)
    return str(found.group(0)) if found else ""


@overload("string.findAll(string) -> list(string)")
def _find_all(text: str, pattern: str) -> list[str]:
    return _find_some(text, pattern, -1)


@overload("string.findAll(string, int) -> list(string)")
def _find_some(text: str, pattern: str, count: int) -> list[str]:
    found: list[str] = []
    for match in compiled(pattern).finditer(text):
        if 0 <= count <= len(found):
            break
        found.append(match.group(0))
    return found
