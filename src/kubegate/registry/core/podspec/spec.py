"""A pod's spec as a whole, and templates of pods. Follows ValidatePodSpec of Kubernetes v1.36, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_labels
from kubegate.registry import goshape
from kubegate.registry.checks import dns_label, dns_subdomain, ip, listed, mapped, qualified_name, wrong
from kubegate.registry.core.podspec import containers, podannotations, resources, scheduling, security, volumes
from kubegate.registry.core.podspec.options import Options

_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_MAX_INT32: Final = 2**31 - 1


def validate(spec: Object, path: str, options: Options) -> list[FieldError]:
    """A PodSpec in its canonical, defaulted form."""
    errors = []
    if "terminationGracePeriodSeconds" not in spec:
        errors.append(field.required(field.child(path, "terminationGracePeriodSeconds")))
    found, wrong_volumes = volumes.pod_volumes(listed(spec, "volumes"), field.child(path, "volumes"), options)
    errors += wrong_volumes
    around = containers.Surroundings(spec, found, options)
    regular, init = listed(spec, "containers"), listed(spec, "initContainers")
    errors += _resource_claims(listed(spec, "resourceClaims"), field.child(path, "resourceClaims"), options)
    errors += containers.regular(regular, field.child(path, "containers"), around)
    errors += containers.init(init, regular, field.child(path, "initContainers"), around)
    errors += containers.ephemeral(spec, field.child(path, "ephemeralContainers"), around)
    errors += resources.pod_level(spec, field.child(path, "resources"), around.claims)
    errors += _host_network_ports(spec, path, options)
    errors += _member(spec, "restartPolicy", path, _RESTART_POLICIES)
    errors += _member(spec, "dnsPolicy", path, _DNS_POLICIES)
    errors += validate_labels(spec.get("nodeSelector"), field.child(path, "nodeSelector"))
    errors += security.pod_context(spec, field.child(path, "securityContext"))
    errors += scheduling.affinity(spec.get("affinity"), field.child(path, "affinity"), options)
    errors += _dns_config(spec, field.child(path, "dnsConfig"))
    for position, gate in enumerate(listed(spec, "readinessGates")):
        here = field.index(field.child(path, "readinessGates"), position)
        errors += qualified_name(gate.get("conditionType", ""), field.child(here, "conditionType"))
    errors += scheduling.scheduling_gates(listed(spec, "schedulingGates"), field.child(path, "schedulingGates"))
    spread = field.child(path, "topologySpreadConstraints")
    errors += scheduling.topology_spread(listed(spec, "topologySpreadConstraints"), spread, options)
    errors += security.host_process(spec, path, options)
    errors += security.host_users(spec, path)
    errors += _hostname_override(spec, field.child(path, "hostnameOverride"))
    for name in ("serviceAccountName", "nodeName"):
        if spec.get(name):
            errors += dns_subdomain(spec[name], field.child(path, name))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        text = names.inclusive_range_error(1, _MAX_INT32)
        errors.append(field.invalid(field.child(path, "activeDeadlineSeconds"), deadline, text))
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            errors += dns_label(spec[name], field.child(path, name))
    errors += scheduling.tolerations(listed(spec, "tolerations"), field.child(path, "tolerations"))
    errors += _host_aliases(listed(spec, "hostAliases"), field.child(path, "hostAliases"))
    if spec.get("priorityClassName"):
        errors += dns_subdomain(spec["priorityClassName"], field.child(path, "priorityClassName"))
    if "runtimeClassName" in spec:
        errors += dns_subdomain(spec["runtimeClassName"], field.child(path, "runtimeClassName"))
    if "preemptionPolicy" in spec:
        errors += _member(spec, "preemptionPolicy", path, ("PreemptLowerPriority", "Never"))
    if "overhead" in spec:
        errors += resources.requirements({"limits": spec["overhead"]}, field.child(path, "overhead"), ())
    errors += _operating_system(spec, path)
    group = spec.get("schedulingGroup")
    if isinstance(group, dict):
        errors += _scheduling_group(group, field.child(path, "schedulingGroup"))
    return errors + containers.file_key_volumes(spec, path)


def validate_template(template: Object, path: str, options: Options) -> list[FieldError]:
    """A PodTemplateSpec: labels and annotations, and a spec that is nobody's yet."""
    metadata = mapped(template, "metadata")
    spec, spec_path = mapped(template, "spec"), field.child(path, "spec")
    errors = validate_labels(metadata.get("labels"), field.child(path, "labels"))
    errors += podannotations.validate(mapped(metadata, "annotations"), spec, field.child(path, "annotations"), options)
    errors += validate(spec, spec_path, options)
    errors += podannotations.match_fields(mapped(metadata, "annotations"), spec, spec_path)
    if listed(spec, "ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        errors.append(field.forbidden(field.child(spec_path, "ephemeralContainers"), text))
    return errors


def validate_pod(pod: Object, options: Options) -> list[FieldError]:
    """A Pod's annotations and spec, on create and on every update."""
    metadata, spec = pod["metadata"], pod["spec"]
    found = mapped(metadata, "annotations")
    errors = podannotations.validate_own(found, spec, "metadata.annotations", options)
    errors += validate(spec, "spec", options)
    if not spec.get("serviceAccountName"):
        for position, volume in enumerate(listed(spec, "volumes")):
            for index, source in enumerate(listed(volume.get("projected"), "sources")):
                if "serviceAccountToken" in source:
                    here = f"spec.volumes[{position}].projected.sources[{index}].serviceAccountToken"
                    text = "must not be specified when serviceAccountName is not set"
                    errors.append(field.forbidden(here, text))
    for name in ("containers", "initContainers"):
        for position, container in enumerate(listed(spec, name)):
            errors += containers.image_of_pod(container, field.index(field.child("spec", name), position))
    return errors


def _member(spec: Object, name: str, path: str, supported: tuple[str, ...]) -> list[FieldError]:
    value, here = spec.get(name, ""), field.child(path, name)
    if not value:
        return [field.required(here)]
    return [] if value in supported else [field.not_supported(here, value, supported)]


def _resource_claims(claims: list[Object], path: str, options: Options) -> list[FieldError]:
    errors = []
    seen: set[str] = set()
    for position, claim in enumerate(claims):
        if options.mirror:
            errors.append(field.forbidden("[]", "static pods do not support resource claims"))
            continue
        here, name = field.index(path, position), claim.get("name", "")
        name_path = field.child(here, "name")
        if not name:
            errors.append(field.required(name_path))
        elif name in seen:
            errors.append(field.duplicate(name_path, name))
        else:
            errors += dns_label(name, name_path)
            seen.add(name)
        sources = [one for one in ("resourceClaimName", "resourceClaimTemplateName") if one in claim]
        shown = goshape.shape(claim, "PodResourceClaim")
        if len(sources) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(field.invalid(here, shown, text))
        if not sources:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(field.invalid(here, shown, text))
        for one in sources:
            errors += dns_subdomain(claim[one], field.child(here, one))
    return errors


def _host_network_ports(spec: Object, path: str, options: Options) -> list[FieldError]:
    if not spec.get("hostNetwork"):
        return []
    errors = []
    for position, container in enumerate(listed(spec, "containers")):
        ports = field.child(field.index(field.child(path, "containers"), position), "ports")
        for index, port in enumerate(listed(container, "ports")):
            host, own = port.get("hostPort", 0), port.get("containerPort", 0)
            if (options.is_pod or host) and host != own:
                here = field.child(field.index(ports, index), "hostPort")
                errors.append(field.invalid(here, host, "must match `containerPort` when `hostNetwork` is true"))
    return errors


def _dns_config(spec: Object, path: str) -> list[FieldError]:
    found = spec.get("dnsConfig")
    servers = listed(found, "nameservers") if isinstance(found, dict) else []
    if spec.get("dnsPolicy") == "None":
        if not isinstance(found, dict):
            return [field.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not servers:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [field.required(field.child(path, "nameservers"), text)]
    if not isinstance(found, dict):
        return []
    errors = []
    here = field.child(path, "nameservers")
    if len(servers) > 3:
        errors.append(field.invalid(here, servers, "must not have more than 3 nameservers"))
    for position, server in enumerate(servers):
        errors += ip(server, field.index(here, position))
    searches, here = listed(found, "searches"), field.child(path, "searches")
    if len(searches) > 32:
        errors.append(field.invalid(here, searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(field.invalid(here, searches, text))
    for position, search in enumerate(searches):
        if search != ".":
            domain = search.removesuffix(".")
            errors += wrong(field.index(here, position), domain, names.is_dns1123_subdomain_with_underscore(domain))
    for position, option in enumerate(listed(found, "options")):
        if not option.get("name"):
            errors.append(field.required(field.index(field.child(path, "options"), position), "must not be empty"))
    return errors


def _hostname_override(spec: Object, path: str) -> list[FieldError]:
    name = spec.get("hostnameOverride")
    if name is None:
        return []
    errors = []
    if spec.get("setHostnameAsFQDN"):
        errors.append(field.forbidden(path, "may not be specified when setHostnameAsFQDN is true"))
    if spec.get("hostNetwork"):
        errors.append(field.forbidden(path, "may not be specified when hostNetwork is true"))
    if len(name) > 64:
        errors.append(field.too_long(path, 64))
    return errors + dns_subdomain(name, path)


def _host_aliases(aliases: list[Object], path: str) -> list[FieldError]:
    errors = []
    for position, alias in enumerate(aliases):
        here = field.index(path, position)
        errors += ip(alias.get("ip", ""), field.child(here, "ip"))
        for index, name in enumerate(listed(alias, "hostnames")):
            errors += dns_subdomain(name, field.index(field.child(here, "hostnames"), index))
    return errors


def _operating_system(spec: Mapping[str, Any], path: str) -> list[FieldError]:
    if "os" not in spec:
        return []
    name, here = mapped(spec, "os").get("name", ""), field.child(path, "os")
    if not name:
        return [field.required(field.child(here, "name"))]
    if name not in ("linux", "windows"):
        return [field.not_supported(here, name, ("linux", "windows"))]
    return security.of_other_system(dict(spec), path)


def _scheduling_group(group: Object, path: str) -> list[FieldError]:
    name = group.get("podGroupName")
    here = field.child(path, "podGroupName")
    return [field.required(here)] if name is None else dns_subdomain(name, here)
