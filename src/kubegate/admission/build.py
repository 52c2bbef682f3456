"""From flags and a configuration file to the chain."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from kubegate.admission import Attributes, Operation, Plugin, config
from kubegate.admission.chain import Chain
from kubegate.admission.config import AdmissionOptions
from kubegate.admission.dependencies import Dependencies
from kubegate.api.status import internal

# Plugin -> its module in `plugins`, each with `build(dependencies) -> Plugin`.
MODULES: Mapping[str, str] = {
    "AlwaysAdmit": "always_admit",
    "AlwaysDeny": "always_deny",
    "AlwaysPullImages": "always_pull_images",
    "CertificateApproval": "certificate_approval",
    "CertificateSigning": "certificate_signing",
    "CertificateSubjectRestriction": "certificate_subject_restriction",
    "ClusterTrustBundleAttest": "cluster_trust_bundle_attest",
    "DefaultIngressClass": "default_ingress_class",
    "DefaultStorageClass": "default_storage_class",
    "DefaultTolerationSeconds": "default_toleration_seconds",
    "DenyServiceExternalIPs": "deny_service_external_ips",
    "EventRateLimit": "event_rate_limit",
    "ExtendedResourceToleration": "extended_resource_toleration",
    "ImagePolicyWebhook": "image_policy_webhook",
    "LimitPodHardAntiAffinityTopology": "limit_pod_hard_anti_affinity_topology",
    "LimitRanger": "limit_ranger",
    "NamespaceAutoProvision": "namespace_auto_provision",
    "NamespaceExists": "namespace_exists",
    "NamespaceLifecycle": "namespace_lifecycle",
    "NodeDeclaredFeatureValidator": "node_declared_feature_validator",
    "NodeRestriction": "node_restriction",
    "OwnerReferencesPermissionEnforcement": "owner_references_permission_enforcement",
    "PersistentVolumeClaimResize": "persistent_volume_claim_resize",
    "PodIdentityWebhook": "pod_identity_webhook",
    "PodNodeSelector": "pod_node_selector",
    "PodSecurity": "pod_security",
    "PodTolerationRestriction": "pod_toleration_restriction",
    "PodTopologyLabels": "pod_topology_labels",
    "Priority": "priority",
    "ResourceQuota": "resource_quota",
    "RuntimeClass": "runtime_class",
    "ServiceAccount": "service_account",
    "StorageObjectInUseProtection": "storage_object_in_use_protection",
    "TaintNodesByCondition": "taint_nodes_by_condition",
}
# Modules that make several plugins at once, `build_plugins(dependencies) -> {name: Plugin}`, and what each handles.
FAMILIES: Mapping[str, Mapping[str, frozenset[Operation]]] = {
    "kubegate.admission.webhooks.build": {
        "MutatingAdmissionWebhook": frozenset(Operation),
        "ValidatingAdmissionWebhook": frozenset(Operation),
    },
    "kubegate.admission.policies.build": {
        "MutatingAdmissionPolicy": frozenset(Operation) - {Operation.DELETE},
        "ValidatingAdmissionPolicy": frozenset(Operation),
    },
}
# The objects that configure them. Most clusters have none, and do not load what it takes to heed them (CEL, HTTP).
_CONFIGURED_BY = {
    "kubegate.admission.webhooks.build": ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
    "kubegate.admission.policies.build": (
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies", "validatingadmissionpolicybindings",
    ),
}  # fmt: skip


def build(
    options: AdmissionOptions,
    dependencies: Dependencies,
    extra: Callable[[Dependencies], Sequence[Plugin]] | None = None,
) -> Chain:
    """The chain that the flags ask for; `extra` makes more plugins. Raises ConfigurationError."""
    names = config.enabled(options)
    configurations = config.read(options.config_file) if options.config_file else dependencies.configurations
    dependencies = replace(dependencies, options=options, configurations=configurations)
    made: dict[str, Plugin] = {}
    for members in FAMILIES.values():
        made |= {name: _Unconfigured(name, handles) for name, handles in members.items()}
    for name in names:
        if name not in made:
            made[name] = importlib.import_module(f"kubegate.admission.plugins.{MODULES[name]}").build(dependencies)
    chain = [made[name] for name in names]
    if extra is not None:
        # after the webhooks, before what counts objects: a quota is not used up by what is refused
        place = names.index("ResourceQuota") if "ResourceQuota" in names else len(names)
        chain[place:place] = extra(dependencies)
    found = Chain(chain)
    for module, members in FAMILIES.items():
        if not set(members).isdisjoint(names):
            _follow(module, found, dependencies)
    return found


class _Unconfigured:
    """Has the place of a plugin that nobody configured, and nothing to do.

    `broken`: somebody did, and it cannot be loaded: then it refuses everything, for what is configured might.
    """

    resources: frozenset[str] | None = None
    changes = False

    def __init__(self, name: str, handles: frozenset[Operation], *, broken: bool = False) -> None:
        self.name, self.handles, self._broken = name, handles, broken
        setattr(self, "admit" if name.startswith("Mutating") else "validate", self._heed)

    def idle(self, attributes: Attributes) -> bool:
        return not self._broken

    async def _heed(self, attributes: Attributes) -> None:
        if self._broken:
            raise internal(f"admission plugin {self.name} could not be loaded")


def _follow(module: str, chain: Chain, dependencies: Dependencies) -> None:
    """Put a family's plugins in their places: with the first object that configures one, or now where a file does."""
    begun = False

    def begin(*_: object) -> None:
        nonlocal begun
        if not begun:
            begun = True
            try:
                chain.replace(importlib.import_module(module).build_plugins(dependencies))
            except Exception:
                members = FAMILIES[module].items()
                chain.replace({name: _Unconfigured(name, handles, broken=True) for name, handles in members})
                raise

    if any(dependencies.configurations.get(name) is not None for name in FAMILIES[module]):
        begin()
    for resource in _CONFIGURED_BY[module]:
        dependencies.reader.subscribe(f"{resource}.admissionregistration.k8s.io", begin)
