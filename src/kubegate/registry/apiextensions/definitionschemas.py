"""Whether the schema in a definition may be used: structural, with defaults that fit, with nothing unsupported.

Follows k8s.io/apiextensions-apiserver: pkg/apiserver/schema (validation, complete), pkg/apiserver/schema/defaulting and
pkg/apis/apiextensions/validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubegate.api import clone, field, goregexp, structural, valuecheck
from kubegate.api.field import FieldError
from kubegate.api.structural import Structural
from kubegate.registry.apiextensions import fieldpaths, shapes
from kubegate.registry.checks import repeated

Definition = Mapping[str, Any]

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_META_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata"})
_UNSUPPORTED: Final = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
# Go's names of what may stand at the root beside `type` where there is a status subresource.
_ALLOWED_AT_ROOT: Final = {
    "description": "Description",
    "type": "Type",
    "format": "Format",
    "title": "Title",
    "maximum": "Maximum",
    "exclusiveMaximum": "ExclusiveMaximum",
    "minimum": "Minimum",
    "exclusiveMinimum": "ExclusiveMinimum",
    "maxLength": "MaxLength",
    "minLength": "MinLength",
    "pattern": "Pattern",
    "maxItems": "MaxItems",
    "minItems": "MinItems",
    "uniqueItems": "UniqueItems",
    "multipleOf": "MultipleOf",
    "required": "Required",
    "items": "Items",
    "properties": "Properties",
    "externalDocs": "ExternalDocs",
    "example": "Example",
    "x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields",
    "x-kubernetes-validations": "XValidations",
}
# What value validations (allOf, anyOf, oneOf, not) may not say: (keyword, what it must be).
_FORBIDDEN_NESTED: Final = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("externalDocs", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]


def check(openapi: Definition, path: str, *, has_status: bool) -> list[FieldError]:
    """What is wrong with a schema; `path` is that of its `openAPIV3Schema`'s parent."""
    at = f"{path}.openAPIV3Schema"
    errors = list(_root(openapi, path)) if has_status else []
    if openapi.get("nullable"):
        errors.append(field.forbidden(f"{at}.nullable", "nullable cannot be true at the root"))
    readable = not _has_unsupported(openapi)  # else it has no structural form
    found = sorted([*_invariants(openapi, at, "root"), *_completeness(openapi, at)], key=str) if readable else []
    if readable and not found:
        found = list(_defaults(openapi, Structural(openapi), at, root=True))
    errors += found
    wrong = list(_standard(openapi, at, _Place(root=True)))
    errors += wrong
    if readable and not found and Structural(openapi).has_rules:
        # CEL is imported with the first rule.
        from kubegate.registry.apiextensions import rules

        errors += rules.check_definition(openapi, at, [error.field for error in wrong])
    return errors


def _has_unsupported(schema: Any) -> bool:
    """Whether a schema, or one within it, has a keyword that Kubernetes does not take."""
    if isinstance(schema, list):
        return any(map(_has_unsupported, schema))
    if not isinstance(schema, Mapping):
        return False
    if any(schema.get(keyword) for keyword in _UNSUPPORTED):
        return True
    below = [schema.get(keyword) for keyword in ("items", "additionalProperties", "not", "allOf", "anyOf", "oneOf")]
    return any(map(_has_unsupported, (*below, *(schema.get("properties") or {}).values())))


def _root(openapi: Definition, path: str) -> Iterator[FieldError]:
    """With a status subresource, the schema of status is taken out of `properties`; nothing may be lost by that."""
    for keyword, value in openapi.items():
        if not value:
            continue
        if keyword == "type":
            if value != "object":
                text = (
                    'only "object" is allowed as the type at the root of the schema '
                    "if the status subresource is enabled"
                )
                yield field.invalid(f"{path}.openAPIV3Schema.type", value, text)
                return
        elif keyword not in _ALLOWED_AT_ROOT:
            allowed = " ".join(_ALLOWED_AT_ROOT.values())
            text = f"only [{allowed}] fields are allowed at the root of the schema if the status subresource is enabled"
            yield field.invalid(f"{path}.openAPIV3Schema", shapes.schema(openapi), text)
            return


