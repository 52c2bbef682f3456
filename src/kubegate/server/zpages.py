"""/statusz and /flagz: how long this process has run, and with which flags. Text for people, or an object by its kind.

Follows k8s.io/apiserver/pkg/server/statusz and flagz: who takes JSON or YAML must name the object that is wanted,
`application/json;g=config.k8s.io;v=v1beta1;as=Statusz`; all others are given the text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from kubegate import KUBERNETES_VERSION
from kubegate.api import Object, negotiate
from kubegate.api.clock import rfc3339
from kubegate.api.codec import encode_json, encode_yaml
from kubegate.api.negotiate import JSON, YAML, Clause
from kubegate.api.status import not_acceptable
from kubegate.server.accept import wants_pretty
from kubegate.server.call import Call
from kubegate.server.responses import TEXT, Response

_COMPONENT: Final = "apiserver"
_GROUP: Final = "config.k8s.io"
_VERSIONS: Final = ("v1alpha1", "v1beta1")
_PLAIN: Final = "text/plain"
_OFFERED: Final = (JSON, YAML, _PLAIN)
_WARNING: Final = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)
# What is there to be used, not to find out how the server is.
_NOT_FOR_DEBUGGING: Final = frozenset({"api", "apis", "openapi", "openid", ".well-known"})


def statusz(call: Call, *, started: float, now: float, paths: Iterable[str], go_version: str) -> Response:
    """`started` and `now` in seconds since 1970; `paths` are all that are listed. Raises 406."""
    seconds = max(0, int(now - started))
    version = ".".join(KUBERNETES_VERSION.removeprefix("v").split(".")[:2])
    firsts = {path.split("/")[1] for path in paths} - _NOT_FOR_DEBUGGING - {""}
    found: Object = {
        "startTime": rfc3339(started),
        "uptimeSeconds": seconds,
        "goVersion": go_version,
        "binaryVersion": version,
        "emulationVersion": version,
        "paths": sorted(f"/{first}" for first in firsts),
    }
    lines = {
        "Started": time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime(started)),
        "Up": f"{seconds // 3600} hr {seconds // 60 % 60:02} min {seconds % 60:02} sec",
        "Go version": go_version,
        "Binary version": version,
        "Emulation version": version,
        "Paths": " ".join(found["paths"]),
    }
    return _answer(call, "Statusz", found, ["", *(f"{name}: {value}" for name, value in lines.items())])


def flagz(call: Call, flags: Mapping[str, str]) -> Response:
    """`flags`: the value of each by its name. Raises 406."""
    lines = [f"{name}={flags[name]}" for name in sorted(flags)]
    return _answer(call, "Flagz", {"flags": dict(sorted(flags.items()))}, lines)


class _Form(Struct, frozen=True):
    """How it is wanted: `version` is "" for the text."""

    media_type: str
    version: str = ""
    pretty: bool = False


def _answer(call: Call, kind: str, found: Object, lines: list[str]) -> Response:
    form = _wanted(call.header("accept"), kind)
    if not form.version:
        text = "\n".join(["", f"{_COMPONENT} {kind.lower()}", _WARNING, *lines, ""])
        return Response(200, text.encode(), TEXT)
    if form.version == "v1alpha1":
        call.trace.warn(f"This version of the {kind.lower()} endpoint is deprecated. Please use a newer version.")
    head = {"kind": kind, "apiVersion": f"{_GROUP}/{form.version}", "metadata": {"name": _COMPONENT}}
    whole = {**head, **found}
    pretty = form.pretty or wants_pretty(call)
    body = encode_yaml(whole) if form.media_type == YAML else encode_json(whole, pretty=pretty)
    return Response(200, body, f"{form.media_type};g={_GROUP};v={form.version};as={kind}".encode())


def _wanted(accept: str, kind: str) -> _Form:
    """Raises 406."""
    if not accept.strip():
        return _Form(_PLAIN)
    for clause in negotiate.parse_accept(accept):
        for media_type in _OFFERED:
            form = _form(clause, media_type, kind) if clause.takes(media_type) else None
            if form is not None:
                return form
    raise not_acceptable(_OFFERED)


def _form(clause: Clause, media_type: str, kind: str) -> _Form | None:
    """None where what is asked for beside the media type is not to be had."""
    wanted = clause.parameters
    if wanted.get("stream") or wanted.get("sv"):
        return None
    named = [wanted.get(parameter, "") for parameter in ("as", "g", "v")]
    if media_type == _PLAIN:
        return None if any(named) else _Form(_PLAIN)
    if named[:2] != [kind, _GROUP] or named[2] not in _VERSIONS:
        return None
    return _Form(media_type, named[2], wanted.get("pretty") == "1")
