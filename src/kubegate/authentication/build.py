"""All of a server's ways to authenticate, put together from its options in one visible place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from kubegate.api.clock import Clock, SystemClock
from kubegate.authentication import Authenticator, TokenAuthenticator, flags, signing
from kubegate.authentication.anonymous import AnonymousAuthenticator
from kubegate.authentication.bearer import BearerAuthenticator, WebSocketAuthenticator
from kubegate.authentication.bootstrap_tokens import BootstrapTokenAuthenticator
from kubegate.authentication.front_proxy import FrontProxyAuthenticator
from kubegate.authentication.impersonation import Impersonator, Refuse
from kubegate.authentication.secrets import Digest
from kubegate.authentication.service_accounts import (
    BoundTokenAuthenticator,
    LegacyTokenAuthenticator,
    MarkUsed,
    PublicKeys,
)
from kubegate.authentication.signing import TokenSigner
from kubegate.authentication.token_file import TokenFileAuthenticator
from kubegate.authentication.union import AudienceAgnostic, TokenUnion, Union
from kubegate.authentication.watched import WatchedFile, naming
from kubegate.authentication.x509 import Authorities, Verifier, X509Authenticator
from kubegate.pki import keys
from kubegate.storage import Reader

if TYPE_CHECKING:
    from kubegate.authentication.config import AuthenticationConfiguration
    from kubegate.transport.metrics import Metric

log = logging.getLogger("kubegate.authentication")

DISCOVERY_PATH = "/.well-known/openid-configuration"
RELOAD_SECONDS = 5.0
_GOOD_TOKEN_TTL = 10.0
"""kube-apiserver asks nobody about a token again that was good within these seconds. Here that is so for those that a
webhook knows; what one is told of by the store alone is looked at each time."""


class AuthenticationOptions(Struct, frozen=True, kw_only=True):
    """kube-apiserver's flags, `-` as `_`; paths as text ("": not given), durations in seconds."""

    client_ca_file: str = ""
    token_auth_file: str = ""
    basic_auth_file: str = ""
    anonymous_auth: bool | None = None
    authentication_config: str = ""
    enable_bootstrap_token_auth: bool = False
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: tuple[str, ...] = ()
    requestheader_username_headers: tuple[str, ...] = ()
    requestheader_uid_headers: tuple[str, ...] = ()
    requestheader_group_headers: tuple[str, ...] = ()
    requestheader_extra_headers_prefix: tuple[str, ...] = ()
    authentication_token_webhook_config_file: str = ""
    authentication_token_webhook_version: str = "v1beta1"
    authentication_token_webhook_cache_ttl: float = 120.0
    api_audiences: tuple[str, ...] = ()
    service_account_issuer: tuple[str, ...] = ()
    service_account_key_file: tuple[str, ...] = ()
    service_account_signing_key_file: str = ""
    service_account_jwks_uri: str = ""
    service_account_lookup: bool = True
    service_account_max_token_expiration: float = 0.0
    service_account_extend_token_expiration: bool = True
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claim: tuple[str, ...] = ()
    oidc_signing_algs: tuple[str, ...] = ("RS256",)
    oidc_ca_file: str = ""
    aws_iam_cluster_id: str = ""
    aws_iam_partition: tuple[str, ...] = ()
    aws_iam_sts_endpoint: tuple[str, ...] = ()
    aws_iam_sts_cafile: str = ""
    aws_iam_sts_qps: int = 200
    aws_iam_backend_mode: tuple[str, ...] = ("EKSConfigMap",)
    aws_iam_mapping_file: str = ""
    aws_iam_private_dns_file: str = ""

    @classmethod
    def from_flags(cls, given: Any) -> AuthenticationOptions:
        """From any object that has (some of) these attributes."""
        found: dict[str, Any] = {}
        for name in (name for name in cls.__struct_fields__ if hasattr(given, name)):
            value = getattr(given, name)
            found[name] = tuple(value) if isinstance(value, list) else value
        return cls(**found)


