"""What passes between those who answer a review and those who send, log and count the answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from kubegate.api import Object

Outcome = Literal["allowed", "denied", "no opinion", "failed"]


class BadReview(Exception):
    """A body that is no review to be answered here: 400. The text says what is wrong, and where."""


class Answer(NamedTuple):
    """`response` is the AdmissionReview's response, or the status of the other reviews.

    `log` is what the decision's log line tells beside; it never holds a token or an object.
    """

    response: Object
    outcome: Outcome
    log: Mapping[str, Any] = MappingProxyType({})


def typed(found: Mapping[str, Any], name: str, wanted: type, where: str, default: Any = None) -> Any:
    """A field of its type; `default` where it is missing or null. Raises BadReview."""
    value = found.get(name)
    if value is None:
        return default
    if not isinstance(value, wanted):
        raise BadReview(f"{where}.{name}: a JSON {type(value).__name__}; wanted is {wanted.__name__}")
    return value


def strings(found: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """A list of strings; empty where it is missing. Raises BadReview."""
    values = found.get(name)
    if type(values) is not list:
        values = typed(found, name, list, where, ())
    for value in values:
        if type(value) is not str:
            raise BadReview(f"{where}.{name}: wanted is a list of strings")
    return tuple(values)


def extra(found: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    """A user's `extra`: lists of strings by name. Raises BadReview."""
    values = typed(found, "extra", dict, where, {})
    return {name: strings(values, name, f"{where}.extra") for name in values}
