"""How dear rules in CEL may be: told from a definition's schema, before there is any object.

Follows k8s.io/apiserver/pkg/cel (common/schemas.go, limits.go) for sizes and k8s.io/apiextensions-apiserver
(pkg/apis/apiextensions/validation) for limits and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kubegate.api import field as fields
from kubegate.api.field import FieldError
from kubegate.api.structural import Structural

MOST_OF_EXPRESSION: Final = 10_000_000
MOST_OF_DEFINITION: Final = 100_000_000

_REQUEST: Final = 3 * 1024 * 1024
"""Bytes of the largest request."""
_TEXT: Final = _REQUEST - 2
_LETTER: Final = 4
"""Bytes of a character, of which maxLength counts the number."""
_DATE, _LONGEST_MOMENT = 12, 32
_LEAST_BYTES: Final = {"duration": 3, "date": _DATE, "date-time": 21}
_MOST_LETTERS: Final = {"duration": _LONGEST_MOMENT, "date": _DATE, "date-time": _LONGEST_MOMENT}
_SCALAR_BYTES: Final = {"boolean": 4, "number": 1, "integer": 1}


@dataclass(frozen=True, slots=True)
class Shape:
    """`most` elements, entries or characters; at least `bytes` long when it is written."""

    most: int
    bytes: int
    fields: dict[str, Shape] = field(default_factory=dict)
    element: Shape | None = None
    key: Shape | None = None


_STRING: Final = Shape(_TEXT, 2)
_KEY: Final = Shape(0, 2)


def shape(schema: Structural, *, resource: bool, escaped: Callable[[str], str | None]) -> Shape | None:
    """None where the schema says too little. `escaped` gives a field's name as expressions write it."""
    if schema.int_or_string:
        return Shape(_TEXT, 1)
    match schema.type:
        case "array" if schema.items is not None:
            element = shape(schema.items, resource=schema.items.embedded, escaped=escaped)
            if element is None:
                return None
            most = _limit(schema, "maxItems", _TEXT // (element.bytes + 1))
            return Shape(most, 2, element=element)
        case "object" if isinstance(schema.additional, Structural):
            element = shape(schema.additional, resource=schema.additional.embedded, escaped=escaped)
            if element is None:
                return None
            most = _limit(schema, "maxProperties", _TEXT // (element.bytes + 6))
            return Shape(most, 2, element=element, key=_KEY)
        case "object":
            return _object(schema, resource, escaped)
        case "string":
            return _text(schema)
    known = _SCALAR_BYTES.get(schema.type)
    return None if known is None else Shape(0, known)


def _object(schema: Structural, resource: bool, escaped: Callable[[str], str | None]) -> Shape:
    found: dict[str, Shape] = {}
    least, required = 2, schema.raw.get("required") or ()
    for name, child in schema.properties.items():
        known = shape(child, resource=child.embedded, escaped=escaped)
        if known is None:
            continue
        written = escaped(name)
        if written is not None:
            found[written] = known
        if name in required and not child.has_default:
            least += len(name.encode()) + known.bytes + 4
    if resource:
        found |= {"kind": _STRING, "apiVersion": _STRING}
        found["metadata"] = Shape(0, 2, {"name": _STRING, "generateName": _STRING})
    return Shape(0, least, found)


def _text(schema: Structural) -> Shape:
    kind = schema.raw.get("format") or ""
    if kind in _MOST_LETTERS:
        return Shape(_MOST_LETTERS[kind], _LEAST_BYTES[kind])
    values = [value for value in schema.raw.get("enum") or () if isinstance(value, str)]
    longest = max((len(value.encode()) for value in values), default=0)
    if kind == "byte":
        return Shape(_limit(schema, "maxLength", _TEXT), 2)
    if schema.raw.get("maxLength") is None:
        return Shape(longest if schema.raw.get("enum") else _TEXT, 2)
    return Shape(_limit(schema, "maxLength", 0) * _LETTER, 2)


def _limit(schema: Structural, name: str, otherwise: int) -> int:
    limit = schema.raw.get(name)
    return max(int(limit), 0) if limit is not None else otherwise


def sizes(root: Shape) -> Callable[[tuple[str, ...]], int | None]:
    """For `cel.estimate`: sizes of what is in `self` and `oldSelf`."""

    def size_at(path: tuple[str, ...]) -> int | None:
        found: Shape | None = root
        for step in path[1:]:
            if found is None:
                return None
            match step:
                case "@items" | "@values":
                    found = found.element
                case "@keys":
                    found = found.key
                case _:
                    found = found.fields.get(step)
        return None if found is None else found.most

    return size_at


def most_elements(schema: Structural) -> int | None:
    """How many times at most what is below a node occurs for each of it; None where there is no limit."""
    if schema.type == "object" and schema.raw.get("additionalProperties") is not None:
        limit = schema.raw.get("maxProperties")
    elif schema.type == "array":
        limit = schema.raw.get("maxItems")
    else:
        return 1
    return None if limit is None else max(int(limit), 0)


def times(cost: int, cardinality: int | None, found: Shape) -> int:
    """What a rule costs in all the places where its node may occur; without a limit, as often as a request can hold."""
    return cost * (_REQUEST // (found.bytes + 1) if cardinality is None else cardinality)


@dataclass(slots=True)
class Costs:
    """Those of a whole definition."""

    total: int = 0
    dearest: list[tuple[int, str]] = field(default_factory=list)

    def add(self, what: str, path: str, cost: int) -> Iterator[FieldError]:
        """`what` is `rule` or `messageExpression`."""
        self.total += cost
        if cost >= MOST_OF_DEFINITION // 100:
            self.dearest = sorted([*self.dearest, (cost, path)], key=lambda found: -found[0])[:4]
        if cost > MOST_OF_EXPRESSION:
            yield fields.forbidden(path, _exceeded(f"estimated {what} cost", cost / MOST_OF_EXPRESSION))

    def errors(self, path: str) -> Iterator[FieldError]:
        """What is wrong with all of them together."""
        if self.total <= MOST_OF_DEFINITION:
            return
        for _, dear in self.dearest:
            text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            yield fields.forbidden(dear, text)
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        yield fields.forbidden(path, _exceeded(what, self.total / MOST_OF_DEFINITION))


def _exceeded(what: str, factor: float) -> str:
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, "
        "and maxLength where arrays, maps, and strings are declared)"
    )
