"""Events on mappings of IAM identities that cannot be used: the aws-auth ConfigMap, AccessEntry, IAMIdentityMapping.

Who may sign in is decided by the authenticator; this tells those who wrote the mapping what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object
from kubegate.aws import mapping
from kubegate.aws.access_entries import (
    ACCESS_ENTRIES,
    ACCESS_ENTRY_API,
    IDENTITY_MAPPING_API,
    IDENTITY_MAPPINGS,
    parse_entry,
    parse_identity_mapping,
)
from kubegate.aws.mapping import BadMapping
from kubegate.controllers import World
from kubegate.controllers.events import Recorder
from kubegate.controllers.queue import Queue
from kubegate.storage import ObjectEvent, Reader

_AWS_AUTH = "kube-system/aws-auth"


class AwsMappings:
    """Keys are RESOURCE:NAMESPACE/NAME."""

    name = "aws-iam-mapping-controller"
    _reader: Reader
    _recorder: Recorder

    def __init__(self) -> None:
        self.queue = Queue()

    def start(self, world: World) -> None:
        options = world.options
        if not options.aws_iam_cluster_id:
            return
        self._reader = world.reader
        self._recorder = Recorder(world.clients("aws-iam-mapping-controller"), "aws-iam-authenticator", world.clock)
        for mode, (resource, _, _, _) in _MODES.items():
            if mode in options.aws_iam_backend_mode:
                world.reader.subscribe(resource, self._changed(resource))

    def _changed(self, resource: str) -> Callable[[ObjectEvent, Object, Object | None], None]:
        def changed(event: ObjectEvent, obj: Object, _: Object | None) -> None:
            metadata = obj["metadata"]
            key = f"{metadata.get('namespace', '')}/{metadata['name']}"
            if event is not ObjectEvent.DELETED and (resource != "configmaps" or key == _AWS_AUTH):
                self.queue.add(f"{resource}:{key}")

        return changed

    async def sync(self, key: str) -> None:
        resource, _, place = key.partition(":")
        namespace, _, name = place.partition("/")
        obj = self._reader.get(resource, namespace, name)
        if obj is None:
            return
        for found, api_version, kind, problem_of in _MODES.values():
            problem = problem_of(obj) if found == resource else ""
            if problem:
                await self._recorder.warning(api_version, kind, obj, "BrokenMapping", problem)


def _of_config_map(obj: Object) -> str:
    return "; ".join(mapping.parse(obj.get("data") or {})[1])


def _of(parse: Callable[[Object], object]) -> Callable[[Object], str]:
    def problem(obj: Object) -> str:
        try:
            parse(obj)
        except BadMapping as error:
            return str(error)
        return ""

    return problem


_MODES: dict[str, tuple[str, str, str, Callable[[Object], str]]] = {
    "EKSConfigMap": ("configmaps", "v1", "ConfigMap", _of_config_map),
    "AccessEntry": (ACCESS_ENTRIES, ACCESS_ENTRY_API, "AccessEntry", _of(parse_entry)),
    "CRD": (IDENTITY_MAPPINGS, IDENTITY_MAPPING_API, "IAMIdentityMapping", _of(parse_identity_mapping)),
}


def build() -> AwsMappings:
    return AwsMappings()
