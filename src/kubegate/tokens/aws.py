"""Tokens of IAM identities: a presigned call of STS, signed with whatever credentials botocore finds."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubegate.aws import CLUSTER_ID_HEADER, TOKEN_PREFIX, TOKEN_SECONDS
from kubegate.tokens.credential import Credential, TokenError

_PRESIGN_SECONDS = 60
_CUSHION = 60.0
SESSION_NAME = "KubegateToken"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose token: the credentials' own, or a role's that they may assume. Empty fields are as botocore finds them."""

    cluster: str
    role: str = ""
    session_name: str = SESSION_NAME
    external_id: str = ""
    profile: str = ""
    region: str = ""


class Signer:
    """The credentials that were found; `key` tells them from others without holding a secret."""

    def __init__(self, wanted: Wanted) -> None:
        """Raises TokenError where there are no credentials."""
        self._wanted = wanted
        self._session = _session(wanted)
        self._session.set_config_variable("sts_regional_endpoints", "regional")
        credentials = _telling(self._session.get_credentials)
        if credentials is None:
            places = "AWS_ACCESS_KEY_ID, a profile, SSO, or a role of this machine"
            raise TokenError(f"botocore finds no credentials: {places}")
        self._region = wanted.region or self._session.get_config_variable("region") or "us-east-1"
        identifier = _telling(credentials.get_frozen_credentials).access_key
        self.key = (wanted.cluster, wanted.role, wanted.session_name, wanted.external_id, self._region, identifier)

    def token(self, now: float) -> Credential:
        """A token that is good for 14 minutes from `now`. Raises TokenError."""
        url = _telling(self._presigned)
        text = TOKEN_PREFIX + base64.urlsafe_b64encode(url.encode()).rstrip(b"=").decode()
        return Credential(text, now + TOKEN_SECONDS - _CUSHION)

    def _presigned(self) -> str:
        client = self._client(**self._role())
        client.meta.events.register("before-sign.sts.GetCallerIdentity", self._with_cluster)
        url: str = client.generate_presigned_url("get_caller_identity", ExpiresIn=_PRESIGN_SECONDS, HttpMethod="GET")
        return url

    def _with_cluster(self, request: Any, **_: Any) -> None:
        request.headers[CLUSTER_ID_HEADER] = self._wanted.cluster

    def _role(self) -> dict[str, str]:
        """The credentials of the role that is to be assumed; nothing where there is none."""
        if not self._wanted.role:
            return {}
        asked = {"RoleArn": self._wanted.role, "RoleSessionName": self._wanted.session_name}
        if self._wanted.external_id:
            asked["ExternalId"] = self._wanted.external_id
        found = self._client().assume_role(**asked)["Credentials"]
        return {
            "aws_access_key_id": found["AccessKeyId"],
            "aws_secret_access_key": found["SecretAccessKey"],
            "aws_session_token": found["SessionToken"],
        }

    def _client(self, **credentials: str) -> Any:
        from botocore.config import Config

        config = Config(connect_timeout=10, read_timeout=10)
        return self._session.create_client("sts", region_name=self._region, config=config, **credentials)


def _session(wanted: Wanted) -> Any:
    try:
        import botocore.session
    except ImportError:
        raise TokenError("botocore is not installed: pip install 'kubegate[aws]'") from None
    return _telling(lambda: botocore.session.Session(profile=wanted.profile or None))


def _telling(call: Callable[[], Any]) -> Any:
    """botocore's own words for what goes wrong; they hold no secret."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        raise TokenError(f"botocore: {error}") from None