# ------------------------------------------------------------------ structural
def _is(definition: Definition, keyword: str) -> bool:
    return bool(definition.get(f"x-kubernetes-{keyword}"))


def _invariants(schema: Definition, path: str, level: str) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    items, additional = schema.get("items"), schema.get("additionalProperties")
    if kind == "array" and not isinstance(items, Mapping):
        yield field.required(f"{path}.items", "must be specified")
    if isinstance(items, Mapping):
        yield from _invariants(items, f"{path}.items", "item")
    for name, child in (schema.get("properties") or {}).items():
        yield from _invariants(child, f"{path}.properties[{name}]", "field")
    if additional is not None and level == "root":
        yield field.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(additional, Mapping):
        yield from _invariants(additional, f"{path}.additionalProperties", "field")
    yield from _extensions(schema, path)
    yield from _nested(schema, path)
    yield from _type_invariants(schema, kind, path, level)
    yield from _meta_invariants(schema, path, level)


def _extensions(schema: Definition, path: str) -> Iterator[FieldError]:
    if not _is(schema, "int-or-string"):
        return
    for name in ("preserve-unknown-fields", "embedded-resource"):
        if _is(schema, name):
            text = "must be false if x-kubernetes-int-or-string is true"
            yield field.invalid(f"{path}.x-kubernetes-{name}", True, text)


def _type_invariants(schema: Definition, kind: str, path: str, level: str) -> Iterator[FieldError]:
    embedded = _is(schema, "embedded-resource")
    if embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        yield field.invalid(f"{path}.type", kind, text) if kind else field.required(f"{path}.type", text)
    elif not kind and not _is(schema, "int-or-string") and not _is(schema, "preserve-unknown-fields"):
        places = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}
        yield field.required(f"{path}.type", f"must not be empty {places[level]}")
    if embedded and schema.get("additionalProperties") is not None:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        yield field.forbidden(f"{path}.additionalProperties", text)
    if level == "root" and kind and kind != "object":
        yield field.invalid(f"{path}.type", kind, "must be object at the root")
    if embedded and not _is(schema, "preserve-unknown-fields") and not schema.get("properties"):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        yield field.required(f"{path}.properties", text)


def _meta_invariants(schema: Definition, path: str, level: str) -> Iterator[FieldError]:
    """Objects have apiVersion, kind and metadata as they are; schemas may restrict names, nothing else."""
    if level != "root" and not _is(schema, "embedded-resource"):
        return
    properties = schema.get("properties") or {}
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            found = properties[name].get("type") or ""
            yield field.invalid(f"{path}.properties[{name}].type", found, "must be string")
    meta = properties.get("metadata")
    if meta is None:
        return
    at = f"{path}.properties[metadata]"
    if meta.get("type") != "object":
        yield field.invalid(f"{at}.type", meta.get("type") or "", "must be object")
    if level != "root":
        return
    rest = {keyword for keyword, value in meta.items() if value and keyword not in ("type", "default", "properties")}
    if rest or not set(meta.get("properties") or {}) <= {"name", "generateName"}:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield field.forbidden(at, text)


def _branches(schema: Definition) -> Iterator[tuple[str, Definition]]:
    """The value validations below a schema, each with its place."""
    for keyword in ("anyOf", "allOf", "oneOf"):
        for position, branch in enumerate(schema.get(keyword) or ()):
            yield f"{keyword}[{position}]", branch
    if isinstance(schema.get("not"), Mapping):
        yield "not", schema["not"]


def _nested(schema: Definition, path: str) -> Iterator[FieldError]:
    # The two ways to say integer or string are allowed, although they name types.
    either = schema.get("anyOf") == _INT_OR_STRING
    first = (schema.get("allOf") or [{}])[0].get("anyOf") == _INT_OR_STRING
    for place, branch in _branches(schema):
        if not (either and place.startswith("anyOf")):
            yield from _nested_value(branch, f"{path}.{place}", either=first and place == "allOf[0]")
    yield from _pattern(schema, path)


