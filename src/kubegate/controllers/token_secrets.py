"""Secrets of type kubernetes.io/service-account-token: filled with a token, the CA and the namespace.

They go with their account. With --service-account-legacy-tokens every account gets one, listed in its `secrets`, as
before Kubernetes 1.24. Follows pkg/controller/serviceaccount/tokens_controller.go.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

from kubegate.api import Object
from kubegate.api.metadata import NAME_LETTERS
from kubegate.authentication.signing import TokenSigner
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import ending, key_of, split_key, tolerant
from kubegate.storage import ObjectEvent

TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
_ACCOUNT, _SECRET, _REFERENCE = "account:", "secret:", "reference:"


class TokenSecrets(Loop):
    """Keys are `secret:NAMESPACE/NAME`, `account:NAMESPACE/NAME`, and of a secret that is gone
    `reference:NAMESPACE/ACCOUNT/NAME`.
    """

    name = "serviceaccount-token-controller"
    account = "tokens-controller"
    _signer: TokenSigner | None
    _ca: bytes
    _legacy: bool

    def __init__(self) -> None:
        super().__init__()
        self._of_account: dict[tuple[str, str], set[str]] = {}

    def start(self, world: World) -> None:
        super().start(world)
        options = world.options
        path = options.root_ca_file or options.client_ca_file
        self._ca = Path(path).read_bytes() if path else b""
        self._signer, self._legacy = world.signer, bool(options.service_account_legacy_tokens)
        world.reader.subscribe("secrets", self._secret_changed)
        world.reader.subscribe("serviceaccounts", self._account_changed)

    def _secret_changed(self, event: ObjectEvent, secret: Object, _: Object | None) -> None:
        if secret.get("type") != TYPE:
            return
        metadata = secret["metadata"]
        account = (metadata["namespace"], _annotations(secret).get(ACCOUNT_NAME, ""))
        if event is ObjectEvent.DELETED:
            self._of_account.get(account, set()).discard(metadata["name"])
            owner = self._reader.get("serviceaccounts", *account)
            if owner is not None and _annotations(secret).get(ACCOUNT_UID) in ("", None, owner["metadata"]["uid"]):
                self.queue.add(f"{_REFERENCE}{key_of(owner)}/{metadata['name']}")
            if self._legacy:
                self.queue.add(f"{_ACCOUNT}{account[0]}/{account[1]}")
            return
        self._of_account.setdefault(account, set()).add(metadata["name"])
        self.queue.add(_SECRET + key_of(secret))

    def _account_changed(self, event: ObjectEvent, account: Object, _: Object | None) -> None:
        metadata = account["metadata"]
        if event is not ObjectEvent.MODIFIED:
            for name in self._of_account.get((metadata["namespace"], metadata["name"]), ()):
                self.queue.add(f"{_SECRET}{metadata['namespace']}/{name}")
            if event is ObjectEvent.DELETED:
                self._of_account.pop((metadata["namespace"], metadata["name"]), None)
        if self._legacy and event is not ObjectEvent.DELETED:
            self.queue.add(_ACCOUNT + key_of(account))

    async def sync(self, key: str) -> None:
        sort, _, rest = key.partition(":")
        if sort + ":" == _REFERENCE:
            await self._forget(*rest.split("/"))
            return
        namespace, name = split_key(rest)
        if sort + ":" == _ACCOUNT:
            await self._sync_account(namespace, name)
        else:
            await self._sync_secret(namespace, name)

    # ------------------------------------------------------------------ secrets
    async def _sync_secret(self, namespace: str, name: str) -> None:
        secret = await self._client.get("secrets", namespace, name)
        if secret is None or secret.get("type") != TYPE:
            return
        annotations = _annotations(secret)
        account = self._reader.get("serviceaccounts", namespace, annotations.get(ACCOUNT_NAME, ""))
        uid = annotations.get(ACCOUNT_UID)
        if account is None or (uid and uid != account["metadata"]["uid"]):
            options = {"preconditions": {"uid": secret["metadata"]["uid"]}}
            await tolerant(self._client.delete("secrets", namespace, name, options), "NotFound", "Conflict")
            return
        if ending(secret):
            return
        data = await self._filled(secret, account)
        if data == secret.get("data") and uid and annotations.get(ACCOUNT_NAME) == account["metadata"]["name"]:
            return
        owner = {ACCOUNT_NAME: account["metadata"]["name"], ACCOUNT_UID: account["metadata"]["uid"]}
        metadata = {**secret["metadata"], "annotations": {**annotations, **owner}}
        await tolerant(self._client.update("secrets", namespace, name, {**secret, "metadata": metadata, "data": data}))

    async def _forget(self, namespace: str, account: str, name: str) -> None:
        """Take a secret that is gone off its account's list."""
        found = await self._client.get("serviceaccounts", namespace, account)
        listed = (found or {}).get("secrets") or []
        kept = [reference for reference in listed if reference.get("name") != name]
        if found is not None and len(kept) < len(listed):
            changed = {**found, "secrets": kept}
            await tolerant(self._client.update("serviceaccounts", namespace, account, changed), "NotFound")

    async def _filled(self, secret: Object, account: Object) -> dict[str, str]:
        data = dict(secret.get("data") or {})
        if self._ca:
            data["ca.crt"] = base64.b64encode(self._ca).decode()
        if not data.get("namespace"):
            data["namespace"] = base64.b64encode(account["metadata"]["namespace"].encode()).decode()
        if not data.get("token") and self._signer is not None:
            token = await asyncio.to_thread(self._signer.legacy, account, secret)
            data["token"] = base64.b64encode(token.encode()).decode()
        return data

    # ------------------------------------------------------------------ accounts, as they were before 1.24
    async def _sync_account(self, namespace: str, name: str) -> None:
        account = await self._client.get("serviceaccounts", namespace, name)
        if not self._legacy or account is None or ending(account):
            return
        metadata, listed = account["metadata"], account.get("secrets") or []
        tokens = [
            secret["metadata"]["name"]
            for secret in self._reader.list("secrets", namespace)
            if secret.get("type") == TYPE and _annotations(secret).get(ACCOUNT_UID) == metadata["uid"]
        ]
        if any(reference.get("name") in tokens for reference in listed):
            return
        if tokens:
            token = sorted(tokens)[0]
        else:
            token = f"{name}-token-{''.join(secrets.choice(NAME_LETTERS) for _ in range(5))}"
            annotations = {ACCOUNT_NAME: name, ACCOUNT_UID: metadata["uid"]}
            secret = {"metadata": {"name": token, "namespace": namespace, "annotations": annotations}, "type": TYPE}
            secret["data"] = await self._filled(secret, account)
            if await tolerant(self._client.create("secrets", namespace, secret), "NotFound", "Forbidden") is None:
                return
        kept = [one for one in listed if self._reader.get("secrets", namespace, one.get("name", "")) is not None]
        changed = {**account, "secrets": [*kept, {"name": token}]}
        await tolerant(self._client.update("serviceaccounts", namespace, name, changed))


def _annotations(secret: Object) -> Mapping[str, str]:
    found: Mapping[str, str] = secret["metadata"].get("annotations") or {}
    return found


def build() -> TokenSecrets:
    return TokenSecrets()
