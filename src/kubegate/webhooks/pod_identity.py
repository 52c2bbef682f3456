"""amazon-eks-pod-identity-webhook as a Gate policy, for clusters that kubegate's webhook server serves.

from kubegate import Gate
from kubegate.webhooks.pod_identity import pod_identity

gate = Gate()
gate.mutate("pods", operations=["CREATE"], failure_policy="Ignore")(pod_identity("cluster.kubeconfig"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from kubegate.api import Object
from kubegate.api.clock import Clock, SystemClock
from kubegate.authentication.secrets import BoundedCache
from kubegate.aws.pod_identity import PodIdentity
from kubegate.remote import result
from kubegate.remote.client import Client, Endpoint, RemoteError
from kubegate.webhooks.gate import Deny, Review

FindAccount = Callable[[str, str], Awaitable[Object | None]]
"""A service account by namespace and name; None where there is none."""

_KNOWN_SECONDS = 5.0
_REMEMBERED = 10_000


def pod_identity(
    accounts: str | Path | FindAccount, settings: PodIdentity | None = None
) -> Callable[[Object, Review], Awaitable[None]]:
    """The policy. `accounts` is the kubeconfig of who may get service accounts, or a function that finds them.

    Raises pki.kubeconfig.BadKubeconfig (a ValueError). The policy denies pods whose account cannot be looked up.
    """
    found = settings or PodIdentity()
    find = _Accounts(Path(accounts), SystemClock()).find if isinstance(accounts, str | Path) else accounts

    async def inject_pod_identity(pod: Object, review: Review) -> None:
        spec = pod.get("spec") or {}
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        try:
            account = await find(review.namespace, str(name))
        except RemoteError as error:
            raise Deny(f"the service account {name} could not be looked up", code=503) from error
        if account is not None:
            found.inject(pod, account)

    return inject_pod_identity


class _Accounts:
    """Service accounts of a cluster, each asked for at most every few seconds."""

    def __init__(self, kubeconfig: Path, clock: Clock) -> None:
        self._endpoint, self._clock = Endpoint.from_kubeconfig(kubeconfig), clock
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: BoundedCache[tuple[Object | None]] = BoundedCache(_REMEMBERED)

    async def find(self, namespace: str, name: str) -> Object | None:
        """Raises RemoteError."""
        now = self._clock.monotonic()
        known = self._known.get((namespace, name), now)
        if known is not None:
            return known[0]
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = Client(self._endpoint), loop
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/serviceaccounts/{quote(name, safe='')}"
        answer = await self._client.get(self._endpoint.url.rstrip("/") + path)
        found = None if answer.status == 404 else result.into(answer)
        self._known.put((namespace, name), (found,), now + _KNOWN_SECONDS)
        return found
