"""What a mutation's expression makes of an object: an apply configuration laid over it, or a JSON patch."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, isnan
from typing import Any

from kubegate.admission import GroupVersionKind
from kubegate.admission.dependencies import Objects
from kubegate.admission.webhooks import jsonpatch
from kubegate.api import Object, status
from kubegate.api.managedfields import typed
from kubegate.api.schema import ANY, Schema
from kubegate.cel.libraries import mutation
from kubegate.cel.values import EvaluationError, ObjectValue, UInt
from kubegate.remote import result


class PatchFailed(Exception):
    """The mutation cannot be done; the text is kube-apiserver's."""


def apply_configuration(obj: Object, made: Any, kind: GroupVersionKind, objects: Objects) -> Object:
    """The object with the fields of `made` (an `Object{…}`) laid over its own. Raises PatchFailed."""
    wrong = mutation.check_names(made)
    if wrong:
        raise PatchFailed("type mismatch: " + "\n".join(wrong))
    try:
        patch = mutation.to_json(made)
    except EvaluationError as error:
        raise PatchFailed(f"invalid return type: {error}") from None
    patch = {**patch, "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    schema = objects.schema(kind) or ANY
    try:
        typed.validate(schema, {**patch, **_as_go(made)})
    except typed.NotTyped as error:
        text = f"error applying patch: failed to convert patch object to typed object: {error}"
        raise PatchFailed(text) from None
    atomic = list(_atomics(schema, patch, ""))
    if atomic:
        text = ", ".join(atomic)
        raise PatchFailed(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: " + text
        )
    try:
        merged = typed.merge(schema, obj, patch)
    except typed.NotTyped as error:
        raise PatchFailed(f"error applying patch: failed to merge patch: {error}") from None
    return dict(merged)


def _as_go(made: ObjectValue) -> Object:
    """The fields with those values marked that kube-apiserver leaves as CEL has them, and so fit no field."""
    return {name: _field_as_go(value) for name, value in made.fields.items()}


def _field_as_go(value: Any) -> Any:
    match value:
        case ObjectValue():
            return _as_go(value)
        case list() | tuple():
            return [_inner_as_go(item) for item in value]
        case dict():
            return {name: _inner_as_go(item) for name, item in value.items()}
    return _inner_as_go(value)


def _inner_as_go(value: Any) -> Any:
    match value:
        case None:
            return typed.Foreign("structpb.NullValue", "NULL_VALUE", "0")
        case UInt():
            return typed.Foreign("uint64", str(value), f"{value:#x}")
        case bytes():
            numbers, digits = " ".join(map(str, value)), ", ".join(f"{byte:#x}" for byte in value)
            return typed.Foreign("[]uint8", f"[{numbers}]", f"[]uint8{{{digits}}}")
        case ObjectValue():
            return _as_go(value)
    return mutation.to_json(value)


def _atomics(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """The paths of atomic lists and maps in a configuration: it would replace all that is in them."""
    if isinstance(value, dict):
        if schema.map_type == "atomic":
            yield path
        for name, child in value.items():
            if name in schema.properties:
                yield from _atomics(schema.properties[name], child, f"{path}.{name}")
    elif isinstance(value, list):
        if schema.list_type not in ("map", "set"):
            yield path
        for position, item in enumerate(value):
            yield from _atomics(schema.items or ANY, item, f"{path}[{position}]")


def json_patch(obj: Object, made: Any, kind: GroupVersionKind, objects: Objects) -> Object:
    """The object after a list of `JSONPatch{…}`; as it was, where a test among them fails.

    Raises PatchFailed; StatusError 500 where what comes out is no such object.
    """
    operations = [_operation(entry) for entry in made]
    try:
        patched = jsonpatch.apply(obj, operations)
    except jsonpatch.PatchError as error:
        if str(error).endswith(": test failed"):
            return obj
        raise PatchFailed(f"JSON Patch: {error}") from None
    try:
        if not isinstance(patched, dict):
            raise ValueError(result.NO_OBJECT.format("array"))
        return objects.decode(kind, patched, strict=True)
    except ValueError as error:
        raise status.internal(str(error)) from None


def _operation(entry: Any) -> Object:
    if not isinstance(entry, ObjectValue):
        raise PatchFailed("type conversion failed")
    fields = dict(entry.fields)
    operation: Object = {"op": fields.get("op", ""), "path": fields.get("path", "")}
    if fields.get("from"):
        operation["from"] = fields["from"]
    if "value" in fields:
        value = fields["value"]
        if isinstance(value, ObjectValue):
            wrong = mutation.check_names(value, value.name)
            if wrong:
                raise PatchFailed("type mismatch: " + "\n".join(wrong))
        try:
            operation["value"] = _through_protobuf(mutation.to_json(value))
        except EvaluationError as error:
            text = f"JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}"
            raise PatchFailed(text) from None
    return operation


_SAFE = 2**53 - 1


def _through_protobuf(value: Any) -> Any:
    """A value of a patch goes through protobuf's JSON, whose numbers are doubles. Raises EvaluationError."""
    match value:
        case bool():
            return value
        case int():
            return value if -_SAFE <= value <= _SAFE else str(value)
        case float() if not isfinite(value):
            shown = "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"
            raise EvaluationError(
                "json: error calling MarshalJSON for type *structpb.Value: proto: google.protobuf.Value.number_value: "
                f"invalid {shown} value"
            )
        case list():
            return [_through_protobuf(item) for item in value]
        case dict():
            return {name: _through_protobuf(item) for name, item in value.items()}
    return value
