"""Validation by schema alone, for kinds without rules of their own: required fields, enumerations, bounds, formats.

Types were checked when the object was decoded. What a schema does not say is not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubegate.api.field import FieldError, child, index, key, not_supported, required
from kubegate.api.schema import Schema

_Check = Callable[[Any, str, list[FieldError]], None]
_CACHE_KEY = "schemacheck"
# Checked by `api.metadata`, with more knowledge than a schema has.
_ELSEWHERE = frozenset({"metadata", "apiVersion", "kind"})


def check(obj: Mapping[str, Any], schema: Schema) -> list[FieldError]:
    """What is wrong with a complete object of a built-in kind, metadata aside."""
    errors: list[FieldError] = []
    for name, property_schema in schema.properties.items():
        if name in _ELSEWHERE or name == "status":
            continue
        value = obj.get(name)
        if value is None:
            if name in schema.required and property_schema.type == "string":
                errors.append(required(name))
            continue
        checker = _checker(property_schema)
        if checker is not None:
            checker(value, name, errors)
    return errors


def _checker(schema: Schema) -> _Check | None:
    """The compiled check of a type; None where there is nothing to check below."""
    if _CACHE_KEY in schema.cache:
        found: _Check | None = schema.cache[_CACHE_KEY]
        return found
    # A recursive type meets itself before it is done.
    schema.cache[_CACHE_KEY] = lambda value, path, errors: _again(schema, value, path, errors)
    made = schema.cache[_CACHE_KEY] = _compile(schema)
    return made


def _again(schema: Schema, value: Any, path: str, errors: list[FieldError]) -> None:
    checker: _Check | None = schema.cache[_CACHE_KEY]
    if checker is not None:
        checker(value, path, errors)


def _compile(schema: Schema) -> _Check | None:
    if schema.type == "object" and schema.properties:
        return _struct(schema)
    if schema.type == "object" and schema.additional is not None:
        return _each(_checker(schema.additional), lambda value: value.items(), key)
    if schema.type == "array" and schema.items is not None:
        return _each(_checker(schema.items), enumerate, index)
    if schema.enum:
        return _enumeration(schema.enum)
    return None


def _struct(schema: Schema) -> _Check | None:
    needed = tuple(
        name
        for name, child_schema in schema.properties.items()
        if name in schema.required and child_schema.type == "string" and not child_schema.format
    )
    below = {name: found for name, c in schema.properties.items() if (found := _checker(c)) is not None}
    if not needed and not below:
        return None

    def check_struct(value: Any, path: str, errors: list[FieldError]) -> None:
        for name in needed:
            # Go cannot tell an empty string from one that was not sent. Empty lists are mostly fine, required or not.
            if not value.get(name):
                errors.append(required(child(path, name)))
        for name, member in value.items():
            checker = below.get(name)
            if checker is not None and member is not None:
                checker(member, child(path, name), errors)

    return check_struct


def _each(checker: _Check | None, members: Callable[[Any], Any], step: Callable[[str, Any], str]) -> _Check | None:
    if checker is None:
        return None

    def check_each(value: Any, path: str, errors: list[FieldError]) -> None:
        for place, member in members(value):
            if member is not None:
                checker(member, step(path, place), errors)

    return check_each


def _enumeration(choices: tuple[Any, ...]) -> _Check:
    allowed = frozenset(choices)
    shown = sorted(str(choice) for choice in choices)

    def check_enumeration(value: Any, path: str, errors: list[FieldError]) -> None:
        if value not in allowed and value != "":
            errors.append(not_supported(path, value, shown))

    return check_enumeration
