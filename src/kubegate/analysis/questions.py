"""From words to attributes: `get secrets/db`, `create deployments.apps`, `get /healthz`, as kubectl takes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from kubegate.api.resources import Resource, Resources
from kubegate.authentication import ANONYMOUS, AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP, UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import SERVICE_ACCOUNT_PREFIX


class QuestionError(Exception):
    """Words that make no question; one line for people."""


def user_of(name: str, groups: Sequence[str] = ()) -> UserInfo:
    """A user with the groups that a login brings: all service accounts', and those of who is (not) authenticated.

    A service account may be written as `sa:NAMESPACE:NAME`, `NAMESPACE:NAME` or in full.
    """
    brought: list[str] = []
    if not name.startswith("system:"):
        parts = name.removeprefix("sa:").split(":")
        if len(parts) == 2 and all(parts):
            name = f"{SERVICE_ACCOUNT_PREFIX}{parts[0]}:{parts[1]}"
    if name.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        if not namespace or not account:
            raise QuestionError(f"{name!r} is no service account: it is {SERVICE_ACCOUNT_PREFIX}NAMESPACE:NAME")
        brought += ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if name != ANONYMOUS:
        brought.append(AUTHENTICATED_GROUP)
    elif UNAUTHENTICATED_GROUP not in groups:
        brought.append(UNAUTHENTICATED_GROUP)
    return UserInfo(name, "", tuple(dict.fromkeys([*groups, *brought])))


def question(
    user: UserInfo, verb: str, what: str, name: str = "", *, namespace: str = "", subresource: str = ""
) -> Attributes:
    """`what` is a path that begins with `/`, or RESOURCE[.GROUP][/NAME]; short names and kinds are understood.

    A resource that belongs to no namespace is asked about in the whole cluster, whatever `namespace` says.
    """
    if not verb:
        raise QuestionError("a question begins with a verb: get, list, create …")
    if what.startswith("/"):
        if name or subresource:
            raise QuestionError(f"{what} is a path: it has neither name nor subresource")
        return Attributes(user, verb, False, path=what)
    what, slash, given = what.partition("/")
    if slash and name:
        raise QuestionError(f"two names: {given!r} and {name!r}")
    if not what:
        raise QuestionError("a question names a resource, or a path that begins with /")
    resource, group, known = find_resource(what)
    if known is not None and not known.namespaced:
        # a namespace is asked about in itself, as requests to /api/v1/namespaces/NAME are
        namespace = (given or name) if known.resource == "namespaces" and known.group == "" else ""
    return Attributes(
        user=user,
        verb=verb,
        api_group=group,
        api_version=known.version if known is not None else "",
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=given or name,
    )


def find_resource(text: str) -> tuple[str, str, Resource | None]:
    """Resource and group of what kubectl would understand; what is not known is taken as it is written."""
    resource, _, group = text.partition(".")
    known = _known()
    for candidate in (resource, resource.lower()):
        for each in known.get(candidate, ()):
            if not group or each.group == group:
                return each.resource, each.group, each
    return resource, group, None


@cache
def _known() -> dict[str, list[Resource]]:
    """Built-in resources by plural, singular, kind and short names; the core group first, as kubectl prefers."""
    found: dict[str, list[Resource]] = {}
    for resource in sorted(Resources.built_in(), key=lambda r: (r.group != "", r.group == "events.k8s.io")):
        names = {resource.resource, resource.singular, resource.kind.lower(), *resource.short_names}
        for name in names:
            found.setdefault(name, []).append(resource)
    return found


def text_of(attributes: Attributes) -> str:
    """`get secrets "db" in namespace "prod"`, `list deployments.apps in the whole cluster`, `get path /healthz`."""
    if not attributes.resource_request:
        return f"{attributes.verb} path {attributes.path}"
    words = f"{attributes.verb} {resource_text(attributes)}"
    if attributes.name:
        words += f' "{attributes.name}"'
    place = f'in namespace "{attributes.namespace}"' if attributes.namespace else "in the whole cluster"
    return f"{words} {place}"


def resource_text(attributes: Attributes) -> str:
    """`deployments.apps/scale`."""
    text = attributes.resource
    if attributes.api_group:
        text += f".{attributes.api_group}"
    return f"{text}/{attributes.subresource}" if attributes.subresource else text
