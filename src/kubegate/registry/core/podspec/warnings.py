"""What clients are warned about in pods and templates: fields that do nothing any more, and likely mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from kubegate.api import Object, field, names
from kubegate.api.trace import MOST_WARNINGS
from kubegate.registry.checks import amount, listed, mapped
from kubegate.registry.core.podspec.security import every_container

_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_ANNOTATIONS: Final = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES: Final = {
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "gitRepo": ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
}
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
_APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_BYTES: Final = ("memory", "ephemeral-storage")


def of_pod(metadata: Object, spec: Object) -> list[str]:
    return list(islice(_all(metadata, spec, ""), MOST_WARNINGS))


def of_template(template: Object, path: str) -> list[str]:
    """`path` is that of the template: `spec.template`."""
    return list(islice(_all(mapped(template, "metadata"), mapped(template, "spec"), path), MOST_WARNINGS))


def fractional_bytes(path: str, text: object) -> list[str]:
    found = amount(text)
    if found.milli_value() % 1000 == 0:
        return []
    return [f'{path}: fractional byte value "{found}" is invalid, must be an integer']


def _all(metadata: Object, spec: Object, path: str) -> Iterator[str]:
    spec_path = field.child(path, "spec")
    annotations = mapped(metadata, "annotations")
    annotations_path = field.child(path, "metadata.annotations")
    yield from _node_labels(spec, spec_path)
    for name, text in _ANNOTATIONS.items():
        if name in annotations:
            yield f"{field.key(annotations_path, name)}: {text}"
    yield from _volumes(spec, spec_path)
    yield from _overlapping_paths(spec)
    yield from _duplicates(spec, spec_path)
    for name in _BYTES:
        if name in mapped(spec, "overhead"):
            yield from fractional_bytes(field.key(field.child(spec_path, "overhead"), name), spec["overhead"][name])
    context = mapped(spec, "securityContext")
    seccomp = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    if _SECCOMP_POD in annotations and "seccompProfile" not in context:
        yield f"{field.key(annotations_path, _SECCOMP_POD)}: {seccomp}"
    for container, here in every_container(spec, spec_path):
        own = mapped(container, "securityContext")
        name = _SECCOMP_CONTAINER + container.get("name", "")
        if name in annotations and "seccompProfile" not in own:
            yield f"{field.key(annotations_path, name)}: {seccomp}"
        name = _APP_ARMOR + container.get("name", "")
        if path and name in annotations and "appArmorProfile" not in own and "appArmorProfile" not in context:
            text = 'deprecated since v1.30; use the "appArmorProfile" field instead'
            yield f"{field.key(annotations_path, name)}: {text}"
        yield from _container(container, here)
    yield from _ports(spec, spec_path)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        here = field.child(spec_path, "terminationGracePeriodSeconds")
        yield f"{here}: must be >= 0; negative values are invalid and will be treated as 1"
    yield from _pod_affinity(mapped(spec, "affinity"), field.child(spec_path, "affinity"))
    servers = field.child(spec_path, "dnsConfig.nameservers")
    for position, server in enumerate(listed(spec.get("dnsConfig"), "nameservers")):
        yield from names.ip_warnings(server, field.index(servers, position))
    for position, alias in enumerate(listed(spec, "hostAliases")):
        here = field.index(field.child(spec_path, "hostAliases"), position)
        yield from names.ip_warnings(alias.get("ip", ""), field.child(here, "ip"))


def _node_labels(spec: Object, path: str) -> Iterator[str]:
    for name in sorted(mapped(spec, "nodeSelector")):
        if name in _LABELS:
            yield f"{field.key(field.child(path, 'nodeSelector'), name)}: {_LABELS[name]}"
    affinity = mapped(mapped(spec, "affinity"), "nodeAffinity")
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    here = field.child(path, f"affinity.nodeAffinity.{required}.nodeSelectorTerms")
    for position, term in enumerate(listed(mapped(affinity, required), "nodeSelectorTerms")):
        yield from _term_labels(term, field.index(here, position))
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    here = field.child(path, f"affinity.nodeAffinity.{preferred}")
    for position, term in enumerate(listed(affinity, preferred)):
        where = field.child(field.index(here, position), "preference")
        yield from _term_labels(mapped(term, "preference"), where, with_values=True)
    for position, constraint in enumerate(listed(spec, "topologySpreadConstraints")):
        here = field.index(field.child(path, "topologySpreadConstraints"), position)
        key = constraint.get("topologyKey", "")
        if key in _LABELS:
            yield f"{field.child(here, 'topologyKey')}: {key} is {_LABELS[key]}"
        if "labelSelector" not in constraint:
            yield f"{field.child(here, 'labelSelector')}: a null labelSelector results in matching no pod"


def _term_labels(term: Object, path: str, *, with_values: bool = False) -> Iterator[str]:
    for position, expression in enumerate(listed(term, "matchExpressions")):
        key, here = expression.get("key", ""), field.index(field.child(path, "matchExpressions"), position)
        if key in _LABELS:
            yield f"{field.child(here, 'key')}: {key} is {_LABELS[key]}"
        for number, value in enumerate(listed(expression, "values") if with_values else ()):
            for text in names.is_valid_label_value(value):
                yield f"{field.index(field.child(here, 'values'), number)}: {value} is invalid, {text}"


def _pod_affinity(affinity: Object, path: str) -> Iterator[str]:
    nothing = "a null labelSelector results in matching no pod"
    for name in ("podAffinity", "podAntiAffinity"):
        terms, here = mapped(affinity, name), field.child(path, name)
        required, preferred = (f"{one}DuringSchedulingIgnoredDuringExecution" for one in ("required", "preferred"))
        for position, term in enumerate(listed(terms, required)):
            if "labelSelector" not in term:
                yield f"{field.index(field.child(here, required), position)}.labelSelector: {nothing}"
        for position, term in enumerate(listed(terms, preferred)):
            if "labelSelector" not in mapped(term, "podAffinityTerm"):
                where = field.index(field.child(here, preferred), position)
                yield f"{where}.podAffinityTerm.labelSelector: {nothing}"


def deprecated_sources(volume: Object, path: str) -> list[str]:
    """What is to be said of where a volume's contents come from, in a pod or a PersistentVolume."""
    return [f"{field.child(path, shown)}: {text}" for name, (shown, text) in _VOLUMES.items() if name in volume]


