"""CEL's types: how they are compared, joined and written. Follows cel-go's type checker.

A type is a `CelType`: a kind, a name (of an object, an opaque type or a type parameter) and parameters. `parse`
reads the notation that function declarations are written in: `list(T)`, `map(string, dyn)`, `optional(V)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from msgspec import Struct


class CelType(Struct, frozen=True):
    """`kind` is one of the words below; `name` what error texts call it, for the kinds whose name is not the kind."""

    kind: str
    name: str = ""
    parameters: tuple[CelType, ...] = ()

    def __str__(self) -> str:
        return format_type(self)


ANY = CelType("dyn", "any")
"""What is dynamic, but must be made so (`dyn(x)`) before macros take it for a list or a map."""
BOOL = CelType("bool")
BYTES = CelType("bytes")
DOUBLE = CelType("double")
DURATION = CelType("duration")
DYN = CelType("dyn")
ERROR = CelType("error")
INT = CelType("int")
NULL = CelType("null")
STRING = CelType("string")
TIMESTAMP = CelType("timestamp")
UINT = CelType("uint")

_SIMPLE = {t.kind: t for t in (BOOL, BYTES, DOUBLE, DURATION, DYN, INT, NULL, STRING, TIMESTAMP, UINT)}
_NULLABLE = frozenset({"null", "opaque", "object", "duration", "timestamp", "wrapper"})
_RUNTIME_NAMES = {"null": "null_type", "duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}


def list_of(element: CelType) -> CelType:
    return CelType("list", "list", (element,))


def map_of(key: CelType, value: CelType) -> CelType:
    return CelType("map", "map", (key, value))


def optional_of(value: CelType) -> CelType:
    return CelType("opaque", "optional_type", (value,))


def type_of(value: CelType) -> CelType:
    return CelType("type", "type", (value,))


def opaque(name: str) -> CelType:
    """A type whose values only functions can look into: `kubernetes.Quantity`."""
    return CelType("opaque", name)


def object_of(name: str) -> CelType:
    """A type with declared fields; which, is what `checker.Declarations.objects` says of its name."""
    return CelType("object", name)


def parameter(name: str) -> CelType:
    return CelType("parameter", name)


def declared(kind: CelType) -> CelType:
    """What is known of a policy's variable that an expression of this type gives: only simple types, lists and maps."""
    if kind.kind in ("list", "map"):
        return CelType(kind.kind, kind.name, tuple(declared(p) for p in kind.parameters))
    return _SIMPLE.get(kind.kind, DYN)


LIST = list_of(DYN)
MAP = map_of(DYN, DYN)


def runtime_name(kind: CelType) -> str:
    """What `type(x)` is called at run time: `null_type`, `google.protobuf.Duration`, `list`."""
    if kind.kind in ("object", "opaque", "parameter"):
        return kind.name
    return _RUNTIME_NAMES.get(kind.kind, kind.kind)


def describe(kind: CelType) -> str:
    """Its name at run time with its parameters: `map(string, google.protobuf.Timestamp)`."""
    name = runtime_name(kind)
    return f"{name}({', '.join(map(describe, kind.parameters))})" if kind.parameters else name


def format_type(kind: CelType) -> str:
    """As the type checker's errors write it: `map(string, int)`."""
    match kind.kind:
        case "error":
            return "!error!"
        case "object" | "parameter":
            return kind.name
        case "wrapper":
            return f"wrapper({format_type(kind.parameters[0])})"
        case "type" if not kind.parameters or kind.parameters[0] == ERROR:
            return "type"
    name = kind.name or kind.kind
    if not kind.parameters:
        return name
    return f"{name}({', '.join(format_type(p) for p in kind.parameters)})"


_OPAQUE = {
    "optional": "optional_type",
    "quantity": "kubernetes.Quantity",
    "url": "kubernetes.URL",
    "ip": "net.IP",
    "cidr": "net.CIDR",
    "semver": "kubernetes.Semver",
    "named_format": "kubernetes.NamedFormat",
    "authorizer": "kubernetes.authorization.Authorizer",
    "path_check": "kubernetes.authorization.PathCheck",
    "group_check": "kubernetes.authorization.GroupCheck",
    "resource_check": "kubernetes.authorization.ResourceCheck",
    "decision": "kubernetes.authorization.Decision",
}


