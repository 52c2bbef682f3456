"""Acting as somebody else: Impersonate-* headers, the permissions they need, and who one is then.

There are several ways to be allowed (modes). The newer ones ask for two permissions: `impersonate:MODE` for the user
taken on, and `impersonate-on:MODE:VERB` for what is done as that user. The old one asks for `impersonate` on the user,
each group, the uid and each extra value. Follows k8s.io/apiserver/pkg/endpoints/filters/impersonation.

Authorization stands above this room, so the question is a value passed in: the request's own authorization
attributes, from which the questions here differ in a few fields (`msgspec.structs.replace`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from kubegate.api.field import aggregate, invalid, quoted
from kubegate.api.names import is_dns1123_subdomain, is_domain_prefixed_path
from kubegate.api.status import StatusError, bad_request
from kubegate.authentication import (
    ANONYMOUS,
    AUTHENTICATED_GROUP,
    MASTERS_GROUP,
    UNAUTHENTICATED_GROUP,
    UserInfo,
    signing,
)
from kubegate.authentication.front_proxy import unescape_key

_USER, _GROUP, _UID = "impersonate-user", "impersonate-group", "impersonate-uid"
_EXTRA = "impersonate-extra-"
_NODE_PREFIX = "system:node:"
_NODES_GROUP = "system:nodes"
_NODE_NAME = "authentication.kubernetes.io/node-name"
_ASSOCIATED = "authentication.kubernetes.io/associated-node-keys"
_API_GROUP = "authentication.k8s.io"
_REMEMBERED = 1024
_MANY = 4
"""From so many groups or extra values on, one question for all of them is asked first."""


class Attributes(Protocol):
    """What is read of a request's authorization attributes; `authorization.Attributes` is one."""

    @property
    def user(self) -> UserInfo: ...

    @property
    def verb(self) -> str: ...


Question = TypeVar("Question", bound=Any)
"""A frozen Struct with the fields of `authorization.Attributes`: the questions of impersonation are copies of it."""

Refuse = Callable[[Question, str], Awaitable[StatusError | None]]
"""None where the question's user may; else the error that says why not (as for any forbidden request).

With a text, nobody may, and it is the reason.
"""


class Impersonated(Struct, frozen=True):
    """Who the request is done as, and the mode that allowed it: `impersonate:user-info`; "" for the old one."""

    user: UserInfo
    constraint: str = ""


class Wanted(Struct, frozen=True):
    """What the headers ask for."""

    name: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def only_name(self) -> bool:
        return not (self.uid or self.groups or self.extra)


def wanted(headers: Iterable[tuple[str, str]]) -> Wanted | None:
    """Who the headers ask to be; None where they do not.

    Raises StatusError (400) where they ask for groups, a uid or extra values without naming a user.
    """
    name = uid = None
    groups: list[str] = []
    extra: dict[str, tuple[str, ...]] = {}
    for header, value in headers:
        if not header.startswith("impersonate-"):
            continue
        if header == _USER:
            name = value if name is None else name
        elif header == _UID:
            uid = value if uid is None else uid
        elif header == _GROUP:
            groups.append(value)
        elif header.startswith(_EXTRA):
            key = unescape_key(header[len(_EXTRA) :])
            extra[key] = (*extra.get(key, ()), value)
    found = Wanted(name or "", uid or "", tuple(groups), extra)
    if found.name:
        return found
    if found.only_name:
        return None
    raise bad_request(f"requested {_go_user(found)} without impersonating a user name")


class Impersonator(Generic[Question]):
    """Says who a request is done as. It remembers by which mode each user was allowed last, and tries that one first.

    Which refusal is told depends on that too: it is the first one met.
    """

    def __init__(self, refuse: Refuse[Question]) -> None:
        self._refuse = refuse
        self._last: dict[str, int] = {}

    async def impersonate(self, headers: Iterable[tuple[str, str]], attributes: Question) -> Impersonated | None:
        """None where nobody is to be impersonated. `attributes` are the request's own, with the authenticated user.

        Header names are in lower case. Raises StatusError: 400 for headers that name no user, 403 where not allowed.
        """
        target = wanted(headers)
        if target is None:
            return None
        requestor: UserInfo = attributes.user
        first = self._last.get(requestor.name)
        order = [] if first is None else [first]
        order += [index for index in range(len(_MODES)) if index != first]
        refusal: StatusError | None = None
        for index in order:
            mode = _MODES[index]
            taken = mode.applies(requestor, target)
            if taken is None:
                continue
            found = await self._ask(mode, attributes, target, requestor)
            if found is None:
                self._remember(requestor.name, index)
                constraint = f"impersonate:{mode.name}" if mode.name else ""
                return Impersonated(_with_standing_groups(taken), constraint)
            refusal = refusal or found
        raise refusal or StatusError(403, "Forbidden", "all impersonation modes failed")

    async def _ask(self, mode: _Mode, attributes: Question, target: Wanted, requestor: UserInfo) -> StatusError | None:
        if mode.asks_as is not None:
            attributes = replace(attributes, user=mode.asks_as(requestor))
        if mode.name:
            on = replace(attributes, verb=f"impersonate-on:{mode.name}:{attributes.verb}")
            found = await self._refuse(on, "")
            if found is not None:
                return found
        for step in mode.steps(requestor, target):
            if step.one_for_all and await self._refuse(_about(attributes, step.one_for_all), "") is None:
                continue
            for permission in step.permissions:
                found = await self._refuse(_about(attributes, permission), step.never)
                if found is not None:
                    return found
        return None

    def _remember(self, name: str, index: int) -> None:
        self._last.pop(name, None)
        if len(self._last) >= _REMEMBERED:
            del self._last[next(iter(self._last))]
        self._last[name] = index


