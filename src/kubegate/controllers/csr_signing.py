"""Approved requests of the four built-in signers are signed with --cluster-signing-cert-file and -key-file."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.controllers import World, certificates
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import is_true, tolerant
from kubegate.pki import signers
from kubegate.pki.certificates import load_authority
from kubegate.storage import ObjectEvent


class Signing(Loop):
    """Keys are names of requests. The authority's files are read for each signature: they may be replaced."""

    name = "certificatesigningrequest-signing-controller"
    account = "certificate-controller"
    _certificate: str
    _key: str
    _longest: int

    def start(self, world: World) -> None:
        super().start(world)
        options = world.options
        self._certificate, self._key = authority_files(options)
        self._longest = int(getattr(options, "cluster_signing_duration", 0) or signers.DEFAULT_SECONDS)
        if self._certificate and self._key:
            world.reader.subscribe(certificates.RESOURCE, self._changed)

    def _changed(self, event: ObjectEvent, request: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED and self._mine(request):
            self.queue.add(request["metadata"]["name"])

    def _mine(self, request: Object) -> bool:
        return (
            request["spec"].get("signerName") in signers.BUILT_IN
            and is_true(request, "Approved")
            and not is_true(request, "Denied")
            and not is_true(request, "Failed")
            and not certificates.issued(request)
        )

    async def sync(self, key: str) -> None:
        request = await self._client.get(certificates.RESOURCE, "", key)
        if request is None or not self._mine(request):
            return
        spec, now = request["spec"], self._clock.now()
        order = signers.Order(
            base64.b64decode(spec["request"]), spec.get("usages") or (), spec.get("expirationSeconds")
        )
        try:
            signers.check(spec["signerName"], order)
            pem = await asyncio.to_thread(self._sign, order, datetime.fromtimestamp(now, UTC))
        except signers.NotSigned as error:
            changed = certificates.with_condition(
                request, "Failed", "SignerValidationFailure", str(error), rfc3339(now)
            )
        else:
            status = {**(request.get("status") or {}), "certificate": base64.b64encode(pem).decode()}
            changed = {**request, "status": status}
        await tolerant(self._client.update_status(certificates.RESOURCE, "", key, changed))

    def _sign(self, order: signers.Order, now: datetime) -> bytes:
        authority = load_authority(Path(self._certificate), Path(self._key))
        return signers.sign(authority, order, now=now, longest=self._longest)


def authority_files(options: Any) -> tuple[str, str]:
    """(certificate, key) to sign with; "" where there is none.

    Where no flag names them, they are --client-ca-file and the key that lies beside it, as kubeadm lays them out
    (ca.crt, ca.key): then what is signed is what this server believes.
    """
    if options.cluster_signing_cert_file or options.cluster_signing_key_file:
        return options.cluster_signing_cert_file, options.cluster_signing_key_file
    if options.client_ca_file:
        beside = Path(options.client_ca_file).with_suffix(".key")
        if beside.is_file():
            return options.client_ca_file, str(beside)
    return "", ""


def build() -> Signing:
    return Signing()
