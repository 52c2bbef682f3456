"""Request bodies to objects: decoded, of the right kind, in the form that Go's types would give them.

What cannot be taken is refused with 400 in kube-apiserver's words; unknown and duplicate fields by fieldValidation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubegate.api import Object, codec, field, gojson, gotypes, negotiate, normalize, status
from kubegate.api.codec import DecodeError, Document, decode_yaml, json_type
from kubegate.api.resources import Resource
from kubegate.api.schema import schema_for
from kubegate.registry import Context
from kubegate.server import lists
from kubegate.server.call import Call

_OPTIONS_SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"

# Subresources that take an older version of their kind as well, of the same fields.
_OLDER_VERSIONS = {("policy", "Eviction"): "v1beta1"}


def decode(call: Call, body: bytes, resource: Resource, context: Context) -> Object:
    """The object of a create or update. Raises 400, 415."""
    media_type = negotiate.body_media_type(call.header("content-type") or None)
    expected = (resource.group, resource.version, resource.kind)
    strict = context.field_validation != "Ignore"
    known = gotypes.registered if resource.custom is None else None
    document = codec.decode_object(body, media_type, expected, known, strict=strict)
    return _fitting(document, resource, expected, context)


def decode_as(call: Call, body: bytes, group: str, version: str, kind: str, context: Context) -> Object:
    """The object of a subresource, which has a kind of its own."""
    media_type = negotiate.body_media_type(call.header("content-type") or None)
    strict = context.field_validation != "Ignore"
    older = _OLDER_VERSIONS.get((group, kind), version)
    said = older if f'"{group}/{older}"'.encode() in body else version
    document = codec.decode_object(body, media_type, (group, said, kind), gotypes.registered, strict=strict)
    document.value["apiVersion"] = f"{group}/{version}" if group else version
    return _fitting(document, None, (group, version, kind), context)


def patched(
    make: Callable[[], Object], resource: Resource, context: Context, strategic_patch: bytes | None = None
) -> Object:
    """What `make` makes, a patched object, in the form that Go's types would give it.

    Raises 422 where the patch made it unfit: told with the whole object where that was patched as JSON, with the patch
    alone where it is a strategic merge patch, which Go applies to maps and then converts.
    """
    expected = (resource.group, resource.version, resource.kind)
    try:
        return _normalized(Document(make()), resource, expected, context)
    except (normalize.TypeMismatch, _StrictErrors) as error:
        if strategic_patch is not None:
            shown = gojson.value_text(gojson.loads(strategic_patch))
            text = error.conversion if isinstance(error, normalize.TypeMismatch) else str(error)
        else:
            shown, text = gojson.sorted_text(make()), str(error)
        raise status.invalid("", "", "", [field.invalid("patch", shown, text)]) from error


class _StrictErrors(ValueError):
    """Unknown or duplicate fields where fieldValidation is Strict."""


def _fitting(document: Document, resource: Resource | None, expected: tuple[str, str, str], context: Context) -> Object:
    try:
        return _normalized(document, resource, expected, context)
    except (normalize.TypeMismatch, _StrictErrors) as error:
        raise codec.handled_as(expected[2], expected[1], expected[2], str(error)) from error


def _normalized(
    document: Document, resource: Resource | None, expected: tuple[str, str, str], context: Context
) -> Object:
    if resource is not None and resource.custom is not None:
        from kubegate.registry.apiextensions import customresources

        found = customresources.normalize(document.value, resource)
    else:
        schema = schema_for(*expected)
        assert schema is not None, f"{expected} has no schema"
        found = normalize.normalize(document.value, schema)
    if context.field_validation != "Ignore" and (found.unknown or document.duplicates):
        _tell(normalize.strict_errors(document, found.unknown), context)
    return found.value


def _tell(errors: Sequence[str], context: Context) -> None:
    """Refuse (Strict) or warn of what strict decoding found."""
    if context.field_validation == "Strict":
        raise _StrictErrors("strict decoding error: " + ", ".join(errors))
    for text in codec.warnings(errors):
        context.trace.warn(text)


def decode_apply(body: bytes, resource: Resource, context: Context) -> Object:
    """The applied configuration: YAML, and JSON with it. It is not defaulted, and keeps what it does not say unsaid."""
    try:
        value, lines = decode_yaml(body)
    except DecodeError as error:
        raise status.bad_request(f"error decoding YAML: error converting YAML to JSON: {error}") from error
    if not isinstance(value, dict):
        if value is None:
            raise status.bad_request("error decoding YAML: invalid object type: /, Kind=")
        found = f"json: cannot unmarshal {json_type(value)} into Go value of type map[string]interface {{}}"
        raise status.bad_request(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {found}")
    if context.field_validation == "Strict" and lines:
        errors = "yaml: unmarshal errors:\n  " + "\n  ".join(lines)
        raise status.bad_request(f"error strict decoding YAML: error converting YAML to JSON: {errors}")
    if context.field_validation == "Warn":
        for text in lines:
            context.trace.warn(text)
    return value


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
        _check_option_types(value)
        return {key: found for key, found in value.items() if key not in ("kind", "apiVersion") and found is not None}
    found: Object = {}
    query = call.query
    if "gracePeriodSeconds" in query:
        found["gracePeriodSeconds"] = lists.number(call.parameter("gracePeriodSeconds"))
    if "propagationPolicy" in query:
        found["propagationPolicy"] = call.parameter("propagationPolicy")
    if "orphanDependents" in query:
        found["orphanDependents"] = lists.truth(call.parameter("orphanDependents"))
    if "dryRun" in query:
        found["dryRun"] = query["dryRun"]
    return found


_OPTION_TYPES: dict[str, tuple[type, str, str]] = {
    "gracePeriodSeconds": (int, "DeleteOptions.gracePeriodSeconds", "int64"),
    "orphanDependents": (bool, "DeleteOptions.orphanDependents", "bool"),
    "propagationPolicy": (str, "DeleteOptions.propagationPolicy", "v1.DeletionPropagation"),
    "dryRun": (list, "DeleteOptions.dryRun", "[]string"),
    "preconditions": (dict, "DeleteOptions.preconditions", "v1.Preconditions"),
}


def _check_option_types(options: Object) -> None:
    for name, (kind, path, go_type) in _OPTION_TYPES.items():
        value = options.get(name)
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            continue
        text = f"json: cannot unmarshal {json_type(value)} into Go struct field {path} of type {go_type}"
        raise status.bad_request(text)
