"""What a mutation's expression makes of an object: an apply configuration laid over it, or a JSON patch."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, isnan
from typing import Any

from kubegate.admission import GroupVersionKind
from kubegate.admission.dependencies import Objects
from kubegate.admission.webhooks import jsonpatch
from kubegate.api import Object, status
from kubegate.api.field import quoted
from kubegate.api.managedfields import typed
from kubegate.api.schema import ANY, Schema
from kubegate.cel.libraries import mutation
from kubegate.cel.libraries.ip import IP
from kubegate.cel.libraries.quantity import Quantity
from kubegate.cel.types import CelType, runtime_name
from kubegate.cel.values import (
    Duration,
    EvaluationError,
    ObjectValue,
    Optional,
    OwnList,
    OwnMap,
    OwnTexts,
    Timestamp,
    UInt,
    check_extent,
    go_type_name,
    plain_text,
)
from kubegate.remote import result


class PatchFailed(Exception):
    """The mutation cannot be done; the text is kube-apiserver's."""


def apply_configuration(obj: Object, made: Any, kind: GroupVersionKind, objects: Objects) -> Object:
    """The object with the fields of `made` (an `Object{…}`) laid over its own. Raises PatchFailed."""
    wrong = mutation.check_names(made)
    if wrong:
        raise PatchFailed("type mismatch: " + "\n".join(wrong))
    try:
        check_extent(made)
        patch = {**_as_go(made), "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    except EvaluationError as error:
        raise PatchFailed(f"invalid return type: {error}") from None
    except _BadKey:
        raise PatchFailed("invalid return type: *dynamic.ObjectVal") from None
    schema = objects.schema(kind) or ANY
    try:
        # what fits is JSON: of the values that are none, no field takes any
        typed.validate(schema, patch)
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
        # what webhooks and JSON patches make of a custom resource has not been checked yet
        typed.validate(schema, obj, duplicates=True)
    except typed.NotTyped as error:
        raise PatchFailed(f"error applying patch: failed to convert original object to typed object: {error}") from None
    try:
        merged = typed.merge(schema, obj, patch)
    except typed.NotTyped as error:
        raise PatchFailed(f"error applying patch: failed to merge patch: {error}") from None
    return dict(merged)


class _BadKey(Exception):
    """A map made in an expression whose keys are no texts."""


def _as_go(made: ObjectValue) -> Object:
    """The fields with those values marked that kube-apiserver leaves as CEL has them, and so fit no field.

    Raises _BadKey.
    """
    return {name: _field_as_go(name, value) for name, value in made.fields.items()}


def _field_as_go(field: str, value: Any) -> Any:
    match value:
        case OwnTexts():
            return _inner_as_go(value)
        case OwnList():
            return [_inner_as_go(item) for item in value]
        case OwnMap():
            for key in value:
                if not isinstance(key, str):
                    kind = go_type_name(key)
                    told = _rune(key) if type(key) in (int, UInt) else f"%!q({kind}={plain_text(key)})"
                    raise _BadKey(
                        f"fail to convert field {quoted(field)}: map key {told} is of type {kind}, not string"
                    )
            return {name: _inner_as_go(item) for name, item in value.items()}
    return _inner_as_go(value)


def _inner_as_go(value: Any) -> Any:
    """What is within a list or map has to be what an object may hold: those that the expression made are not."""
    match value:
        case None:
            return typed.Foreign("structpb.NullValue", "NULL_VALUE", "0")
        case UInt():
            return typed.Foreign("uint64", str(value), f"{value:#x}")
        case bytes():
            numbers, digits = " ".join(map(str, value)), ", ".join(f"{byte:#x}" for byte in value)
            return typed.Foreign("[]uint8", f"[{numbers}]", f"[]uint8{{{digits}}}")
        case ObjectValue():
            try:
                return _as_go(value)
            except _BadKey as error:
                return typed.Foreign("*types.Err", str(error), str(error))
        case OwnTexts():
            return typed.Foreign("[]string", f"[{' '.join(value)}]", f"[]string{{{', '.join(map(quoted, value))}}}")
        case OwnList():
            shown, syntax = " ".join(map(plain_text, value)), ", ".join(map(_syntax, value))
            return typed.Foreign("[]ref.Val", f"[{shown}]", f"[]ref.Val{{{syntax}}}")
        case OwnMap():
            items = sorted(value.items(), key=lambda item: plain_text(item[0]))
            shown = " ".join(f"{plain_text(key)}:{plain_text(item)}" for key, item in items)
            syntax = ", ".join(f"{_syntax(key)}:{_syntax(item)}" for key, item in items)
            return typed.Foreign("map[ref.Val]ref.Val", f"map[{shown}]", f"map[ref.Val]ref.Val{{{syntax}}}")
        case Timestamp():
            return typed.Foreign("time.Time", _moment(value), _moment(value))
        case Duration():
            return typed.Foreign("time.Duration", _length(value), str(value.nanoseconds))
        case CelType():
            return runtime_name(value)
        case Optional():
            return _inner_as_go(value.value) if value.present else None
        case Quantity():
            return typed.Foreign("*resource.Quantity", str(value.amount), str(value.amount))
        case IP():
            return typed.Foreign("netip.Addr", str(value.address), str(value.address))
    return mutation.to_json(value)


def _moment(value: Timestamp) -> str:
    """Go's text of a time: `2024-01-01 00:00:00.5 +0200 +0200`."""
    text = str(value)
    date, time, zone = text[:10], text[11:-1], "+0000 UTC"
    if value.offset:
        hours = text[-6:].replace(":", "")
        time, zone = text[11:-6], f"{hours} {hours}"
    return f"{date} {time} {zone}"


def _length(value: Duration) -> str:
    """Go's text of a duration of whole seconds: `1h30m0s`."""
    seconds, rest = divmod(abs(value.nanoseconds), 10**9)
    if rest or not seconds:
        return str(value)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{'-' if value.nanoseconds < 0 else ''}{shown}{seconds}s"


def _rune(number: int) -> str:
    """Go's `%q` of a number: the character that it stands for."""
    character = chr(number) if 0 <= number < 0x110000 else "\ufffd"
    return {"'": "'\\''", '"': "'\"'"}.get(character) or f"'{quoted(character)[1:-1]}'"


def _syntax(value: Any) -> str:
    """The same as Go's `%#v` has it."""
    match value:
        case str():
            return quoted(value)
        case None:
            return "0"
        case UInt():
            return f"{value:#x}"
    return plain_text(value)


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
            yield from _atomics(schema.items or _UNTYPED, item, f"{path}[{position}]")


_UNTYPED = Schema()
_UNTYPED.map_type = "atomic"
"""What is in a list of no type: all of it is one."""


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
