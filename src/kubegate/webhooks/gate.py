"""Policies as Python functions: all that a policy file uses.

    from kubegate import Deny, Gate

    gate = Gate()

    @gate.validate("deployments.apps")
    def no_latest(deployment):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container["image"].endswith(":latest"):
                raise Deny(f"{container['name']}: an image needs a version")

The functions stay what they were, so that a test may call them directly.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from kubegate.api import Object
from kubegate.authentication import UserInfo

F = TypeVar("F", bound=Callable[..., Any])
Selector = Mapping[str, Any]
Kind = Literal["mutate", "validate", "authenticate", "authorize", "images"]

_REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
_VERSION = re.compile(r"v[0-9]+((alpha|beta)[0-9]+)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class GateError(Exception):
    """A policy that cannot be registered as it is written; one line for people."""


class Deny(Exception):
    """No, and why. The text is shown to whoever asked.

    `code` (400 to 599) and `reason` (Kubernetes' word for it, by default the one that goes with the code) are what an
    AdmissionReview's Status says; other reviews have the text alone.
    """

    def __init__(self, message: str, *, code: int = 403, reason: str = "") -> None:
        super().__init__(message)
        if not 400 <= code <= 599:
            raise ValueError(f"Deny: code {code} does not refuse anything: 400 to 599")
        self.message, self.code = message, code
        self.reason = reason or _REASONS.get(code, "")


@dataclass(frozen=True, slots=True)
class User:
    """Who a token belongs to. `audiences` are those that the token is good for; None: the API server's own."""

    name: str
    uid: str = ""
    groups: Sequence[str] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)
    audiences: Sequence[str] | None = None


@dataclass(slots=True)
class Review:
    """What a policy's second argument knows and takes.

    `request` is the AdmissionReview's request, or the spec of the other reviews (a TokenReview's without its token);
    it is not to be changed. In admission, `warn` shows the client a warning, and `audit` adds to the audit event.
    """

    request: Mapping[str, Any]
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """A warning that kubectl shows, whether the object is admitted or not. One line, 256 characters at best."""
        self.warnings.append(str(text))

    def audit(self, key: str, value: str) -> None:
        """An annotation of the audit event; `key` is prefixed by the webhook's name there. No secrets."""
        self.annotations[key] = str(value)

    @property
    def uid(self) -> str:
        return str(self.request.get("uid") or "")

    @property
    def operation(self) -> str:
        """CREATE, UPDATE, DELETE or CONNECT."""
        return str(self.request.get("operation") or "")

    @property
    def dry_run(self) -> bool:
        """Nothing will be stored: a policy with effects elsewhere leaves them out."""
        return self.request.get("dryRun") is True

    @property
    def namespace(self) -> str:
        return str(self.request.get("namespace") or "")

    @property
    def name(self) -> str:
        return str(self.request.get("name") or "")

    @property
    def subresource(self) -> str:
        return str(self.request.get("subResource") or "")

    @property
    def object(self) -> Object | None:
        found = self.request.get("object")
        return found if isinstance(found, dict) else None

    @property
    def old_object(self) -> Object | None:
        found = self.request.get("oldObject")
        return found if isinstance(found, dict) else None

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences a token is wanted for (TokenReview)."""
        return tuple(self.request.get("audiences") or ())

    @property
    def user(self) -> UserInfo:
        """Who makes the request (AdmissionReview)."""
        found = self.request.get("userInfo") or {}
        extra = {name: tuple(values) for name, values in (found.get("extra") or {}).items()}
        return UserInfo(found.get("username") or "", found.get("uid") or "", tuple(found.get("groups") or ()), extra)


@dataclass(frozen=True, slots=True)
class ResourceName:
    """`pods`, `deployments.apps`, `deployments.v1.apps`, `pods/exec`, `deployments.apps/scale`, `*`, `*.apps`."""

    resource: str
    group: str
    version: str

    @classmethod
    def parse(cls, text: str) -> ResourceName:
        qualified, slash, subresource = text.partition("/")
        resource, dot, group = qualified.partition(".")
        version = "*"
        first, _, rest = group.partition(".")
        if _VERSION.fullmatch(first):
            version, group = first, rest
        if (
            not resource
            or text != text.strip().lower()
            or (slash and not subresource)
            or (dot and not (group or version))
        ):
            raise GateError(f"{text!r} names no resource: wanted is RESOURCE[.VERSION][.GROUP][/SUBRESOURCE]")
        if text == "*":
            group = "*"
        return cls(f"{resource}/{subresource}" if slash else resource, group, version)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which requests an admission policy is for, in the terms of a WebhookConfiguration."""

    resources: tuple[ResourceName, ...]
    operations: tuple[str, ...]
    namespace_selector: Selector
    object_selector: Selector
    scope: str = "*"
    failure_policy: str = "Fail"
    timeout: int = 10
    side_effects: bool = False

    def rules(self) -> list[Object]:
        """RuleWithOperations, one for each group and version."""
        found: dict[tuple[str, str], list[str]] = {}
        for each in self.resources:
            found.setdefault((each.group, each.version), []).append(each.resource)
        return [
            {
                "apiGroups": [group],
                "apiVersions": [version],
                "operations": list(self.operations),
                "resources": resources,
                "scope": self.scope,
            }
            for (group, version), resources in found.items()
        ]


@dataclass(frozen=True, slots=True)
class Policy:
    """One function of a policy file. `scope` is for `mutate` and `validate` alone."""

    kind: Kind
    name: str
    function: Callable[..., Any]
    asynchronous: bool
    takes_review: bool
    scope: Scope | None = None


