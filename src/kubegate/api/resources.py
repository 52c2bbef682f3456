"""Which resources there are: names, verbs, scope, subresources, and where each is kept in the store.

The built-in ones come from `data/discovery.json`, measured from kube-apiserver v1.36.2; custom resources are added
and taken away as their definitions come and go.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct, field
from msgspec.structs import force_setattr

_DATA = Path(__file__).with_name("data")


class Subresource(Struct, frozen=True):
    """`status`, `scale`, `token` …: the kind that it takes and answers with, and its verbs."""

    name: str
    group: str
    version: str
    kind: str
    verbs: frozenset[str]


class Resource(Struct, frozen=True):
    """One resource of one group and version.

    `storage_version` is the version that objects are kept in; `schema` the OpenAPI schema's name among the built-in
    schemas ("" for a custom resource); `custom` holds what a custom resource's definition says, None for built-in.
    """

    group: str
    version: str
    resource: str
    kind: str
    singular: str
    namespaced: bool
    verbs: frozenset[str]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, Subresource] = field(default_factory=dict)
    storage_group: str = ""
    storage_version: str = ""
    storage_resource: str = ""
    custom: Any = None
    api_version: str = ""
    """`v1`, `apps/v1`."""
    group_resource: str = ""
    """`pods`, `deployments.apps`: as texts and `storage.Reader` name it."""
    storage_api_version: str = ""
    persistent: bool = True
    """Whether objects are stored at all (reviews and bindings are not)."""

    def __post_init__(self) -> None:
        """What every request asks for is put together once: the last four fields are not to be given."""
        made = {
            "api_version": f"{self.group}/{self.version}" if self.group else self.version,
            "group_resource": f"{self.resource}.{self.group}" if self.group else self.resource,
            "storage_api_version": (
                f"{self.storage_group}/{self.storage_version}" if self.storage_group else self.storage_version
            ),
            "persistent": "watch" in self.verbs,
        }
        for name, value in made.items():
            force_setattr(self, name, value)

    @property
    def stored_as(self) -> str:
        """The group resource under which objects are kept (events.events.k8s.io are kept as events)."""
        name = self.storage_resource or self.resource
        return f"{name}.{self.storage_group}" if self.storage_group else name

    @property
    def list_kind(self) -> str:
        if self.custom is not None:
            return str(self.custom.list_kind)
        return f"{self.kind}List"


# Where kube-apiserver keeps what it does not keep under `/registry/RESOURCE` (its storage factory's special cases).
_SPECIAL_PREFIXES = {
    "nodes": "minions",
    "services": "services/specs",
    "endpoints": "services/endpoints",
    "replicationcontrollers": "controllers",
    "ingresses.networking.k8s.io": "ingress",
    "customresourcedefinitions.apiextensions.k8s.io": "apiextensions.k8s.io/customresourcedefinitions",
    "apiservices.apiregistration.k8s.io": "apiregistration.k8s.io/apiservices",
    "events.events.k8s.io": "events",
}
# The version in which a group with several keeps its objects.
_STORAGE = {
    ("autoscaling", "horizontalpodautoscalers"): ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("events.k8s.io", "events"): ("", "v1", "events"),
}


def storage_prefix(group_resource: str, *, custom: bool = False) -> str:
    """`pods` -> `pods/`; with the store's own prefix in front, the keys are those of kube-apiserver."""
    if custom:
        name, _, group = group_resource.partition(".")
        return f"{group}/{name}/"
    special = _SPECIAL_PREFIXES.get(group_resource)
    return f"{special or group_resource.partition('.')[0]}/"


class Resources:
    """All resources that are served now. Change it only through `add` and `remove`: they tell the listeners."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    def built_in(cls) -> Resources:
        resources = cls()
        for resource in _built_in():
            resources._by_path[(resource.group, resource.version, resource.resource)] = resource
        return resources

    def get(self, group: str, version: str, resource: str) -> Resource | None:
        return self._by_path.get((group, version, resource))

    def by_kind(self, group: str, version: str, kind: str) -> Resource | None:
        for resource in self._by_path.values():
            if (resource.group, resource.version, resource.kind) == (group, version, kind):
                return resource
        return None

    def by_group_resource(self, group_resource: str) -> Resource | None:
        """The resource in its storage version (or the first one served) by `deployments.apps`."""
        name, _, group = group_resource.partition(".")
        found = [r for r in self._by_path.values() if r.resource == name and r.group == group]
        for resource in found:
            if resource.version == resource.storage_version and resource.group == resource.storage_group:
                return resource
        return found[0] if found else None

    def versions_of(self, group: str, resource: str) -> list[Resource]:
        return [r for r in self._by_path.values() if r.group == group and r.resource == resource]

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_path.values()))

    def has_group_version(self, group: str, version: str) -> bool:
        return any(key[0] == group and key[1] == version for key in self._by_path)

    def has_built_in(self, group: str) -> bool:
        """Whether the group is one of Kubernetes' own, not of custom resources alone."""
        return any(r.custom is None and r.group == group for r in self._by_path.values())

    def has_group(self, group: str) -> bool:
        return any(key[0] == group for key in self._by_path)

    def add(self, *resources: Resource) -> None:
        for resource in resources:
            self._by_path[(resource.group, resource.version, resource.resource)] = resource
        self._tell()

    def remove(self, group: str, resource: str, version: str = "") -> None:
        """Take away one version of a resource, or all of them."""
        for key in [k for k in self._by_path if k[0] == group and k[2] == resource and version in ("", k[1])]:
            del self._by_path[key]
        self._tell()

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def data(name: str) -> bytes:
    """What a file of `api/data` holds; where its name ends in .gz, decompressed."""
    found = _DATA.joinpath(name).read_bytes()
    return zlib.decompress(found, wbits=31) if name.endswith(".gz") else found


def _built_in() -> Iterator[Resource]:
    for root in orjson.loads(data("discovery.json")).values():
        for group in root["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                for entry in version["resources"]:
                    yield _resource(name, version["version"], entry)


def _resource(group: str, version: str, entry: dict[str, Any]) -> Resource:
    name = entry["resource"]
    stored = _STORAGE.get((group, name), (group, version, name))
    subresources = {}
    for sub in entry.get("subresources") or []:
        kind = sub.get("responseKind") or {}
        subresources[sub["subresource"]] = Subresource(
            name=sub["subresource"],
            group=kind.get("group") or ("" if kind.get("version") else group),
            version=kind.get("version") or version,
            kind=kind.get("kind", ""),
            verbs=frozenset(sub["verbs"]),
        )
    return Resource(
        group=group,
        version=version,
        resource=name,
        kind=entry["responseKind"]["kind"],
        singular=entry["singularResource"],
        namespaced=entry["scope"] == "Namespaced",
        verbs=frozenset(entry["verbs"]),
        short_names=tuple(entry.get("shortNames") or ()),
        categories=tuple(entry.get("categories") or ()),
        subresources=subresources,
        storage_group=stored[0],
        storage_version=stored[1],
        storage_resource=stored[2],
    )


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Kubernetes' order of versions: v2, v1, v2beta1, v1beta2, v1alpha1, others; the greater the better."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (0, 0, 0, version)
    stage = {None: 3, "beta": 2, "alpha": 1}[match[2]]
    return (stage, int(match[1]), int(match[3] or 0), "")
