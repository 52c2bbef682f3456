"""Where access facts come from: manifests in a folder, a running cluster, an index that is kept already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kubegate.api import Object
from kubegate.authorization.bootstrap import objects as bootstrap_objects
from kubegate.authorization.rbac import Binding, RbacIndex, Role, index_of
from kubegate.registry.rbac.aggregation import resolve

KINDS = ("ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding")
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_BOOTSTRAP_LABEL = "kubernetes.io/bootstrapping"

Key = tuple[str, str, str]
"""Kind, namespace ("" for cluster-scoped) and name."""
Progress = Callable[[int, int], None]
"""Done, and how much there is (0: not known). Called now and then in long work."""


class SourceError(Exception):
    """Something that cannot be read: the file or address, the place in it, and what is wrong.

    `code` is the status that a server answered with, 0 where none did.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Cluster:
    """RBAC of one cluster, and what else was found that answers need.

    `origins` is the file of each object; `system` are those that every cluster has; `service_accounts` and
    `namespaces` are None where they are not known.
    """

    index: RbacIndex
    name: str = ""
    origins: dict[Key, str] = field(default_factory=dict)
    system: frozenset[Key] = frozenset()
    service_accounts: frozenset[tuple[str, str]] | None = None
    namespaces: frozenset[str] | None = None

    @classmethod
    def of_objects(cls, objects: Iterable[Object], name: str = "", *, aggregated: bool = False) -> Cluster:
        """Aggregated roles are filled here, as a controller would, unless that was done already (`aggregated`)."""
        found = [obj for obj in objects if obj.get("kind") in KINDS]
        if not aggregated:
            roles = resolve(obj for obj in found if obj["kind"] == "ClusterRole")
            found = [*roles, *(obj for obj in found if obj["kind"] != "ClusterRole")]
        system = frozenset(key_of(obj) for obj in found if _BOOTSTRAP_LABEL in (obj["metadata"].get("labels") or {}))
        return cls(index_of(found), name, system=system)

    @classmethod
    def of_index(cls, index: RbacIndex, name: str = "") -> Cluster:
        return cls(index, name, system=frozenset(key_of(obj) for obj in bootstrap_objects()))

    def is_system(self, thing: Binding | Role) -> bool:
        """Whether every cluster has it."""
        return (thing.kind, thing.namespace, thing.name) in self.system


def key_of(obj: Mapping[str, Any]) -> Key:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace") or "", metadata["name"]


def from_folder(path: Path, *, defaults: bool = True, patch: Path | None = None) -> Cluster:
    """Every RBAC object in the YAML and JSON files under `path` (or in that one file). Raises SourceError.

    `defaults` adds the roles and bindings that every cluster has, where the files say nothing else of them. `patch`
    is a file whose objects replace those of the same name; one with `$patch: delete` takes it away.
    """
    found = {key_of(obj): obj for obj in bootstrap_objects()} if defaults else {}
    origins: dict[Key, str] = {}
    accounts: set[tuple[str, str]] = set()
    namespaces: set[str] = set()
    for file, obj in read_manifests(path):
        kind, namespace, name = key_of(obj)
        if kind in KINDS:
            found[key_of(obj)] = obj
            origins[key_of(obj)] = str(file)
        elif kind == "ServiceAccount":
            accounts.add((namespace or "default", name))
        elif kind == "Namespace":
            namespaces.add(name)
    if patch is not None:
        apply_patch(found, patch)
    cluster = Cluster.of_objects(found.values(), str(path))
    cluster.origins = origins
    cluster.service_accounts = frozenset(accounts) or None
    cluster.namespaces = frozenset(namespaces) or None
    return cluster


def apply_patch(objects: dict[Key, Object], patch: Path) -> None:
    """Put the objects of a file in place of those of the same name. Raises SourceError."""
    for _, obj in read_manifests(patch):
        if obj.get("$patch") == "delete":
            objects.pop(key_of(obj), None)
        else:
            objects[key_of(obj)] = obj


def read_manifests(path: Path) -> Iterator[tuple[Path, Object]]:
    """Objects with the file that each is in; Lists are taken apart. Raises SourceError."""
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    files = sorted(f for f in path.rglob("*") if f.suffix in _SUFFIXES and f.is_file()) if path.is_dir() else [path]
    for file in files:
        for place, document in enumerate(_documents(file), 1):
            for obj in _flattened(document):
                yield file, _checked(obj, file, place)


def _documents(file: Path) -> Sequence[Any]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error.strerror}") from None
    if file.suffix == ".json":
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise SourceError(f"{file}, line {error.lineno}: {error.msg}") from None
        return found if isinstance(found, list) else [found]
    import yaml

    try:
        return [each for each in yaml.load_all(content, Loader=yaml.CSafeLoader) if each is not None]
    except yaml.YAMLError as error:
        raise SourceError(f"{file}: {' '.join(str(error).split())}") from None


def _flattened(document: Any) -> Iterator[Any]:
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and "items" in document:
        kind = str(document["kind"]).removesuffix("List")
        for item in document["items"] or ():
            # the items of a RoleList need not say that they are Roles
            yield {"kind": kind, **item} if isinstance(item, dict) and kind else item
    else:
        yield document


def _checked(obj: Any, file: Path, place: int) -> Object:
    where = f"{file}, document {place}"
    if not isinstance(obj, dict):
        raise SourceError(f"{where}: must be an object")
    metadata = obj.get("metadata")
    if not isinstance(obj.get("kind"), str) or not isinstance(metadata, dict) or not metadata.get("name"):
        raise SourceError(f"{where}: kind and metadata.name are missing")
    kind, checked = obj["kind"], dict(obj)
    if kind not in KINDS:
        return checked
    if kind in ("Role", "RoleBinding") and not metadata.get("namespace"):
        # what kubectl would do with it, without a namespace of its own
        checked["metadata"] = {**metadata, "namespace": "default"}
    lists = {"rules": ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"), "subjects": ()}
    for name, inner in lists.items():
        for number, each in enumerate(_list(obj.get(name), f"{where}: {kind} {metadata['name']}: {name}")):
            here = f"{where}: {kind} {metadata['name']}: {name}[{number}]"
            if not isinstance(each, dict):
                raise SourceError(f"{here}: must be an object")
            for part in inner:
                texts = _list(each.get(part), f"{here}.{part}")
                if not all(isinstance(text, str) for text in texts):
                    raise SourceError(f"{here}.{part}: must be a list of texts, not {json.dumps(texts)}")
    return checked


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise SourceError(f"{where}: must be a list")
    return value
