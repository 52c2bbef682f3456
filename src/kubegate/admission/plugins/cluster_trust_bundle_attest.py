"""ClusterTrustBundleAttest: who publishes a signer's trust anchors may speak for the signer.

The resource itself is not served by default in v1.36.
Follows k8s.io/kubernetes/plugin/pkg/admission/certificates/ctbattest.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation, certificates
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden


class ClusterTrustBundleAttest:
    name = "ClusterTrustBundleAttest"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"clustertrustbundles.certificates.k8s.io"})
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._authorize = dependencies.authorize

    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        signer = spec.get("signerName", "")
        unchanged = spec == ((attributes.old_object or {}).get("spec") or {})
        if not signer or (attributes.operation is Operation.UPDATE and unchanged):
            return
        if not await certificates.may(self._authorize, attributes, "attest", signer):
            raise forbidden(attributes, f'user not permitted to attest for signerName "{signer}"')


def build(dependencies: Dependencies) -> ClusterTrustBundleAttest:
    return ClusterTrustBundleAttest(dependencies)
