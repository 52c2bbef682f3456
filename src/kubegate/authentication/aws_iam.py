"""IAM identities as users: tokens `k8s-aws-v1.…` as `aws eks get-token` makes them. --aws-iam-cluster-id.

Follows aws-iam-authenticator. A token is checked here, STS is asked once who signed it, and that answer is kept as
long as the token may live, by a keyed hash of it. Who that is in the cluster is looked up anew for each request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated, AuthenticationError, UserInfo, with_authenticated
from kubegate.authentication.aws_maps import Maps
from kubegate.authentication.secrets import BoundedCache, Digest
from kubegate.aws import Identity, endpoints, presigned
from kubegate.aws.mapping import CannotRender, PrivateDnsName, render
from kubegate.aws.presigned import BadToken, Presigned
from kubegate.aws.sts import Sts, StsError, StsRefused, StsSettings, StsThrottled
from kubegate.transport.metrics import Counter, Gauge, Histogram, Metric

log = logging.getLogger("kubegate.authentication")

_REMEMBERED = 50_000
_REFUSED = 10_000
_REFUSED_SECONDS = 10.0
_WAITING = 5_000
_SECONDS = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CANONICAL_ARN = "canonicalArn"
"""The key of `extra` with the identity's ARN. No header can set it: impersonation has its keys in lower case."""


@dataclass(frozen=True, slots=True)
class AwsIamSettings:
    """`cluster_id` is what tokens are signed for. `hosts` are HOST[:PORT] instead of STS's own in `partitions`.

    No partitions named are all of them.
    """

    cluster_id: str
    partitions: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    sts: StsSettings = field(default_factory=StsSettings)

    def sts_hosts(self) -> frozenset[str]:
        """Raises ValueError."""
        for host in self.hosts:
            if not presigned.is_host(host):
                raise ValueError(f"{host!r} is no HOST or HOST:PORT, in lower case and without https://")
        return frozenset(self.hosts) if self.hosts else endpoints.sts_hosts(self.partitions)


class AwsIamAuthenticator:
    """Knows who signed a token, and by `maps`, asked in their order, who that is here. Close it when done."""

    name = "aws-iam"

    def __init__(
        self,
        settings: AwsIamSettings,
        maps: Sequence[Maps],
        clock: Clock,
        *,
        private_dns_name: PrivateDnsName = lambda instance: None,
        digest: Digest | None = None,
    ) -> None:
        """Raises ValueError for hosts, partitions and authorities that cannot be used."""
        if not settings.cluster_id:
            raise ValueError("a cluster's ID is needed: what its tokens are signed for")
        self._settings, self.maps, self._clock = settings, tuple(maps), clock
        self._private_dns_name = private_dns_name
        self._hosts = settings.sts_hosts()
        self._digest = digest or Digest()
        self._known: BoundedCache[Identity] = BoundedCache(_REMEMBERED)
        self._refused: BoundedCache[str] = BoundedCache(_REFUSED)
        self._calls: dict[bytes, asyncio.Task[Identity]] = {}
        self._seconds = Histogram(
            "aws_iam_authenticator_authenticate_latency_seconds", "Time to know a token's user.", ("result",), _SECONDS
        )
        self._answers = Counter("aws_iam_authenticator_sts_response_total", "Answers of STS by status.", ("code",))
        self._sts = Sts(settings.sts, clock, answered=lambda code: self._answers.add((code or "none",)))

    @property
    def metrics(self) -> list[Metric]:
        """How long it took by result, what STS answered, and how many mappings cannot be used now."""
        broken = Gauge(
            "kubegate_aws_iam_mapping_problems",
            "Mappings that cannot be used now.",
            ("backend",),
            lambda: [((each.mode,), float(len(each.problems))) for each in self.maps],
        )
        return [self._seconds, self._answers, broken]

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        """Raises AuthenticationError with the reason, which repeats nothing of the token."""
        if not presigned.is_presigned(token):
            return None
        start, result = self._clock.monotonic(), "uncaught_error"
        try:
            caller = await self._identity(token)
            found = self._user(caller)
            result = "success"
            return found
        except BadToken as error:
            result = "malformed_request"
            raise AuthenticationError(f"{self.name}: the token is not good: {error}") from None
        except StsThrottled as error:
            result = "sts_throttling"
            raise AuthenticationError(f"{self.name}: STS could not be asked now: {error}", try_again=True) from None
        except StsRefused as error:
            result = "invalid_token"
            raise AuthenticationError(f"{self.name}: STS refuses the token: {error}") from None
        except StsError as error:
            result = "sts_error"
            raise AuthenticationError(f"{self.name}: STS gave no identity: {error}") from None
        except AuthenticationError:
            result = "unknown_user"
            raise
        finally:
            self._seconds.observe((result,), self._clock.monotonic() - start)

    async def close(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()
        for each in self.maps:
            each.close()
        await self._sts.close()

    # ------------------------------------------------------------------ who signed it
    async def _identity(self, token: str) -> Identity:
        """Raises BadToken, StsError."""
        if len(token) > presigned.MAX_TOKEN:
            presigned.parse(token, self._hosts, 0.0)  # says so, before anything is made of its bytes
        key, now = self._digest(token), self._clock.now()
        known = self._known.get(key, now)
        if known is not None:
            return known
        call = self._calls.get(key)
        if call is None:
            refused = self._refused.get(key, now)
            if refused is not None:
                raise StsRefused(refused)
            parsed = presigned.parse(token, self._hosts, now)
            if len(self._calls) >= _WAITING:
                raise StsThrottled("too many sign-ins are waiting here")
            call = self._calls[key] = asyncio.create_task(self._ask(key, parsed), name="aws-sts")
            call.add_done_callback(lambda done: self._done(key, done))
        # whoever waits may go away; the call serves the others, and the cache
        return await asyncio.shield(call)

    async def _ask(self, key: bytes, parsed: Presigned) -> Identity:
        try:
            found = await self._sts.identity(parsed, self._settings.cluster_id)
        except StsRefused as error:
            self._refused.put(key, str(error), self._clock.now() + _REFUSED_SECONDS)
            raise
        self._known.put(key, found, parsed.expires)
        return found

    def _done(self, key: bytes, call: asyncio.Task[Identity]) -> None:
        self._calls.pop(key, None)
        if not call.cancelled():
            call.exception()  # those who waited have it; nobody may have

    # ------------------------------------------------------------------ who that is here
    def _user(self, caller: Identity) -> Authenticated:
        for maps in self.maps:
            entry = maps.find(caller)
            if entry is None:
                continue
            try:
                mapped = render(entry, caller, self._private_dns_name)
            except CannotRender as error:
                raise AuthenticationError(f"{self.name}: the mapping of {caller.canonical_arn}: {error}") from None
            return Authenticated(_user_info(caller, mapped.username, mapped.groups), self.name)
        raise AuthenticationError(f"{self.name}: {caller.canonical_arn} is not mapped to a user")


def _user_info(caller: Identity, name: str, groups: tuple[str, ...]) -> UserInfo:
    """As aws-iam-authenticator writes it."""
    extra = {
        "accessKeyId": (caller.access_key_id,),
        "arn": (caller.arn,),
        CANONICAL_ARN: (caller.canonical_arn,),
        "principalId": (caller.user_id,),
        "sessionName": (caller.session_name,),
    }
    uid = f"aws-iam-authenticator:{caller.account_id}:{caller.user_id}"
    return UserInfo(name, uid, with_authenticated(name, groups), extra)