_NONE_GIVEN = AuthenticationOptions()
_IAM_FLAGS = tuple(name for name in AuthenticationOptions.__struct_fields__ if name.startswith("aws_iam_"))


class Dependencies(Struct, frozen=True):
    """What authenticators look at. `mark_token_used` notes on a Secret the day on which its token was used.

    `more_tokens` makes, for the API's audiences, authenticators that are asked about tokens after those of flags.
    `good_authorities` are files of certificates that were found good before: they are looked into by `load`, or when
    somebody shows a certificate.
    """

    reader: Reader
    clock: Clock = field(default_factory=SystemClock)
    mark_token_used: MarkUsed | None = None
    reload_seconds: float = RELOAD_SECONDS
    more_tokens: Callable[[tuple[str, ...]], Sequence[TokenAuthenticator]] = lambda audiences: ()
    good_authorities: frozenset[Path] = frozenset()


class Document(Struct, frozen=True):
    """What is served at a path to those who may read it."""

    content_type: str
    body: bytes
    cache_control: str = "public, max-age=3600"


class BuiltAuthentication(Struct):
    """What a server needs of this room. `close` it when done: it watches files and issuers in the background.

    `authenticator` is for requests (TokenReview uses it as well); `token_authenticator` knows tokens alone.
    `signer` makes service account tokens; None where there is no signing key.
    """

    options: AuthenticationOptions
    authenticator: Authenticator
    token_authenticator: TokenAuthenticator
    api_audiences: tuple[str, ...]
    service_account_issuers: tuple[str, ...]
    public_keys: tuple[keys.PublicKey, ...]
    signer: TokenSigner | None
    client_ca_pem: bytes = b""
    requestheader_ca_pem: bytes = b""
    metrics: Sequence[Metric] = ()
    _files: list[WatchedFile[Any]] = field(default_factory=list)
    _ends: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def impersonator(self, refuse: Refuse[Any]) -> Impersonator[Any]:
        """`refuse(attributes)` gives the 403 that a request with these attributes would get, None where it may."""
        return Impersonator(refuse)

    def documents(self, address: Callable[[], str]) -> dict[str, Callable[[], Document]]:
        """The issuer's documents by path; {} where no tokens are issued. `address` is HOST:PORT, as clients see it."""
        if self.signer is None or not self.signer.issuer.startswith("https://"):
            return {}
        issuer = self.signer.issuer

        @cache
        def key_set() -> Document:
            return Document("application/jwk-set+json", signing.jwks(self.public_keys))

        def configuration() -> Document:
            uri = self.options.service_account_jwks_uri or f"https://{address()}{signing.JWKS_PATH}"
            body = signing.openid_configuration(issuer, uri, self.public_keys)
            return Document("application/json", body)

        served: dict[str, Callable[[], Document]] = {DISCOVERY_PATH: configuration, signing.JWKS_PATH: key_set}
        # kube-apiserver's router takes a slash at the end as well
        return served | {f"{path}/": make for path, make in served.items()}

    def load(self) -> None:
        """Look into what was left for later, before somebody waits for it. It blocks."""
        for file in self._files:
            if isinstance(file.value, Authorities):
                try:
                    file.value.pool  # noqa: B018
                except ValueError as error:  # it was changed between two looks
                    log.error("no client certificate can be trusted: %s", error)

    async def reload(self) -> None:
        """Look at every file now, and put in force what has changed."""
        changed = await asyncio.to_thread(lambda: [file for file in self._files if file.check()])
        for file in changed:
            file.apply()

    async def close(self) -> None:
        """End what runs in the background; calls in flight fail."""
        await self._ends.aclose()


async def build(options: AuthenticationOptions, dependencies: Dependencies) -> BuiltAuthentication:
    """Read the files, make the authenticators, and begin to watch files and issuers.

    Raises ValueError: the flag, and what is wrong with it or with its file; nothing is left running then.
    """
    async with contextlib.AsyncExitStack() as ends:
        built = await _build(options, dependencies, ends)
        built._ends = ends.pop_all()
    return built


