"""What MutatingAdmissionPolicies make: `Object{spec: Object.spec{…}}` and `JSONPatch{op: …}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubegate.api import Object
from kubegate.api.field import quoted
from kubegate.cel import types, values
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError, ObjectValue

library = Library()
overload = library.overload

OBJECT = types.object_of("Object")
JSON_PATCH = types.object_of("JSONPatch")


class _AnyField(Mapping[str, CelType]):
    """The fields of `Object`: without a schema, every name is one."""

    def __getitem__(self, name: str) -> CelType:
        return types.DYN

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def get(self, name: str, default: Any = None) -> Any:
        return types.DYN


class _PatchFields(dict[str, CelType]):
    """The fields of `JSONPatch`. Others are of no type, which is what kube-apiserver says of what they are given."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, _NO_TYPE)


_NO_TYPE = CelType("")
_PATCH_FIELDS = _PatchFields({"op": types.STRING, "path": types.STRING, "from": types.STRING, "value": types.DYN})


class Objects(Mapping[str, Mapping[str, CelType]]):
    """Object types by name: those given, and beside them `JSONPatch`, `Object` and `Object.FIELD…`."""

    def __init__(self, others: Mapping[str, Mapping[str, CelType]]) -> None:
        self._others = others

    def __getitem__(self, name: str) -> Mapping[str, CelType]:
        if name == "JSONPatch":
            return _PATCH_FIELDS
        if name == "Object" or name.startswith("Object."):
            return _AnyField()
        return self._others[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("JSONPatch", "Object", *self._others))

    def __len__(self) -> int:
        return 2 + len(self._others)


@overload("jsonpatch.escapeKey(string) -> string")
def _escape_key(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def check_names(value: Any, path: str = "Object") -> list[str]:
    """What is wrong with the type names in an object: each must be the path of the field that it is in.

    `path` is that of the value itself.
    """
    return list(_wrong_names(value, path))


def _wrong_names(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, ObjectValue):
        if value.name != path:
            yield (
                f"unexpected type name {quoted(value.name)}, expected {quoted(path)},"
                " which matches field name path from root Object type"
            )
        for name, inner in value.fields.items():
            yield from _wrong_names(inner, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _wrong_names(inner, path)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _wrong_names(inner, path)


def _no_key(kind: str) -> str:
    """Why a value of that type is no key of a JSON object; each of cel-go's types says it in its own words."""
    if kind in ("bool", "double"):
        return f"type conversion error from {kind if kind == 'bool' else 'Double'} to 'string'"
    return f"unsupported type conversion from '{kind}' to string"


def to_json(value: Any) -> Any:
    """A value as JSON. Raises EvaluationError for what has no JSON form, or would be endless."""
    values.check_extent(value)
    return _to_json(value)


def _to_json(value: Any) -> Any:
    match value:
        case None | bool() | str() | float():
            return value
        case int():
            return int(value)
        case bytes():
            import base64

            return base64.b64encode(value).decode()
        case list() | tuple():
            return [_to_json(item) for item in value]
        case dict():
            made: Object = {}
            for key, item in value.items():
                if not isinstance(key, str):
                    raise EvaluationError(_no_key(values.type_name(key)))
                made[key] = _to_json(item)
            return made
        case ObjectValue():
            return {key: _to_json(item) for key, item in value.fields.items()}
        case values.Duration() | values.Timestamp():
            return str(value)
        case values.Optional(present=True):
            return _to_json(value.value)
        case values.Optional():
            raise EvaluationError("optional.none() dereference")
        case CelType():
            raise EvaluationError("type conversion not supported for 'type'")
    name = values.type_name(value).rpartition(".")[2]
    raise EvaluationError(f"type conversion error from '{name}' to '*structpb.Value'")