def _about(attributes: Question, permission: Mapping[str, str]) -> Question:
    """The question whether the one who asks has this permission."""
    asked: Question = replace(
        attributes,
        resource_request=True,
        path="",
        api_version="v1",
        field_requirements=None,
        label_requirements=None,
        **permission,
    )
    return asked


# ---------------------------------------------------------------------- modes
class _Step(Struct, frozen=True):
    """Permissions of which all are needed, unless `one_for_all` is there; `never` tells why none helps."""

    permissions: Sequence[dict[str, str]]
    one_for_all: dict[str, str] | None = None
    never: str = ""


Steps = Callable[[UserInfo, Wanted], Iterator[_Step]]


class _Mode(Struct, frozen=True):
    """`applies` gives the user that one becomes (None: this mode is not for such a wish); "" names the old mode.

    `asks_as` is who the authorizers are asked about, where that is not the requestor as he is.
    """

    name: str
    applies: Callable[[UserInfo, Wanted], UserInfo | None]
    steps: Steps
    asks_as: Callable[[UserInfo], UserInfo] | None = None


def _permission(
    verb: str, group: str, resource: str, name: str, *, namespace: str = "", subresource: str = ""
) -> dict[str, str]:
    return {
        "verb": verb,
        "api_group": group,
        "resource": resource,
        "subresource": subresource,
        "namespace": namespace,
        "name": name,
    }


def _node_of(name: str) -> str:
    """The node that a user name is of, "" where it is none's."""
    node = name.removeprefix(_NODE_PREFIX)
    return node if node != name and not is_dns1123_subdomain(node) else ""


def _node_user(target: Wanted) -> UserInfo | None:
    if not target.only_name or not _node_of(target.name):
        return None
    return UserInfo(target.name, groups=(_NODES_GROUP,))


def _own_node(requestor: UserInfo, target: Wanted) -> UserInfo | None:
    """A service account whose token is bound to a pod may be let to act as the node that the pod is on."""
    if signing.split_user_name(requestor.name) is None:
        return None
    if tuple(requestor.extra.get(_NODE_NAME, ())) != (_node_of(target.name),):
        return None
    return _node_user(target)


def _on_any_node(requestor: UserInfo) -> UserInfo:
    """The service account of an agent, whatever its node: of its extra values the keys alone are shown."""
    return replace(requestor, extra={_ASSOCIATED: tuple(sorted(requestor.extra))})


def _service_account(requestor: UserInfo, target: Wanted) -> UserInfo | None:
    found = signing.split_user_name(target.name)
    if found is None or not target.only_name:
        return None
    return UserInfo(target.name, groups=signing.group_names(found[0]))


def _plain_user(requestor: UserInfo, target: Wanted) -> UserInfo | None:
    if signing.split_user_name(target.name) is not None or _node_of(target.name):
        return None
    return UserInfo(target.name, target.uid, target.groups, dict(target.extra))


def _any_user(requestor: UserInfo, target: Wanted) -> UserInfo | None:
    groups = target.groups
    found = signing.split_user_name(target.name)
    if found is not None and not groups:
        groups = signing.group_names(found[0])
    return UserInfo(target.name, target.uid, groups, dict(target.extra))


def _own_node_steps(requestor: UserInfo, target: Wanted) -> Iterator[_Step]:
    yield _Step([_permission("impersonate:associated-node", _API_GROUP, "nodes", "*")])


def _node_steps(requestor: UserInfo, target: Wanted) -> Iterator[_Step]:
    yield _Step([_permission("impersonate:arbitrary-node", _API_GROUP, "nodes", _node_of(target.name))])


