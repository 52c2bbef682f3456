"""Where each resource's objects are in the store: the keys that kube-apiserver uses under its prefix."""

from __future__ import annotations

from kubegate.api.resources import Resource, Resources, storage_prefix


class Keys:
    """Keys and prefixes by group resource; follows the set of resources as it changes."""

    def __init__(self, resources: Resources, root: str = "/registry/") -> None:
        self._resources, self._root = resources, root
        self._prefixes: dict[str, str] = {}
        self._resource_of: dict[str, Resource] = {}
        resources.on_change(self._learn)
        self._learn()

    def _learn(self) -> None:
        self._prefixes.clear()
        self._resource_of.clear()
        for resource in self._resources:
            custom = resource.custom is not None
            prefix = self._root + storage_prefix(resource.stored_as, custom=custom)
            self._prefixes[resource.group_resource] = prefix
            if resource.api_version == resource.storage_api_version:
                self._resource_of[prefix] = resource

    def prefix(self, group_resource: str, namespace: str = "") -> str:
        """`/registry/pods/` or `/registry/pods/NAMESPACE/`; also for a resource that is not served now."""
        found = self._prefixes.get(group_resource) or self._not_served(group_resource)
        return f"{found}{namespace}/" if namespace else found

    def key(self, group_resource: str, namespace: str, name: str) -> str:
        found = self._prefixes.get(group_resource) or self._not_served(group_resource)
        return f"{found}{namespace}/{name}" if namespace else found + name

    def _not_served(self, group_resource: str) -> str:
        return self._root + storage_prefix(group_resource, custom="." in group_resource)

    def resource_of(self, key: str) -> Resource | None:
        """The resource (in its storage version) that a key's object is one of; None where it is not served now."""
        cut = key.find("/", len(self._root)) + 1
        found = self._resource_of.get(key[:cut])
        if found is None:
            cut = key.find("/", cut) + 1
            found = self._resource_of.get(key[:cut])
        return found
