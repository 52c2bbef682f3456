"""RequestInfo: what a request line asks for. Follows k8s.io/apiserver/pkg/endpoints/request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import force_setattr

from kubegate.api import selectors
from kubegate.api.names import path_segment_name

_READS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NO_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_LONG_RUNNING = frozenset({"watch", "proxy"})
_LONG_RUNNING_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)


class RequestInfo(Struct, frozen=True, cache_hash=True):
    """`verb` is Kubernetes' (get, list, watch …) for a resource request, the method in lower case otherwise.

    `verb_in_path`: it is told by the path, in the old way (`/api/v1/watch/…`).
    """

    resource_request: bool
    path: str
    verb: str
    prefix: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    verb_in_path: bool = False
    long_running: bool = False
    """A watch, or what connects to something: it may last as long as the client likes. Not to be given."""

    def __post_init__(self) -> None:
        lasts = self.verb in _LONG_RUNNING or (self.resource_request and self.subresource in _LONG_RUNNING_SUBRESOURCES)
        force_setattr(self, "long_running", lasts)


class Undetermined(ValueError):
    """A path that says how resources are asked for (`/api/v1/watch`) and not which."""


def parse(method: str, path: str, query: Mapping[str, list[str]]) -> RequestInfo:
    """`path` is percent-decoded, as kube-apiserver's is; nothing in it is cleaned. Raises Undetermined."""
    other = RequestInfo(False, path, method.lower())
    parts = [part for part in path.strip("/").split("/")] if path.strip("/") else []
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return other
    prefix = parts[0]
    if prefix == "apis":
        if len(parts) < 4:
            return other
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        group, version, rest = "", parts[1], parts[2:]
    verb = _READS.get(method, "")
    verb_in_path = rest[0] in ("watch", "proxy")
    if verb_in_path:
        if len(rest) < 2:
            raise Undetermined("unable to determine kind and namespace from url")
        verb, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        # /namespaces/NAME and its own subresources are about the namespace itself
        if len(rest) > 2 and rest[2] not in _NO_NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 and verb != "proxy" else ""  # what follows is the proxied path
    if not name and verb == "get":
        name = _selected_name(query)
        verb = "watch" if "watch" in query and truth(query["watch"][0]) else "list"
    elif not name and verb == "delete":
        verb = "deletecollection"
    return RequestInfo(
        True, path, verb, prefix, group, version, namespace, resource, subresource, name, tuple(rest), verb_in_path
    )


def _selected_name(query: Mapping[str, Sequence[str]]) -> str:
    """The one name that the field selector lets through, if there is one and all of the options can be read."""
    selector = (query.get("fieldSelector") or [""])[0]
    if "metadata.name" not in selector:
        return ""
    if any(_INTEGER.fullmatch(query[name][0]) is None for name in ("limit", "timeoutSeconds") if query.get(name)):
        return ""
    try:
        selectors.parse_labels((query.get("labelSelector") or [""])[0])
        name = selectors.parse_fields(selector).exact("metadata.name") or ""
    except selectors.SelectorError:
        return ""
    return "" if path_segment_name(name) else name


def truth(text: str) -> bool:
    """How a boolean query parameter that was given is read: `watch`, `watch=1`, `watch=true`; not `0` and `false`."""
    return text.lower() not in ("0", "false")
