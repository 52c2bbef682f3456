"""What a pod finds in its volumes: Secrets, ConfigMaps, the downward API, and tokens of its service account.

Other volumes (empty directories, claims, paths of the host) are empty folders. Follows pkg/volume of Kubernetes v1.36.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from kubegate.api import Object
from kubegate.api.clock import Clock, parse_rfc3339
from kubegate.nodes import Client, downward
from kubegate.nodes.downward import Unavailable
from kubegate.nodes.environment import Find, data_of

_NOUNS = {"secret": "secret", "configMap": "configmap"}
_FILLED = frozenset({"secret", "configMap", "downwardAPI", "projected"})
_LONGEST_USE = 24 * 3600.0
_FRESH_PART = 0.8


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    refresh_at: float


class Tokens:
    """Tokens for the pods of these nodes, asked for by TokenRequest, and again once they grow old.

    As kubelets do: after four fifths of its time, or a day.
    """

    def __init__(self, clients: Callable[[str], Client], clock: Clock) -> None:
        self._clients, self._clock = clients, clock
        self._known: dict[str, dict[tuple[str, int], _Token]] = {}

    async def get(self, pod: Object, projection: Object) -> str:
        """Raises StatusError where the request is refused."""
        metadata, spec = pod["metadata"], pod["spec"]
        audience, seconds = projection.get("audience", ""), projection.get("expirationSeconds", 3600)
        known = self._known.setdefault(metadata["uid"], {})
        token, now = known.get((audience, seconds)), self._clock.now()
        if token is None or now >= token.refresh_at:
            account = spec.get("serviceAccountName") or "default"
            bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
            request = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "metadata": {"name": account, "namespace": metadata["namespace"]},
                "spec": {
                    "audiences": [audience] if audience else [],
                    "expirationSeconds": seconds,
                    "boundObjectRef": bound,
                },
            }
            client = self._clients(spec["nodeName"])
            answer = await client.create_subresource(
                "serviceaccounts", metadata["namespace"], account, "token", request
            )
            status = answer["status"]
            lifetime = parse_rfc3339(status["expirationTimestamp"]) - now
            token = _Token(status["token"], now + min(lifetime * _FRESH_PART, _LONGEST_USE))
            known[audience, seconds] = token
        return token.text

    def refresh_at(self, uid: str) -> float | None:
        """When the first of a pod's tokens is to be asked for again, in seconds since 1970."""
        return min((token.refresh_at for token in self._known.get(uid, {}).values()), default=None)

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


TokenFor = Callable[[Object], Awaitable[str]]
"""A serviceAccountToken projection -> the token."""


async def contents(
    pod: Object, find: Find, token_for: TokenFor, allocatable: Object
) -> dict[str, dict[str, bytes] | None]:
    """Volume name -> path -> content; None for a volume that is a folder to be filled by whoever uses it.

    Raises Unavailable in the kubelet's words, and StatusError for tokens.
    """
    found: dict[str, dict[str, bytes] | None] = {}
    for volume in pod["spec"].get("volumes") or ():
        if not volume.keys() & _FILLED:
            found[volume["name"]] = None
            continue
        try:
            found[volume["name"]] = await _content(pod, volume, find, token_for, allocatable)
        except Unavailable as error:
            text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
            raise Unavailable(text) from error
    return found


async def _content(
    pod: Object, volume: Object, find: Find, token_for: TokenFor, allocatable: Object
) -> dict[str, bytes]:
    for sort, key in (("secret", "secretName"), ("configMap", "name")):
        if sort in volume:
            return _keys(sort, volume[sort], volume[sort].get(key, ""), find)
    if "downwardAPI" in volume:
        return _downward(pod, volume["downwardAPI"].get("items") or (), allocatable)
    found: dict[str, bytes] = {}
    for source in (volume.get("projected") or {}).get("sources") or ():
        for sort in _NOUNS:
            if sort in source:
                found |= _keys(sort, source[sort], source[sort].get("name", ""), find)
        if "downwardAPI" in source:
            found |= _downward(pod, source["downwardAPI"].get("items") or (), allocatable)
        if "serviceAccountToken" in source:
            projection = source["serviceAccountToken"]
            found[projection["path"]] = (await token_for(projection)).encode()
    return found


def _keys(sort: str, source: Object, name: str, find: Find) -> dict[str, bytes]:
    optional = bool(source.get("optional"))
    obj = find(f"{_NOUNS[sort]}s", name)
    if obj is None:
        if optional:
            return {}
        raise Unavailable(f'{_NOUNS[sort]} "{name}" not found')
    data = data_of(obj)
    items = source.get("items")
    if not items:
        return data
    found = {}
    for item in items:
        if item["key"] in data:
            found[item["path"]] = data[item["key"]]
        elif not optional:
            raise Unavailable(f"references non-existent {_NOUNS[sort].removesuffix('map')} key: {item['key']}")
    return found


def _downward(pod: Object, items: Iterable[Object], allocatable: Object) -> dict[str, bytes]:
    found = {}
    for item in items:
        if "fieldRef" in item:
            text = downward.field(pod, item["fieldRef"]["fieldPath"])
        else:
            text = downward.resource(pod, "", item["resourceFieldRef"], allocatable)
        found[item["path"]] = text.encode()
    return found


def references(pod: Object) -> set[tuple[str, str]]:
    """(`secrets` or `configmaps`, name) of all that the pod's volumes and variables are made of."""
    found: set[tuple[str, str]] = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            if "secret" in source:
                found.add(("secrets", source["secret"].get("secretName") or source["secret"].get("name", "")))
            if "configMap" in source:
                found.add(("configmaps", source["configMap"].get("name", "")))
    for container in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        for one in [*(container.get("envFrom") or ()), *(e.get("valueFrom") or {} for e in container.get("env") or ())]:
            for sort, resource in (("secret", "secrets"), ("configMap", "configmaps")):
                reference = one.get(f"{sort}Ref") or one.get(f"{sort}KeyRef")
                if reference:
                    found.add((resource, reference.get("name", "")))
    return found
