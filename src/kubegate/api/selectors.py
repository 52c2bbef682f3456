"""Label and field selectors: parsing, matching, validation, and what authorizers are told of them.

Follows k8s.io/apimachinery/pkg/labels, pkg/fields and pkg/apis/meta/v1 (LabelSelector).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from kubegate.api.field import FieldError, child, forbidden, index, invalid, required
from kubegate.api.names import is_qualified_name, is_valid_label_value

IN, NOT_IN, EXISTS, DOES_NOT_EXIST = "in", "notin", "exists", "!"
EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS = "=", "==", "!=", "gt", "lt"

_BINARY_OPERATORS = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS)
_POSITIVE = frozenset({IN, EQUALS, DOUBLE_EQUALS})
_NEGATIVE = frozenset({NOT_IN, NOT_EQUALS})
_OF_OBJECTS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": DOES_NOT_EXIST}
_AS_ATTRIBUTES = {
    **dict.fromkeys(_POSITIVE, "In"),
    **dict.fromkeys(_NEGATIVE, "NotIn"),
    EXISTS: "Exists",
    DOES_NOT_EXIST: "DoesNotExist",
}
MAX_LENGTH: Final = 64 * 1024
"""Longer selectors are refused before they are read."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


class SelectorError(ValueError):
    """A selector that cannot be understood; the message is kube-apiserver's."""


class Labelled(Protocol):
    @property
    def labels(self) -> Mapping[str, str]: ...


Item = TypeVar("Item", bound=Labelled)


class Requirement(Struct, frozen=True):
    """One condition on one label. `values` is empty for exists and `!`."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator in _POSITIVE:
            return value is not None and value in self.values
        if self.operator in _NEGATIVE:
            return value is None or value not in self.values
        if self.operator == EXISTS:
            return value is not None
        if self.operator == DOES_NOT_EXIST:
            return value is None
        found, limit = _int64(value), _int64(self.values[0])
        if found is None or limit is None:
            return False
        return found > limit if self.operator == GREATER else found < limit

    def select(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those that match, in one pass."""
        key, values, operator = self.key, frozenset(self.values), self.operator
        if operator in _POSITIVE:
            return [item for item in items if item.labels.get(key) in values]
        if operator in _NEGATIVE:
            return [item for item in items if item.labels.get(key) not in values]
        if operator == EXISTS:
            return [item for item in items if key in item.labels]
        if operator == DOES_NOT_EXIST:
            return [item for item in items if key not in item.labels]
        return [item for item in items if self.matches(item.labels)]

    def __str__(self) -> str:
        if self.operator in (EXISTS, DOES_NOT_EXIST):
            return ("!" if self.operator == DOES_NOT_EXIST else "") + self.key
        values = ",".join(sorted(self.values))
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({values})"
        return self.key + {GREATER: ">", LESS: "<"}.get(self.operator, self.operator) + values


