"""Configuration files (apiserver.config.k8s.io) decoded as Go does it: strictly, into named types.

What is wrong with a file's shape is told in the words of Go's decoder; whether its values make sense is for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubegate.api.codec import JSON, YAML, DecodeError, decode_document, json_type

GROUP = "apiserver.config.k8s.io"
VERSIONS = ("v1", "v1beta1", "v1alpha1")

Types = Mapping[str, Mapping[str, str]]
"""The fields of each struct: `string`, `bool`, the name of another struct, or `[]` and one of these for a list."""

_TYPE_META = {"apiVersion": "string", "kind": "string"}
_SCALARS: dict[str, type] = {"string": str, "bool": bool}


class ConfigFileError(ValueError):
    """A file whose content is not of its kind; one text in Go's words."""


def decode(content: bytes, kind: str, types: Types) -> dict[str, Any]:
    """The object of a file, JSON or YAML, whose values are all of their types. Nulls are left out, in lists too.

    Raises ConfigFileError.
    """
    media_type = JSON if content.lstrip()[:1] == b"{" else YAML
    try:
        document = decode_document(content, media_type)
    except DecodeError as error:
        raise ConfigFileError(str(error)) from None
    said = document.value
    for name, title in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        if not said.get(name):
            raise ConfigFileError(f"Object '{title}' is missing in '{content.decode('utf-8', 'replace')}'")
    group, _, version = str(said["apiVersion"]).rpartition("/")
    if group != GROUP or version not in VERSIONS or said["kind"] != kind:
        raise ConfigFileError(f'no kind "{said["kind"]}" is registered for version "{said["apiVersion"]}"')
    reader = _Reader(types, version, by_name=document.is_yaml)
    found: dict[str, Any] = reader.struct(said, kind, (), _TYPE_META)
    if reader.mismatch:
        raise ConfigFileError(reader.mismatch)
    errors = document.strict_errors(reader.unknown)
    if errors:
        raise ConfigFileError("strict decoding error: " + ", ".join(errors))
    return found


class _Reader:
    """`by_name`: fields are met in the order of their names, as those of YAML are."""

    def __init__(self, types: Types, version: str, *, by_name: bool) -> None:
        self._types, self._version, self._by_name = types, version, by_name
        self.unknown: list[str] = []
        self.mismatch = ""

    def struct(self, value: dict[str, Any], name: str, place: Sequence[str], more: Mapping[str, str] = {}) -> Any:
        fields = {**more, **self._types[name]}
        found = {}
        for key in sorted(value) if self._by_name else value:
            wanted, said = fields.get(key), value[key]
            if wanted is None:
                self.unknown.append("".join((*place, f".{key}")).removeprefix("."))
            elif said is not None:
                found[key] = self._value(said, wanted, name, (*place, f".{key}"))
        return found

    def _value(self, value: Any, wanted: str, struct: str, place: Sequence[str]) -> Any:
        item = wanted.removeprefix("[]")
        if item != wanted:
            if not isinstance(value, list):
                return self._refuse(value, f"[]{self._go(item)}", struct, place)
            empty: Any = {} if item in self._types else _SCALARS[item]()
            return [
                empty if each is None else self._value(each, item, struct, (*place, f"[{position}]"))
                for position, each in enumerate(value)
            ]
        if item in self._types:
            if not isinstance(value, dict):
                return self._refuse(value, self._go(item), struct, place)
            return self.struct(value, item, place)
        if not isinstance(value, _SCALARS[item]):
            return self._refuse(value, item, struct, place)
        return value

    def _go(self, name: str) -> str:
        return f"{self._version}.{name}" if name in self._types else name

    def _refuse(self, value: Any, wanted: str, struct: str, place: Sequence[str]) -> None:
        """Go reads on, and tells of what it met first. It names fields, not their places in lists."""
        fields = "".join(step for step in place if step.startswith("."))
        text = f"json: cannot unmarshal {json_type(value)} into Go struct field {struct}{fields} of type {wanted}"
        self.mismatch = self.mismatch or text
