"""Requests for kubelets' client certificates are approved where whoever asks may have them.

Who may not yet is asked about again, later each time: a role may come. Follows pkg/controller/certificates/approver of
Kubernetes v1.36.
"""

from __future__ import annotations

import base64
from typing import Final

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.controllers import World, certificates
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import tolerant
from kubegate.pki import signers
from kubegate.pki.certificates import BadCertificate, parse_request, subject_of
from kubegate.storage import ObjectEvent


class _Rule(Struct, frozen=True):
    """What one must be allowed to create to have it approved; `own`: the name must be the asker's."""

    subresource: str
    own: bool
    message: str


_RULES = (
    _Rule("selfnodeclient", True, "Auto approving self kubelet client certificate after SubjectAccessReview."),
    _Rule("nodeclient", False, "Auto approving kubelet client certificate after SubjectAccessReview."),
)


_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 1000.0


class Approving(Loop):
    """Keys are names of requests."""

    name = "certificatesigningrequest-approving-controller"
    account = "certificate-controller"

    def __init__(self) -> None:
        super().__init__()
        self._refused: dict[str, int] = {}

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(certificates.RESOURCE, self._changed)

    def _changed(self, event: ObjectEvent, request: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED and request["spec"].get("signerName") == signers.KUBELET_CLIENT:
            self.queue.add(request["metadata"]["name"])

    async def sync(self, key: str) -> None:
        request = await self._client.get(certificates.RESOURCE, "", key)
        if request is None or certificates.decided(request) or certificates.issued(request):
            self._refused.pop(key, None)
            return
        spec = request["spec"]
        try:
            wanted = parse_request(base64.b64decode(spec["request"]))
            signers.check_kubelet_client(wanted, spec.get("usages") or ())
        except (BadCertificate, signers.NotSigned):
            return
        own = subject_of(wanted).common_name == spec.get("username")
        for rule in _RULES:
            if (own or not rule.own) and await self._allowed(spec, rule.subresource):
                now = rfc3339(self._clock.now())
                approved = certificates.with_condition(request, "Approved", "AutoApproved", rule.message, now)
                await tolerant(self._client.update_subresource(certificates.RESOURCE, "", key, "approval", approved))
                return
        count = self._refused.get(key, 0)
        self._refused[key] = count + 1
        self.queue.add_at(key, self._clock.monotonic() + min(_FIRST_DELAY * 2 ** min(count, 20), _LONGEST_DELAY))

    async def _allowed(self, spec: Object, subresource: str) -> bool:
        attributes = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "subresource": subresource,
        }
        asker = {"user": spec.get("username", ""), "uid": spec.get("uid", ""), "groups": spec.get("groups") or []}
        review = {"spec": {**asker, "extra": spec.get("extra") or {}, "resourceAttributes": attributes}}
        answer = await self._client.create("subjectaccessreviews.authorization.k8s.io", "", review)
        return (answer.get("status") or {}).get("allowed") is True


def build() -> Approving:
    return Approving()
