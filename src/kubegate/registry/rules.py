"""Where the rules of each resource are found: group resource -> module, imported when first needed."""

from __future__ import annotations

import importlib
from functools import cache

from kubegate.registry import Rules

# A module has `RULES: Rules`. Resources that are not named here have the generic rules and their schema alone.
MODULES: dict[str, str] = {
    "bindings": "core.bindings",
    "configmaps": "core.configmaps",
    "endpoints": "core.endpoints",
    "events": "core.events",
    "limitranges": "core.limitranges",
    "namespaces": "core.namespaces",
    "nodes": "core.nodes",
    "persistentvolumeclaims": "core.persistentvolumeclaims",
    "persistentvolumes": "core.persistentvolumes",
    "pods": "core.pods",
    "podtemplates": "core.podtemplates",
    "replicationcontrollers": "core.replicationcontrollers",
    "resourcequotas": "core.resourcequotas",
    "secrets": "core.secrets",
    "serviceaccounts": "core.serviceaccounts",
    "services": "core.services",
    "apiservices.apiregistration.k8s.io": "apiregistration.apiservices",
    "controllerrevisions.apps": "apps.controllerrevisions",
    "daemonsets.apps": "apps.daemonsets",
    "deployments.apps": "apps.deployments",
    "replicasets.apps": "apps.replicasets",
    "statefulsets.apps": "apps.statefulsets",
    "horizontalpodautoscalers.autoscaling": "autoscaling.horizontalpodautoscalers",
    "cronjobs.batch": "batch.cronjobs",
    "jobs.batch": "batch.jobs",
    "leases.coordination.k8s.io": "coordination.leases",
    "endpointslices.discovery.k8s.io": "discovery.endpointslices",
    "events.events.k8s.io": "events.events",
    "flowschemas.flowcontrol.apiserver.k8s.io": "flowcontrol.flowschemas",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": "flowcontrol.prioritylevelconfigurations",
    "ingressclasses.networking.k8s.io": "networking.ingressclasses",
    "ingresses.networking.k8s.io": "networking.ingresses",
    "ipaddresses.networking.k8s.io": "networking.ipaddresses",
    "networkpolicies.networking.k8s.io": "networking.networkpolicies",
    "servicecidrs.networking.k8s.io": "networking.servicecidrs",
    "runtimeclasses.node.k8s.io": "node.runtimeclasses",
    "poddisruptionbudgets.policy": "policy.poddisruptionbudgets",
    "deviceclasses.resource.k8s.io": "resource.deviceclasses",
    "resourceclaims.resource.k8s.io": "resource.resourceclaims",
    "resourceclaimtemplates.resource.k8s.io": "resource.resourceclaimtemplates",
    "resourceslices.resource.k8s.io": "resource.resourceslices",
    "priorityclasses.scheduling.k8s.io": "scheduling.priorityclasses",
    "csidrivers.storage.k8s.io": "storage.csidrivers",
    "csinodes.storage.k8s.io": "storage.csinodes",
    "csistoragecapacities.storage.k8s.io": "storage.csistoragecapacities",
    "storageclasses.storage.k8s.io": "storage.storageclasses",
    "volumeattachments.storage.k8s.io": "storage.volumeattachments",
    "volumeattributesclasses.storage.k8s.io": "storage.volumeattributesclasses",
    "customresourcedefinitions.apiextensions.k8s.io": "apiextensions.customresourcedefinitions",
    "clusterrolebindings.rbac.authorization.k8s.io": "rbac.clusterrolebindings",
    "clusterroles.rbac.authorization.k8s.io": "rbac.clusterroles",
    "rolebindings.rbac.authorization.k8s.io": "rbac.rolebindings",
    "roles.rbac.authorization.k8s.io": "rbac.roles",
    "certificatesigningrequests.certificates.k8s.io": "certificates.certificatesigningrequests",
    "selfsubjectreviews.authentication.k8s.io": "authentication.selfsubjectreviews",
    "tokenreviews.authentication.k8s.io": "authentication.tokenreviews",
    "localsubjectaccessreviews.authorization.k8s.io": "authorization.localsubjectaccessreviews",
    "selfsubjectaccessreviews.authorization.k8s.io": "authorization.selfsubjectaccessreviews",
    "selfsubjectrulesreviews.authorization.k8s.io": "authorization.selfsubjectrulesreviews",
    "subjectaccessreviews.authorization.k8s.io": "authorization.subjectaccessreviews",
    **{
        f"{name}.admissionregistration.k8s.io": f"admissionregistration.{name}"
        for name in (
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        )
    },
}


@cache
def rules_for(group_resource: str) -> Rules:
    """The rules of a built-in resource by `deployments.apps`."""
    module = MODULES.get(group_resource)
    if module is None:
        return Rules()
    found = importlib.import_module(f"kubegate.registry.{module}").RULES
    assert isinstance(found, Rules)
    return found