async def _build(
    options: AuthenticationOptions, dependencies: Dependencies, ends: contextlib.AsyncExitStack
) -> BuiltAuthentication:
    flags.check(options)
    clock, reader = dependencies.clock, dependencies.reader
    api_audiences = options.api_audiences or options.service_account_issuer
    signer, public_keys = _service_account_keys(options)
    requests: list[Authenticator] = []
    tokens: list[TokenAuthenticator] = []
    files: list[WatchedFile[Any]] = []
    digest = Digest()

    def agnostic(authenticator: TokenAuthenticator) -> TokenAuthenticator:
        return AudienceAgnostic(authenticator, api_audiences)

    # the order is kube-apiserver's: what is told with a connection, then what is known here, then what others know
    if options.requestheader_client_ca_file:
        if not options.requestheader_username_headers:
            raise ValueError("--requestheader-client-ca-file needs --requestheader-username-headers")
        with naming("--requestheader-client-ca-file"):
            path = Path(options.requestheader_client_ca_file)
            front = Verifier(path, clock, known_good=path in dependencies.good_authorities)
        files.append(front.file)
        requests.append(
            FrontProxyAuthenticator(
                front,
                clock,
                allowed_names=options.requestheader_allowed_names,
                username_headers=options.requestheader_username_headers,
                uid_headers=options.requestheader_uid_headers,
                group_headers=options.requestheader_group_headers,
                extra_prefixes=options.requestheader_extra_headers_prefix,
            )
        )
    if options.client_ca_file:
        with naming("--client-ca-file"):
            path = Path(options.client_ca_file)
            clients = Verifier(path, clock, known_good=path in dependencies.good_authorities)
        files.append(clients.file)
        requests.append(X509Authenticator(clients, clock))
    if options.basic_auth_file:
        from kubegate.authentication import basic_auth

        log.warning(basic_auth.WARNING)
        with naming("--basic-auth-file"):
            basic = basic_auth.BasicAuthenticator(Path(options.basic_auth_file))
        files.append(basic.file)
        requests.append(basic)

    if options.token_auth_file:
        with naming("--token-auth-file"):
            static = TokenFileAuthenticator(Path(options.token_auth_file), digest)
        files.append(static.file)
        tokens.append(agnostic(static))
    if public_keys:
        checked = PublicKeys(public_keys)
        tokens.append(
            LegacyTokenAuthenticator(
                checked,
                api_audiences,
                reader,
                clock,
                lookup=options.service_account_lookup,
                mark_used=dependencies.mark_token_used,
                digest=digest,
            )
        )
        if options.service_account_issuer:
            issuers = options.service_account_issuer
            tokens.append(BoundTokenAuthenticator(issuers, checked, api_audiences, reader, clock, digest=digest))
    if options.enable_bootstrap_token_auth:
        tokens.append(agnostic(BootstrapTokenAuthenticator(reader, clock)))

    configuration, file = _jwt_configuration(options)
    if configuration is not None and (configuration.jwt or file is not None):
        from kubegate.authentication.oidc import JwtAuthenticators

        issuers_known = JwtAuthenticators(clock, digest)
        ends.push_async_callback(issuers_known.close)
        issuers_known.use(configuration.jwt)
        tokens.append(agnostic(issuers_known))
        if file is not None:
            watched = file
            watched.on_change = lambda: issuers_known.use(watched.value.jwt)
            files.append(watched)

    metrics: list[Metric] = []
    if options.aws_iam_cluster_id:
        from kubegate.authentication import aws_build

        iam = aws_build.build(options, reader, clock, digest, files)
        tokens.append(agnostic(iam))
        metrics += iam.metrics
        ends.push_async_callback(iam.close)
    elif given := [name for name in _IAM_FLAGS if getattr(options, name) != getattr(_NONE_GIVEN, name)]:
        raise ValueError(f"--{given[0].replace('_', '-')} needs --aws-iam-cluster-id")

    if options.authentication_token_webhook_config_file:
        from kubegate.authentication import webhook

        with naming("--authentication-token-webhook-config-file"):
            path = Path(options.authentication_token_webhook_config_file)
            asked = webhook.WebhookTokenAuthenticator(
                webhook.endpoint(path).within(webhook.REQUEST_TIMEOUT),
                clock,
                version=options.authentication_token_webhook_version,
                cache_ttl=options.authentication_token_webhook_cache_ttl,
                at_least=_GOOD_TOKEN_TTL,
                api_audiences=api_audiences,
                digest=digest,
            )
        tokens.append(asked)
        ends.push_async_callback(asked.close)

    tokens += dependencies.more_tokens(api_audiences)
    token_union = TokenUnion(tokens, digest, clock)
    if tokens:
        requests += [BearerAuthenticator(token_union), WebSocketAuthenticator(token_union)]
    anonymous = _anonymous(options, configuration)
    built = BuiltAuthentication(
        options=options,
        authenticator=Union(requests, anonymous, api_audiences),
        token_authenticator=token_union,
        api_audiences=api_audiences,
        service_account_issuers=options.service_account_issuer,
        public_keys=public_keys,
        signer=signer,
        client_ca_pem=clients.file.value.pem if options.client_ca_file else b"",
        requestheader_ca_pem=front.file.value.pem if options.requestheader_client_ca_file else b"",
        metrics=metrics,
        _files=files,
    )
    if files:
        watching = asyncio.create_task(_watch(built, dependencies), name="authentication-files")
        ends.push_async_callback(_cancel, watching)
    return built


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _watch(built: BuiltAuthentication, dependencies: Dependencies) -> None:
    while True:
        await dependencies.clock.sleep(dependencies.reload_seconds)
        try:
            await built.reload()
        except Exception:
            log.exception("authentication files could not be looked at")


