"""CustomResourceDefinitions: their defaults, what is stored with them, and what is checked.

Follows k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition and .../pkg/apis/apiextensions/validation.
The checks of schemas are in `definitionschemas`, names and conditions in `definitions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from kubegate.api import Object, field, formats, names
from kubegate.api.clock import rfc3339
from kubegate.api.field import FieldError
from kubegate.api.structural import Structural
from kubegate.registry import Rules, Scope, clientconfig
from kubegate.registry.apiextensions import definitionschemas, fieldpaths, shapes
from kubegate.registry.apiextensions.customresources import condition
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import repeated

TYPE: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
APPROVAL: Final = "api-approved.kubernetes.io"

_PER_VERSION: Final = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEW_VERSIONS: Final = ("v1", "v1beta1")
_MAX_SELECTABLE_FIELDS: Final = 8
_MAX_DEPRECATION_WARNING: Final = 256


# ------------------------------------------------------------------ defaults and what is stored
def _default(obj: Object) -> None:
    spec = obj["spec"]
    found = spec["names"]
    if found.get("kind"):
        found["singular"] = found.get("singular") or found["kind"].lower()
        found["listKind"] = found.get("listKind") or f"{found['kind']}List"
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service:
        service.setdefault("port", 443)
    status = obj["status"]
    status.setdefault("conditions", None)
    status.setdefault("storedVersions", None)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is None:
        obj["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": None}
    for version in obj["spec"].get("versions") or ():
        if version.get("storage"):
            stored = obj["status"].get("storedVersions") or []
            if version["name"] not in stored:
                obj["status"] = {**obj["status"], "storedVersions": [*stored, version["name"]]}
            break


def _deleting(obj: Object) -> None:
    """From the first delete on, a finalizer holds the definition until its objects are gone.

    kube-apiserver marks definitions in a way of its own: without grace, and without counting a generation.
    """
    meta = obj["metadata"]
    finalizers = meta.setdefault("finalizers", [])
    if CLEANUP_FINALIZER not in finalizers:
        finalizers.append(CLEANUP_FINALIZER)
        meta.pop("deletionGracePeriodSeconds", None)
        meta["generation"] -= 1
    set_condition(
        obj,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        meta["deletionTimestamp"],
    )


def _held(obj: Object) -> bool:
    """The first delete always waits for the clean-up."""
    return "deletionTimestamp" not in obj["metadata"]


def set_condition(obj: Object, kind: str, value: str, reason: str, message: str, now: str | float) -> None:
    """Set a condition in place; the time of its last transition stays where the value stays."""
    status = obj["status"]
    conditions = [dict(found) for found in status.get("conditions") or ()]
    moment = now if isinstance(now, str) else rfc3339(now)
    new: Object = {"type": kind, "status": value, "lastTransitionTime": moment, "reason": reason, "message": message}
    for position, found in enumerate(conditions):
        if found["type"] == kind:
            if found["status"] == value:
                new["lastTransitionTime"] = found.get("lastTransitionTime")
            conditions[position] = new
            break
    else:
        conditions.append(new)
    obj["status"] = {**status, "conditions": conditions}


# ------------------------------------------------------------------ checks
def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return list(_errors(obj, old))


def _errors(obj: Object, old: Object | None) -> Iterator[FieldError]:
    spec, status = obj["spec"], obj.get("status") or {}
    name, wanted = obj["metadata"].get("name"), f"{spec['names'].get('plural', '')}.{spec.get('group', '')}"
    if old is None and name and name != wanted:
        yield field.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    yield from _spec(spec)
    if old is not None:
        yield from _changes(spec, old["spec"], established=condition(old, "Established"))
    yield from _names(status.get("acceptedNames") or {}, "status.acceptedNames")
    yield from _stored_versions(status.get("storedVersions"), spec.get("versions") or [])
    yield from _approval(obj, old)
    if spec.get("preserveUnknownFields") and not (old or {"spec": {}})["spec"].get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield field.invalid("spec.preserveUnknownFields", True, text)


def _changes(spec: Object, old: Object, *, established: bool) -> Iterator[FieldError]:
    if established:
        yield from field.immutable("spec.scope", spec.get("scope"), old.get("scope"))
        yield from field.immutable("spec.names.kind", spec["names"].get("kind"), old["names"].get("kind"))
    yield from field.immutable("spec.group", spec.get("group"), old.get("group"))
    yield from field.immutable("spec.names.plural", spec["names"].get("plural"), old["names"].get("plural"))


def _spec(spec: Object) -> Iterator[FieldError]:
    group = spec.get("group") or ""
    if not group:
        yield field.required("spec.group")
    elif texts := names.is_dns1123_subdomain(group):
        yield field.invalid("spec.group", group, ",".join(texts))
    elif "." not in group:
        yield field.invalid("spec.group", group, "should be a domain with at least one dot")
    yield from _one_of("spec.scope", spec.get("scope") or "", ("Cluster", "Namespaced"))
    versions = spec.get("versions") or []
    shared = _shared(versions)
    for position, version in enumerate(versions):
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            yield field.required(f"spec.versions[{position}].schema.openAPIV3Schema")
    any_status = any((version.get("subresources") or {}).get("status") is not None for version in versions)
    for position, version in enumerate(versions):
        yield from _version(version, f"spec.versions[{position}]", shared)
    if len({version["name"] for version in versions}) < len(versions):
        yield field.invalid("spec.versions", _internal(versions, shared), "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        shown = None if spec.get("versions") is None else _internal(versions, shared)
        yield field.invalid("spec.versions", shown, text)
    if versions and versions[0]["name"] and (texts := names.is_dns1035_label(versions[0]["name"])):
        yield field.invalid("spec.version", versions[0]["name"], ",".join(texts))
    for name in ("plural", "singular", "kind", "listKind"):
        if not spec["names"].get(name):
            yield field.required(f"spec.names.{name}")
    yield from _names(spec["names"], "spec.names")
    if versions:
        first = {name: versions[0].get(name) for name in shared}
        yield from _per_version(first, "spec", "validation", any_status)
    yield from _conversion(spec.get("conversion"))


def _shared(versions: list[Object]) -> frozenset[str]:
    """What all versions say alike. It is checked once, under names that it had when there was one for all versions."""
    if not versions:
        return frozenset()
    first = versions[0]
    return frozenset(
        name
        for name in _PER_VERSION
        if (first.get(name) or first.get(name) == {}) and all(version.get(name) == first[name] for version in versions)
    )


def _internal(versions: list[Object], shared: frozenset[str]) -> list[Object]:
    """Versions as kube-apiserver prints them: its own names, and without what is the same in all of them."""
    return [
        {
            "Name": version["name"],
            "Served": bool(version.get("served")),
            "Storage": bool(version.get("storage")),
            "Deprecated": bool(version.get("deprecated")),
            "DeprecationWarning": version.get("deprecationWarning"),
            **{
                name[0].upper() + name[1:]: None if name in shared else shapes.per_version(name, version.get(name))
                for name in _PER_VERSION
            },
        }
        for version in versions
    ]


def _version(version: Object, path: str, shared: frozenset[str]) -> Iterator[FieldError]:
    if texts := names.is_dns1035_label(version["name"]):
        yield field.invalid(f"{path}.name", version["name"], ",".join(texts))
    yield from _deprecation(version, f"{path}.deprecationWarning")
    own = {name: version.get(name) for name in _PER_VERSION if name not in shared}
    has_status = (version.get("subresources") or {}).get("status") is not None
    yield from _per_version(own, path, "schema", has_status)


def _deprecation(version: Object, path: str) -> Iterator[FieldError]:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        yield field.invalid(path, text, "can only be set for deprecated versions")
        return
    if len(text.encode()) > _MAX_DEPRECATION_WARNING:
        yield field.invalid(path, text, f"must be <= {_MAX_DEPRECATION_WARNING} characters long")
    if not text:
        yield field.invalid(path, text, "must not be an empty string")
    for position, character in enumerate(text):
        if not character.isprintable():
            found = f"must only contain printable UTF-8 characters; non-printable character found at index {position}"
            yield field.invalid(path, text, found)
            break


def _per_version(said: Object, path: str, schema_name: str, has_status: bool) -> Iterator[FieldError]:
    openapi = (said.get("schema") or {}).get("openAPIV3Schema")
    if openapi is not None:
        yield from definitionschemas.check(openapi, f"{path}.{schema_name}", has_status=has_status)
    if said.get("subresources"):
        yield from _subresources(said["subresources"], f"{path}.subresources")
    for position, column in enumerate(said.get("additionalPrinterColumns") or ()):
        yield from _column(column, f"{path}.additionalPrinterColumns[{position}]")
    if said.get("selectableFields"):
        yield from _selectable(said["selectableFields"], openapi, f"{path}.selectableFields")


def _subresources(found: Object, path: str) -> Iterator[FieldError]:
    scale = found.get("scale")
    if scale is None:
        return
    for name, below in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        at, value = f"{path}.scale.{name}", scale.get(name) or ""
        if not value:
            yield field.required(at)
        elif errors := _simple_path(value, at):
            yield from errors
        elif not value.startswith(f"{below}."):
            yield field.invalid(at, value, f"should be a json path under {below}")
    selector = scale.get("labelSelectorPath")
    if selector:
        at = f"{path}.scale.labelSelectorPath"
        if errors := _simple_path(selector, at):
            yield from errors
        elif not selector.startswith((".spec.", ".status.")):
            yield field.invalid(at, selector, "should be a json path under either .spec or .status")


def _simple_path(value: str, path: str) -> list[FieldError]:
    if not value.startswith("."):
        return [field.invalid(path, value, "must be a simple json path starting with .")]
    return []


def _column(column: Object, path: str) -> Iterator[FieldError]:
    if not column.get("name"):
        yield field.required(f"{path}.name")
    kinds = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not column.get("type"):
        yield field.required(f"{path}.type", kinds)
    elif column["type"] not in _COLUMN_TYPES:
        yield field.invalid(f"{path}.type", column["type"], kinds)
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        yield field.invalid(f"{path}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not column.get("jsonPath"):
        yield field.required(f"{path}.JSONPath")
    else:
        yield from _simple_path(column["jsonPath"], f"{path}.JSONPath")


def _selectable(found: list[Object], openapi: Object | None, path: str) -> Iterator[FieldError]:
    if openapi is None:
        text = "selectableFields may only be set when version.schema.openAPIV3Schema is not included"
        if path == "spec.selectableFields":
            text = "selectableFields may only be set when validations.schema is included"
        yield field.invalid(path, "", text)
        return
    schema = Structural(openapi)
    seen: set[tuple[str, ...]] = set()
    for position, entry in enumerate(found):
        at, value = f"{path}[{position}].jsonPath", entry.get("jsonPath") or ""
        if not value:
            yield field.required(at)
            continue
        try:
            parts, node = fieldpaths.follow(value, schema, arrays=False)
        except fieldpaths.BadPath as error:
            yield field.invalid(at, value, f"is an invalid path: {error}")
            continue
        if parts[:1] == ("metadata",):
            yield field.invalid(at, value, "must not point to fields in metadata")
        if node is None or node.type not in ("string", "boolean", "integer"):
            text = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            yield field.invalid(at, value, text)
        if parts in seen:
            yield field.duplicate(at, value)
        seen.add(parts)
    if len(seen) > _MAX_SELECTABLE_FIELDS:
        yield field.too_many(path, len(seen), _MAX_SELECTABLE_FIELDS)


def _names(found: Object, path: str) -> Iterator[FieldError]:
    for name in ("plural", "singular"):
        value = found.get(name) or ""
        if value and (texts := names.is_dns1035_label(value)):
            yield field.invalid(f"{path}.{name}", value, ",".join(texts))
    for name in ("kind", "listKind"):
        value = found.get(name) or ""
        if value and (texts := names.is_dns1035_label(value.lower())):
            text = "may have mixed case, but should otherwise match: " + ",".join(texts)
            yield field.invalid(f"{path}.{name}", value, text)
    for position, value in enumerate(found.get("shortNames") or ()):
        if texts := names.is_dns1035_label(value):
            yield field.invalid(f"{path}.shortNames[{position}]", value, ",".join(texts))
    if found.get("kind") and found["kind"] == found.get("listKind"):
        yield field.invalid(f"{path}.listKind", found["listKind"], "kind and listKind may not be the same")
    for position, value in enumerate(found.get("categories") or ()):
        if texts := names.is_dns1035_label(value):
            yield field.invalid(f"{path}.categories[{position}]", value, ",".join(texts))


def _one_of(path: str, value: str, accepted: tuple[str, ...]) -> Iterator[FieldError]:
    if not value:
        yield field.required(path)
    elif value not in accepted:
        yield field.not_supported(path, value, accepted)


# ------------------------------------------------------------------ conversion
def _conversion(found: Object | None) -> Iterator[FieldError]:
    if found is None:
        return
    path = "spec.conversion"
    yield from _one_of(f"{path}.strategy", found.get("strategy") or "", ("None", "Webhook"))
    webhook = found.get("webhook") or {}
    config, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    if found.get("strategy") != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        if config is not None:
            yield field.forbidden(f"{path}.webhookClientConfig", text)
        if versions:
            yield field.forbidden(f"{path}.conversionReviewVersions", text)
        return
    at = f"{path}.webhookClientConfig"
    if config is None:
        yield field.required(at, "required when strategy is set to Webhook")
    else:
        yield from clientconfig.validate(_as_checked(config), at)
    yield from _review_versions(versions, f"{path}.conversionReviewVersions")


def _as_checked(config: Object) -> Object:
    """A Service's name is checked as its namespace and the other way round: kube-apiserver gives them so."""
    service = config.get("service")
    if service is None:
        return config
    return {**config, "service": {**service, "name": service.get("namespace"), "namespace": service.get("name")}}


