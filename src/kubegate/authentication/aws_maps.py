"""Where the mappings of IAM identities are kept: the aws-auth ConfigMap, two custom resources, a file.

Each follows what it was made from, so that a change counts for the next request. What is wrong in it stays known in
`problems` until it is put right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from kubegate.api import Object
from kubegate.authentication.watched import WatchedFile
from kubegate.aws import Identity, mapping
from kubegate.aws.access_entries import (
    ACCESS_ENTRIES,
    IDENTITY_MAPPINGS,
    parse_entry,
    parse_identity_mapping,
)
from kubegate.aws.by_arn import ByArn
from kubegate.aws.mapping import AwsMap, BadMapping, MapEntry
from kubegate.storage import ObjectEvent, Reader

log = logging.getLogger("kubegate.authentication")

NAMESPACE, CONFIG_MAP = "kube-system", "aws-auth"
CONFIGMAPS = "configmaps"
FILE_MODES = ("MountedFile", "DynamicFile")
MODES = ("EKSConfigMap", "CRD", "AccessEntry", *FILE_MODES)


class Maps(Protocol):
    """`mode` as in --aws-iam-backend-mode; `problems` are those of now, by what they are about."""

    mode: str
    problems: dict[str, str]

    def find(self, caller: Identity) -> MapEntry | None: ...

    def close(self) -> None: ...


class ConfigMapMaps:
    """The ConfigMap aws-auth of kube-system. What of it cannot be read leaves what was read before in force."""

    mode = "EKSConfigMap"

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self._map = mapping.NOTHING

    @classmethod
    def following(cls, reader: Reader) -> ConfigMapMaps:
        """Kept current from the watch cache."""
        found = cls()
        found.close = reader.subscribe(CONFIGMAPS, found._changed)  # type: ignore[method-assign]
        return found

    def close(self) -> None:
        pass

    def _changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        metadata = obj["metadata"]
        if metadata["name"] == CONFIG_MAP and metadata.get("namespace") == NAMESPACE:
            self.put(None if event is ObjectEvent.DELETED else obj)

    def put(self, obj: Object | None) -> None:
        """The ConfigMap as it is now; None: there is none, and so no mapping."""
        self._map, problems = mapping.parse((obj or {}).get("data") or {}, self._map if obj else mapping.NOTHING)
        for problem in problems:
            log.warning("the ConfigMap %s/%s: %s", NAMESPACE, CONFIG_MAP, problem)
        self.problems = {CONFIG_MAP: "; ".join(problems)} if problems else {}

    def find(self, caller: Identity) -> MapEntry | None:
        return self._map.find(caller)


class ObjectMaps:
    """Objects that map one ARN each. Of two with one ARN the one made first counts; the other is a problem."""

    def __init__(self, mode: str, parse: Callable[[Object], MapEntry]) -> None:
        self.mode, self._parse = mode, parse
        self.problems: dict[str, str] = {}
        self._entries: ByArn[MapEntry] = ByArn()

    @classmethod
    def identity_mappings(cls) -> ObjectMaps:
        return cls("CRD", parse_identity_mapping)

    @classmethod
    def access_entries(cls) -> ObjectMaps:
        return cls("AccessEntry", lambda obj: parse_entry(obj).entry)

    def follow(self, reader: Reader, resource: str) -> ObjectMaps:
        self.close = reader.subscribe(resource, self._changed)  # type: ignore[method-assign]
        return self

    def close(self) -> None:
        pass

    def _changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        self.remove(obj["metadata"]["name"])
        if event is not ObjectEvent.DELETED:
            self.put(obj)

    def put(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        try:
            entry = self._parse(obj)
        except BadMapping as error:
            log.warning("%s %s is left out: %s", self.mode, name, error)
            self.problems[name] = str(error)
            return
        names = self._entries.put(obj, entry.arn, entry)
        if len(names) > 1:
            log.warning("%s: %s is mapped by %s; the first counts", self.mode, entry.arn, ", ".join(names))

    def remove(self, name: str) -> None:
        self.problems.pop(name, None)
        self._entries.remove(name)

    def replace(self, objects: list[Object]) -> None:
        """All there are now."""
        for name in [*self._entries.all(), *self.problems]:
            self.remove(name)
        for obj in objects:
            self.put(obj)

    def find(self, caller: Identity) -> MapEntry | None:
        return self._entries.find(caller.canonical_arn)


class FileMaps:
    """A file of mapRoles, mapUsers and mapAccounts: as they are, under `server` as aws-iam-authenticator's
    configuration has them, or the manifest of an aws-auth ConfigMap. A change that is not good leaves the old map.
    """

    def __init__(self, path: Path, mode: str = FILE_MODES[0]) -> None:
        """Raises OSError, ValueError."""
        self.mode = mode
        self.problems: dict[str, str] = {}
        self.file: WatchedFile[AwsMap] = WatchedFile(path, lambda content: _parse_file(content, str(path)))

    def close(self) -> None:
        pass

    def find(self, caller: Identity) -> MapEntry | None:
        return self.file.value.find(caller)


def _parse_file(content: bytes, source: str) -> AwsMap:
    """Raises BadMapping with all that is wrong: a file is mended before it counts."""
    document = load_document(content, source)
    inner = document.get("server") if isinstance(document.get("server"), dict) else None
    if document.get("kind") == "ConfigMap":
        inner = document.get("data") or {}
    found, problems = mapping.parse(document if inner is None else inner)
    if problems:
        raise BadMapping(f"{source}: {'; '.join(problems)}")
    return found


def load_document(content: bytes, source: str) -> dict[str, Any]:
    """A YAML mapping whose scalars are texts. Raises BadMapping."""
    import yaml

    from kubegate.api import yamlcodec

    try:
        found = yamlcodec.load(content, yaml.CBaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise BadMapping(f"{source}{line}: not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    if not isinstance(found, dict):
        raise BadMapping(f"{source}: must be a mapping")
    return found


def parse_private_dns_names(content: bytes, source: str) -> dict[str, str]:
    """`i-0123456789abcdef0: ip-10-0-0-1.ec2.internal`, a line each. Raises BadMapping."""
    found = load_document(content, source)
    if not all(isinstance(value, str) and value for value in found.values()):
        raise BadMapping(f"{source}: must have an instance's id and its private DNS name on each line")
    return found


def following(mode: str, reader: Reader) -> Maps:
    """The mappings of one mode that are kept in the cluster. Raises ValueError for another mode."""
    match mode:
        case "EKSConfigMap":
            return ConfigMapMaps.following(reader)
        case "CRD":
            return ObjectMaps.identity_mappings().follow(reader, IDENTITY_MAPPINGS)
        case "AccessEntry":
            return ObjectMaps.access_entries().follow(reader, ACCESS_ENTRIES)
    raise ValueError(f"{mode!r} is no backend; there are {', '.join(MODES)}")