def _pattern(schema: Definition, path: str) -> Iterator[FieldError]:
    if schema.get("pattern"):
        try:
            goregexp.compiled(schema["pattern"])
        except goregexp.BadPattern as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            yield field.invalid(f"{path}.pattern", schema["pattern"], text)


def _nested_value(schema: Definition, path: str, *, either: bool = False) -> Iterator[FieldError]:
    """`either`: its anyOf is one of the two ways to say integer or string."""
    for place, branch in _branches(schema):
        if not (either and place.startswith("anyOf")):
            yield from _nested_value(branch, f"{path}.{place}")
    yield from _pattern(schema, path)
    if isinstance(schema.get("items"), Mapping):
        yield from _nested_value(schema["items"], f"{path}.items")
    for name, child in (schema.get("properties") or {}).items():
        yield from _nested_value(child, f"{path}.properties[{name}]")
    for keyword, text in _FORBIDDEN_NESTED:
        if schema.get(keyword):
            yield field.forbidden(f"{path}.{keyword}", text)
    if "metadata" in (schema.get("properties") or {}):
        yield field.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _completeness(schema: Definition, path: str) -> Iterator[FieldError]:
    """Whatever value validations speak of must be specified outside of them as well."""
    for place, branch in _branches(schema):
        yield from _specified(branch, schema, path, f"{path}.{place}")
    if isinstance(schema.get("items"), Mapping):
        yield from _completeness(schema["items"], f"{path}.items")
    for name, child in (schema.get("properties") or {}).items():
        yield from _completeness(child, f"{path}.properties[{name}]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _completeness(schema["additionalProperties"], f"{path}.additionalProperties")


def _specified(branch: Definition, schema: Definition | None, path: str, branch_path: str) -> Iterator[FieldError]:
    if schema is None:
        yield field.required(path, f"because it is defined in {branch_path}")
        return
    for place, deeper in _branches(branch):
        yield from _specified(deeper, schema, path, f"{branch_path}.{place}")
    if isinstance(branch.get("items"), Mapping):
        items = schema.get("items") if isinstance(schema.get("items"), Mapping) else None
        yield from _specified(branch["items"], items, f"{path}.items", f"{branch_path}.items")
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    for name, child in (branch.get("properties") or {}).items():
        known = properties.get(name, additional if isinstance(additional, Mapping) else None)
        if known is None and schema.get("x-kubernetes-preserve-unknown-fields") and not properties:
            continue
        below = f"properties[{name}]"
        yield from _specified(child, known, f"{path}.{below}", f"{branch_path}.{below}")


# ------------------------------------------------------------------ defaults
def _defaults(raw: Definition, schema: Structural, path: str, *, root: bool = False) -> Iterator[FieldError]:
    if schema.has_default:
        yield from _default(schema, f"{path}.default")
    for name, child in schema.properties.items():
        if (root or schema.embedded) and name in _META_FIELDS:
            continue
        yield from _defaults(raw["properties"][name], child, f"{path}.properties[{name}]")
    if isinstance(schema.additional, Structural):
        yield from _defaults(raw["additionalProperties"], schema.additional, f"{path}.additionalProperties")
    if schema.items is not None:
        yield from _defaults(raw["items"], schema.items, f"{path}.items")


def _default(schema: Structural, path: str) -> Iterator[FieldError]:
    """A default must be what pruning and defaulting leave alone, and fit its own schema."""
    value = clone({"default": schema.default})
    holder = Structural({"type": "object", "properties": {"default": schema.raw}})
    if structural.prune(value, holder):
        yield field.invalid(path, schema.default, "must not have unknown fields")
        return
    # The place of the value itself has no name here: texts begin with a space.
    unfit = valuecheck.check(schema.default, schema)
    for error in unfit:
        below = "" if error.field == valuecheck.NO_PATH else f".{error.field}"
        yield FieldError(error.reason, path + below, error.text)
    if not unfit and schema.has_rules:
        from kubegate.registry.apiextensions import rules

        yield from rules.check_default(schema.default, schema, path)
    for error in valuecheck.check_lists(schema.default, schema):
        yield FieldError(error.reason, path + error.field, error.text)


# ------------------------------------------------------------------ what is not supported
class _Place:
    """Where in a schema: at the root, inside metadata of a resource."""

    __slots__ = ("forbidden_default", "in_meta", "root")

    def __init__(self, *, root: bool = False, in_meta: bool = False, forbidden_default: str = "") -> None:
        self.root, self.in_meta, self.forbidden_default = root, in_meta, forbidden_default


def _standard(schema: Definition, path: str, place: _Place) -> Iterator[FieldError]:
    yield from _keywords(schema, path, place)
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield field.forbidden(f"{path}.uniqueItems", text)
    inside = _Place(in_meta=place.in_meta, forbidden_default=place.forbidden_default)
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    if additional is not None:
        if properties and additional is not True:
            text = "additionalProperties and properties are mutual exclusive"
            yield field.forbidden(f"{path}.additionalProperties", text)
        if isinstance(additional, Mapping):
            below = inside
            if place.in_meta:
                reason = "inside additionalProperties applying to object metadata"
                below = _Place(in_meta=True, forbidden_default=reason)
            yield from _standard(additional, f"{path}.additionalProperties", below)
    for name, child in properties.items():
        below = inside
        if (place.root or _is(schema, "embedded-resource")) and name in _META_FIELDS:
            reason = f"in top-level {name}" if place.root else place.forbidden_default
            below = _Place(in_meta=True, forbidden_default=reason)
        yield from _standard(child, f"{path}.properties[{name}]", below)
    for branch_place, branch in _branches(schema):
        yield from _standard(branch, f"{path}.{branch_place}", inside)
    items = schema.get("items")
    if isinstance(items, Mapping):
        yield from _standard(items, f"{path}.items", inside)
    yield from _kubernetes(schema, path)
    if schema.get("x-kubernetes-validations"):
        yield from _rules(schema, path)


_REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


def _rules(schema: Definition, path: str) -> Iterator[FieldError]:
    """What can be said of rules without reading their expressions."""
    for position, said in enumerate(schema["x-kubernetes-validations"]):
        at = f"{path}.x-kubernetes-validations[{position}]"
        text, message = str(said.get("rule") or "").strip(), str(said.get("message") or "")
        if not text:
            yield field.required(f"{at}.rule", "rule is not specified")
        elif message and not message.strip():
            yield field.invalid(f"{at}.message", message, "must be non-empty if specified")
        elif "\n" in message.strip():
            yield field.invalid(f"{at}.message", message, "must not contain line breaks")
        elif "\n" in text and not message.strip():
            yield field.required(f"{at}.message", "message must be specified if rule contains line breaks")
        if said.get("messageExpression") and not str(said["messageExpression"]).strip():
            yield field.required(f"{at}.messageExpression", "messageExpression must be non-empty if specified")
        if said.get("reason") is not None and said["reason"] not in _REASONS:
            yield field.not_supported(f"{at}.reason", said["reason"], _REASONS)
        yield from _rule_path(str(said.get("fieldPath") or ""), schema, f"{at}.fieldPath")


def _rule_path(value: str, schema: Definition, path: str) -> Iterator[FieldError]:
    if not value:
        return
    if not value.strip():
        yield field.invalid(path, value, "must be non-empty if specified")
    if "\n" in value:
        yield field.invalid(path, value, "must not contain line breaks")
    try:
        fieldpaths.follow(value, Structural(schema))
    except fieldpaths.BadPath:
        yield field.invalid(path, value, "must be a valid path")


def _keywords(schema: Definition, path: str, place: _Place) -> Iterator[FieldError]:
    kind = schema.get("type") or ""
    if kind == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        yield field.forbidden(f"{path}.type", text)
    elif kind and kind not in _TYPES:
        yield field.not_supported(f"{path}.type", kind, _TYPES)
    if schema.get("default") is not None and place.forbidden_default:
        yield field.forbidden(f"{path}.default", f"must not be set {place.forbidden_default}")
    for keyword in _UNSUPPORTED:
        if schema.get(keyword):
            yield field.forbidden(f"{path}.{keyword}", f"{keyword} is not supported")
    if isinstance(schema.get("items"), list):
        yield field.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.in_meta and _is(schema, "embedded-resource"):
        text = "must not be used inside of resource meta"
        yield field.forbidden(f"{path}.x-kubernetes-embedded-resource", text)


def _kubernetes(schema: Definition, path: str) -> Iterator[FieldError]:
    """The extensions: how lists and maps merge."""
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        at = f"{path}.x-kubernetes-preserve-unknown-fields"
        yield field.invalid(at, False, "must be true or undefined")
    map_type, list_type = schema.get("x-kubernetes-map-type"), schema.get("x-kubernetes-list-type")
    if map_type is not None:
        yield from _must_be(schema, path, "object", "x-kubernetes-map-type")
        if map_type not in ("atomic", "granular"):
            yield field.not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))
    items = schema.get("items") if isinstance(schema.get("items"), Mapping) else None
    if list_type is not None:
        wrong = list(_must_be(schema, path, "array", "x-kubernetes-list-type"))
        yield from wrong
        if not wrong and list_type == "set" and items is not None:
            yield from _set_items(items, f"{path}.items")
        if list_type not in ("atomic", "set", "map"):
            yield field.not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map"))
    yield from _map_keys(schema, items, list_type, path)
    if items is not None and list_type in ("set", "map"):
        yield from _item_keys(schema, items, list_type, path)


