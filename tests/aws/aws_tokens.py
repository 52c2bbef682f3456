"""Tokens as they might come, and an STS on a free port of this machine that says who signed them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

for folder in ("remote", "authentication", "server"):
    sys.path.append(str(Path(__file__).parent.parent / folder))

from people import HandClock  # noqa: E402
from remote_server import Serve, Server, reply  # noqa: E402

from kubegate.authentication.aws_iam import AwsIamAuthenticator, AwsIamSettings  # noqa: E402
from kubegate.authentication.aws_maps import ConfigMapMaps, Maps  # noqa: E402
from kubegate.aws.sts import StsSettings  # noqa: E402

ACCOUNT = "111122223333"
JANE = f"arn:aws:iam::{ACCOUNT}:user/jane"
CLUSTER = "demo"

Pairs = Sequence[tuple[str, str]]


def date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def pairs(now: float, key: str = "AKIAIOSFODNN7EXAMPLE", **changed: str | None) -> list[tuple[str, str]]:
    """The parameters of a good token; `changed` by name with _ for -, None takes one away."""
    found = {
        "Action": "GetCallerIdentity",
        "Version": "2011-06-15",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key}/{date(now)[:8]}/us-east-1/sts/aws4_request",
        "X-Amz-Date": date(now),
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host;x-k8s-aws-id",
        "X-Amz-Signature": "0123456789abcdef" * 4,
    }
    found |= {name.replace("_", "-"): value for name, value in changed.items() if value is not None}
    return [(name, value) for name, value in found.items() if changed.get(name.replace("-", "_"), "") is not None]


def query(given: Pairs) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in given)


def encoded(url: str | bytes) -> str:
    data = url if isinstance(url, bytes) else url.encode()
    return "k8s-aws-v1." + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(now: float, host: str = "sts.us-east-1.amazonaws.com", key: str = "AKIAIOSFODNN7EXAMPLE", **more: Any) -> str:
    return encoded(f"https://{host}/?{query(pairs(now, key, **more))}")


def identity(arn: str = JANE, user_id: str = "AIDAEXAMPLE", account: str = ACCOUNT) -> bytes:
    result = {"Arn": arn, "Account": account, "UserId": user_id}
    body = {"GetCallerIdentityResponse": {"GetCallerIdentityResult": result}}
    return reply(orjson.dumps(body), "200 OK", "Content-Type: application/json")


def refusal(status: str, code: str) -> bytes:
    return reply(orjson.dumps({"Error": {"Code": code, "Message": "no"}}), status, "Content-Type: application/json")


@dataclass
class World:
    """An authenticator, the STS that it asks, and the one place of its mappings."""

    authenticator: AwsIamAuthenticator
    sts: Server
    clock: HandClock
    maps: ConfigMapMaps
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.sts.port}"

    def token(self, **changed: Any) -> str:
        return token(self.clock.now(), self.host, **changed)

    def map(self, **data: str) -> None:
        self.maps.put({"metadata": {"name": "aws-auth", "namespace": "kube-system"}, "data": data})


Make = Callable[..., Awaitable[World]]


async def make_world(
    serve: Serve, answer: Callable[[str], Awaitable[bytes | None]], *others: Maps, **bounds: Any
) -> World:
    async def on_request(head: str, body: bytes) -> bytes | None:
        return await answer(head)

    server = await serve(on_request)
    clock, maps = HandClock(), ConfigMapMaps()
    settings = AwsIamSettings(
        CLUSTER, hosts=(f"127.0.0.1:{server.port}",), sts=StsSettings(server.authority.pem, **bounds)
    )
    names = {"i-0123456789abcdef0": "ip-10-0-0-1.ec2.internal"}
    made = AwsIamAuthenticator(settings, [*others, maps], clock, private_dns_name=names.get)
    world = World(made, server, clock, maps)
    world.map(mapUsers=f"- userarn: {JANE}\n  username: jane\n  groups: [dev]\n")
    return world
