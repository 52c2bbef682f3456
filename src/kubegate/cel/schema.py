"""From the schemas of Kubernetes' objects to CEL's types: what `object.spec.replicas` is, before there is an object.

Follows k8s.io/apiserver/pkg/cel (common/schemas.go, escaping.go): fields whose type says nothing are left out, names
that CEL could not read are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubegate.api.schema import Schema
from kubegate.cel import types
from kubegate.cel.types import CelType

_RESERVED = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)
_ESCAPED = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_PIECE = re.compile(r"__|[.\-/]")
_IDENTIFIER = re.compile(r"[a-zA-Z_][a-zA-Z0-9_./-]*")

_STRINGS = {"byte": types.BYTES, "duration": types.DURATION, "date": types.TIMESTAMP, "date-time": types.TIMESTAMP}
_SCALARS = {"boolean": types.BOOL, "number": types.DOUBLE, "integer": types.INT}
_UNTYPED = frozenset({"io.k8s.apimachinery.pkg.api.resource.Quantity"})
"""Text or number, which kube-apiserver's schemas tell without a type: what is made of them cannot be named."""


def escape(name: str) -> str | None:
    """A property's name as expressions write it; None for one that they cannot name."""
    if not _IDENTIFIER.fullmatch(name):
        return None
    if name in _RESERVED:
        return f"__{name}__"
    return _PIECE.sub(lambda found: _ESCAPED[found[0]], name)


def scalar(kind: str, format_: str) -> CelType | None:
    """The type of what is neither list nor map, None where there is none to tell."""
    return _STRINGS.get(format_, types.STRING) if kind == "string" else _SCALARS.get(kind)


class Types(Mapping[str, Mapping[str, CelType]]):
    """The object types that schemas are turned into, by name, for `cel.compile(objects=…)`.

    A type's fields are worked out when they are first asked for, so that schemas may contain themselves.
    """

    def __init__(self, others: Mapping[str, Mapping[str, CelType]] | None = None) -> None:
        self._others = others or {}
        self._schemas: dict[str, Schema] = {}
        self._fields: dict[str, Mapping[str, CelType]] = {}

    def of(self, schema: Schema, name: str) -> CelType | None:
        """The type of values of a schema; `name` is what it is called where it has no name of its own."""
        if schema.int_or_string or schema.format == "int-or-string":
            return types.DYN
        if schema.name in _UNTYPED:
            return None
        match schema.type:
            case "array":
                item = self.of(schema.items, f"{name}.@idx") if schema.items is not None else None
                return types.list_of(item) if item is not None else None
            case "object" if schema.additional is not None and not schema.properties:
                value = self.of(schema.additional, f"{name}.@elem")
                return types.map_of(types.STRING, value) if value is not None else None
            case "object":
                full = schema.name or name
                self._schemas.setdefault(full, schema)
                return types.object_of(full)
        return scalar(schema.type, schema.format)

    def __getitem__(self, name: str) -> Mapping[str, CelType]:
        if name in self._others:
            return self._others[name]
        if name not in self._fields:
            schema = self._schemas[name]
            found: dict[str, CelType] = {}
            for prop, child in schema.properties.items():
                escaped, kind = escape(prop), self.of(child, f"{name}.{prop}")
                if escaped is not None and kind is not None:
                    found[escaped] = kind
            self._fields[name] = found
        return self._fields[name]

    def __contains__(self, name: Any) -> bool:
        return name in self._others or name in self._schemas

    def __iter__(self) -> Iterator[str]:
        return iter((*self._others, *self._schemas))

    def __len__(self) -> int:
        return len(self._others) + len(self._schemas)