def _must_be(schema: Definition, path: str, kind: str, keyword: str) -> Iterator[FieldError]:
    found = schema.get("type") or ""
    if found != kind:
        text = f"must be {kind} if {keyword} is specified"
        yield field.invalid(f"{path}.type", found, text) if found else field.required(f"{path}.type", text)


def _set_items(items: Definition, path: str) -> Iterator[FieldError]:
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    list_type = items.get("x-kubernetes-list-type")
    if items.get("type") == "array" and list_type not in (None, "atomic"):
        yield field.invalid(f"{path}.x-kubernetes-list-type", list_type, text)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield field.invalid(f"{path}.x-kubernetes-map-type", list_type, text)


def _map_keys(schema: Definition, items: Definition | None, list_type: str | None, path: str) -> Iterator[FieldError]:
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if keys:
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        if list_type is None:
            yield field.required(f"{path}.x-kubernetes-list-type", text)
        elif list_type != "map":
            yield field.invalid(f"{path}.x-kubernetes-list-type", list_type, text)
    if list_type != "map":
        return
    at = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        yield field.required(at, "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        yield field.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
        return
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        yield field.invalid(f"{path}.items.type", items.get("type") or "", text)
        return
    properties = items.get("properties") or {}
    twice = repeated(keys)
    for position, key in enumerate(keys):
        if key not in properties:
            yield field.invalid(at, keys, "entries must all be names of item properties")
        elif properties[key].get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield field.invalid(f"{path}.items.properties[{key}].type", items.get("type"), text)
        if position in twice:
            yield field.invalid(at, keys, "must not contain duplicate entries")


def _item_keys(schema: Definition, items: Definition, list_type: str, path: str) -> Iterator[FieldError]:
    """Keys must be there, by requirement or default, so that each item has a name."""
    if items.get("nullable"):
        text = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        yield field.forbidden(f"{path}.items.nullable", text)
    if list_type != "map":
        return
    required = items.get("required") or []
    for key in schema.get("x-kubernetes-list-map-keys") or ():
        known = (items.get("properties") or {}).get(key)
        if known is None:
            continue
        at = f"{path}.items.properties[{key}]"
        if key not in required and known.get("default") is None:
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            yield field.required(f"{at}.default", text)
        if known.get("nullable"):
            text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            yield field.forbidden(f"{at}.nullable", text)