class LabelSelector(Struct, frozen=True):
    """All requirements together, sorted by key. `nothing`: the selector of a nil LabelSelector, which matches none."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether everything matches."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """`labels` as in metadata.labels; None is as good as none."""
        if self.nothing:
            return False
        found = labels or {}
        return all(requirement.matches(found) for requirement in self.requirements)

    def select(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those that match: a pass for each requirement, without a call for each of thousands of items."""
        if self.nothing:
            return ()
        for requirement in self.requirements:
            items = requirement.select(items)
        return items

    def attributes(self) -> list[dict[str, Any]]:
        """LabelSelectorRequirements for authorization.Attributes; what has no operator there (gt, lt) is left out."""
        return [
            {
                "key": r.key,
                "operator": _AS_ATTRIBUTES[r.operator],
                **({"values": list(r.values)} if r.values else {}),
            }
            for r in self.requirements
            if r.operator in _AS_ATTRIBUTES
        ]

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def _int64(text: str | None) -> int | None:
    if text is None or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _check_length(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise SelectorError(f"selector is longer than {MAX_LENGTH} characters")


# --- text: `app=x,tier in (a, b),!old` ---------------------------------------------------------------------------

_SPECIAL = "=!(),<>"
_SPACE = " \t\r\n"
_TOKENS = frozenset({")", ",", "!", "==", "=", ">", "in", "<", "!=", "notin", "("})
_WORD, _END, _ERROR = "word", "end", "error"
# The longest operator wins, as in the lexer that this follows; `===` is `==` and `=`.
_LEXER = re.compile(r"[ \t\r\n]*(?:(==|!=|[=!(),<>])|([^=!(),<> \t\r\n\0]+)|(\0))")


def _scan(text: str) -> list[tuple[str, str]]:
    """(token, literal) pairs; a token is its own literal, or `word`, `end`, `error`. A NUL ends the text."""
    found = []
    position = 0
    while match := _LEXER.match(text, position):
        position = match.end()
        special, word, nul = match.groups()
        if nul:
            break
        if special:
            found.append((special, special))
        else:
            found.append((word if word in _TOKENS else _WORD, word))
    found.append((_END, ""))
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.items = _scan(text)
        self.position = 0

    def look(self, *, values: bool = True) -> tuple[str, str]:
        token, literal = self.items[min(self.position, len(self.items) - 1)]
        return (_WORD if values and token in ("in", "notin") else token), literal

    def take(self, *, values: bool = True) -> tuple[str, str]:
        found = self.look(values=values)
        self.position += 1
        return found

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            token, literal = self.look()
            if token == _END:
                return found
            if token not in (_WORD, "!"):
                raise SelectorError(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            token, literal = self.take()
            if token == _END:
                return found
            if token != ",":
                raise SelectorError(f"found '{literal}', expected: ',' or 'end of string'")
            token, literal = self.look()
            if token not in (_WORD, "!"):
                raise SelectorError(f"found '{literal}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        token, key = self.take()
        negated = token == "!"
        if negated:
            token, key = self.take()
        if token != _WORD:
            raise SelectorError(f"found '{key}', expected: identifier")
        errors = is_qualified_name(key)
        if errors:
            raise SelectorError(str(invalid("<nil>", key, "; ".join(errors))))
        if self.look()[0] in (_END, ","):
            return requirement(key, DOES_NOT_EXIST if negated else EXISTS, ())
        if negated:
            return requirement(key, DOES_NOT_EXIST, ())
        operator = self.operator()
        values = self.values() if operator in (IN, NOT_IN) else self.exact()
        return requirement(key, operator, values)

    def operator(self) -> str:
        token, literal = self.take(values=False)
        operator = {">": GREATER, "<": LESS}.get(token, token)
        if operator not in _BINARY_OPERATORS:
            raise SelectorError(f"found '{literal}', expected: {', '.join(_BINARY_OPERATORS)}")
        return operator

    def exact(self) -> Sequence[str]:
        if self.look()[0] in (_END, ","):
            return ("",)
        token, literal = self.take()
        if token != _WORD:
            raise SelectorError(f"found '{literal}', expected: identifier")
        return (literal,)

    def values(self) -> Sequence[str]:
        token, literal = self.take()
        if token != "(":
            raise SelectorError(f"found '{literal}' expected: '('")
        token, literal = self.look()
        if token == ")":
            self.take()
            return ("",)
        if token not in (_WORD, ","):
            raise SelectorError(f"found '{literal}', expected: ',', ')' or identifier")
        found: set[str] = set()
        while True:
            token, literal = self.take()
            if token == _WORD:
                found.add(literal)
                token, literal = self.look()
                if token == ")":
                    break
                if token != ",":
                    raise SelectorError(f"found '{literal}', expected: ',' or ')'")
            elif token == ",":
                if not found:
                    found.add("")
                token, _ = self.look()
                if token in (")", ","):
                    found.add("")
                if token == ")":
                    break
            else:
                raise SelectorError(f"found '{literal}', expected: ',', or identifier")
        self.take()
        return sorted(found)


def requirement(key: str, operator: str, values: Sequence[str]) -> Requirement:
    """A checked requirement. Raises SelectorError with all that is wrong with it."""
    errors: list[FieldError] = []
    problems = is_qualified_name(key)
    if problems:
        errors.append(invalid("key", key, "; ".join(problems)))
    if operator in (IN, NOT_IN) and not values:
        errors.append(invalid("values", None, "for 'in', 'notin' operators, values set can't be empty"))
    if operator in (EXISTS, DOES_NOT_EXIST) and values:
        errors.append(invalid("values", list(values), "values set must be empty for exists and does not exist"))
    if operator in (GREATER, LESS):
        for place, value in enumerate(values):
            if _int64(value) is None:
                text = "for 'Gt', 'Lt' operators, the value must be an integer"
                errors.append(invalid(f"values[{place}]", value, text))
    for place, value in enumerate(values):
        problems = is_valid_label_value(value)
        if problems:
            errors.append(invalid(f"values[{place}][{key}]", value, "; ".join(problems)))
    if errors:
        texts = list(dict.fromkeys(str(error) for error in errors))
        raise SelectorError(texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]")
    return Requirement(key, operator, tuple(sorted(set(values))))


def parse_labels(text: str) -> LabelSelector:
    """The labelSelector of a query. Raises SelectorError."""
    if not text:
        return EVERYTHING
    _check_length(text)
    return LabelSelector(tuple(sorted(_Parser(text).parse(), key=lambda r: r.key)))


# --- objects: {matchLabels: …, matchExpressions: […]} ------------------------------------------------------------


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A metav1.LabelSelector as a matcher: None matches nothing, {} everything. Raises SelectorError."""
    if selector is None:
        return NOTHING
    found = [Requirement(key, EQUALS, (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = _OF_OBJECTS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        found.append(requirement(expression.get("key", ""), operator, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(found, key=lambda r: r.key)))


def from_set(labels: Mapping[str, str] | None) -> LabelSelector:
    """The selector of a Service or ReplicationController: all these labels, unchecked."""
    return LabelSelector(tuple(Requirement(key, EQUALS, (value,)) for key, value in sorted((labels or {}).items())))


def go_text(selector: Mapping[str, Any]) -> str:
    """A metav1.LabelSelector as its generated String() has it."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{each.get('key', '')},Operator:{each.get('operator', '')},"
        f"Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def validate_labels(labels: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """What is wrong with a map of labels, by key in order."""
    errors = []
    for key, value in sorted((labels or {}).items()):
        errors += [invalid(path, key, text) for text in is_qualified_name(key)]
        errors += [invalid(path, value, text) for text in is_valid_label_value(value)]
    return errors


def validate_selector(
    selector: Mapping[str, Any] | None, path: str, *, allow_invalid_values: bool = False
) -> list[FieldError]:
    """What is wrong with a metav1.LabelSelector. `allow_invalid_values`: where an old object had bad values already."""
    if selector is None:
        return []
    errors = validate_labels(selector.get("matchLabels"), child(path, "matchLabels"))
    for place, expression in enumerate(selector.get("matchExpressions") or ()):
        where = index(child(path, "matchExpressions"), place)
        operator, values = expression.get("operator", ""), expression.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(child(where, "values"), "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden(child(where, "values"), text))
        else:
            errors.append(invalid(child(where, "operator"), operator, "not a valid selector operator"))
        key = expression.get("key", "")
        errors += [invalid(child(where, "key"), key, text) for text in is_qualified_name(key)]
        if not allow_invalid_values:
            for number, value in enumerate(values):
                problems = is_valid_label_value(value)
                errors += [invalid(index(child(where, "values"), number), value, text) for text in problems]
    return errors


# --- fields: `metadata.name=a,status.phase!=Running` ---------------------------------------------------------------


class FieldRequirement(Struct, frozen=True):
    """One field must (`=`) or must not (`!=`) have one value."""

    field: str
    operator: str
    value: str


class FieldSelector(Struct, frozen=True):
    """All requirements together, in the order of their texts."""

    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, fields: Mapping[str, str]) -> bool:
        """`fields` are the object's values by path; one that is not there is empty."""
        for each in self.requirements:  # a call less for each than by `all`: a change is shown to a thousand watchers
            if (fields.get(each.field, "") == each.value) is not (each.operator == EQUALS):
                return False
        return True

    def exact(self, field: str) -> str | None:
        """The one value that `field` must have, None where other values may match."""
        for requirement in self.requirements:
            if requirement.field == field and requirement.operator == EQUALS:
                return requirement.value
        return None

    def unknown(self, known: Sequence[str] | Mapping[str, Any]) -> str | None:
        """The first field that is not among the known ones: `field label not supported: NAME`."""
        return next((r.field for r in self.requirements if r.field not in known), None)

    def attributes(self) -> list[dict[str, Any]]:
        """FieldSelectorRequirements for authorization.Attributes."""
        return [
            {"key": r.field, "operator": "In" if r.operator == EQUALS else "NotIn", "values": [r.value]}
            for r in self.requirements
        ]

    def __str__(self) -> str:
        return ",".join(f"{r.field}{r.operator}{_escape(r.value)}" for r in self.requirements)


_TERMS = re.compile(r"(?:[^\\,]|\\.)+\\?|\\", re.DOTALL)
_OPERATOR = re.compile(r"!=|==|=")


def parse_fields(text: str) -> FieldSelector:
    """The fieldSelector of a query. Raises SelectorError."""
    _check_length(text)
    found = []
    for term in sorted(_TERMS.findall(text)):
        operator = _OPERATOR.search(term)
        if operator is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        value = _unescape(term[operator.end() :])
        sign = NOT_EQUALS if operator.group() == "!=" else EQUALS
        field = term[: operator.start()]
        if field or value:  # `=` asks for nothing
            found.append(FieldRequirement(field, sign, value))
    return FieldSelector(tuple(found))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str) -> str:
    if not any(char in value for char in "\\,="):
        return value
    found = []
    characters = iter(value)
    for char in characters:
        if char == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in "\\,=":
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{escaped}")
            found.append(escaped)
        elif char in ",=":
            # The number is what Go prints for a rune.
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            found.append(char)
    return "".join(found)