def _service_account_steps(requestor: UserInfo, target: Wanted) -> Iterator[_Step]:
    namespace, name = signing.split_user_name(target.name) or ("", "")
    verb = "impersonate:serviceaccount"
    yield _Step([_permission(verb, _API_GROUP, "serviceaccounts", name, namespace=namespace)])


def _user_steps(requestor: UserInfo, target: Wanted) -> Iterator[_Step]:
    """Some groups and extra values cannot be taken on this way; for many at once, a permission for all will do."""
    verb = "impersonate:user-info"
    yield _Step([_permission(verb, _API_GROUP, "users", target.name)])
    if target.uid:
        yield _Step([_permission(verb, _API_GROUP, "uids", target.uid)])
    if "" in target.groups:
        never = "impersonating the empty string group is not allowed"
        yield _Step([_permission(verb, _API_GROUP, "groups", "")], never=never)
    if MASTERS_GROUP in target.groups:
        never = "impersonating the system:masters group is not allowed"
        yield _Step([_permission(verb, _API_GROUP, "groups", MASTERS_GROUP)], never=never)
    all_groups = _permission(verb, _API_GROUP, "groups", "*") if len(target.groups) >= _MANY else None
    yield _Step([_permission(verb, _API_GROUP, "groups", group) for group in target.groups], all_groups)
    wrong = _wrong_extra(target.extra)
    if wrong:
        yield _Step([_permission(verb, _API_GROUP, "userextras", "")], never=wrong)
    many = len(target.extra) >= _MANY or sum(map(len, target.extra.values())) >= _MANY
    all_extra = _permission(verb, _API_GROUP, "userextras", "*", subresource="*") if many else None
    yield _Step(_extra_permissions(verb, target), all_extra)


def _old_steps(requestor: UserInfo, target: Wanted) -> Iterator[_Step]:
    verb = "impersonate"
    found = signing.split_user_name(target.name)
    if found is None:
        yield _Step([_permission(verb, "", "users", target.name)])
    else:
        yield _Step([_permission(verb, "", "serviceaccounts", found[1], namespace=found[0])])
    if target.uid:
        yield _Step([_permission(verb, _API_GROUP, "uids", target.uid)])
    yield _Step([_permission(verb, "", "groups", group) for group in target.groups])
    yield _Step(_extra_permissions(verb, target))


def _extra_permissions(verb: str, target: Wanted) -> list[dict[str, str]]:
    return [
        _permission(verb, _API_GROUP, "userextras", value, subresource=key)
        for key, values in target.extra.items()
        for value in values
    ]


def _wrong_extra(extra: Mapping[str, Sequence[str]]) -> str:
    """Why extra values cannot be taken on but in the old way; "" where they can."""
    for key, values in extra.items():
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        errors = [str(invalid("extra.key", part, text)) for part, text in is_domain_prefixed_path(key)]
        if errors:
            return f"impersonating an invalid key in extra is not allowed: {aggregate(errors)}"
        if key != key.lower():
            return f"impersonating a non-lowercase key in extra is not allowed: {quoted(key)}"
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


_MODES = (
    _Mode("associated-node", _own_node, _own_node_steps, _on_any_node),
    _Mode("arbitrary-node", lambda requestor, target: _node_user(target), _node_steps),
    _Mode("serviceaccount", _service_account, _service_account_steps),
    _Mode("user-info", _plain_user, _user_steps),
    _Mode("", _any_user, _old_steps),
)


def _with_standing_groups(user: UserInfo) -> UserInfo:
    """Everybody is either authenticated or not; one that says neither is what its name says."""
    if user.name == ANONYMOUS:
        missing = () if UNAUTHENTICATED_GROUP in user.groups else (UNAUTHENTICATED_GROUP,)
    elif AUTHENTICATED_GROUP in user.groups or UNAUTHENTICATED_GROUP in user.groups:
        missing = ()
    else:
        missing = (AUTHENTICATED_GROUP,)
    return replace(user, groups=(*user.groups, *missing))


def _go_user(found: Wanted) -> str:
    """Go's %#v of a user.DefaultInfo."""

    def texts(values: Sequence[str]) -> str:
        return "[]string{" + ", ".join(quoted(value) for value in values) + "}"

    groups = texts(found.groups) if found.groups else "[]string(nil)"
    extra = "map[string][]string(nil)"
    if found.extra:
        pairs = ", ".join(f"{quoted(key)}:{texts(found.extra[key])}" for key in sorted(found.extra))
        extra = f"map[string][]string{{{pairs}}}"
    return f"&user.DefaultInfo{{Name:{quoted(found.name)}, UID:{quoted(found.uid)}, Groups:{groups}, Extra:{extra}}}"
