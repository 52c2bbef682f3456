"""The policies that are bound now, compiled when first needed and kept until they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from kubegate.admission import Attributes
from kubegate.admission.webhooks import matching
from kubegate.admission.webhooks.expressions import Invocation
from kubegate.admission.webhooks.matching import Equivalents, Routes, Rules
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


_EVERYTHING = ({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*", "*"]},)


class Match(Struct, frozen=True):
    """matchConstraints of a policy, or matchResources of a binding."""

    rules: Rules
    namespaces: LabelSelector
    objects: LabelSelector
    has_rules: bool
    has_selectors: bool

    @classmethod
    def of(cls, resources: Object | None) -> Match:
        found = resources or {}
        include, exclude = found.get("resourceRules") or (), found.get("excludeResourceRules") or ()
        namespaces, objects = found.get("namespaceSelector") or {}, found.get("objectSelector") or {}
        return cls(
            rules=Rules(include or _EVERYTHING, exclude, exact=found.get("matchPolicy") == "Exact"),
            namespaces=from_object(namespaces),
            objects=from_object(objects),
            has_rules=bool(include or exclude),
            has_selectors=bool(namespaces or objects),
        )

    def selects(self, attributes: Attributes, reader: Reader) -> bool:
        """Whether the selectors match, leaving aside the rules. Raises StatusError 404 for a namespace."""
        if not self.has_selectors:
            return True
        return matching.object_matches(self.objects, attributes) and matching.namespace_matches(
            self.namespaces, attributes, reader
        )

    def matches(self, attributes: Attributes, equivalents: Equivalents, reader: Reader) -> bool:
        """Rules and selectors. Raises StatusError 404 for a namespace."""
        if self.has_rules and equivalents.invocation(self.rules, attributes) is None:
            return False
        return self.selects(attributes, reader)


class Binding(Struct, frozen=True):
    name: str
    match: Match
    parameters: Object | None
    actions: Sequence[str]


class Hook(Struct, Generic[P], frozen=True):
    """A policy with its bindings. `policy` is what it was compiled to."""

    name: str
    match: Match
    policy: P
    bindings: tuple[Binding, ...]
    ignores_failure: bool
    parameters: Object | None
    """paramKind"""


class Source(Generic[P]):
    """Policies and bindings from the reader's events; what may matter to a sort of request is worked out once."""

    def __init__(
        self, reader: Reader, prefix: str, compile_spec: Callable[[Object], P], equivalents: Equivalents
    ) -> None:
        """`prefix` is `validatingadmissionpolic` or `mutatingadmissionpolic`: Kubernetes' plural has no other stem."""
        self._compile = compile_spec
        self._policies: dict[str, Object] = {}
        self._bindings: dict[str, dict[str, Object]] = {}
        self._compiled: dict[str, tuple[Object, P]] = {}
        self._hooks: tuple[Hook[P], ...] | None = ()
        self._routes: Routes[Hook[P]] = Routes(equivalents, lambda hook: hook.match.rules)
        reader.subscribe(f"{prefix}ies.{_GROUP}", self._on_policy)
        reader.subscribe(f"{prefix}ybindings.{_GROUP}", self._on_binding)

    def hooks(self, attributes: Attributes) -> list[tuple[int, Hook[P], Invocation]]:
        """The bound policies with a rule about this, by name, and as what each is to see it; see `Routes.of`."""
        hooks = self.bound()
        return self._routes.of(hooks, attributes) if hooks else []

    def bound(self) -> tuple[Hook[P], ...]:
        """All policies that are bound to anything."""
        if self._hooks is None:
            self._hooks = self._current()
        return self._hooks

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
            match, ignores = Match.of(spec.get("matchConstraints")), spec.get("failurePolicy") == "Ignore"
            found.append(Hook(name, match, compiled[1], bound, ignores, spec.get("paramKind")))
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
