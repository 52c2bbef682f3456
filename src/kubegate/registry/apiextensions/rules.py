"""x-kubernetes-validations: rules in CEL, checked after everything else is in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubegate.api.field import FieldError
from kubegate.api.structural import Structural


def check(value: Any, old: Any, schema: Structural, errors: list[FieldError]) -> list[FieldError]:
    """What the rules of a schema say against `value`; `errors` are those already found."""
    return []


def check_definition(openapi: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with the rules in a definition's schema."""
    return []
