"""A service account's token by TokenRequest (authentication.k8s.io/v1), asked for as somebody who may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kubegate.api.clock import parse_rfc3339
from kubegate.tokens.credential import Credential, TokenError, checked

Post = Callable[[str, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""POST an object to a path of the API server; gives the object it answers with."""

_BINDABLE = {"Pod": "v1", "Secret": "v1", "Node": "v1"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose token, for whom (none: the API server), for how many seconds (None: as the server likes).

    `bound_to` is KIND/NAME of a Pod, Secret or Node that the token ends with; "" for none.
    """

    namespace: str
    name: str
    audiences: tuple[str, ...] = ()
    seconds: int | None = None
    bound_to: str = ""
    bound_uid: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.namespace, self.name, str(self.seconds), self.bound_to, self.bound_uid, *self.audiences)


async def request(post: Post, wanted: Wanted) -> Credential:
    """Ask for it. Raises TokenError, and what `post` raises."""
    path = f"/api/v1/namespaces/{quote(wanted.namespace, safe='')}/serviceaccounts/{quote(wanted.name, safe='')}/token"
    answer = await post(path, document(wanted))
    status = answer.get("status")
    if not isinstance(status, Mapping):
        raise TokenError("the server's TokenRequest has no status")
    until = status.get("expirationTimestamp")
    try:
        expires = parse_rfc3339(until) if isinstance(until, str) else None
    except ValueError:
        raise TokenError("the server's TokenRequest has an expirationTimestamp that is no time") from None
    return checked(status.get("token"), expires, "the server's TokenRequest")


def document(wanted: Wanted) -> dict[str, Any]:
    """The TokenRequest. Raises TokenError where `bound_to` names nothing that a token can be bound to."""
    spec: dict[str, Any] = {"audiences": list(wanted.audiences)}
    if wanted.seconds is not None:
        spec["expirationSeconds"] = wanted.seconds
    if wanted.bound_to:
        kind, _, name = wanted.bound_to.partition("/")
        if kind not in _BINDABLE or not name:
            raise TokenError(f"{wanted.bound_to}: KIND/NAME of a {', '.join(_BINDABLE)} is wanted")
        reference = {"apiVersion": _BINDABLE[kind], "kind": kind, "name": name}
        spec["boundObjectRef"] = {**reference, "uid": wanted.bound_uid} if wanted.bound_uid else reference
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