def _review_versions(versions: list[str], path: str) -> Iterator[FieldError]:
    if not versions:
        yield field.required(path)
        return
    twice = repeated(versions)
    for position, version in enumerate(versions):
        if position in twice:
            yield field.invalid(f"{path}[{position}]", version, "duplicate version")
            continue
        for text in names.is_dns1035_label(version):
            yield field.invalid(f"{path}[{position}]", version, text)
    if not set(versions) & set(_REVIEW_VERSIONS):
        yield field.invalid(path, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")


# ------------------------------------------------------------------ status, and groups that are Kubernetes' own
def _stored_versions(stored: list[str] | None, versions: list[Object]) -> Iterator[FieldError]:
    path = "status.storedVersions"
    if not stored:
        yield field.invalid(path, stored, "must have at least one stored version")
        return
    left = {name: position for position, name in enumerate(stored)}
    for version in versions:
        if version.get("storage") and version["name"] not in left:
            yield field.invalid(path, stored, f"must have the storage version {version['name']}")
        left.pop(version["name"], None)
    for name, position in left.items():
        text = (
            f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions "
            f"until a storage migration ensures no data remains persisted in {name} and removes {name} from "
            "status.storedVersions"
        )
        yield field.invalid(f"{path}[{position}]", name, text)


def is_protected(group: str) -> bool:
    """Groups that only Kubernetes itself may add APIs to."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval_of(obj: Object) -> tuple[str, str]:
    """The state of the approval annotation (missing, bypassed, approved, invalid), and the words for it."""
    value: Any = (obj["metadata"].get("annotations") or {}).get(APPROVAL) or ""
    need = f'protected groups must have approval annotation "{APPROVAL}"'
    see = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not value:
        return "missing", f"{need}, {see}"
    if value.startswith("unapproved"):
        return "bypassed", f"not approved: {field.quoted(value)}"
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme and parts.netloc:
        return "approved", f"approved in {value}"
    return "invalid", f'{need} with either a URL or a reason starting with "unapproved", {see}'


def _approval(obj: Object, old: Object | None) -> Iterator[FieldError]:
    if not is_protected(obj["spec"].get("group") or ""):
        return
    state, reason = approval_of(obj)
    if old is not None and approval_of(old)[0] == state:
        return
    path = field.key("metadata.annotations", APPROVAL)
    if state == "missing":
        yield field.required(path, reason)
    elif state == "invalid":
        yield field.invalid(path, obj["metadata"]["annotations"][APPROVAL], reason)


def _warnings(obj: Object, old: Object | None) -> list[str]:
    """Formats that nothing checks are probably misspelt."""
    found: set[str] = set()
    for version in obj["spec"].get("versions") or ():
        openapi = (version.get("schema") or {}).get("openAPIV3Schema")
        for node in Structural(openapi).walk() if openapi else ():
            name = node.raw.get("format")
            if name and node.type == "string" and formats.normalized(name) not in formats.KNOWN:
                found.add(f"unrecognized format {field.quoted(name)}")
    return sorted(found)


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return list(_names((obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames"))


RULES = Rules(
    default=Defaulted(TYPE, _default),
    prepare=_prepare,
    validate=_validate,
    warnings=_warnings,
    deleting=_deleting,
    held=_held,
    status=True,
    generation=True,
    unconditional_update=False,
    subresources={"status": Rules(validate=_validate_status)},
)
