"""Whether a request is one that a webhook or a policy wants to see.

Follows k8s.io/apiserver/pkg/admission/plugin/webhook/predicates and generic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from kubegate.admission import Attributes, GroupVersionKind, GroupVersionResource, Operation
from kubegate.admission.webhooks.expressions import Invocation
from kubegate.api import Object, status
from kubegate.api.resources import Resource, Resources
from kubegate.api.selectors import LabelSelector
from kubegate.storage import Reader

_GROUP = "admissionregistration.k8s.io"
_POLICIES = frozenset(
    {
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    }
)
_CONFIGURATIONS = frozenset({"validatingwebhookconfigurations", "mutatingwebhookconfigurations"})
_NAMESPACES = ("", "namespaces")

H = TypeVar("H")


def concerns_policies(attributes: Attributes) -> bool:
    """Policies and their bindings: no policy is asked about them, lest one forbid its own removal."""
    return attributes.resource.group == _GROUP and attributes.resource.resource in _POLICIES


def concerns_configurations(attributes: Attributes) -> bool:
    """What configures admission: no webhook is asked about it."""
    resource = attributes.resource
    return resource.group == _GROUP and (resource.resource in _POLICIES or resource.resource in _CONFIGURATIONS)


def rule_matches(
    rule: Object, operation: Operation, resource: GroupVersionResource, subresource: str, namespaced: bool
) -> bool:
    """Whether a RuleWithOperations speaks of this. `namespaced` is false also for a namespace itself."""
    return (
        _contains(rule.get("operations"), operation.value)
        and _contains(rule.get("apiGroups"), resource.group)
        and _contains(rule.get("apiVersions"), resource.version)
        and _names_resource(rule.get("resources") or (), resource.resource, subresource)
        and _in_scope(rule.get("scope") or "*", namespaced)
    )


def _contains(wanted: Sequence[str] | None, value: str) -> bool:
    return bool(wanted) and ("*" in wanted or value in wanted)  # type: ignore[operator]


def _names_resource(wanted: Iterable[str], resource: str, subresource: str) -> bool:
    for entry in wanted:
        name, _, sub = entry.partition("/")
        if name in ("*", resource) and sub in ("*", subresource):
            return True
    return False


def _in_scope(scope: str, namespaced: bool) -> bool:
    return scope == "*" or (scope == "Namespaced") == namespaced


def is_namespaced(attributes: Attributes) -> bool:
    """Whether this is about something in a namespace; the namespace itself is not."""
    resource = attributes.resource
    return bool(attributes.namespace) and (resource.group, resource.resource) != _NAMESPACES


class Rules(Struct, frozen=True):
    """What a webhook or policy wants to see. `exact` is matchPolicy Exact."""

    include: Sequence[Object]
    exclude: Sequence[Object] = ()
    exact: bool = False

    @property
    def name_objects(self) -> bool:
        """Whether it depends on the object's name."""
        return any(rule.get("resourceNames") for rules in (self.include, self.exclude) for rule in rules)