def _volumes(spec: Object, path: str) -> Iterator[str]:
    for position, volume in enumerate(listed(spec, "volumes")):
        here = field.index(field.child(path, "volumes"), position)
        yield from deprecated_sources(volume, here)
        claim = mapped(mapped(volume, "ephemeral"), "volumeClaimTemplate")
        storage = mapped(mapped(claim.get("spec"), "resources"), "requests").get("storage")
        if storage is not None:
            claim_path = field.child(here, "ephemeral.volumeClaimTemplate.spec.resources.requests[storage]")
            yield from fractional_bytes(claim_path, storage)


_SOURCES: Final = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")
_OF_CERTIFICATE: Final = (
    ("certificateChainPath", "PodCertificate chain"),
    ("keyPath", "PodCertificate key"),
    ("credentialBundlePath", "PodCertificate credential bundle"),
)


def _overlapping_paths(spec: Object) -> Iterator[str]:
    """Files of one volume that are each other's folders, or the same file."""
    for volume in listed(spec, "volumes"):
        quoted = f'volume "{volume.get("name", "")}"'
        for sort, shown, name in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ):
            source = mapped(volume, sort)
            about = f'{shown} "{source.get(name, "")}"' if name else shown
            paths = [(item.get("path", ""), "") for item in listed(source, "items")]
            for text in _overlaps(paths):
                yield f"{quoted} ({about}): overlapping paths: {text}"
        paths = []
        for source in listed(volume.get("projected"), "sources"):
            if not any(name in source for name in _SOURCES):
                yield f"{quoted} (Projected) has no sources provided"
            paths += _projected_paths(source)
        for text in _overlaps(paths):
            yield f"{quoted} (Projected): overlapping paths: {text}"


def _projected_paths(source: Object) -> list[tuple[str, str]]:
    """Paths, and what they hold."""
    for sort, shown in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        if items := listed(source.get(sort), "items"):
            holds = shown if sort == "downwardAPI" else f'{shown} "{source[sort].get("name", "")}"'
            return [(item.get("path", ""), holds) for item in items]
    if "serviceAccountToken" in source:
        return [(source["serviceAccountToken"].get("path", ""), "ServiceAccountToken")]
    if "clusterTrustBundle" in source:
        bundle = source["clusterTrustBundle"]
        name = bundle.get("name", bundle.get("signerName", ""))
        return [(bundle.get("path", ""), f'ClusterTrustBundle "{name}"')]
    certificate = mapped(source, "podCertificate")
    return [(certificate[name], holds) for name, holds in _OF_CERTIFICATE if certificate.get(name)]


