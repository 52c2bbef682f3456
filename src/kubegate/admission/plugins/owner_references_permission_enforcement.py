"""OwnerReferencesPermissionEnforcement: who names an owner could have had the object deleted anyway.

Follows k8s.io/kubernetes/plugin/pkg/admission/gc.
"""

from __future__ import annotations

from kubegate import authorization
from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.resources import Resource

# Old kubelets corrupt owner references here; the status of a pod cannot change them.
_IGNORED = frozenset({("pods", "status")})


class OwnerReferencesPermissionEnforcement:
    name = "OwnerReferencesPermissionEnforcement"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = None
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._authorize, self._resources = dependencies.authorize, dependencies.resources

    async def validate(self, attributes: Attributes) -> None:
        if (attributes.group_resource, attributes.subresource) in _IGNORED:
            return
        new, old = _owners(attributes.object), _owners(attributes.old_object)
        if new == old:
            return
        if attributes.operation is not Operation.CREATE:
            await self._check_delete(attributes)
        blocking_before = {owner.get("uid"): owner.get("blockOwnerDeletion") for owner in old}
        for owner in new:
            if owner.get("blockOwnerDeletion") and not blocking_before.get(owner.get("uid")):
                await self._check_blocking(attributes, owner)

    async def _check_delete(self, attributes: Attributes) -> None:
        decision = await self._authorize(
            authorization.Attributes(
                user=attributes.user,
                verb="delete",
                api_group=attributes.resource.group,
                api_version=attributes.resource.version,
                resource=attributes.resource.resource,
                subresource=attributes.subresource,
                namespace=attributes.namespace,
                name=attributes.name,
            )
        )
        if not decision.allowed:
            why = f"cannot set an ownerRef on a resource you can't delete: {_why(decision)}"
            raise forbidden(attributes, why)

    async def _check_blocking(self, attributes: Attributes, owner: Object) -> None:
        api_version, kind = owner.get("apiVersion", ""), owner.get("kind", "")
        resource = self._resource_of(api_version, kind)
        if resource is None:
            why = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion"
            missing = f'no matches for kind "{kind}" in version "{api_version}"'
            raise forbidden(attributes, f"{why} {api_version} Kind {kind}: {missing}")
        decision = await self._authorize(
            authorization.Attributes(
                user=attributes.user,
                verb="update",
                api_group=resource.group,
                api_version=resource.version,
                resource=resource.resource,
                subresource="finalizers",
                namespace=attributes.namespace if resource.namespaced else "",
                name=owner.get("name", ""),
            )
        )
        if not decision.allowed:
            why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
            raise forbidden(attributes, f"{why}: {_why(decision)}")

    def _resource_of(self, api_version: str, kind: str) -> Resource | None:
        group, _, version = api_version.rpartition("/")
        return self._resources.by_kind(group, version, kind)


def _owners(object: Object | None) -> list[Object]:
    return ((object or {}).get("metadata") or {}).get("ownerReferences") or []


def _why(decision: authorization.Decision) -> str:
    return f"{decision.reason}, {decision.error or '<nil>'}"


def build(dependencies: Dependencies) -> OwnerReferencesPermissionEnforcement:
    return OwnerReferencesPermissionEnforcement(dependencies)
