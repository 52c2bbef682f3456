"""The policies that are bound now, compiled when first needed and kept until they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from kubegate.admission import Attributes, GroupVersionResource, Operation
from kubegate.admission.webhooks import matching
from kubegate.admission.webhooks.expressions import Invocation
from kubegate.admission.webhooks.matching import Equivalents
from kubegate.api import Object
from kubegate.api.selectors import LabelSelector, from_object
from kubegate.storage import ObjectEvent, Reader

_GROUP = "admissionregistration.k8s.io"

EXCLUDED = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    }
)
"""Questions rather than objects: to refuse them would break the cluster, so no policy is asked about them."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Match:
    """matchConstraints of a policy, or matchResources of a binding."""

    rules: Sequence[Object]
    exclude: Sequence[Object]
    exact: bool
    namespaces: LabelSelector
    objects: LabelSelector

    @classmethod
    def of(cls, resources: Object | None) -> Match:
        found = resources or {}
        return cls(
            rules=found.get("resourceRules") or (),
            exclude=found.get("excludeResourceRules") or (),
            exact=found.get("matchPolicy") == "Exact",
            namespaces=from_object(found.get("namespaceSelector") or {}),
            objects=from_object(found.get("objectSelector") or {}),
        )

    def invocation(self, attributes: Attributes, equivalents: Equivalents, reader: Reader) -> Invocation | None:
        """As what the request is to be shown; None where it does not match. Raises StatusError 404 for a namespace."""
        if not matching.object_matches(self.objects, attributes):
            return None
        own = Invocation(attributes.kind, attributes.resource, attributes.subresource)
        if self.rules or self.exclude:
            everything = self.rules or _EVERYTHING
            found = equivalents.invocation(everything, self.exclude, self.exact, attributes)
            if found is None:
                return None
            own = found
        return own if matching.namespace_matches(self.namespaces, attributes, reader) else None


_EVERYTHING = ({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*", "*"]},)


@dataclass(frozen=True, slots=True)
class Binding:
    name: str
    match: Match
    parameters: Object | None
    actions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Hook(Generic[P]):
    """A policy with its bindings. `policy` is what it was compiled to."""

    name: str
    spec: Object
    match: Match
    policy: P
    bindings: tuple[Binding, ...]

    @property
    def ignores_failure(self) -> bool:
        return self.spec.get("failurePolicy") == "Ignore"


class Source(Generic[P]):
    """Policies and bindings from the reader's events; what may matter to a sort of request is worked out once."""

    def __init__(
        self, reader: Reader, prefix: str, compile_spec: Callable[[Object], P], equivalents: Equivalents
    ) -> None:
        """`prefix` is `validatingadmissionpolic` or `mutatingadmissionpolic`: Kubernetes' plural has no other stem."""
        self._compile, self._equivalents = compile_spec, equivalents
        self._policies: dict[str, Object] = {}
        self._bindings: dict[str, dict[str, Object]] = {}
        self._compiled: dict[str, tuple[Object, P]] = {}
        self._hooks: tuple[Hook[P], ...] | None = ()
        self._routes: dict[tuple[Operation, GroupVersionResource, str, bool], tuple[Hook[P], ...]] = {}
        reader.subscribe(f"{prefix}ies.{_GROUP}", self._on_policy)
        reader.subscribe(f"{prefix}ybindings.{_GROUP}", self._on_binding)

    def hooks(self, attributes: Attributes) -> tuple[Hook[P], ...]:
        """The bound policies with a rule for this operation and resource, by name; the rest is for `Match` to say."""
        if self._hooks is None:
            self._hooks = self._current()
            self._routes.clear()
        if not self._hooks:
            return ()
        namespaced = matching.is_namespaced(attributes)
        key = (attributes.operation, attributes.resource, attributes.subresource, namespaced)
        found = self._routes.get(key)
        if found is None:
            if len(self._routes) > 4096:
                self._routes.clear()
            found = self._routes[key] = tuple(hook for hook in self._hooks if self._may_match(hook, attributes))
        return found

    def _may_match(self, hook: Hook[P], attributes: Attributes) -> bool:
        """Whether a rule is about such requests, leaving aside names, selectors and exclusions."""
        if not hook.match.rules:
            return True
        namespaced = matching.is_namespaced(attributes)
        others = () if hook.match.exact else self._equivalents.of(attributes.resource)
        resources = [attributes.resource, *(GroupVersionResource(o.group, o.version, o.resource) for o in others)]
        return any(
            matching.rule_matches(rule, attributes.operation, resource, attributes.subresource, namespaced)
            for rule in hook.match.rules
            for resource in resources
        )

    def _on_policy(self, event: ObjectEvent, obj: Object, _previous: Object | None) -> None:
        name = obj["metadata"]["name"]
        if event is ObjectEvent.DELETED:
            self._policies.pop(name, None)
            self._compiled.pop(name, None)
        else:
            self._policies[name] = obj
        self._hooks = None

    def _on_binding(self, event: ObjectEvent, obj: Object, previous: Object | None) -> None:
        name = obj["metadata"]["name"]
        for old in (previous, obj):
            if old is not None:
                self._bindings.get((old.get("spec") or {}).get("policyName", ""), {}).pop(name, None)
        if event is not ObjectEvent.DELETED:
            self._bindings.setdefault((obj.get("spec") or {}).get("policyName", ""), {})[name] = obj
        self._hooks = None

    def _current(self) -> tuple[Hook[P], ...]:
        found = []
        for name in sorted(self._policies):
            bindings = self._bindings.get(name)
            if not bindings:
                continue
            spec = self._policies[name].get("spec") or {}
            compiled = self._compiled.get(name)
            if compiled is None or compiled[0] != spec:
                compiled = self._compiled[name] = (spec, self._compile(spec))
            bound = tuple(_binding(key, bindings[key]) for key in sorted(bindings))
            found.append(Hook(name, spec, Match.of(spec.get("matchConstraints")), compiled[1], bound))
        return tuple(found)


def _binding(name: str, obj: Object) -> Binding:
    spec = obj.get("spec") or {}
    return Binding(
        name, Match.of(spec.get("matchResources")), spec.get("paramRef"), spec.get("validationActions") or ()
    )


def concerns(attributes: Attributes) -> bool:
    """Whether policies are asked about such requests at all."""
    resource = (attributes.resource.group, attributes.resource.resource)
    return resource not in EXCLUDED and not matching.concerns_policies(attributes)
