"""PodSecurity: pods keep to the level that their namespace's labels, or the configuration, ask for.

Follows k8s.io/pod-security-admission/admission and k8s.io/kubernetes/plugin/pkg/admission/security/podsecurity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from kubegate.admission import Attributes, Operation
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import annotations_of
from kubegate.admission.podsecurity import policy as policies
from kubegate.admission.podsecurity.checks import PRIVILEGED, Violation, evaluate
from kubegate.admission.podsecurity.policy import LEVELS, MODES, LevelVersion, Policy
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.api.names import is_dns1123_label, is_dns1123_subdomain
from kubegate.api.status import internal, invalid

# More pods than these, or more seconds, are not looked at when a namespace's level is raised.
_MOST_PODS = 3000
_MOST_SECONDS = 1.0
_ENFORCED, _PRIVILEGED = f"{policies.PREFIX}enforce-policy", str(LevelVersion())


def _template(object: Object) -> Object | None:
    template: Object | None = (object.get("spec") or {}).get("template")
    return template


# Where other kinds keep the pods that they will make.
_TEMPLATES: Mapping[str, Callable[[Object], Object | None]] = {
    "podtemplates": lambda object: object.get("template"),
    "replicationcontrollers": _template,
    "replicasets.apps": _template,
    "deployments.apps": _template,
    "statefulsets.apps": _template,
    "daemonsets.apps": _template,
    "jobs.batch": _template,
    "cronjobs.batch": lambda object: _template((object.get("spec") or {}).get("jobTemplate") or {}),
}


class Exemptions(Struct, frozen=True):
    """Who is not asked at all."""

    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


class PodSecurity:
    name = "PodSecurity"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods", "pods/ephemeralcontainers", "pods/resize", "namespaces", *_TEMPLATES})
    changes = False

    def __init__(self, dependencies: Dependencies, defaults: Policy, exemptions: Exemptions) -> None:
        self._reader, self._writer, self._clock = dependencies.reader, dependencies.writer, dependencies.clock
        self._defaults, self._exempt = defaults, exemptions

    async def validate(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        if attributes.group_resource == "namespaces":
            self._validate_namespace(attributes, attributes.object)
        elif attributes.group_resource == "pods":
            await self._validate_pod(attributes, attributes.object)
        else:
            await self._validate_controller(attributes, attributes.object)

    # ---------------------------------------------------------------- pods and what makes them
    async def _validate_pod(self, attributes: Attributes, pod: Object) -> None:
        if self._is_exempt(attributes):
            return
        policy, errors = await self._policy_of(attributes.namespace)
        if not errors and policy.forbids_nothing:
            attributes.trace.annotate(_ENFORCED, _PRIVILEGED)
            return
        if attributes.operation is Operation.UPDATE and not _matters(pod, attributes.old_object or {}):
            return
        self._evaluate(attributes, policy, errors, pod, enforce=True)

    async def _validate_controller(self, attributes: Attributes, object: Object) -> None:
        """What makes pods is warned of and audited, never refused: its pods will be."""
        if self._is_exempt(attributes):
            return
        policy, errors = await self._policy_of(attributes.namespace)
        if not errors and policy.audit.level == policy.warn.level == PRIVILEGED:
            return
        template = _TEMPLATES[attributes.group_resource](object)
        if template is not None:
            self._evaluate(attributes, policy, errors, template, enforce=False)

    def _evaluate(
        self, attributes: Attributes, policy: Policy, errors: list[FieldError], pod: Object, *, enforce: bool
    ) -> None:
        metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
        trace = attributes.trace
        if spec.get("runtimeClassName") in self._exempt.runtime_classes:
            trace.annotate(f"{policies.PREFIX}exempt", "runtimeClass")
            return
        if errors:
            said = ", ".join(str(error) for error in errors)
            said = f"[{said}]" if len(errors) > 1 else said
            trace.annotate(f"{policies.PREFIX}error", f"Failed to parse policy: {said}")
        known: dict[LevelVersion, list[Violation]] = {}

        def violations(wanted: LevelVersion) -> list[Violation]:
            if wanted not in known:
                known[wanted] = evaluate(wanted.level, wanted.version, metadata, spec)
            return known[wanted]

        refused = ""
        if enforce:
            trace.annotate(_ENFORCED, str(policy.enforce))
            if violations(policy.enforce):
                refused = f'violates PodSecurity "{policy.enforce}": {_listed(violations(policy.enforce))}'
        if violations(policy.audit):
            said = f'would violate PodSecurity "{policy.audit}": {_listed(violations(policy.audit))}'
            trace.annotate(f"{policies.PREFIX}audit-violations", said)
        if refused:
            raise forbidden(attributes, refused)
        if violations(policy.warn):
            trace.warn(f'would violate PodSecurity "{policy.warn}": {_listed(violations(policy.warn))}')

    async def _policy_of(self, namespace: str) -> tuple[Policy, list[FieldError]]:
        found = self._reader.get("namespaces", "", namespace) or await self._writer.get("namespaces", "", namespace)
        if found is None:
            raise internal(f"failed to lookup namespace {namespace}")
        return policies.of_labels((found.get("metadata") or {}).get("labels"), self._defaults)

    def _is_exempt(self, attributes: Attributes) -> bool:
        for by, exempt in (
            ("namespace", attributes.namespace in self._exempt.namespaces),
            ("user", attributes.user.name in self._exempt.usernames),
        ):
            if exempt:
                attributes.trace.annotate(f"{policies.PREFIX}exempt", by)
                return True
        return False

    # ---------------------------------------------------------------- namespaces
    def _validate_namespace(self, attributes: Attributes, namespace: Object) -> None:
        labels = (namespace.get("metadata") or {}).get("labels")
        name = (namespace.get("metadata") or {}).get("name") or attributes.name
        policy, errors = policies.of_labels(labels, self._defaults)
        old = Policy()
        if attributes.operation is Operation.UPDATE:
            old_labels = ((attributes.old_object or {}).get("metadata") or {}).get("labels")
            old, old_errors = policies.of_labels(old_labels, self._defaults)
            if errors == old_errors:
                # What was wrong before does not keep anybody from changing something else.
                errors = []
        if errors:
            raise invalid("", "Namespace", name, errors)
        if attributes.operation is Operation.UPDATE and not _is_stricter(policy.enforce, old.enforce):
            return
        if name in self._exempt.namespaces:
            self._warn_exempt(attributes, name, policy, labels)
        elif attributes.operation is Operation.UPDATE:
            for text in self._check_existing(name, policy.enforce):
                attributes.trace.warn(text)

    def _warn_exempt(self, attributes: Attributes, name: str, policy: Policy, labels: Mapping[str, str] | None) -> None:
        if policy.forbids_nothing or policy.is_equivalent(self._defaults):
            return
        told = policy.labelled(labels or {})
        attributes.trace.warn(
            f'namespace "{name}" is exempt from Pod Security, and the policy ({told}) will be ignored'
        )

    def _check_existing(self, namespace: str, wanted: LevelVersion) -> list[str]:
        """What clients are told of pods that are there already; those of like fault are named together."""
        pods = self._each_controller_first(self._reader.list("pods", namespace))
        until = self._clock.monotonic() + _MOST_SECONDS
        checked, by_reason = 0, dict[str, list[str]]()
        for pod in pods[:_MOST_PODS]:
            checked += 1
            found = evaluate(wanted.level, wanted.version, pod["metadata"], pod.get("spec") or {})
            if found:
                reason = ", ".join(violation.reason for violation in found)
                by_reason.setdefault(reason, []).append(pod["metadata"]["name"])
            if self._clock.monotonic() > until:
                break
        texts = []
        if checked < len(pods):
            texts.append(
                f"new PodSecurity enforce level only checked against the first {checked} of {len(pods)} existing pods"
            )
        if by_reason:
            texts.append(
                f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{wanted}"'
            )
        return texts + sorted(f"{_named(sorted(names))}: {reason}" for reason, names in by_reason.items())

    def _each_controller_first(self, pods: Iterable[Object]) -> list[Object]:
        """The pods that are not exempt: one of each controller before the others, which are like it."""
        first: list[Object] = []
        others: list[Object] = []
        seen: set[str] = set()
        for pod in pods:
            if (pod.get("spec") or {}).get("runtimeClassName") in self._exempt.runtime_classes:
                continue
            controller = next(
                (o["uid"] for o in pod["metadata"].get("ownerReferences") or () if o.get("controller")), ""
            )
            (others if controller and controller in seen else first).append(pod)
            seen.add(controller)
        return first + others


def _named(names: list[str]) -> str:
    others = len(names) - 1
    return names[0] if not others else f"{names[0]} (and {others} other pod{'s' if others > 1 else ''})"


def _listed(violations: list[Violation]) -> str:
    return ", ".join(str(violation) for violation in violations)


def _is_stricter(new: LevelVersion, old: LevelVersion) -> bool:
    """Whether pods that were let in before might not be any more."""
    if new == old or new.level == PRIVILEGED:
        return False
    return new.version != old.version or LEVELS.index(new.level) > LEVELS.index(old.level)


def _matters(pod: Object, old: Object) -> bool:
    """Whether an update changes anything that the standards speak of and that an update may change."""
    annotations, old_annotations = annotations_of(pod), annotations_of(old)
    spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    if _seccomp("pod", annotations) != _seccomp("pod", old_annotations):
        return True
    for sort in ("containers", "initContainers"):
        found, old_found = spec.get(sort) or [], old_spec.get(sort) or []
        if len(found) != len(old_found):
            return True
        if any(_container_matters(c, o, annotations, old_annotations) for c, o in zip(found, old_found, strict=True)):
            return True
    by_name = {container.get("name"): container for container in old_spec.get("ephemeralContainers") or ()}
    return any(
        container.get("name") not in by_name
        or _container_matters(container, by_name[container.get("name")], annotations, old_annotations)
        for container in spec.get("ephemeralContainers") or ()
    )


def _container_matters(
    container: Object, old: Object, annotations: Mapping[str, str], old_annotations: Mapping[str, str]
) -> bool:
    name = container.get("name", "")
    return container.get("image") != old.get("image") or (
        _seccomp(name, annotations, "container.") != _seccomp(name, old_annotations, "container.")
    )


def _seccomp(name: str, annotations: Mapping[str, str], prefix: str = "") -> str | None:
    return annotations.get(f"{prefix}seccomp.security.alpha.kubernetes.io/{name}")


# -------------------------------------------------------------------- configuration
_GROUP = "pod-security.admission.config.k8s.io"


def _configured(configuration: Object) -> tuple[Policy, Exemptions]:
    where = "PodSecurity"
    if not configuration:
        return Policy(), Exemptions()
    only(configuration, ("apiVersion", "kind", "defaults", "exemptions"), where)
    if configuration.get("kind") != "PodSecurityConfiguration" or configuration.get("apiVersion") not in (
        f"{_GROUP}/v1",
        f"{_GROUP}/v1beta1",
        f"{_GROUP}/v1alpha1",
    ):
        raise ConfigurationError(f"{where}: wanted {_GROUP}/v1 PodSecurityConfiguration")
    return _defaults(configuration.get("defaults") or {}), _exemptions(configuration.get("exemptions") or {})


def _defaults(found: Object) -> Policy:
    where = "PodSecurity: defaults"
    only(found, [name for mode in MODES for name in (mode, f"{mode}-version")], where)
    modes: dict[str, LevelVersion] = {}
    for mode in MODES:
        text = found.get(mode) or PRIVILEGED
        level = policies.parse_level(text)
        if level is None:
            raise ConfigurationError(f'{where}.{mode}: Invalid value: "{text}": {policies.LEVEL_ERROR}')
        text = found.get(f"{mode}-version") or "latest"
        version = policies.parse_version(text)
        if version is None:
            raise ConfigurationError(f'{where}.{mode}-version: Invalid value: "{text}": {policies.VERSION_ERROR}')
        modes[mode] = LevelVersion(level, version)
    return Policy(**modes)


def _exemptions(found: Object) -> Exemptions:
    where = "PodSecurity: exemptions"
    only(found, ("usernames", "namespaces", "runtimeClasses"), where)

    def names(field: str, problem: Callable[[str], Any]) -> frozenset[str]:
        listed = found.get(field) or []
        for position, name in enumerate(listed):
            if problem(name):
                raise ConfigurationError(f'{where}.{field}[{position}]: Invalid value: "{name}"')
            if name in listed[:position]:
                raise ConfigurationError(f'{where}.{field}[{position}]: Duplicate value: "{name}"')
        return frozenset(listed)

    return Exemptions(
        usernames=names("usernames", lambda name: not name),
        namespaces=names("namespaces", is_dns1123_label),
        runtime_classes=names("runtimeClasses", is_dns1123_subdomain),
    )


def build(dependencies: Dependencies) -> PodSecurity:
    return PodSecurity(dependencies, *_configured(dependencies.configuration("PodSecurity")))
