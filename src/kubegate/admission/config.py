"""Which plugins run, in which order, and what the configuration file says of them.

The names, the order and what is on by default are kube-apiserver v1.36's
(pkg/kubeapiserver/options/plugins.go); the file is an AdmissionConfiguration of apiserver.config.k8s.io.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.spelling import did_you_mean

PLUGINS: Mapping[str, bool] = {
    "AlwaysAdmit": False,
    "NamespaceAutoProvision": False,
    "NamespaceLifecycle": True,
    "NamespaceExists": False,
    "LimitPodHardAntiAffinityTopology": False,
    "LimitRanger": True,
    "ServiceAccount": True,
    "PodIdentityWebhook": False,
    "NodeRestriction": False,
    "TaintNodesByCondition": True,
    "AlwaysPullImages": False,
    "ImagePolicyWebhook": False,
    "PodSecurity": True,
    "PodNodeSelector": False,
    "Priority": True,
    "DefaultTolerationSeconds": True,
    "PodTolerationRestriction": False,
    "EventRateLimit": False,
    "ExtendedResourceToleration": False,
    "DefaultStorageClass": True,
    "StorageObjectInUseProtection": True,
    "OwnerReferencesPermissionEnforcement": False,
    "PersistentVolumeClaimResize": True,
    "RuntimeClass": True,
    "CertificateApproval": True,
    "CertificateSigning": True,
    "ClusterTrustBundleAttest": True,
    "CertificateSubjectRestriction": True,
    "DefaultIngressClass": True,
    "DenyServiceExternalIPs": False,
    "PodTopologyLabels": True,
    "NodeDeclaredFeatureValidator": True,
    "MutatingAdmissionPolicy": True,
    "MutatingAdmissionWebhook": True,
    "ValidatingAdmissionPolicy": True,
    "ValidatingAdmissionWebhook": True,
    "ResourceQuota": True,
    "AlwaysDeny": False,
}
"""Every plugin in the order in which it is asked, and whether it is on by default. PodIdentityWebhook is EKS's."""

_GROUP_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")
_PLUGIN_FIELDS = ("name", "path", "configuration")


class ConfigurationError(ValueError):
    """The options or the configuration file cannot be used. The text says where, what, and what would be right."""


class AdmissionOptions(Struct, frozen=True):
    """kube-apiserver's flags: --enable-admission-plugins, --disable-admission-plugins, --admission-control-config-file,
    --default-not-ready-toleration-seconds and --default-unreachable-toleration-seconds.
    """

    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    config_file: str = ""
    default_not_ready_toleration_seconds: int = 300
    default_unreachable_toleration_seconds: int = 300


def enabled(options: AdmissionOptions) -> tuple[str, ...]:
    """The names of the plugins that run, in order. Raises ConfigurationError for an unknown name, or one in both."""
    for flag, names in (
        ("--enable-admission-plugins", options.enable),
        ("--disable-admission-plugins", options.disable),
    ):
        for name in names:
            if name not in PLUGINS:
                raise ConfigurationError(f'{flag} plugin "{name}" is unknown{did_you_mean(name, PLUGINS)}')
    both = sorted(set(options.enable) & set(options.disable))
    if both:
        raise ConfigurationError(f"{both} in enable-admission-plugins and disable-admission-plugins overlapped")
    return tuple(
        name
        for name, by_default in PLUGINS.items()
        if name in options.enable or (by_default and name not in options.disable)
    )


def read(path: str) -> dict[str, Object]:
    """The configuration of each plugin that an AdmissionConfiguration file names, wherever it keeps it.

    A plugin's `path` is relative to the file's folder. Raises ConfigurationError.
    """
    file = Path(path)
    document = _load(file)
    if document.get("kind") != "AdmissionConfiguration" or document.get("apiVersion") not in _GROUP_VERSIONS:
        found = f"{document.get('apiVersion')} {document.get('kind')}"
        raise ConfigurationError(f"{file}: is {found}, wanted {_GROUP_VERSIONS[0]} AdmissionConfiguration")
    only(document, ("apiVersion", "kind", "plugins"), str(file))
    configurations: dict[str, Object] = {}
    for position, entry in enumerate(document.get("plugins") or []):
        where = f"{file}: plugins[{position}]"
        if not isinstance(entry, dict):
            raise ConfigurationError(f"{where}: must be an object with a name")
        only(entry, _PLUGIN_FIELDS, where)
        name = entry.get("name") or ""
        if name not in PLUGINS:
            raise ConfigurationError(f'{where}.name: plugin "{name}" is unknown{did_you_mean(name, PLUGINS)}')
        if name in configurations:
            raise ConfigurationError(f'{where}.name: plugin "{name}" is configured twice')
        configuration = entry.get("configuration")
        if configuration is None and entry.get("path"):
            configuration = _load(file.parent / entry["path"])
        if configuration is not None and not isinstance(configuration, dict):
            raise ConfigurationError(f"{where}.configuration: must be an object")
        configurations[name] = configuration or {}
    return configurations


def only(found: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse fields that nobody would read: a misspelt one would silently turn a protection off."""
    known = tuple(known)
    for name in found:
        if name not in known:
            raise ConfigurationError(f'{where}: unknown field "{name}"{did_you_mean(str(name), known)}')


def _load(file: Path) -> Object:
    import yaml  # most servers have no such file

    from kubegate.api import yamlcodec

    try:
        document = yamlcodec.load(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{file}: must hold one object")
    return document
