"""From flags and a configuration file to the chain."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from kubegate.admission import Plugin, config
from kubegate.admission.chain import Chain
from kubegate.admission.config import AdmissionOptions
from kubegate.admission.dependencies import Dependencies

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
# Those that answer for several plugins at once: `build_plugins(dependencies) -> {name: Plugin}`.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "kubegate.admission.webhooks.build": ("MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"),
    "kubegate.admission.policies.build": ("MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"),
}


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
    for module, members in FAMILIES.items():
        if not set(members).isdisjoint(names):
            made |= importlib.import_module(module).build_plugins(dependencies)
    for name in names:
        if name not in made:
            made[name] = importlib.import_module(f"kubegate.admission.plugins.{MODULES[name]}").build(dependencies)
    chain = [made[name] for name in names]
    if extra is not None:
        # after the webhooks, before what counts objects: a quota is not used up by what is refused
        place = names.index("ResourceQuota") if "ResourceQuota" in names else len(names)
        chain[place:place] = extra(dependencies)
    return Chain(chain)
