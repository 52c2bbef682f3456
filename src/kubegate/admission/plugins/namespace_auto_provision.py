"""NamespaceAutoProvision: a namespace is made when something is created in it.

Follows k8s.io/kubernetes/plugin/pkg/admission/namespace/autoprovision.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api.status import StatusError


class NamespaceAutoProvision:
    name = "NamespaceAutoProvision"
    handles = frozenset({Operation.CREATE})
    resources = None
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer

    async def admit(self, attributes: Attributes) -> None:
        name = attributes.namespace
        if attributes.dry_run or not name or attributes.group_resource == "namespaces":
            return
        if self._reader.get("namespaces", "", name) is not None:
            return
        try:
            await self._writer.create(
                "namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise forbidden(attributes, error.message) from error


def build(dependencies: Dependencies) -> NamespaceAutoProvision:
    return NamespaceAutoProvision(dependencies)