def _service_account_keys(options: AuthenticationOptions) -> tuple[TokenSigner | None, tuple[keys.PublicKey, ...]]:
    """The signer, and the keys to check with: those given, else the signing key's own public half."""
    found: list[keys.PublicKey] = []
    with naming("--service-account-key-file"):
        for path in options.service_account_key_file:
            found += keys.load_public(Path(path))
    if not options.service_account_signing_key_file:
        return None, tuple(found)
    if not options.service_account_issuer:
        raise ValueError("--service-account-signing-key-file needs --service-account-issuer")
    with naming("--service-account-signing-key-file"):
        private = keys.load_private(Path(options.service_account_signing_key_file))
    return TokenSigner(private, options.service_account_issuer[0]), tuple(found) or (private.public_key(),)


def _jwt_configuration(
    options: AuthenticationOptions,
) -> tuple[AuthenticationConfiguration | None, WatchedFile[AuthenticationConfiguration] | None]:
    """What flags or a file say of issuers and of the anonymous, and the file to watch; None where neither is given."""
    if not options.authentication_config and not options.oidc_issuer_url:
        return None, None
    # here, because most servers have neither
    from kubegate.authentication.config import from_oidc_flags, load

    if not options.authentication_config:
        with naming("--oidc-issuer-url"):
            return from_oidc_flags(options), None
    own_issuers = options.service_account_issuer
    with naming("--authentication-config"):
        path = Path(options.authentication_config)
        file = WatchedFile(path, lambda content: load(content, str(path), own_issuers))
    return file.value, file


def _anonymous(
    options: AuthenticationOptions, configuration: AuthenticationConfiguration | None
) -> AnonymousAuthenticator | None:
    """What the configuration says; else the flag, which is on where nobody says otherwise."""
    chosen = configuration.anonymous if configuration is not None else None
    if chosen is not None and options.anonymous_auth is not None:
        raise ValueError(
            "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in "
            "authentication configuration file"
        )
    if chosen is None:
        return AnonymousAuthenticator() if options.anonymous_auth is not False else None
    if not chosen.enabled:
        return None
    return AnonymousAuthenticator(chosen.paths)
