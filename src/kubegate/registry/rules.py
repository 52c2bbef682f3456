"""Where the rules of each resource are found: group resource -> module, imported when first needed."""

from __future__ import annotations

import importlib
from functools import cache

from kubegate.registry import Rules

# A module has `RULES: Rules`. Resources that are not named here have the generic rules and their schema alone.
MODULES: dict[str, str] = {
    "bindings": "core.bindings",
    "configmaps": "core.configmaps",
    "namespaces": "core.namespaces",
    "persistentvolumeclaims": "core.persistentvolumeclaims",
    "pods": "core.pods",
    "secrets": "core.secrets",
    "serviceaccounts": "core.serviceaccounts",
    "services": "core.services",
    "apiservices.apiregistration.k8s.io": "apiregistration.apiservices",
    "customresourcedefinitions.apiextensions.k8s.io": "apiextensions.customresourcedefinitions",
    "mutatingadmissionpolicies.admissionregistration.k8s.io": "admissionregistration.mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": "admissionregistration.mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": "admissionregistration.mutatingwebhookconfigurations",
    "validatingadmissionpolicies.admissionregistration.k8s.io": "admissionregistration.validatingadmissionpolicies",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": "admissionregistration.validatingadmissionpolicybindings",
    "validatingwebhookconfigurations.admissionregistration.k8s.io": "admissionregistration.validatingwebhookconfigurations",
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