class Equivalents:
    """Under which other names the objects of a resource are served: in other versions, or another group."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: dict[GroupVersionResource, tuple[Resource, ...]] = {}
        self.changes = 0
        """How often what is served changed."""
        resources.on_change(self._on_change)

    def _on_change(self) -> None:
        self._known.clear()
        self.changes += 1

    def of(self, resource: GroupVersionResource) -> tuple[Resource, ...]:
        found = self._known.get(resource)
        if found is None:
            if len(self._known) > 4096:
                self._known.clear()
            own = self._resources.get(resource.group, resource.version, resource.resource)
            found = self._known[resource] = (
                ()
                if own is None
                else tuple(
                    other
                    for other in self._resources
                    if other.stored_as == own.stored_as and other.api_version != own.api_version
                )
            )
        return found

    def invocation(self, rules: Rules, attributes: Attributes) -> Invocation | None:
        """As what a request is to be shown, or None where no rule speaks of it or an excluding one does.

        The request as it was made comes first; unless `exact`, then its equivalents that a rule names.
        """
        namespaced = is_namespaced(attributes)
        operation, subresource, name = attributes.operation, attributes.subresource, attributes.name
        if any(
            rule_matches(rule, operation, resource, subresource, namespaced) and _names(rule, name)
            for rule in rules.exclude
            for resource in self._all(attributes.resource, rules.exact)
        ):
            return None
        for rule in rules.include:
            if rule_matches(rule, operation, attributes.resource, subresource, namespaced) and _names(rule, name):
                return Invocation(attributes.kind, attributes.resource, subresource)
        if rules.exact:
            return None
        for rule in rules.include:
            if not _names(rule, name):
                continue
            for other in self.of(attributes.resource):
                resource = GroupVersionResource(other.group, other.version, other.resource)
                if rule_matches(rule, operation, resource, subresource, namespaced):
                    kind = _kind_of(other, subresource)
                    return Invocation(kind or attributes.kind, resource, subresource)
        return None

    def _all(self, resource: GroupVersionResource, exact: bool) -> list[GroupVersionResource]:
        others = () if exact else self.of(resource)
        return [resource, *(GroupVersionResource(o.group, o.version, o.resource) for o in others)]


class Routes(Generic[H]):
    """Which of all webhooks (or policies) have rules about a request, worked out once for each sort of request."""

    def __init__(self, equivalents: Equivalents, rules: Callable[[H], Rules]) -> None:
        self._equivalents, self._rules = equivalents, rules
        self._hooks: Sequence[H] = ()
        self._changes = 0
        self._known: dict[tuple[object, ...], tuple[tuple[int, H, Invocation | None], ...]] = {}

    def of(self, hooks: Sequence[H], attributes: Attributes) -> list[tuple[int, H, Invocation]]:
        """Position, hook, and as what it is to be shown the request; selectors are not looked at."""
        if hooks is not self._hooks or self._changes != self._equivalents.changes or len(self._known) > 4096:
            self._known.clear()
            self._hooks, self._changes = hooks, self._equivalents.changes
        resource, kind = attributes.resource, attributes.kind
        key = (attributes.operation, resource, kind, attributes.subresource, is_namespaced(attributes))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = tuple(self._sorted_out(attributes))
        found = []
        for position, hook, settled in known:
            invocation = settled or self._equivalents.invocation(self._rules(hook), attributes)
            if invocation is not None:
                found.append((position, hook, invocation))
        return found

    def _sorted_out(self, attributes: Attributes) -> Iterator[tuple[int, H, Invocation | None]]:
        """Without an invocation where the object's name decides."""
        for position, hook in enumerate(self._hooks):
            rules = self._rules(hook)
            if rules.name_objects:
                yield position, hook, None
            elif invocation := self._equivalents.invocation(rules, attributes):
                yield position, hook, invocation


def _names(rule: Object, name: str) -> bool:
    """Rules of policies may name single objects."""
    names = rule.get("resourceNames")
    return not names or name in names


def _kind_of(resource: Resource, subresource: str) -> GroupVersionKind | None:
    if not subresource:
        return GroupVersionKind(resource.group, resource.version, resource.kind)
    found = resource.subresources.get(subresource)
    return GroupVersionKind(found.group, found.version, found.kind) if found is not None and found.kind else None


def namespace_matches(selector: LabelSelector, attributes: Attributes, reader: Reader) -> bool:
    """Whether the namespace's labels match; cluster-scoped objects always do. Raises 404 for a namespace not there."""
    if selector.empty:
        return True
    about_namespace = (attributes.resource.group, attributes.resource.resource) == _NAMESPACES
    if not attributes.namespace and not about_namespace:
        return True
    return selector.matches(_namespace_labels(attributes, reader, about_namespace))


def _namespace_labels(attributes: Attributes, reader: Reader, about_namespace: bool) -> dict[str, str]:
    changing = attributes.operation in (Operation.CREATE, Operation.UPDATE)
    if about_namespace and not attributes.subresource and changing and attributes.object is not None:
        return _labels(attributes.object)
    name = attributes.namespace or attributes.name
    namespace = reader.get("namespaces", "", name)
    if namespace is None:
        raise status.not_found("", "namespaces", name)
    return _labels(namespace)


def object_matches(selector: LabelSelector, attributes: Attributes) -> bool:
    """Whether the new or the old object's labels match. What has no metadata never does."""
    if selector.empty:
        return True
    return any(
        isinstance(found, dict) and isinstance(found.get("metadata"), dict) and selector.matches(_labels(found))
        for found in (attributes.object, attributes.old_object)
    )


def _labels(obj: Object) -> dict[str, str]:
    labels = (obj.get("metadata") or {}).get("labels")
    return labels if isinstance(labels, dict) else {}
