"""Discovery: which groups, versions and resources there are; in the old form, and aggregated in one answer (v2).

Documents are made when first asked for and kept until the set of resources changes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from kubegate.api import negotiate, status
from kubegate.api.codec import encode_protobuf, encode_yaml
from kubegate.api.resources import Resource, Resources, version_priority
from kubegate.registry.apiregistration import apiservices
from kubegate.server import responses
from kubegate.server.accept import wants_pretty
from kubegate.server.aggregation import RemoteApis
from kubegate.server.call import Call
from kubegate.server.responses import Response
from kubegate.server.routing import check_method, no_such_resource

# Kinds that kube-apiserver v1.36 keeps in another version than the one it prefers, which their hash tells.
_HASHED_AS = {"mutatingadmissionpolicies": "v1beta1", "mutatingadmissionpolicybindings": "v1beta1"}
_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_AGGREGATED = b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
Document = dict[str, Any]


class Discovery:
    """Answers /api, /apis and what is under them that is no resource. `address` is told to clients of /api."""

    def __init__(self, resources: Resources, address: Callable[[], str], remote: RemoteApis) -> None:
        self._resources, self._address, self._remote = resources, address, remote
        self._documents: dict[str, Document] = {}
        self._bytes: dict[tuple[str, str], tuple[bytes, str]] = {}
        resources.on_change(self._forget)
        remote.on_change(self._forget)

    def _forget(self) -> None:
        self._documents.clear()
        self._bytes.clear()

    def paths(self) -> list[str]:
        """What `/` lists of discovery's own paths."""
        groups = {resource.group for resource in self._resources if resource.group}
        versions = {f"{r.group}/{r.version}" for r in self._resources if r.group}
        return [f"/apis/{name}" for name in sorted(groups | versions)]

    def answer(self, call: Call) -> Response:
        """Raises 404, 405 and 406."""
        path = call.path.rstrip("/")
        parts = path.split("/")
        routed = parts[1] == "api" or (len(parts) > 3 and self._resources.has_built_in(parts[2]))
        accept = call.header("accept")
        document = self._document(path)
        if not routed and call.path not in (path, f"{path}/"):
            document = None
        if document is None:
            if routed:
                raise no_such_resource()
            elsewhere = self._remote.answer(parts[2], parts[3]) if len(parts) > 3 else None
            return elsewhere or responses.not_found_page()
        if routed:
            check_method(call)
        if path in ("/api", "/apis") and _wants_aggregated(accept):
            return self._aggregated(call, path)
        if routed:
            negotiate.check_route(accept, negotiate.OBJECTS)
        answer = negotiate.negotiate(accept, tables=False)
        if answer.kind:
            raise status.not_acceptable(negotiate.OBJECTS)
        if answer.media_type == negotiate.YAML:
            return Response(200, encode_yaml(document), responses.YAML)
        if answer.media_type == negotiate.PROTOBUF:
            return Response(200, encode_protobuf(document), responses.PROTOBUF)
        if answer.pretty or wants_pretty(call):
            return responses.json(document, pretty=True)
        return Response(200, self._encoded(path, "", lambda: document)[0])

    def _aggregated(self, call: Call, path: str) -> Response:
        body, tag = self._encoded(path, "v2", lambda: self._aggregate(path))
        headers = [(b"etag", tag.encode()), (b"vary", b"Accept")]
        if call.header("if-none-match") == tag:
            return Response(304, b"", _AGGREGATED, headers)
        return Response(200, body, _AGGREGATED, headers)

    def _encoded(self, path: str, form: str, make: Callable[[], Document]) -> tuple[bytes, str]:
        found = self._bytes.get((path, form))
        if found is None:
            body = orjson.dumps(make())
            found = self._bytes[(path, form)] = (body, f'"{hashlib.sha512(body).hexdigest().upper()}"')
        return found

    # ------------------------------------------------------------------ the old form
    def _document(self, path: str) -> Document | None:
        found = self._documents.get(path)
        if found is None:
            found = self._make(path.strip("/").split("/"))
            if found is not None:
                self._documents[path] = found
        return found

    def _make(self, parts: list[str]) -> Document | None:
        match parts:
            case ["api"]:
                addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address()}]
                return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
            case ["apis"]:
                groups = [self._group(name) for name in self._groups()]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ["apis", group] if self._resources.has_group(group) or group in self._remote.groups():
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)}
            case ["api", version] if self._resources.has_group_version("", version):
                return {"kind": "APIResourceList", "groupVersion": version, "resources": self._list("", version)}
            case ["apis", group, version] if self._resources.has_group_version(group, version):
                head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}"}
                return {**head, "resources": self._list(group, version)}
        return None

    def _groups(self) -> Iterable[str]:
        """In the order of kube-apiserver: its own as they are, then those of custom resources by name; and among them
        those that other servers serve, by priority.
        """
        own = dict.fromkeys(r.group for r in self._resources if r.custom is None and r.group)
        custom = sorted({r.group for r in self._resources if r.group} - own.keys())
        found = [(-apiservices.priority(group), group) for group in (*own, *custom)]
        for group, priority in sorted(self._remote.groups().items()):
            if group not in own and group not in custom:
                place = (-priority, group)
                found.insert(next((i for i, other in enumerate(found) if other > place), len(found)), place)
        return [group for _, group in found]

    def _versions(self, group: str) -> list[str]:
        """The preferred version first."""
        found = list(dict.fromkeys(r.version for r in self._resources if r.group == group))
        custom = all(r.custom is not None for r in self._resources if r.group == group)
        if not found:
            return self._remote.versions(group)
        return sorted(found, key=version_priority, reverse=True) if custom else found

    def _group(self, group: str) -> Document:
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for v in self._versions(group)]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _of(self, group: str, version: str) -> list[Resource]:
        found = [r for r in self._resources if r.group == group and r.version == version]
        return sorted(found, key=lambda r: r.resource)

    def _list(self, group: str, version: str) -> list[Document]:
        found = []
        for resource in self._of(group, version):
            found.append(_resource_entry(resource))
            for name in _subresources(resource):
                found.append(_subresource_entry(resource, name))
        if any(resource.custom is not None for resource in self._of(group, version)):
            return found
        return sorted(found, key=lambda entry: entry["name"])

    # ------------------------------------------------------------------ aggregated
    def _aggregate(self, path: str) -> Document:
        items = []
        for group in [""] if path == "/api" else self._groups():
            versions: list[Document] = []
            for version in self._versions(group):
                if not self._resources.has_group_version(group, version):
                    versions.append({"version": version, "freshness": "Stale"})
                    continue
                entries = [_aggregated_entry(resource) for resource in self._of(group, version)]
                versions.append({"version": version, "resources": entries, "freshness": "Current"})
            items.append({"metadata": {"name": group} if group else {}, "versions": versions})
        head = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}}
        return {**head, "items": items}


