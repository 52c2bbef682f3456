"""OpenAPI documents: paths, operations and schemas of each group version (v3), and of all together (v2).

Schemas and paths of built-in resources are measured facts (`api/data`), without prose; descriptions come from the
package kubernetes-validate where it is installed. Those of custom resources come from their definitions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from kubegate import KUBERNETES_VERSION
from kubegate.api.resources import Resource, Resources, data

Document = dict[str, Any]

_REFERENCE = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_DELETE_OPTIONS, _STATUS, _PATCH = f"{_META}DeleteOptions", f"{_META}Status", f"{_META}Patch"
_API_GROUP, _API_RESOURCES = f"{_META}APIGroup", f"{_META}APIResourceList"
_OBJECT_TYPES: Final = ("application/json", "application/vnd.kubernetes.protobuf", "application/yaml")
_PATCH_TYPES: Final = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_CUSTOM_PATCH_TYPES: Final = _PATCH_TYPES[:3]

# method -> (verb, action, the word that an operation's id begins with), for collections and for single objects.
_COLLECTION: Final = {
    "get": ("list", "list", "list"),
    "post": ("create", "post", "create"),
    "delete": ("deletecollection", "deletecollection", "delete"),
}
_SINGLE: Final = {
    "get": ("get", "get", "read"),
    "put": ("update", "put", "replace"),
    "post": ("create", "post", "create"),
    "delete": ("delete", "delete", "delete"),
    "patch": ("patch", "patch", "patch"),
}
_CONNECTS: Final = frozenset({"attach", "exec", "portforward", "proxy"})
_PARAMETERS: Final = {
    "list": {
        "allowWatchBookmarks": "boolean",
        "continue": "string",
        "fieldSelector": "string",
        "labelSelector": "string",
        "limit": "integer",
        "resourceVersion": "string",
        "resourceVersionMatch": "string",
        "sendInitialEvents": "boolean",
        "timeoutSeconds": "integer",
        "watch": "boolean",
    },
    "create": {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"},
    "update": {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"},
    "patch": {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string", "force": "boolean"},
    "delete": {
        "dryRun": "string",
        "gracePeriodSeconds": "integer",
        "ignoreStoreReadErrorWithClusterBreakingPotential": "boolean",
        "orphanDependents": "boolean",
        "propagationPolicy": "string",
    },
}
_SECURITY: Final = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}


# --- the facts -----------------------------------------------------------------------------------------------------


@cache
def _built_in_paths() -> dict[str, list[str]]:
    found: dict[str, list[str]] = orjson.loads(data("openapi-paths.json"))
    return found


@cache
def _built_in_schemas() -> Mapping[str, Document]:
    found: dict[str, Document] = orjson.loads(data("openapi-schemas.json.gz"))
    found |= {name: dict(schema) for name, schema in _DISCOVERY_SCHEMAS.items() if name not in found}
    prose = _descriptions()
    if prose:
        for name, schema in found.items():
            _describe(schema, prose.get(name))
    return found


@cache
def _descriptions() -> Mapping[str, Document]:
    """Definitions with descriptions from kubernetes-validate, {} where it is not installed.

    Only its data file is read; the package's code (and what it needs) is not imported.
    """
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        return {}
    minor = ".".join(KUBERNETES_VERSION.split(".")[:2])
    root = Path(next(iter(spec.submodule_search_locations))) / "kubernetes-json-schema"
    for folder in sorted(root.glob(f"{minor}.*-local")):
        try:
            found: dict[str, Document] = orjson.loads((folder / "_definitions.json").read_bytes())["$defs"]
        except (OSError, ValueError, KeyError):
            continue
        return found
    return {}


def _describe(schema: Document, described: Document | None) -> None:
    if not described:
        return
    if isinstance(described.get("description"), str):
        schema["description"] = described["description"]
    properties = described.get("properties") or {}
    for name, child in (schema.get("properties") or {}).items():
        text = (properties.get(name) or {}).get("description")
        if isinstance(text, str):
            child["description"] = text + _values(child)


def _values(schema: Document) -> str:
    """What stands under the description of a field with an enumerated type. What a value means is not known here."""
    if not schema.get("enum"):
        return ""
    return "\n\nPossible enum values:" + "".join(f'\n - `"{value}"`' for value in schema["enum"])


def _text(default: bool = True) -> Document:
    return {"type": "string", "default": ""} if default else {"type": "string"}


def _many(name: str) -> Document:
    items = {"$ref": f"{_REFERENCE}{_META}{name}"}
    return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}


def _one(name: str) -> Document:
    return {"default": {}, "allOf": [{"$ref": f"{_REFERENCE}{_META}{name}"}]}


def _kind(name: str) -> list[Document]:
    return [{"group": "", "kind": name, "version": "v1"}]


_KIND = {"apiVersion": _text(False), "kind": _text(False)}
_VERSION_FIELDS: Final = (
    *("major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"),
)
# Types that only discovery answers with: the measured schemas leave them out.
_DISCOVERY_SCHEMAS: Final[dict[str, Document]] = {
    f"{_META}APIGroup": {
        "type": "object",
        "required": ["name", "versions"],
        "properties": {
            **_KIND,
            "name": _text(),
            "preferredVersion": _one("GroupVersionForDiscovery"),
            "serverAddressByClientCIDRs": _many("ServerAddressByClientCIDR"),
            "versions": _many("GroupVersionForDiscovery"),
        },
        "x-kubernetes-group-version-kind": _kind("APIGroup"),
    },
    f"{_META}APIGroupList": {
        "type": "object",
        "required": ["groups"],
        "properties": {**_KIND, "groups": _many("APIGroup")},
        "x-kubernetes-group-version-kind": _kind("APIGroupList"),
    },
    f"{_META}APIVersions": {
        "type": "object",
        "required": ["versions", "serverAddressByClientCIDRs"],
        "properties": {
            **_KIND,
            "serverAddressByClientCIDRs": _many("ServerAddressByClientCIDR"),
            "versions": {"type": "array", "items": _text(), "x-kubernetes-list-type": "atomic"},
        },
        "x-kubernetes-group-version-kind": _kind("APIVersions"),
    },
    f"{_META}GroupVersionForDiscovery": {
        "type": "object",
        "required": ["groupVersion", "version"],
        "properties": {"groupVersion": _text(), "version": _text()},
    },
    f"{_META}ServerAddressByClientCIDR": {
        "type": "object",
        "required": ["clientCIDR", "serverAddress"],
        "properties": {"clientCIDR": _text(), "serverAddress": _text()},
    },
    "io.k8s.apimachinery.pkg.version.Info": {
        "type": "object",
        "required": list(_VERSION_FIELDS),
        "properties": {
            **{name: _text() for name in _VERSION_FIELDS},
            **{
                name: _text(False)
                for name in ("emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor")
            },
        },
    },
}


# --- documents -----------------------------------------------------------------------------------------------------


def names(resources: Resources) -> list[str]:
    """The documents that there are: `api/v1`, `apis/apps/v1`, `version` …"""
    found = set(_built_in_paths())
    for resource in resources:
        if resource.custom is not None:
            found.add(f"apis/{resource.group}/{resource.version}")
    return sorted(found)


def document(resources: Resources, name: str) -> Document | None:
    """An OpenAPI v3 document, None where there is none of that name."""
    paths: Document = {}
    custom = [r for r in resources if r.custom is not None and f"apis/{r.group}/{r.version}" == name]
    if not custom and name not in _built_in_paths():
        return None
    group, version = _group_version(name)
    for path in _built_in_paths().get(name, ()):
        item = _discovery_item(path) if path.endswith("/") else _item(resources, group, version, path)
        if item:
            paths[path] = item
    schemas: dict[str, Document] = {}
    for resource in custom:
        schemas |= _custom_schemas(resource)
        for path in _custom_paths(resource):
            paths[path] = _item(resources, group, version, path)
    schemas |= _closure(paths, schemas)
    components: Document = {"schemas": dict(sorted(schemas.items()))} if schemas else {}
    components["securitySchemes"] = _SECURITY
    return {"openapi": "3.0.0", "info": _info(), "paths": dict(sorted(paths.items())), "components": components}


def document_v2(resources: Resources) -> Document:
    """Everything in one Swagger 2.0 document."""
    paths: Document = {}
    schemas: dict[str, Document] = {}
    for name in names(resources):
        found = document(resources, name)
        if found is not None:
            paths |= {path: _item_v2(item) for path, item in found["paths"].items()}
            schemas |= found["components"].get("schemas", {})
    definitions = {name: _schema_v2(schema) for name, schema in sorted(schemas.items())}
    return {"swagger": "2.0", "info": _info(), "paths": paths, "definitions": definitions}


def _info() -> Document:
    return {"title": "Kubernetes", "version": ".".join(KUBERNETES_VERSION.removeprefix("v").split(".")[:2])}


def _group_version(name: str) -> tuple[str, str]:
    parts = name.split("/")
    if parts[0] == "api":
        return "", parts[1] if len(parts) > 1 else ""
    return (parts[1], parts[2]) if parts[0] == "apis" and len(parts) > 2 else ("", "")


def _closure(paths: Document, own: Mapping[str, Document]) -> dict[str, Document]:
    """The schemas that paths and schemas refer to, with all that they refer to."""
    found: dict[str, Document] = {}
    waiting = [*_references(paths), *_references(own)]
    known = _built_in_schemas()
    while waiting:
        name = waiting.pop()
        if name not in found and name not in own and name in known:
            found[name] = known[name]
            waiting += _references(known[name])
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, member in value.items():
            if key == "$ref" and isinstance(member, str):
                yield member.removeprefix(_REFERENCE)
            else:
                yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)


@cache
def fingerprint() -> bytes:
    """Changes with the facts and the version that documents are made of."""
    from hashlib import sha256

    made = sha256(KUBERNETES_VERSION.encode())
    for name in ("openapi-paths.json", "openapi-schemas.json.gz"):
        made.update(data(name))
    made.update(b"described" if _descriptions() else b"")
    return made.digest()


# --- operations ----------------------------------------------------------------------------------------------------


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _group_title(group: str) -> str:
    """`rbac.authorization.k8s.io` -> `RbacAuthorization`, as operation ids have it."""
    if not group:
        return "Core"
    return "".join(_title(part) for part in group.removesuffix(".k8s.io").split("."))


def _tag(group: str, version: str) -> str:
    title = _group_title(group)
    return f"{title[:1].lower()}{title[1:]}_{version}"


def _discovery_item(path: str) -> Document:
    parts = path.strip("/").split("/")
    types: tuple[str, ...] = _OBJECT_TYPES
    match parts:
        case ["api"]:
            tag, operation, schema, text = (
                "core",
                "getCoreAPIVersions",
                f"{_META}APIVersions",
                "get available API versions",
            )
        case ["apis"]:
            tag, operation, schema, text = (
                "apis",
                "getAPIVersions",
                f"{_META}APIGroupList",
                "get available API versions",
            )
        case ["apis", group]:
            title = _group_title(group)
            tag, operation, schema = _tag(group, "").removesuffix("_"), f"get{title}APIGroup", _API_GROUP
            text = "get information of a group"
        case ["api" | "apis", *rest] if 1 <= len(rest) <= 2:
            group, version = ("", rest[0]) if len(rest) == 1 else (rest[0], rest[1])
            tag, schema = _tag(group, version), _API_RESOURCES
            operation = f"get{_group_title(group)}{_title(version)}APIResources"
            text = "get available resources"
        case ["version"]:
            tag, operation, schema = "version", "getCodeVersion", "io.k8s.apimachinery.pkg.version.Info"
            text, types = "get the version information for this server", ("application/json",)
        case _:
            return _issuer_item(parts)
    return {"get": _get(tag, text, operation, {"$ref": _REFERENCE + schema}, types)}


def _issuer_item(parts: list[str]) -> Document:
    if parts[0] == "openid":
        text = "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)"
        operation = _get(
            "openid", text, "getServiceAccountIssuerOpenIDKeyset", _text(False), ("application/jwk-set+json",)
        )
    else:
        text = "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'"
        operation = _get(
            "WellKnown", text, "getServiceAccountIssuerOpenIDConfiguration", _text(False), ("application/json",)
        )
    return {"get": operation}


def _get(tag: str, text: str, operation_id: str, schema: Document, types: Iterable[str]) -> Document:
    return {
        "tags": [tag],
        "description": text,
        "operationId": operation_id,
        "responses": {
            "200": {"description": "OK", "content": {one: {"schema": schema} for one in types}},
            "401": {"description": "Unauthorized"},
        },
    }


def _custom_paths(resource: Resource) -> Iterator[str]:
    prefix = f"/apis/{resource.group}/{resource.version}"
    yield f"{prefix}/{resource.resource}"
    collection = f"{prefix}/namespaces/{{namespace}}/{resource.resource}" if resource.namespaced else None
    if collection is not None:
        yield collection
    single = f"{collection or f'{prefix}/{resource.resource}'}/{{name}}"
    yield single
    for name in resource.subresources:
        yield f"{single}/{name}"


def _item(resources: Resources, group: str, version: str, path: str) -> Document:
    """What may be done at a path: operations by method, and the path's own parameters."""
    parts = path.strip("/").split("/")[3 if group else 2 :]
    if parts[:1] == ["watch"]:
        return {}
    namespaced = parts[:2] == ["namespaces", "{namespace}"] and len(parts) > 2
    if namespaced:
        parts = parts[2:]
    elif parts[:2] == ["namespaces", "{name}"]:
        parts = ["namespaces", "{name}", *parts[2:]]
    resource = resources.get(group, version, parts[0])
    if resource is None:
        return {}
    single = len(parts) > 1
    subresource = parts[2] if len(parts) > 2 else ""
    item: Document = {}
    if subresource:
        item |= _subresource_operations(resource, subresource, namespaced)
        if len(parts) > 3:
            # /proxy/{path}
            for operation in item.values():
                operation["operationId"] += "WithPath"
    else:
        for method, (verb, action, word) in (_SINGLE if single else _COLLECTION).items():
            # Objects of all namespaces may only be listed through the path without one.
            if verb in resource.verbs and not (resource.namespaced and not namespaced and verb != "list"):
                if single and verb == "create":
                    continue
                item[method] = _operation(resource, action, word, verb, namespaced)
    if item:
        given = [name for name, there in (("name", single), ("namespace", namespaced)) if there]
        item["parameters"] = [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
                for name in given
            ),
            {"name": "pretty", "in": "query", "schema": {"type": "string", "uniqueItems": True}},
        ]
    return item


