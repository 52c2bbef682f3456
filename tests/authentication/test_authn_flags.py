"""Flags of authentication that make no sense, alone or together."""

from __future__ import annotations

from typing import Any

import pytest
from people import World, authority

OVERLAP = (
    "--requestheader-client-ca-file and --client-ca-file contain overlapping certificates; "
    "--requestheader-allowed-names must be specified to ensure regular client certificates cannot set "
    "authenticating proxy headers for arbitrary users"
)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"oidc_groups_claim": "groups"},
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
        ),
        (
            {"oidc_issuer_url": "https://i", "authentication_config": "/none"},
            "authentication-config file and oidc-* flags are mutually exclusive",
        ),
        (
            {"oidc_issuer_url": "http://i", "oidc_client_id": "x", "service_account_issuer": ("http://i",)},
            '--oidc-issuer-url: invalid authentication configuration: [jwt[0].issuer.url: Invalid value: "http://i": '
            'URL must not overlap with disallowed issuers: [http://i], jwt[0].issuer.url: Invalid value: "http://i": '
            "URL scheme must be https]",
        ),
        (
            {"oidc_issuer_url": "https://i", "oidc_client_id": "x", "oidc_signing_algs": ("RS256", "HS256")},
            '--oidc-issuer-url: oidc: unsupported signing alg: "HS256"',
        ),
        ({"service_account_issuer": ("",)}, "service-account-issuer should not be an empty string"),
        ({"service_account_issuer": ("a", "b", "a")}, 'service-account-issuer "a" is already specified'),
        (
            {"service_account_issuer": ("https://a b",)},
            """service-account-issuer "https://a b" contained a ':' but was not a valid URL: parse "https://a b": """
            'invalid character " " in host name',
        ),
        (
            {"service_account_jwks_uri": "http://a/jwks"},
            "service-account-jwks-uri requires https scheme, parsed as: http://a/jwks",
        ),
        (
            {"service_account_jwks_uri": ":"},
            'service-account-jwks-uri must be a valid URL: parse ":": missing protocol scheme',
        ),
        (
            {"requestheader_username_headers": ("X-Remote-User", " "), "requestheader_allowed_names": ("",)},
            'empty value in "requestheader-username-headers"; empty value in "requestheader-allowed-names"',
        ),
        (
            {"requestheader_uid_headers": ("X-Uid",)},
            "--requestheader-uid-headers is set without specifying the standard X-Remote-Uid header - API aggregation "
            "will not work",
        ),
    ],
)
async def test_what_is_wrong_with_flags_is_told(world: World, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        await world.start(**options)
    assert str(caught.value) == said


async def test_users_of_one_authority_are_no_proxies_for_all_others(world: World) -> None:
    ca, front = authority(), authority("front")
    files = {
        "client_ca_file": world.write("ca.crt", ca.pem),
        "requestheader_client_ca_file": world.write("front.crt", front.pem + ca.pem),
        "requestheader_username_headers": ("X-Remote-User",),
    }
    with pytest.raises(ValueError, match=OVERLAP):
        await world.start(**files)
    await world.start(**files, requestheader_allowed_names=("front-proxy-client",))


async def test_the_anonymous_are_told_of_in_one_place(world: World) -> None:
    file = world.write(
        "authentication.yaml",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true}\n",
    )
    with pytest.raises(ValueError, match=r"^anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous"):
        await world.start(authentication_config=file, anonymous_auth=True)
    await world.start(authentication_config=file)