class Gate:
    """The policies of one file. Decorators register functions and give them back unchanged.

    A function takes the object (the token, the attributes, the image) alone, or it and the `Review`. `async def`
    functions run on the event loop and must not block it; others run in threads, several at once.
    """

    def __init__(self) -> None:
        self.policies: list[Policy] = []

    def mutate(
        self,
        *resources: str,
        operations: Sequence[str] = ("CREATE", "UPDATE"),
        namespaces: Selector | None = None,
        objects: Selector | None = None,
        scope: str = "*",
        failure_policy: str = "Fail",
        timeout: int = 10,
        side_effects: bool = False,
        name: str = "",
    ) -> Callable[[F], F]:
        """A function that changes the object in place, or returns the object as it is to be.

        `namespaces` and `objects` are labels, or a selector with matchLabels and matchExpressions. `timeout` is in
        seconds (1 to 30). `side_effects`: it has effects elsewhere, and leaves them out where `review.dry_run`.
        """
        found = _scope(resources, operations, namespaces, objects, scope, failure_policy, timeout, side_effects)
        return self._decorator("mutate", name, found)

    def validate(
        self,
        *resources: str,
        operations: Sequence[str] = ("CREATE", "UPDATE"),
        namespaces: Selector | None = None,
        objects: Selector | None = None,
        scope: str = "*",
        failure_policy: str = "Fail",
        timeout: int = 10,
        side_effects: bool = False,
        name: str = "",
    ) -> Callable[[F], F]:
        """A function that raises Deny for what may not be. On DELETE it is shown the object that is to go."""
        found = _scope(resources, operations, namespaces, objects, scope, failure_policy, timeout, side_effects)
        return self._decorator("validate", name, found)

    def authenticate(self, function: F) -> F:
        """A function of a token that returns its `User`, or None for a token it does not know."""
        return self._decorator("authenticate", "", None)(function)

    def authorize(self, function: F) -> F:
        """A function of `kubegate.authorization.Attributes`: True allows, False denies, None has no opinion."""
        return self._decorator("authorize", "", None)(function)

    def images(self, function: F) -> F:
        """A function of an image's name: True trusts it, False refuses it, None has no opinion.

        An image that nobody has an opinion about is refused.
        """
        return self._decorator("images", "", None)(function)

    def of(self, kind: Kind) -> tuple[Policy, ...]:
        """The policies of one kind, in the order in which they were written."""
        return tuple(policy for policy in self.policies if policy.kind == kind)

    def _decorator(self, kind: Kind, name: str, scope: Scope | None) -> Callable[[F], F]:
        def register(function: F) -> F:
            self._register(kind, name, scope, function)
            return function

        return register

    def _register(self, kind: Kind, name: str, scope: Scope | None, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise GateError(f"@gate.{kind} goes before a function, not {type(function).__name__}")
        name = name or function.__name__.strip("_").replace("_", "-").lower()
        if not _NAME.fullmatch(name):
            raise GateError(f"{name!r} cannot be a policy's name: lower case letters, digits and '-', at most 63")
        if any(policy.kind == kind and policy.name == name for policy in self.policies):
            raise GateError(f"there are two policies {name!r} for {kind}: give one another name")
        arguments = _arguments(function)
        if arguments not in (1, 2):
            raise GateError(f"{function.__name__} takes {arguments} arguments: wanted is one, or two with the review")
        policy = Policy(kind, name, function, inspect.iscoroutinefunction(function), arguments == 2, scope)
        self.policies.append(policy)


def _arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments a function wants."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [each for each in inspect.signature(function).parameters.values() if each.kind in kinds]
    required = [each for each in found if each.default is inspect.Parameter.empty]
    return len(required) or len(found)


def _scope(
    resources: Sequence[str],
    operations: Sequence[str],
    namespaces: Selector | None,
    objects: Selector | None,
    scope: str,
    failure_policy: str,
    timeout: int,
    side_effects: bool,
) -> Scope:
    if not resources or not all(isinstance(each, str) for each in resources):
        raise GateError("a policy needs the resources it is for: @gate.validate('pods', 'deployments.apps')")
    if isinstance(operations, str):
        operations = (operations,)
    for operation in operations:
        if operation not in (*_OPERATIONS, "*"):
            raise GateError(f"{operation!r} is no operation; there are {', '.join(_OPERATIONS)} and *")
    if scope not in ("*", "Namespaced", "Cluster"):
        raise GateError(f"{scope!r} is no scope; there are Namespaced, Cluster and *")
    if failure_policy not in ("Fail", "Ignore"):
        raise GateError(f"{failure_policy!r} is no failure policy; there are Fail and Ignore")
    if not 1 <= timeout <= 30:
        raise GateError(f"a timeout of {timeout} s: wanted is 1 to 30")
    return Scope(
        tuple(ResourceName.parse(each) for each in resources),
        tuple(operations),
        _selector(namespaces),
        _selector(objects),
        scope,
        failure_policy,
        timeout,
        side_effects,
    )


def _selector(given: Selector | None) -> Selector:
    """Labels alone become matchLabels. Raises GateError for what is no selector."""
    from kubegate.api.selectors import validate_selector

    if not given:
        return {}
    found = dict(given) if set(given) <= {"matchLabels", "matchExpressions"} else {"matchLabels": dict(given)}
    try:
        problems = [str(error) for error in validate_selector(found, "selector")]
    except (AttributeError, TypeError):
        problems = ["wanted is labels, or matchLabels and matchExpressions"]
    if problems:
        raise GateError(f"{given!r} is no selector: {'; '.join(problems)}")
    return found
