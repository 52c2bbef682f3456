"""What plugins ask of a pod: its containers of all three sorts, and the secrets and config maps it uses.

Follows k8s.io/kubernetes/pkg/api/pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubegate.api import Object

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

_SECRET_REFERENCES = {
    "cephfs": ("secretRef", "name"),
    "cinder": ("secretRef", "name"),
    "csi": ("nodePublishSecretRef", "name"),
    "flexVolume": ("secretRef", "name"),
    "iscsi": ("secretRef", "name"),
    "rbd": ("secretRef", "name"),
    "scaleIO": ("secretRef", "name"),
    "storageos": ("secretRef", "name"),
}


def annotations_of(object: Object) -> dict[str, str]:
    return (object.get("metadata") or {}).get("annotations") or {}


def spec_of(pod: Object) -> Object:
    """The pod's spec, made where there is none, so that a plugin may write to it."""
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        spec = pod["spec"] = {}
    return spec


def is_mirror(pod: Object) -> bool:
    """Whether a kubelet made this pod to show one that it found in a file."""
    return MIRROR_ANNOTATION in annotations_of(pod)


def containers(spec: Object) -> Iterator[tuple[str, Object]]:
    """Every container with its field's path: init, then ordinary, then ephemeral ones."""
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for position, container in enumerate(spec.get(name) or ()):
            yield f"spec.{name}[{position}]", container


def service_account_name(spec: Object) -> str:
    """`serviceAccount` is the old name of the field, still taken where the new one is empty."""
    return spec.get("serviceAccountName") or spec.get("serviceAccount") or ""


def secret_names(pod: Object) -> Iterator[str]:
    """Every secret that the pod names: to pull images, in environments, in volumes of any kind."""
    spec = pod.get("spec") or {}
    for reference in spec.get("imagePullSecrets") or ():
        yield reference.get("name", "")
    yield from _environment(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or ():
        if "azureFile" in volume:
            if volume["azureFile"].get("secretName"):
                yield volume["azureFile"]["secretName"]
        elif "secret" in volume:
            yield volume["secret"].get("secretName", "")
        elif "projected" in volume:
            for source in volume["projected"].get("sources") or ():
                if source.get("secret") is not None:
                    yield source["secret"].get("name", "")
        for kind, (field, name) in _SECRET_REFERENCES.items():
            reference = (volume.get(kind) or {}).get(field)
            if reference:
                yield reference.get(name, "")


def config_map_names(pod: Object) -> Iterator[str]:
    """Every config map that the pod names, in environments and volumes."""
    spec = pod.get("spec") or {}
    yield from _environment(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or ():
        if "configMap" in volume:
            yield volume["configMap"].get("name", "")
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("configMap") is not None:
                yield source["configMap"].get("name", "")


def _environment(spec: Object, whole: str, key: str) -> Iterator[str]:
    for _, container in containers(spec):
        for source in container.get("envFrom") or ():
            if source.get(whole) is not None:
                yield source[whole].get("name", "")
        for variable in container.get("env") or ():
            reference: Any = (variable.get("valueFrom") or {}).get(key)
            if reference is not None:
                yield reference.get("name", "")
