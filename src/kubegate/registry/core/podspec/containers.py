"""Containers of the three kinds: init, regular, ephemeral."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry.checks import (
    PROTOCOLS,
    dns_label,
    dns_subdomain,
    listed,
    mapped,
    no_backsteps,
    port_number,
    wrong,
)
from kubegate.registry.core.podspec import probes, resources, security, volumes
from kubegate.registry.core.podspec.options import Options

_ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
# What an ephemeral container may not have, in the order of its fields.
_NOT_EPHEMERAL: Final = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)


class Surroundings:
    """What a container's check looks up in the pod around it."""

    __slots__ = ("claims", "grace", "host_users", "options", "os", "restart_policy", "volumes")

    def __init__(self, spec: Object, found_volumes: Mapping[str, Object], options: Options) -> None:
        self.volumes = found_volumes
        self.options = options
        self.claims = {one["name"] for one in listed(spec, "resourceClaims") if one.get("name")}
        self.grace: int | None = spec.get("terminationGracePeriodSeconds")
        self.os: str | None = mapped(spec, "os").get("name") if "os" in spec else None
        self.restart_policy: str = spec.get("restartPolicy", "")
        self.host_users = spec.get("hostUsers") is not False


def regular(containers: Sequence[Object], path: str, around: Surroundings) -> list[FieldError]:
    if not containers:
        return [field.required(path)]
    errors = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        here, name = field.index(path, position), container.get("name", "")
        errors += _common(container, here, around)
        if name in seen:
            errors.append(field.duplicate(field.child(here, "name"), name))
        seen.add(name)
        errors += _life(container, here, around)
        errors += _restart_policy(container, here)
    return errors + _host_ports(containers, path)


def init(containers: Sequence[Object], others: Sequence[Object], path: str, around: Surroundings) -> list[FieldError]:
    errors = []
    seen = {container.get("name", "") for container in others}
    for position, container in enumerate(containers):
        here, name = field.index(path, position), container.get("name", "")
        errors += _common(container, here, around)
        sidecar = container.get("restartPolicy") == "Always"
        errors += _init_restart_policy(container, here, sidecar=sidecar)
        if name in seen:
            errors.append(field.duplicate(field.child(here, "name"), name))
        elif name:
            seen.add(name)
        errors += _host_ports([container], path)
        if sidecar:
            errors += _life(container, here, around)
        else:
            text = "may not be set for init containers without restartPolicy=Always"
            errors += [
                field.forbidden(field.child(here, one), text)
                for one in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
                if one in container
            ]
            errors += _no_restart_on_resize(container, here)
    return errors


def _no_restart_on_resize(container: Object, path: str) -> list[FieldError]:
    text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
    return [
        field.invalid(
            field.child(field.index(field.child(path, "resizePolicy"), position), "restartPolicy"),
            "RestartContainer",
            text,
        )
        for position, policy in enumerate(listed(container, "resizePolicy"))
        if policy.get("restartPolicy") == "RestartContainer"
    ]


def ephemeral(spec: Object, path: str, around: Surroundings) -> list[FieldError]:
    errors = []
    others = {one.get("name", "") for one in listed(spec, "containers") + listed(spec, "initContainers")}
    seen = set(others)
    for position, container in enumerate(listed(spec, "ephemeralContainers")):
        here, name = field.index(path, position), container.get("name", "")
        errors += _common(container, here, around)
        errors += image_of_pod(container, here)
        if name in seen:
            errors.append(field.duplicate(field.child(here, "name"), name))
        seen.add(name)
        target = container.get("targetContainerName", "")
        if target and target not in others:
            errors.append(field.not_found(field.child(here, "targetContainerName"), target))
        text = "cannot be set for an Ephemeral Container"
        errors += [field.forbidden(field.child(here, one), text) for one in _NOT_EPHEMERAL if container.get(one)]
        for index, mount in enumerate(listed(container, "volumeMounts")):
            mount_path = field.index(field.child(here, "volumeMounts"), index)
            errors += [
                field.forbidden(field.child(mount_path, one), text)
                for one in ("subPath", "subPathExpr")
                if mount.get(one)
            ]
    return errors


def image_of_pod(container: Object, path: str) -> list[FieldError]:
    """What a pod's own containers must hold to and a template's need not."""
    image = container.get("image", "")
    if image.strip() == image:
        return []
    return [field.invalid(field.child(path, "image"), image, "must not have leading or trailing whitespace")]


