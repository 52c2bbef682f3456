"""What is filled in on pods and pod templates. Follows pkg/apis/core/v1/defaults.go of Kubernetes v1.36.

All functions expect the canonical form (`registry.canonical`), change in place, and may be called again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kubegate.api import Object, quantity
from kubegate.registry.checks import listed, mapped
from kubegate.registry.core.podspec import resources

_MODE = 0o644
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE_PATH = re.compile(rf"{_IMAGE_PART}(?:/{_IMAGE_PART})*")
_IMAGE_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DEFAULT_MODE_VOLUMES = ("secret", "configMap", "downwardAPI", "projected")
# Defaults that the types themselves declare.
VOLUME_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": False},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"keyring": "/etc/ceph/keyring", "pool": "rbd", "user": "admin"},
    "scaleIO": {"fsType": "xfs", "storageMode": "ThinProvisioned"},
}


def default_pod(pod: Object) -> None:
    """A Pod's own defaults beside those of its spec: what a template must leave to the pod made of it."""
    spec = pod["spec"]
    default_spec(spec)
    for container in listed(spec, "containers") + listed(spec, "initContainers"):
        limits = mapped(container.get("resources"), "limits")
        if limits:
            requests = container["resources"].setdefault("requests", {})
            for name, amount in limits.items():
                requests.setdefault(name, amount)
    _default_pod_resources(spec)
    spec.setdefault("enableServiceLinks", True)
    if spec.get("hostNetwork"):
        for container in listed(spec, "containers") + listed(spec, "initContainers"):
            for port in listed(container, "ports"):
                port.setdefault("hostPort", port.get("containerPort", 0))


def default_template(template: Object) -> None:
    """A PodTemplateSpec."""
    default_spec(template["spec"])


def default_spec(spec: Object) -> None:
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    _default_service_account(spec)
    _round_up(spec.get("overhead"))
    _round_up_requirements(spec.get("resources"))
    for volume in listed(spec, "volumes"):
        _default_volume(volume)
    for container in listed(spec, "initContainers") + listed(spec, "containers"):
        default_container(container)
    for container in listed(spec, "ephemeralContainers"):
        default_container(container)


def _default_service_account(spec: Object) -> None:
    """`serviceAccount` is the old name of `serviceAccountName`; the new one wins, and both are written."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def default_container(container: Object) -> None:
    image = container.get("image", "")
    container.setdefault("imagePullPolicy", _pull_policy(image))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    _round_up_requirements(container.get("resources"))
    for port in listed(container, "ports"):
        port.setdefault("protocol", "TCP")
    for variable in listed(container, "env"):
        source = mapped(variable, "valueFrom")
        _default_field_ref(source)
        if isinstance(source.get("fileKeyRef"), dict):
            source["fileKeyRef"].setdefault("optional", False)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            probe.setdefault("timeoutSeconds", 1)
            probe.setdefault("periodSeconds", 10)
            probe.setdefault("successThreshold", 1)
            probe.setdefault("failureThreshold", 3)
            _default_handler(probe)
    for handler in mapped(container, "lifecycle").values():
        if isinstance(handler, dict):
            _default_handler(handler)
    for policy in listed(container, "resizePolicy"):
        if isinstance(policy, dict) and not policy.get("restartPolicy"):
            policy["restartPolicy"] = "NotRequired"


def _default_handler(handler: Object) -> None:
    get = handler.get("httpGet")
    if isinstance(get, dict):
        get.setdefault("path", "/")
        get.setdefault("scheme", "HTTP")
    grpc = handler.get("grpc")
    if isinstance(grpc, dict):
        grpc["service"] = grpc.get("service") or ""  # Go writes the field always


def _default_field_ref(holder: dict[str, Any]) -> None:
    reference = holder.get("fieldRef")
    if isinstance(reference, dict):
        reference.setdefault("apiVersion", "v1")


def _pull_policy(image: str) -> str:
    """Always for `:latest`, written or implied."""
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"


def image_tag(image: str) -> str:
    """The tag of an image's name: `latest` where there is neither a tag nor a digest, empty for what is no name."""
    name, at, _ = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    path = f"{head}{slash}{last}"
    domain, slash, rest = path.partition("/")
    if slash and ("." in domain or ":" in domain or domain == "localhost" or domain != domain.lower()):
        path = rest
    if not _IMAGE_PATH.fullmatch(path) or (colon and not _IMAGE_TAG.fullmatch(tag)):
        return ""
    if colon:
        return tag
    return "" if at else "latest"


def _default_volume(volume: Object) -> None:
    sources = [name for name in volume if name != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for name in _DEFAULT_MODE_VOLUMES:
        source = volume.get(name)
        if isinstance(source, dict):
            source.setdefault("defaultMode", _MODE)
    default_source(volume)
    for file in listed(volume.get("downwardAPI"), "items"):
        _default_field_ref(file)
    for source in listed(volume.get("projected"), "sources"):
        token = source.get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)
        for file in listed(source.get("downwardAPI"), "items"):
            _default_field_ref(file)
        certificate = source.get("podCertificate")
        if isinstance(certificate, dict):
            certificate.setdefault("maxExpirationSeconds", 86400)
    claim = mapped(volume.get("ephemeral"), "volumeClaimTemplate")
    if claim:
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    image = volume.get("image")
    if isinstance(image, dict):
        image.setdefault("pullPolicy", _pull_policy(image.get("reference", "")))


def default_source(volume: Object) -> None:
    """What a volume's source declares, in a pod or a PersistentVolume."""
    host_path = volume.get("hostPath")
    if isinstance(host_path, dict):
        host_path.setdefault("type", "")
    for name, defaults in VOLUME_DEFAULTS.items():
        source = volume.get(name)
        if isinstance(source, dict):
            for key, value in defaults.items():
                source.setdefault(key, value)


def _round_up_requirements(requirements: Any) -> None:
    for name in ("limits", "requests"):
        _round_up(mapped(requirements, name))


def _round_up(amounts: Any) -> None:
    """Nothing finer than a thousandth is kept in a list of resources."""
    if isinstance(amounts, dict):
        for name, text in amounts.items():
            amount = quantity.parse(str(text))
            if amount.exponent < -3:
                amounts[name] = str(amount.round_up(-3))


def _default_pod_resources(spec: Object) -> None:
    """Requests of the pod as a whole, from its containers' and its own limits."""
    requirements = spec.get("resources")
    if not isinstance(requirements, dict):
        return
    containers = resources.total_requests(spec)
    requests = dict(mapped(requirements, "requests"))
    limits = dict(mapped(requirements, "limits"))
    for name in resources.hugepages_limits(spec):
        if name not in limits:
            limits[name] = str(resources.hugepages_limits(spec)[name])
    if limits:
        for name, amount in containers.items():
            if name not in requests and resources.is_pod_level(name) and resources.may_overcommit(name):
                requests[name] = str(amount)
        for name, text in limits.items():
            if name not in requests and resources.is_pod_level(name):
                requests[name] = text
        requirements["limits"] = limits
    if requests:
        requirements["requests"] = requests