def _subresource_operations(resource: Resource, name: str, namespaced: bool) -> Document:
    found = resource.subresources.get(name)
    if found is None:
        return {}
    item: Document = {}
    for method, (verb, action, word) in _SINGLE.items():
        if verb not in found.verbs:
            continue
        if name in _CONNECTS:
            action, word = "connect", f"connect{_title(method)}"
        kind = (found.group, found.version or resource.version, found.kind)
        item[method] = _operation(resource, action, word, verb, namespaced, name, kind)
    return item


def _operation(
    resource: Resource,
    action: str,
    word: str,
    verb: str,
    namespaced: bool,
    subresource: str = "",
    kind: tuple[str, str, str] | None = None,
) -> Document:
    group, version, name = kind or (resource.group, resource.version, resource.kind)
    schema_name = _schema_name(resource, group, version, name)
    place = "Namespaced" if namespaced else ""
    everywhere = "ForAllNamespaces" if verb == "list" and resource.namespaced and not namespaced else ""
    collection = "Collection" if verb == "deletecollection" else ""
    title = f"{_group_title(resource.group)}{_title(resource.version)}"
    operation: Document = {
        "tags": [_tag(resource.group, resource.version)],
        "operationId": f"{word}{title}{collection}{place}{resource.kind}{_title(subresource)}{everywhere}",
    }
    parameters = {
        **(_PARAMETERS["list"] if verb == "deletecollection" else {}),
        **_PARAMETERS.get("delete" if verb == "deletecollection" else verb, {}),
    }
    if parameters and action != "connect":
        operation["parameters"] = [
            {"name": key, "in": "query", "schema": {"type": of, "uniqueItems": True}}
            for key, of in sorted(parameters.items())
        ]
    body = _body(resource, verb, schema_name) if action != "connect" else None
    if body is not None:
        operation["requestBody"] = body
    answer = f"{schema_name}List" if verb == "list" else _STATUS if verb.startswith("delete") else schema_name
    reference = {"$ref": _REFERENCE + answer} if action != "connect" else _text(False)
    codes = {
        "create": ("200", "201", "202"),
        "update": ("200", "201"),
        "patch": ("200", "201"),
        "delete": ("200", "202"),
    }
    shown = {"200": "OK", "201": "Created", "202": "Accepted"}
    content = {one: {"schema": reference} for one in _OBJECT_TYPES}
    operation["responses"] = {
        **{code: {"description": shown[code], "content": content} for code in codes.get(verb, ("200",))},
        "401": {"description": "Unauthorized"},
    }
    operation["x-kubernetes-action"] = action
    operation["x-kubernetes-group-version-kind"] = {"group": group, "version": version, "kind": name}
    return operation