def _common(container: Object, path: str, around: Surroundings) -> list[FieldError]:
    name, name_path = container.get("name", ""), field.child(path, "name")
    errors = dns_label(name, name_path) if name else [field.required(name_path)]
    if not container.get("image"):
        errors.append(field.required(field.child(path, "image")))
    policy, here = container.get("terminationMessagePolicy", ""), field.child(path, "terminationMessagePolicy")
    if not policy:
        errors.append(field.required(here))
    elif policy not in ("File", "FallbackToLogsOnError"):
        errors.append(field.not_supported(here, policy, ("File", "FallbackToLogsOnError")))
    errors += _ports(listed(container, "ports"), field.child(path, "ports"))
    errors += _env(listed(container, "env"), field.child(path, "env"))
    errors += _env_from(listed(container, "envFrom"), field.child(path, "envFrom"))
    errors += volumes.mounts(container, around.volumes, field.child(path, "volumeMounts"))
    errors += volumes.devices(container, around.volumes, field.child(path, "volumeDevices"))
    errors += volumes.pull_policy(container.get("imagePullPolicy", ""), field.child(path, "imagePullPolicy"))
    errors += resources.requirements(container.get("resources"), field.child(path, "resources"), around.claims)
    errors += _resize_policy(listed(container, "resizePolicy"), field.child(path, "resizePolicy"), around)
    context = field.child(path, "securityContext")
    errors += security.container_context(container.get("securityContext"), context, around.host_users, around.options)
    return errors


def _life(container: Object, path: str, around: Surroundings) -> list[FieldError]:
    errors = []
    if "lifecycle" in container:
        here = field.child(path, "lifecycle")
        errors += probes.lifecycle(container["lifecycle"], around.grace, here, around.os)
    for name, check in (
        ("livenessProbe", probes.liveness),
        ("readinessProbe", probes.readiness),
        ("startupProbe", probes.startup),
    ):
        errors += check(container.get(name), around.grace, field.child(path, name))
    return errors


def _ports(ports: Sequence[Object], path: str) -> list[FieldError]:
    errors = []
    seen: set[str] = set()
    for position, port in enumerate(ports):
        here, name = field.index(path, position), port.get("name", "")
        if name:
            name_path = field.child(here, "name")
            texts = names.is_valid_port_name(name)
            if texts:
                errors += wrong(name_path, name, texts)
            elif name in seen:
                errors.append(field.duplicate(name_path, name))
            else:
                seen.add(name)
        number = port.get("containerPort", 0)
        number_path = field.child(here, "containerPort")
        errors += port_number(number, number_path) if number else [field.required(number_path)]
        if port.get("hostPort"):
            errors += port_number(port["hostPort"], field.child(here, "hostPort"))
        protocol, protocol_path = port.get("protocol", ""), field.child(here, "protocol")
        if not protocol:
            errors.append(field.required(protocol_path))
        elif protocol not in PROTOCOLS:
            errors.append(field.not_supported(protocol_path, protocol, PROTOCOLS))
    return errors


def _host_ports(containers: Sequence[Object], path: str) -> list[FieldError]:
    """No two ports of the node twice. For one init container its own position is the first."""
    errors = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        ports = field.child(field.index(path, position), "ports")
        for index, port in enumerate(listed(container, "ports")):
            number = port.get("hostPort", 0)
            if not number:
                continue
            shown = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{number}"
            if shown in seen:
                errors.append(field.duplicate(field.child(field.index(ports, index), "hostPort"), shown))
            seen.add(shown)
    return errors


def _env(variables: Sequence[Object], path: str) -> list[FieldError]:
    errors = []
    for position, variable in enumerate(variables):
        here, name = field.index(path, position), variable.get("name", "")
        name_path = field.child(here, "name")
        errors += wrong(name_path, name, names.is_env_var_name(name)) if name else [field.required(name_path)]
        if "valueFrom" in variable:
            errors += _value_from(variable["valueFrom"], variable.get("value", ""), field.child(here, "valueFrom"))
    return errors