def _overlaps(paths: list[tuple[str, str]]) -> Iterator[str]:
    """Folders are numbered as they are met: there may be many thousands of paths, of many thousands of parts."""
    shown: list[str] = []
    numbers: dict[tuple[int, str], int] = {}  # a folder, and what is in it
    here: dict[int, list[int]] = {}  # positions of the paths that lead to a folder
    below: dict[int, list[int]] = {}  # of those that lead to it, or to what is in it
    for position, (given, holds) in enumerate(paths):
        path = given.rstrip("/")
        shown.append(f'"{path}" ({holds})' if holds else f'"{path}"')
        if not path:
            continue
        folder, above = 0, list[int]()
        for part in path.split("/"):
            above += here.get(folder, ())
            folder = numbers.setdefault((folder, part), len(numbers) + 1)
            below.setdefault(folder, []).append(position)
        for other in sorted([*above, *below[folder][:-1]]):
            yield f"{shown[position]} with {shown[other]}"
        here.setdefault(folder, []).append(position)


def _duplicates(spec: Object, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for position, alias in enumerate(listed(spec, "hostAliases")):
        address = alias.get("ip", "")
        if address in seen:
            here = field.index(field.child(path, "hostAliases"), position)
            yield f'{field.child(here, "ip")}: duplicate ip "{address}"'
        seen.add(address)
    seen = set()
    secrets = listed(spec, "imagePullSecrets")
    for position, secret in enumerate(secrets):
        name = secret.get("name", "")
        here = field.child(field.index(field.child(path, "imagePullSecrets"), position), "name")
        if name in seen:
            yield f'{here}: duplicate name "{name}"'
        seen.add(name)
    for position, secret in enumerate(secrets):
        if not secret.get("name"):
            here = field.child(field.index(field.child(path, "imagePullSecrets"), position), "name")
            yield f'{here}: invalid empty name ""'


def _container(container: Object, path: str) -> Iterator[str]:
    for name in _BYTES:
        for which in ("limits", "requests"):
            amounts = mapped(container.get("resources"), which)
            if name in amounts:
                yield from fractional_bytes(field.key(field.child(path, f"resources.{which}"), name), amounts[name])
    seen: set[str] = set()
    for position, variable in enumerate(listed(container, "env")):
        name, value = variable.get("name", ""), variable.get("value", "")
        reference = f"$({name})"
        if name in seen and ("valueFrom" in variable or value == reference or reference not in value):
            here = field.index(field.child(path, "env"), position)
            yield f'{here}: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(spec: Object, path: str) -> Iterator[str]:
    seen: dict[tuple[int, str], list[tuple[str, Object]]] = {}
    for container, where in every_container(spec, path):
        for position, port in enumerate(listed(container, "ports")):
            here = field.index(field.child(where, "ports"), position)
            host, address = port.get("hostPort", 0), port.get("hostIP", "")
            if address and not host:
                shown = (
                    f"{{Name:{port.get('name', '')} HostPort:0 ContainerPort:{port.get('containerPort', 0)} "
                    f"Protocol:{port.get('protocol', '')} HostIP:{address}}}"
                )
                yield f"{here}: hostIP set without hostPort: {shown}"
            key = (port.get("containerPort", 0), port.get("protocol", ""))
            for other_path, other in seen.get(key, ()):
                other_host, other_address = other.get("hostPort", 0), other.get("hostIP", "")
                if (address, host) == (other_address, other_host):
                    yield f"{here}: duplicate port definition with {other_path}"
                elif not host or not other_host:
                    yield f"{here}: overlapping port definition with {other_path}"
                elif host == other_host and (not address or not other_address):
                    yield f"{here}: dangerously ambiguous port definition with {other_path}"
            seen.setdefault(key, []).append((here, port))
    yield from _port_names(spec, path)


def _port_names(spec: Object, path: str) -> Iterator[str]:
    seen: dict[str, str] = {}
    for container, where in every_container(spec, path):
        for position, port in enumerate(listed(container, "ports")):
            name, here = port.get("name", ""), field.index(field.child(where, "ports"), position)
            if name in seen:
                other = seen[name]
                text = f"services and probes that select ports by name will use {other}"
                yield f'{here}: duplicate port name "{name}" with {other}, {text}'
            elif name:
                seen[name] = here