def _body(resource: Resource, verb: str, schema_name: str) -> Document | None:
    if verb in ("create", "update"):
        return {"content": {"*/*": {"schema": {"$ref": _REFERENCE + schema_name}}}, "required": True}
    if verb == "patch":
        types = _PATCH_TYPES if resource.custom is None else _CUSTOM_PATCH_TYPES
        return {"content": {one: {"schema": {"$ref": _REFERENCE + _PATCH}} for one in types}, "required": True}
    if verb.startswith("delete"):
        return {"content": {"*/*": {"schema": {"$ref": _REFERENCE + _DELETE_OPTIONS}}}}
    return None


@cache
def _schema_names() -> Mapping[tuple[str, str, str], str]:
    found = {}
    for name, schema in _built_in_schemas().items():
        kinds = schema.get("x-kubernetes-group-version-kind") or []
        if len(kinds) == 1:
            found[(kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"])] = name
    return found


def _schema_name(resource: Resource, group: str, version: str, kind: str) -> str:
    name = _schema_names().get((group, version, kind))
    if name is not None:
        return name
    return ".".join([*reversed(resource.group.split(".")), resource.version, kind])


# --- custom resources ----------------------------------------------------------------------------------------------


def _custom_schemas(resource: Resource) -> dict[str, Document]:
    """The definition's schema with the fields that every object has, and that of its list."""
    name = _schema_name(resource, resource.group, resource.version, resource.kind)
    meta, list_meta = ({"$ref": f"{_REFERENCE}{_META}{kind}"} for kind in ("ObjectMeta", "ListMeta"))
    raw = dict(resource.custom.openapi) or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    raw["properties"] = {**(raw.get("properties") or {}), **_kind_fields(), "metadata": {"allOf": [meta]}}
    raw["x-kubernetes-group-version-kind"] = [
        {"group": resource.group, "kind": resource.kind, "version": resource.version}
    ]
    listed = {
        "type": "object",
        "required": ["items"],
        "properties": {
            **_kind_fields(),
            "items": {"type": "array", "items": {"$ref": _REFERENCE + name}},
            "metadata": {"allOf": [list_meta]},
        },
        "x-kubernetes-group-version-kind": [
            {"group": resource.group, "kind": resource.list_kind, "version": resource.version}
        ],
    }
    return {name: raw, f"{name}List": listed}


def _kind_fields() -> Document:
    """apiVersion and kind, with their descriptions where there are any."""
    known = (_built_in_schemas()[_STATUS].get("properties") or {}) if _STATUS in _built_in_schemas() else {}
    return {name: dict(known.get(name) or _text(False)) for name in ("apiVersion", "kind")}


# --- Swagger 2.0 ---------------------------------------------------------------------------------------------------

_V2_REFERENCE = "#/definitions/"


def _item_v2(item: Document) -> Document:
    return {
        key: [_parameter_v2(one) for one in value] if key == "parameters" else _operation_v2(value)
        for key, value in item.items()
    }


def _parameter_v2(parameter: Document) -> Document:
    found = {key: value for key, value in parameter.items() if key != "schema"}
    return {**found, "type": parameter["schema"]["type"]}


def _operation_v2(operation: Document) -> Document:
    found = {key: value for key, value in operation.items() if key not in ("parameters", "requestBody", "responses")}
    parameters = [_parameter_v2(one) for one in operation.get("parameters") or ()]
    body = operation.get("requestBody")
    if body is not None:
        found["consumes"] = list(body["content"])
        schema = next(iter(body["content"].values()))["schema"]
        given: Document = {"name": "body", "in": "body", "schema": _schema_v2(schema)}
        if body.get("required"):
            given["required"] = True
        parameters.insert(0, given)
    found["produces"] = list(operation["responses"]["200"].get("content") or ("application/json",))
    if parameters:
        found["parameters"] = parameters
    found["responses"] = {code: _response_v2(response) for code, response in operation["responses"].items()}
    return found


def _response_v2(response: Document) -> Document:
    found: Document = {"description": response["description"]}
    content = response.get("content")
    if content:
        found["schema"] = _schema_v2(next(iter(content.values()))["schema"])
    return found


def _schema_v2(schema: Any) -> Any:
    """References are plain, choices and v3's own words are gone."""
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    members = schema.get("allOf") or []
    if reference is None and len(members) == 1 and "$ref" in members[0]:
        reference = members[0]["$ref"]
    if reference is not None:
        target = str(reference).removeprefix(_REFERENCE)
        kept = ("description", "x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key")
        return {**{key: schema[key] for key in kept if key in schema}, "$ref": _V2_REFERENCE + target}
    found: Document = {}
    for key, value in schema.items():
        if key in ("allOf", "anyOf", "oneOf", "not", "nullable", "default"):
            continue
        if key == "properties":
            found[key] = {name: _schema_v2(child) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            found[key] = _schema_v2(value)
        else:
            found[key] = value
    if schema.get("oneOf") and "type" not in found:
        # Quantities and ports are read from either, and told as text.
        found["type"] = "string"
    return found