@lru_cache(maxsize=512)
def parse(text: str) -> CelType:
    """`list(T)` -> a CelType; words of one capital letter are type parameters. For declarations in this package."""
    text = text.strip()
    name, bracket, rest = text.partition("(")
    parameters = tuple(parse(part) for part in split_top(rest[:-1])) if bracket else ()
    if len(name) == 1 and name.isupper():
        return parameter(name)
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name in _OPAQUE:
        return CelType("opaque", _OPAQUE[name], parameters)
    if name in ("list", "map", "type"):
        return CelType(name, name, parameters)
    raise ValueError(f"no such type: {text}")


def split_top(text: str) -> list[str]:
    """`map(K, V), int` -> [`map(K, V)`, `int`]: at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if text[start:].strip():
        parts.append(text[start:])
    return parts


class Substitutions(dict[str, CelType]):
    """What type parameters stand for, by their names, as far as the check has found out."""


def is_dyn_or_error(kind: CelType) -> bool:
    return kind.kind in ("dyn", "error")


def substitute(known: Mapping[str, CelType], kind: CelType, *, to_dyn: bool) -> CelType:
    """`kind` with its parameters replaced by what they stand for; unknown ones become dyn where `to_dyn`."""
    while kind.kind == "parameter":
        found = known.get(kind.name)
        if found is None:
            return DYN if to_dyn else kind
        kind = found
    if kind.parameters and kind.kind != "type":
        parameters = tuple(substitute(known, p, to_dyn=to_dyn) for p in kind.parameters)
        if parameters != kind.parameters:
            return CelType(kind.kind, kind.name, parameters)
    if kind.kind == "type" and kind.parameters:
        return CelType("type", "type", (substitute(known, kind.parameters[0], to_dyn=to_dyn),))
    return kind


def assignable(known: Substitutions, target: Iterable[CelType], source: Iterable[CelType]) -> Substitutions | None:
    """Whether each source type may go where its target type is asked for.

    Gives the substitutions with what was learnt, or None; `known` itself is not changed.
    """
    learnt = Substitutions(known)
    for wanted, given in zip(target, source, strict=True):
        if not _assignable(learnt, wanted, given):
            return None
    return learnt


def _assignable(known: Substitutions, first: CelType, second: CelType) -> bool:
    if second.kind == "parameter":
        valid, had_one = _substitution(known, first, second)
        if valid:
            return True
        if had_one:
            return False
    if first.kind == "parameter":
        return _substitution(known, second, first)[0]
    if is_dyn_or_error(first) or is_dyn_or_error(second):
        return True
    if first.kind == "null":
        return second.kind in _NULLABLE
    if second.kind == "null":
        return first.kind in _NULLABLE
    if first.kind == "wrapper":
        return second == first or second == first.parameters[0]
    if second.kind == "wrapper":
        return first == second.parameters[0]
    if first.kind != second.kind:
        return False
    if first.kind == "type":
        return True
    if first.name != second.name or len(first.parameters) != len(second.parameters):
        return False
    return all(_assignable(known, a, b) for a, b in zip(first.parameters, second.parameters, strict=True))


def _substitution(known: Substitutions, kind: CelType, variable: CelType) -> tuple[bool, bool]:
    """Whether `kind` may stand for the type parameter `variable`, and whether something else already did."""
    if kind == variable:
        return True, True
    current = known.get(variable.name)
    if current is not None:
        if kind == current:
            return True, True
        if _assignable(known, kind, current):
            general = most_general(kind, current)
            if _not_within(known, variable, general):
                known[variable.name] = general
            return True, True
        return False, True
    if _not_within(known, variable, kind):
        known[variable.name] = kind
        return True, False
    return False, False


def _not_within(known: Substitutions, variable: CelType, kind: CelType) -> bool:
    if kind == variable:
        return False
    if kind.kind == "parameter":
        found = known.get(kind.name)
        return found is None or _not_within(known, variable, found)
    return all(_not_within(known, variable, p) for p in kind.parameters)


def most_general(first: CelType, second: CelType) -> CelType:
    return first if _equal_or_less_specific(first, second) else second


def _equal_or_less_specific(first: CelType, second: CelType) -> bool:
    if first.kind in ("dyn", "parameter"):
        return True
    if second.kind in ("dyn", "parameter") or first.kind != second.kind:
        return False
    if first.kind in ("list", "map", "opaque"):
        return (
            first.name == second.name
            and len(first.parameters) == len(second.parameters)
            and all(_equal_or_less_specific(a, b) for a, b in zip(first.parameters, second.parameters, strict=True))
        )
    return first.kind == "type" or first == second
