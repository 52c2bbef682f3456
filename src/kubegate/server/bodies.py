"""Request bodies to objects: decoded, of the right kind, in the form that Go's types would give them.

What cannot be taken is refused with 400 in kube-apiserver's words; unknown and duplicate fields by fieldValidation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from kubegate.api import Object, clone, codec, field, gojson, gotypes, negotiate, normalize, patch, plain, status
from kubegate.api.codec import DecodeError, Document, decode_yaml, json_type
from kubegate.api.requestinfo import truth
from kubegate.api.resources import Resource, Subresource
from kubegate.api.schema import named, schema_for
from kubegate.registry import Context
from kubegate.server import accept, lists
from kubegate.server.call import Call

_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_OPTIONS_SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"

# What may be no int64.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")

MOST_PARTS = 100_000
# Bytes of a body in which there cannot be so many.
_UNCOUNTED = 2 * MOST_PARTS

# Subresources that take an older version of their kind as well, of the same fields.
_OLDER_VERSIONS = {("policy", "Eviction"): "v1beta1"}


def decode(call: Call, body: bytes, resource: Resource, context: Context) -> Object:
    """The object of a create or update, completed as `normalize.complete` does it where it is a built-in resource's
    that is stored. Raises 400, 415."""
    media_type = negotiate.body_media_type(call.header("content-type") or None)
    expected = (resource.group, resource.version, resource.kind)
    found = None
    if media_type == negotiate.JSON and resource.custom is None:
        found = plain.decode(body, expected, completing=resource.persistent)
    if found is None:
        strict = context.field_validation != "Ignore"
        known = gotypes.registered if resource.custom is None else None
        document = codec.decode_object(body, media_type, expected, known, strict=strict)
        if resource.custom is None:
            _check_parts(document.value, body)
        found = _fitting(document, resource, expected, context)
    if call.audit is not None:
        call.audit.sent(found)
    return found


def decode_as(call: Call, body: bytes, group: str, version: str, kind: str, context: Context) -> Object:
    """The object of a subresource, which has a kind of its own."""
    media_type = negotiate.body_media_type(call.header("content-type") or None)
    strict = context.field_validation != "Ignore"
    older = _OLDER_VERSIONS.get((group, kind), version)
    said = older if f'"{group}/{older}"'.encode() in body else version
    document = codec.decode_object(body, media_type, (group, said, kind), gotypes.registered, strict=strict)
    _check_parts(document.value, body)
    document.value["apiVersion"] = f"{group}/{version}" if group else version
    found = _fitting(document, None, (group, version, kind), context)
    if call.audit is not None:
        call.audit.sent(found)
    return found


def names_itself(call: Call, body: bytes) -> bool:
    """Whether an object that could be decoded says its kind and version, which those of built-in kinds need not."""
    value = codec.decode_document(body, negotiate.body_media_type(call.header("content-type") or None)).value
    return bool(value.get("kind") and value.get("apiVersion"))


def _check_parts(value: Object, body: bytes) -> None:
    """Raises 413 for more parts than an object of any use has: each is given its defaults, and an error for each field
    that it lacks, so that `{}` a million times, which may be sent, would be gigabytes."""
    if len(body) < _UNCOUNTED:
        return
    parts = 0
    left: list[dict[str, Any] | list[Any]] = [value]
    while left:
        one = left.pop()
        below = [
            part
            for part in (one.values() if isinstance(one, dict) else one)
            if part is None or isinstance(part, dict | list)
        ]
        parts += len(below)
        if parts > MOST_PARTS:
            text = f"Request entity too large: limit is {MOST_PARTS} maps and lists"
            raise status.StatusError(413, "RequestEntityTooLarge", text)
        left += [part for part in below if part is not None]


class Patch(Struct, frozen=True):
    """A patch as it came: what was wrong with the object that it made is told with it."""

    media_type: str
    body: bytes

    @property
    def strategic(self) -> bool:
        return self.media_type == accept.STRATEGIC_PATCH

    def strict_errors(self) -> list[str]:
        """What strict decoding finds in the patch itself."""
        value = gojson.loads(self.body)
        document = Document(value, tuple(codec.duplicate_fields(self.body, value)), self.body)
        if self.media_type != accept.JSON_PATCH:
            return document.strict_errors()
        return [f"json patch {text}" for text in document.strict_errors(patch.unknown_fields(value))]

    def refusal(self, obj: Object, text: str, conversion: str = "") -> status.StatusError:
        """422: told with the whole object where that was patched as JSON, with the patch alone where it is a strategic
        merge patch, which Go applies to maps and then converts.
        """
        if self.strategic:
            shown, text = gojson.value_text(gojson.loads(self.body)), conversion or text
        else:
            shown = gojson.sorted_text(obj)
        return status.invalid("", "", "", [field.invalid("patch", shown, text)])


def patched(obj: Object, by: Patch, target: Resource | Subresource, context: Context) -> Object:
    """A patched object in the form that Go's types would give it. Raises 422 where the patch made it unfit.

    `target`: what it is; a subresource where that has a kind of its own.
    """
    expected = (target.group, target.version, target.kind)
    resource = target if isinstance(target, Resource) else None
    custom = resource is not None and resource.custom is not None
    if not custom:
        _check_parts(obj, by.body)
    strict = [] if context.field_validation == "Ignore" else by.strict_errors()
    try:
        sent = _of_its_kind(obj, by, expected, custom=custom)
        if not obj.get("apiVersion") and not custom and not by.strategic:
            # Of no version, it is read as Go's internal type, which has fields of other names: nothing is left of it.
            unknown = [f'unknown field "{name}"' for name in sorted(obj) if name not in ("apiVersion", "kind")]
            strict = strict if context.field_validation == "Ignore" else [*strict, *unknown]
            sent = {name: sent[name] for name in ("kind", "apiVersion")}
        return _normalized(Document(sent), resource, expected, context, strict, converting=by.strategic)
    except normalize.TypeMismatch as error:
        raise by.refusal(obj, str(error), error.conversion) from error
    except _StrictErrors as error:
        raise by.refusal(obj, str(error)) from error


def _of_its_kind(obj: Object, by: Patch, expected: tuple[str, str, str], *, custom: bool) -> Object:
    """The patched object, if it is still what it was. Raises 422 where the patch made something else of it."""
    group, version, kind = expected
    itself = {"kind": kind, "apiVersion": codec.group_version(group, version)}
    if by.strategic:  # what the object says of itself does not matter there
        return {**obj, **itself}
    try:
        codec.check_type_meta(obj)
        if custom:
            if not obj.get("kind"):
                raise DecodeError(f"Object 'Kind' is missing in '{gojson.sorted_text(obj)}'")
            if not obj.get("apiVersion"):
                raise status.internal("Object 'apiVersion' is missing in 'object has no apiVersion field'")
            return clone(obj)  # which loses what its schema does not know; a refusal shows all of it
        codec.check_convertible(obj, expected, gotypes.registered)
    except DecodeError as error:
        raise by.refusal(obj, str(error)) from None
    return {**obj, **itself}


class _StrictErrors(ValueError):
    """Unknown or duplicate fields where fieldValidation is Strict."""


def _fitting(document: Document, resource: Resource | None, expected: tuple[str, str, str], context: Context) -> Object:
    if resource is not None and resource.custom is not None:
        return _fitting_custom(document, resource, expected, context)
    try:
        return _normalized(document, resource, expected, context)
    except (normalize.TypeMismatch, _StrictErrors) as error:
        raise codec.handled_as(expected[2], expected[1], expected[2], str(error)) from error


def _fitting_custom(document: Document, resource: Resource, expected: tuple[str, str, str], context: Context) -> Object:
    """What it says of itself is looked at last: what else is wrong with it is told in its own words."""
    if _LONG_NUMBER.search(document.body):
        document.value.update(gojson.with_floats(document.value))
    said, kind = document.value.get("apiVersion") or "", document.value["kind"]
    version = codec.split_api_version(said)[1]
    try:
        found = _normalized(document, resource, expected, context)
    except normalize.TypeMismatch as error:
        raise codec.handled_as(kind, version, resource.kind, str(error)) from error
    except _StrictErrors as error:
        if not said:
            text = "Object 'apiVersion' is missing in 'object has no apiVersion field'"
            raise status.bad_request(text) from error
        raise codec.handled_as(kind, version, kind, str(error)) from error
    if said != resource.api_version:
        raise codec.other_version(said, resource.api_version)
    return found


def _normalized(
    document: Document,
    resource: Resource | None,
    expected: tuple[str, str, str],
    context: Context,
    before: Sequence[str] = (),
    *,
    converting: bool = False,
) -> Object:
    """`before`: what strict decoding has found already. `converting`: the object comes from a strategic merge patch."""
    if resource is not None and resource.custom is not None:
        from kubegate.registry.apiextensions import customresources

        schema = None
        found = customresources.normalize(document.value, resource)
    else:
        schema = schema_for(*expected)
        assert schema is not None, f"{expected} has no schema"
        if converting:
            found = normalize.normalize(document.value, schema, converting=True)
        else:
            stored = resource is not None and resource.persistent
            found = normalize.of_document(document, schema, completing=stored)
    if context.field_validation != "Ignore" and (found.unknown or document.duplicates or before):
        _tell([*before, *normalize.strict_errors(document, found.unknown, schema)], context)
    return found.value


def _tell(errors: Sequence[str], context: Context) -> None:
    """Refuse (Strict) or warn of what strict decoding found."""
    if context.field_validation == "Strict":
        raise _StrictErrors("strict decoding error: " + ", ".join(errors))
    for text in codec.warnings(errors):
        context.trace.warn(text)


class Applied(Struct, frozen=True):
    """An applied configuration, and what strict decoding says of its duplicate fields."""

    value: Object
    duplicates: Sequence[str]


def decode_apply(body: bytes) -> Applied:
    """The applied configuration: YAML, and JSON with it. It is not defaulted, and keeps what it does not say unsaid."""
    try:
        value, lines = decode_yaml(body)
    except DecodeError as error:
        raise status.bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        found = f"json: cannot unmarshal {json_type(value)} into Go value of type map[string]interface {{}}"
        raise status.bad_request(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {found}")
    _check_parts(value, body)
    return Applied(value, lines)


def check_applied(applied: Applied, context: Context) -> None:
    """Refuse (Strict, 400) or warn of duplicate fields."""
    if context.field_validation == "Strict" and applied.duplicates:
        errors = "yaml: unmarshal errors:\n  " + "\n  ".join(applied.duplicates)
        raise status.bad_request(f"error strict decoding YAML: error converting YAML to JSON: {errors}")
    if context.field_validation == "Warn":
        for text in applied.duplicates:
            context.trace.warn(text)


def delete_options(call: Call, body: bytes) -> Object:
    """DeleteOptions from the body, or from the query where there is none. Raises 400."""
    if body:
        media_type = negotiate.body_media_type(call.header("content-type") or None)
        try:
            value = codec.decode_document(body, media_type, strict=False).value
        except DecodeError as error:
            raise status.bad_request(str(error)) from error
        kind, version = value.get("kind") or "DeleteOptions", value.get("apiVersion") or "v1"
        if kind != "DeleteOptions":
            text = f'no kind "{kind}" is registered for version "{version}" in scheme "{_OPTIONS_SCHEME}"'
            raise status.bad_request(text)
        schema = named(_DELETE_OPTIONS)
        assert schema is not None
        try:
            options = normalize.normalize(value, schema).value
        except normalize.TypeMismatch as error:
            raise status.bad_request(str(error)) from error
        if call.audit is not None:
            call.audit.sent({**options, "kind": kind, "apiVersion": version})
        return {key: found for key, found in options.items() if key not in ("kind", "apiVersion")}
    found: Object = {}
    query = call.query
    if "gracePeriodSeconds" in query:
        found["gracePeriodSeconds"] = lists.number(call.parameter("gracePeriodSeconds"))
    if "propagationPolicy" in query:
        found["propagationPolicy"] = call.parameter("propagationPolicy")
    if "orphanDependents" in query:
        found["orphanDependents"] = truth(call.parameter("orphanDependents"))
    if "dryRun" in query:
        found["dryRun"] = query["dryRun"]
    return found