def _value_from(found: Object, value: str, path: str) -> list[FieldError]:
    errors = []
    chosen = 0
    for name in ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"):
        if name not in found:
            continue
        chosen += 1
        here, source = field.child(path, name), found[name]
        if name == "fieldRef":
            errors += volumes.field_selector(source, here, _ENV_FIELDS)
        elif name == "resourceFieldRef":
            errors += volumes.resource_selector(source, here, in_volume=False)
        elif name == "fileKeyRef":
            errors += _file_key(source, here)
        else:
            errors += _key_of(source, here)
    if not chosen:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(field.invalid(path, "", text))
    elif value:
        errors.append(field.invalid(path, "", "may not be specified when `value` is not empty"))
    elif chosen > 1:
        errors.append(field.invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _key_of(source: Object, path: str) -> list[FieldError]:
    """A key of a ConfigMap or Secret."""
    errors = dns_subdomain(source.get("name", ""), field.child(path, "name"))
    key, here = source.get("key", ""), field.child(path, "key")
    return errors + (wrong(here, key, names.is_config_map_key(key)) if key else [field.required(here)])


def _file_key(source: Object, path: str) -> list[FieldError]:
    errors = []
    key, volume, file = source.get("key", ""), source.get("volumeName", ""), source.get("path", "")
    here = field.child(path, "key")
    errors += wrong(here, key, names.is_env_var_name(key)) if key else [field.required(here)]
    here = field.child(path, "volumeName")
    errors += dns_label(volume, here) if volume else [field.required(here)]
    here = field.child(path, "path")
    return errors + (no_backsteps(file, here) if file else [field.required(here)])


def file_key_volumes(spec: Object, path: str) -> list[FieldError]:
    """Variables read from files come from emptyDir volumes alone."""
    errors = []
    by_name = {volume.get("name", ""): volume for volume in listed(spec, "volumes")}
    for container, here in security.every_container(spec, path):
        for position, variable in enumerate(listed(container, "env")):
            source = mapped(variable.get("valueFrom"), "fileKeyRef")
            if not source:
                continue
            name = source.get("volumeName", "")
            name_path = f"{field.index(field.child(here, 'env'), position)}.valueFrom.fileKeyRef.volumeName"
            if name not in by_name:
                errors.append(field.not_found(name_path, name))
            elif "emptyDir" not in by_name[name]:
                errors.append(field.invalid(name_path, name, "referenced volume must be of type emptyDir"))
    return errors


def _env_from(sources: Sequence[Object], path: str) -> list[FieldError]:
    errors = []
    for position, source in enumerate(sources):
        here = field.index(path, position)
        prefix = source.get("prefix", "")
        if prefix:
            errors += wrong(field.child(here, "prefix"), prefix, names.is_env_var_name(prefix))
        chosen = [name for name in ("configMapRef", "secretRef") if name in source]
        for name in chosen:
            reference, name_path = source[name].get("name", ""), field.child(field.child(here, name), "name")
            # A prefix of a name would do here, as the real one has it: a trailing hyphen is let through.
            checked = f"{reference[:-1]}a" if reference.endswith("-") else reference
            texts = names.is_dns1123_subdomain(checked)
            errors += wrong(name_path, reference, texts) if reference else [field.required(name_path)]
        if not chosen:
            errors.append(field.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(chosen) > 1:
            errors.append(field.invalid(path, "", "may not have more than one field specified at a time"))
    return errors


def _resize_policy(policies: Sequence[Object], path: str, around: Surroundings) -> list[FieldError]:
    errors = []
    seen: set[str] = set()
    for position, policy in enumerate(policies):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            errors.append(field.duplicate(field.index(path, position), name))
        seen.add(name)
        errors += _member(name, path, ("cpu", "memory"))
        errors += _member(restart, path, ("NotRequired", "RestartContainer"))
        if around.restart_policy == "Never" and restart != "NotRequired":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(field.invalid(path, restart, text))
    return errors


def _member(value: str, path: str, supported: Collection[str]) -> list[FieldError]:
    if not value:
        return [field.required(path)]
    return [] if value in supported else [field.not_supported(path, value, supported)]


_RESTART_ACTIONS: Final = ("Restart", "RestartAllContainers")
_RESTART_NEEDED: Final = "must specify restartPolicy when restart rules are used"


def _init_restart_policy(container: Object, path: str, *, sidecar: bool) -> list[FieldError]:
    rules = listed(container, "restartPolicyRules")
    if "restartPolicy" not in container:
        return [field.required(field.child(path, "restartPolicy"), _RESTART_NEEDED)] if rules else []
    if sidecar and rules:
        text = "restartPolicyRules are not allowed for init containers with restart policy Always"
        return [field.forbidden(field.child(path, "restartPolicyRules"), text)]
    return _restart_policy(container, path)


def _restart_policy(container: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    policy: Any = container.get("restartPolicy")
    rules = listed(container, "restartPolicyRules")
    here = field.child(path, "restartPolicy")
    supported = ("Always", "Never", "OnFailure")
    if policy is None:
        if not rules:
            return []
        errors.append(field.required(here, _RESTART_NEEDED))
    elif policy not in supported:
        errors.append(field.not_supported(here, policy, supported))
    rules_path = field.child(path, "restartPolicyRules")
    if len(rules) > 20:
        errors.append(field.too_many(rules_path, len(rules), 20))
    for position, rule in enumerate(rules):
        here = field.index(rules_path, position)
        if rule.get("action", "") not in _RESTART_ACTIONS:
            errors.append(field.not_supported(field.child(here, "action"), rule.get("action", ""), _RESTART_ACTIONS))
        codes, codes_path = rule.get("exitCodes"), field.child(here, "exitCodes")
        if not isinstance(codes, dict):
            errors.append(field.required(codes_path, "must be specified"))
            continue
        if codes.get("operator", "") not in ("In", "NotIn"):
            operator = field.child(codes_path, "operator")
            errors.append(field.not_supported(operator, codes.get("operator", ""), ("In", "NotIn")))
        values = listed(codes, "values")
        if len(values) > 255:
            errors.append(field.too_many(field.child(codes_path, "values"), len(values), 255))
    return errors