def _verbs(resource: Resource) -> list[str]:
    """Built-in resources list theirs by name, custom ones in the order of their handler."""
    return sorted(resource.verbs) if resource.custom is None else [v for v in _CUSTOM_VERBS if v in resource.verbs]


def _wants_aggregated(accept: str) -> bool:
    """Whether the aggregated form is the first of those asked for that is known."""
    for clause in negotiate.parse_accept(accept):
        wanted = clause.parameters
        if not clause.takes(negotiate.JSON):
            continue
        if wanted.get("as") == "APIGroupDiscoveryList" and wanted.get("g") == "apidiscovery.k8s.io":
            if wanted.get("v") == "v2":
                return True
            continue
        if not wanted.get("as"):
            return False
    return False


def _resource_entry(resource: Resource) -> Document:
    entry: Document = {
        "name": resource.resource,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _verbs(resource),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.persistent:
        entry["storageVersionHash"] = storage_version_hash(resource)
    return entry


def _subresources(resource: Resource) -> list[str]:
    """Their names in order; those of custom resources the other way round: `status`, then `scale`."""
    return sorted(resource.subresources, reverse=resource.custom is not None)


def _subresource_entry(resource: Resource, name: str) -> Document:
    sub = resource.subresources[name]
    entry: Document = {"name": f"{resource.resource}/{name}", "singularName": "", "namespaced": resource.namespaced}
    if (sub.group, sub.version) != (resource.group, resource.version):
        if sub.group:
            entry["group"] = sub.group
        entry["version"] = sub.version
    return {**entry, "kind": sub.kind, "verbs": sorted(sub.verbs)}


def _aggregated_entry(resource: Resource) -> Document:
    """Built-in resources leave the group and version of the kind empty, custom ones tell them."""
    own = resource.custom is None
    group, version = ("", "") if own else (resource.group, resource.version)
    entry: Document = {
        "resource": resource.resource,
        "responseKind": {"group": group, "version": version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": _verbs(resource),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": _sub_kind(resource, name),
                "verbs": sorted(resource.subresources[name].verbs),
            }
            for name in _subresources(resource)
        ]
    return entry


def _sub_kind(resource: Resource, name: str) -> Document:
    sub = resource.subresources[name]
    same = resource.custom is None and (sub.group, sub.version) == (resource.group, resource.version)
    return {"group": "" if same else sub.group, "version": "" if same else sub.version, "kind": sub.kind}


def storage_version_hash(resource: Resource) -> str:
    """Changes when objects are kept in another version: the first 8 bytes of SHA-256 of the kind, in base64."""
    group, version = resource.storage_group, _HASHED_AS.get(resource.resource, resource.storage_version)
    text = f"{group}/{version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
