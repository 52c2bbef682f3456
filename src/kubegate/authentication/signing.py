"""Making service account tokens, and the documents by which others check them.

Follows k8s.io/kubernetes/pkg/serviceaccount (claims.go, legacy.go, openidmetadata.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api import Object
from kubegate.api.metadata import new_uid
from kubegate.api.names import is_dns1123_label, is_dns1123_subdomain
from kubegate.authentication import jose
from kubegate.pki import keys

LEGACY_ISSUER = "kubernetes/serviceaccount"
USER_PREFIX = "system:serviceaccount:"
GROUP = "system:serviceaccounts"
JWKS_PATH = "/openid/v1/jwks"


def user_name(namespace: str, name: str) -> str:
    return f"{USER_PREFIX}{namespace}:{name}"


def split_user_name(user: str) -> tuple[str, str] | None:
    """Namespace and name of a service account by its user name; None where it is none."""
    if not user.startswith(USER_PREFIX):
        return None
    namespace, _, name = user.removeprefix(USER_PREFIX).partition(":")
    if is_dns1123_label(namespace) or is_dns1123_subdomain(name):
        return None
    return namespace, name


def group_names(namespace: str) -> tuple[str, ...]:
    """The groups that a namespace's service accounts are in."""
    return (GROUP, f"{GROUP}:{namespace}")


class BoundObjects(Struct, frozen=True):
    """What a token ends with, beside its service account. With a pod, the node is where the pod is."""

    pod: Object | None = None
    secret: Object | None = None
    node: Object | None = None


class TokenSigner:
    """Signs tokens with one private key, in the name of one issuer."""

    def __init__(self, key: keys.PrivateKey, issuer: str) -> None:
        self.issuer = issuer
        self._header = {"alg": jose.algorithm_of(key), "kid": keys.key_id(key.public_key())}
        self._private = key

    @cached_property
    def _key(self) -> jose.Key:
        """Made with the first token: a start does not wait for it."""
        return jose.import_key(keys.kind(self._private), keys.private_pem(self._private))

    def sign(self, claims: Mapping[str, Any]) -> str:
        from joserfc import jws

        payload = orjson.dumps(dict(claims), option=orjson.OPT_SORT_KEYS)
        return jws.serialize_compact(dict(self._header), payload, self._key, [self._header["alg"]], jose.registry())

    def bound(
        self,
        account: Object,
        bound: BoundObjects,
        *,
        audiences: Sequence[str],
        now: float,
        seconds: int,
        warn_after: int = 0,
        token_id: str = "",
    ) -> str:
        """A token for a service account, good for `seconds` from now; `warn_after` seconds mark it as stale.

        `token_id`: for who has to tell it; one is made up where none is given.
        """
        namespace, start = account["metadata"]["namespace"], int(now)
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": _reference(account)}
        if bound.pod is not None:
            private["pod"] = _reference(bound.pod)
        if bound.secret is not None:
            private["secret"] = _reference(bound.secret)
        if bound.node is not None:
            private["node"] = _reference(bound.node)
        if warn_after:
            private["warnafter"] = start + warn_after
        return self.sign(
            {
                "iss": self.issuer,
                "sub": user_name(namespace, account["metadata"]["name"]),
                "aud": list(audiences),
                "exp": start + seconds,
                "iat": start,
                "nbf": start,
                "jti": token_id or new_uid(),
                "kubernetes.io": private,
            }
        )

    def legacy(self, account: Object, secret: Object) -> str:
        """The token that a Secret of type kubernetes.io/service-account-token holds: it has no end of its own."""
        metadata = account["metadata"]
        prefix = "kubernetes.io/serviceaccount/"
        return self.sign(
            {
                "iss": LEGACY_ISSUER,
                f"{prefix}namespace": metadata["namespace"],
                f"{prefix}secret.name": secret["metadata"]["name"],
                f"{prefix}service-account.name": metadata["name"],
                f"{prefix}service-account.uid": metadata["uid"],
                "sub": user_name(metadata["namespace"], metadata["name"]),
            }
        )


def _reference(obj: Object) -> dict[str, str]:
    """A node that is gone has a name alone."""
    metadata = obj["metadata"]
    found = {"name": metadata["name"]}
    if metadata.get("uid"):
        found["uid"] = metadata["uid"]
    return found


def openid_configuration(issuer: str, jwks_uri: str, public_keys: Sequence[keys.PublicKey]) -> bytes:
    """The document at /.well-known/openid-configuration."""
    algorithms = sorted({jose.algorithm_of(key) for key in public_keys})
    return orjson.dumps(
        {
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }
    )


def jwks(public_keys: Sequence[keys.PublicKey]) -> bytes:
    """The document at /openid/v1/jwks: every key that tokens are checked with, each once."""
    by_id = {keys.key_id(key): key for key in public_keys}
    entries = [jose.public_jwk(key, jose.algorithm_of(key), key_id) for key_id, key in by_id.items()]
    return orjson.dumps({"keys": entries})
