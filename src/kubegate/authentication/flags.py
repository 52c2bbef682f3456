"""Flags of authentication that contradict each other, or have values that are none. Texts are kube-apiserver's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kubegate.api.field import quoted

if TYPE_CHECKING:
    from kubegate.authentication.build import AuthenticationOptions

_OVERLAP = (
    "--requestheader-client-ca-file and --client-ca-file contain overlapping certificates; "
    "--requestheader-allowed-names must be specified to ensure regular client certificates cannot set "
    "authenticating proxy headers for arbitrary users"
)
_REQUEST_HEADER_LISTS = (
    "requestheader_username_headers",
    "requestheader_group_headers",
    "requestheader_extra_headers_prefix",
    "requestheader_allowed_names",
    "requestheader_uid_headers",
)

_PLAIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?")
"""URLs as most are, for which nothing need be loaded that reads others."""


def check(options: AuthenticationOptions) -> None:
    """Raises ValueError with all that is wrong."""
    problems = [*_oidc(options), *_issuers(options), *_request_headers(options)]
    if problems:
        raise ValueError("; ".join(problems))


def _oidc(options: AuthenticationOptions) -> Iterator[str]:
    left_out = type(options)()
    names = (name for name in options.__struct_fields__ if name.startswith("oidc_"))
    given = any(getattr(options, name) != getattr(left_out, name) for name in names)
    if given and options.authentication_config:
        yield "authentication-config file and oidc-* flags are mutually exclusive"
    elif given and not (options.oidc_issuer_url and options.oidc_client_id):
        yield "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"


def _issuers(options: AuthenticationOptions) -> Iterator[str]:
    seen: set[str] = set()
    for issuer in options.service_account_issuer:
        wrong = _url_problem(issuer) if ":" in issuer else ""
        if wrong:
            yield f"service-account-issuer {quoted(issuer)} contained a ':' but was not a valid URL: {wrong}"
        elif not issuer:
            yield "service-account-issuer should not be an empty string"
        elif issuer in seen:
            yield f"service-account-issuer {quoted(issuer)} is already specified"
        seen.add(issuer)
    uri = options.service_account_jwks_uri
    wrong = _url_problem(uri) if uri else ""
    if wrong:
        yield f"service-account-jwks-uri must be a valid URL: {wrong}"
    elif uri and not uri.lower().startswith("https:"):
        yield f"service-account-jwks-uri requires https scheme, parsed as: {uri}"


def _url_problem(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return ""
    from kubegate.cel.libraries import urls

    try:
        urls.parse(text, reference=True)
    except urls.URLError as error:
        return str(error)
    return ""


def _request_headers(options: AuthenticationOptions) -> Iterator[str]:
    for name in _REQUEST_HEADER_LISTS:
        values: tuple[str, ...] = getattr(options, name)
        if any(not value.strip() for value in values):
            yield f"empty value in {quoted(name.replace('_', '-'))}"
    uid_headers = options.requestheader_uid_headers
    if uid_headers and "x-remote-uid" not in map(str.lower, uid_headers):
        yield (
            "--requestheader-uid-headers is set without specifying the standard X-Remote-Uid header - API aggregation "
            "will not work"
        )
    if options.client_ca_file and options.requestheader_client_ca_file and not options.requestheader_allowed_names:
        shared = _authorities(options.client_ca_file) & _authorities(options.requestheader_client_ca_file)
        if shared:
            yield _OVERLAP


def _authorities(path: str) -> frozenset[bytes]:
    """Nothing where the file cannot be read, of which whoever reads it next will tell."""
    from kubegate.pki import certificates

    try:
        found = certificates.parse_certificates(Path(path).read_bytes(), path)
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(certificates.der, found))
