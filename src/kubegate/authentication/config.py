"""AuthenticationConfiguration (apiserver.config.k8s.io v1, v1beta1): issuers of JWTs, and who may be anonymous where.

`load` reads and checks a file and compiles its CEL expressions; the --oidc-* flags become the same values. Follows
k8s.io/apiserver/pkg/apis/apiserver (types and validation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kubegate.api import field
from kubegate.api.field import FieldError
from kubegate.api.names import is_domain_prefixed_path
from kubegate.authentication.jose import ALGORITHMS

if TYPE_CHECKING:
    from kubegate.authentication.build import AuthenticationOptions
    from kubegate.cel import Program

API_VERSIONS = tuple(f"apiserver.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
MAX_ISSUERS = 64
SIGNING_ALGORITHMS = ALGORITHMS - {"EdDSA"}
"""What issuers may sign with; go-oidc v2 knows no EdDSA."""


class BadConfiguration(ValueError):
    """What is wrong with an AuthenticationConfiguration; all of it, each with its field."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """`paths` None: everywhere."""

    enabled: bool
    paths: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs, and for whom. `authority` is PEM (None: the system's authorities)."""

    url: str
    audiences: tuple[str, ...]
    discovery_url: str = ""
    authority: bytes | None = None


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where a value comes from: a claim, with a prefix before it, or a CEL expression; neither where both are empty."""

    claim: str = ""
    prefix: str = ""
    expression: Program | None = None

    @property
    def given(self) -> bool:
        return bool(self.claim) or self.expression is not None


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """A claim must have a value, or an expression over `claims` must hold; `message` tells why not."""

    claim: str = ""
    required_value: str = ""
    expression: Program | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class UserRule:
    """An expression over `user` must hold."""

    expression: Program
    message: str = ""


@dataclass(frozen=True, slots=True)
class JwtAuthenticator:
    """One entry of `jwt`. `algorithms` are those that its tokens may be signed with."""

    issuer: Issuer
    username: Mapped
    groups: Mapped = Mapped()
    uid: Mapped = Mapped()
    extra: tuple[tuple[str, Program], ...] = ()
    claim_rules: tuple[ClaimRule, ...] = ()
    user_rules: tuple[UserRule, ...] = ()
    algorithms: frozenset[str] = SIGNING_ALGORITHMS


@dataclass(frozen=True, slots=True)
class AuthenticationConfiguration:
    """`anonymous` None: the file does not say."""

    jwt: tuple[JwtAuthenticator, ...]
    anonymous: Anonymous | None


def from_oidc_flags(options: AuthenticationOptions) -> JwtAuthenticator:
    """The one issuer of the --oidc-* flags. Raises BadConfiguration, OSError."""
    from pathlib import Path

    url, claim = options.oidc_issuer_url, options.oidc_username_claim or "sub"
    if not options.oidc_client_id:
        raise BadConfiguration("--oidc-client-id must be specified with --oidc-issuer-url")
    if not url.startswith("https://"):
        raise BadConfiguration("'oidc-issuer-url' must use 'https' scheme")
    prefix = options.oidc_username_prefix
    if prefix == "-":
        prefix = ""
    elif not prefix and claim != "email":
        # so that users of an issuer are not taken for others by accident
        prefix = f"{url}#"
    rules = []
    for pair in options.oidc_required_claim:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadConfiguration(f"--oidc-required-claim: {pair!r} is not of the form key=value")
        rules.append(ClaimRule(name, value))
    unknown = sorted(set(options.oidc_signing_algs) - SIGNING_ALGORITHMS)
    if unknown:
        raise BadConfiguration(f"--oidc-signing-algs: unsupported signing alg: {', '.join(unknown)}")
    authority = Path(options.oidc_ca_file).read_bytes() if options.oidc_ca_file else None
    return JwtAuthenticator(
        issuer=Issuer(url, (options.oidc_client_id,), authority=authority),
        username=Mapped(claim, prefix),
        groups=Mapped(options.oidc_groups_claim, options.oidc_groups_prefix if options.oidc_groups_claim else ""),
        claim_rules=tuple(rules),
        algorithms=frozenset(options.oidc_signing_algs),
    )


def load(content: bytes, source: str, own_issuers: Sequence[str] = ()) -> AuthenticationConfiguration:
    """Read a configuration file. `own_issuers` are the server's own, which no entry may claim to be.

    Raises BadConfiguration with every error that was found.
    """
    import yaml

    from kubegate.api import yamlcodec

    try:
        document = yamlcodec.load(content)
    except yaml.YAMLError as error:
        raise BadConfiguration(f"{source}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(document, dict) or document.get("kind") != "AuthenticationConfiguration":
        raise BadConfiguration(f"{source}: expected an object of kind AuthenticationConfiguration")
    if document.get("apiVersion") not in API_VERSIONS:
        raise BadConfiguration(
            f'{source}: apiVersion "{document.get("apiVersion")}" is not one of {", ".join(API_VERSIONS)}'
        )
    reader = _Reader(own_issuers)
    found = reader.configuration(document)
    if reader.errors:
        raise BadConfiguration(f"{source}: {field.aggregate(map(str, reader.errors))}")
    return found


class _Reader:
    """Reads the document and gathers what is wrong in it."""

    def __init__(self, own_issuers: Sequence[str]) -> None:
        self.errors: list[FieldError] = []
        self._own_issuers = own_issuers
        self._compile: Callable[..., Any] | None = None

    # ------------------------------------------------------------------ shapes
    def _mapping(self, value: Any, path: str, allowed: Sequence[str]) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.errors.append(field.invalid(path, value, "must be a mapping"))
            return {}
        for name in value:
            if name not in allowed:
                self.errors.append(FieldError("FieldValueInvalid", field.child(path, str(name)), "unknown field"))
        return value

    def _list(self, value: Any, path: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.errors.append(field.invalid(path, value, "must be a list"))
            return []
        return value

    def _text(self, mapping: Mapping[str, Any], name: str, path: str) -> str:
        value = mapping.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.errors.append(field.invalid(field.child(path, name), value, "must be a text"))
            return ""
        return value

    # ------------------------------------------------------------------ the document
    def configuration(self, document: Mapping[str, Any]) -> AuthenticationConfiguration:
        self._mapping(document, "", ("apiVersion", "kind", "jwt", "anonymous"))
        entries = self._list(document.get("jwt"), "jwt")
        if len(entries) > MAX_ISSUERS:
            self.errors.append(field.too_many("jwt", len(entries), MAX_ISSUERS))
        authenticators = [self._jwt(entry, field.index("jwt", position)) for position, entry in enumerate(entries)]
        seen: dict[str, set[str]] = {"url": set(), "discoveryURL": set()}
        for position, authenticator in enumerate(authenticators):
            issuer = authenticator.issuer
            path = f"{field.index('jwt', position)}.issuer"
            for name, url in (("url", issuer.url), ("discoveryURL", issuer.discovery_url)):
                if url and url in seen[name]:
                    self.errors.append(field.duplicate(f"{path}.{name}", url))
                seen[name].add(url)
        return AuthenticationConfiguration(tuple(authenticators), self._anonymous(document.get("anonymous")))

    def _anonymous(self, value: Any) -> Anonymous | None:
        if value is None:
            return None
        found = self._mapping(value, "anonymous", ("enabled", "conditions"))
        enabled = found.get("enabled") is True
        if found.get("enabled") not in (None, True, False):
            self.errors.append(field.invalid("anonymous.enabled", found["enabled"], "must be true or false"))
        conditions = self._list(found.get("conditions"), "anonymous.conditions")
        if conditions and not enabled:
            path = "anonymous.conditions"
            self.errors.append(
                field.invalid(path, conditions, "enabled should be set to true when conditions are defined")
            )
        paths = []
        for position, condition in enumerate(conditions):
            path = field.index("anonymous.conditions", position)
            paths.append(self._text(self._mapping(condition, path, ("path",)), "path", path))
        return Anonymous(enabled, tuple(paths) if conditions else None)

    def _jwt(self, value: Any, path: str) -> JwtAuthenticator:
        known = ("issuer", "claimValidationRules", "claimMappings", "userValidationRules")
        entry = self._mapping(value, path, known)
        issuer = self._issuer(entry.get("issuer"), f"{path}.issuer")
        emails = _EmailUse()
        rules = [
            self._claim_rule(rule, field.index(f"{path}.claimValidationRules", position), emails)
            for position, rule in enumerate(
                self._list(entry.get("claimValidationRules"), f"{path}.claimValidationRules")
            )
        ]
        mappings_path = f"{path}.claimMappings"
        mappings = self._mapping(entry.get("claimMappings"), mappings_path, ("username", "groups", "uid", "extra"))
        username = self._mapped(mappings.get("username"), f"{mappings_path}.username", prefixed=True)
        emails.saw_username(username)
        if not username.given and not any(e.field.startswith(f"{mappings_path}.username") for e in self.errors):
            self.errors.append(field.required(f"{mappings_path}.username", "claim or expression is required"))
        groups = self._mapped(mappings.get("groups"), f"{mappings_path}.groups", prefixed=True)
        uid = self._mapped(mappings.get("uid"), f"{mappings_path}.uid", prefixed=False)
        extra = self._extra(mappings.get("extra"), f"{mappings_path}.extra", emails)
        if emails.unverified:
            text = (
                "claims.email_verified must be used in claimMappings.username.expression or "
                "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is "
                "used in claimMappings.username.expression"
            )
            self.errors.append(field.invalid(f"{mappings_path}.username.expression", emails.username, text))
        self._check_repeated(entry.get("claimValidationRules"), f"{path}.claimValidationRules")
        self._check_repeated(entry.get("userValidationRules"), f"{path}.userValidationRules")
        user_rules = [
            self._user_rule(rule, field.index(f"{path}.userValidationRules", position))
            for position, rule in enumerate(self._list(entry.get("userValidationRules"), f"{path}.userValidationRules"))
        ]
        return JwtAuthenticator(
            issuer=issuer,
            username=username,
            groups=groups,
            uid=uid,
            extra=extra,
            claim_rules=tuple(rules),
            user_rules=tuple(rule for rule in user_rules if rule is not None),
        )

    def _issuer(self, value: Any, path: str) -> Issuer:
        known = (
            "url",
            "discoveryURL",
            "certificateAuthority",
            "audiences",
            "audienceMatchPolicy",
            "egressSelectorType",
        )
        entry = self._mapping(value, path, known)
        url = self._text(entry, "url", path)
        self._check_url(url, f"{path}.url", required=True)
        if url in self._own_issuers:
            text = f"URL must not overlap with disallowed issuers: {_listed(self._own_issuers)}"
            self.errors.append(field.invalid(f"{path}.url", url, text))
        discovery = self._text(entry, "discoveryURL", path)
        if discovery:
            self._check_url(discovery, f"{path}.discoveryURL", required=False)
            if discovery.rstrip("/") == url.rstrip("/"):
                self.errors.append(
                    field.invalid(f"{path}.discoveryURL", discovery, "discoveryURL must be different from URL")
                )
        egress = entry.get("egressSelectorType")
        if egress not in (None, "", "controlplane", "cluster"):
            text = "egress selector must be either controlplane or cluster"
            self.errors.append(field.invalid(f"{path}.egressSelectorType", egress, text))
        audiences = [a for a in self._list(entry.get("audiences"), f"{path}.audiences")]
        if not audiences:
            self.errors.append(field.required(f"{path}.audiences", f"at least one {path}.audiences is required"))
        for position, audience in enumerate(audiences):
            place = field.index(f"{path}.audiences", position)
            if not isinstance(audience, str) or not audience:
                self.errors.append(field.required(place))
            elif audience in audiences[:position]:
                self.errors.append(field.duplicate(place, audience))
        policy = self._text(entry, "audienceMatchPolicy", path)
        if len(audiences) > 1 and policy != "MatchAny":
            text = "audienceMatchPolicy must be MatchAny for multiple audiences"
            self.errors.append(field.invalid(f"{path}.audienceMatchPolicy", policy, text))
        elif policy not in ("", "MatchAny"):
            text = "audienceMatchPolicy must be empty or MatchAny for single audience"
            self.errors.append(field.invalid(f"{path}.audienceMatchPolicy", policy, text))
        return Issuer(
            url,
            tuple(str(audience) for audience in audiences),
            discovery,
            self._authority(self._text(entry, "certificateAuthority", path), f"{path}.certificateAuthority"),
        )

    def _check_url(self, url: str, path: str, *, required: bool) -> None:
        if not url:
            if required:
                self.errors.append(field.required(path))
            return
        parts = urlsplit(url)
        if parts.scheme != "https":
            self.errors.append(field.invalid(path, url, "URL scheme must be https"))
        if parts.username is not None or parts.password is not None:
            self.errors.append(field.invalid(path, url, "URL must not contain a username or password"))
        if parts.query:
            self.errors.append(field.invalid(path, url, "URL must not contain a query"))
        if parts.fragment:
            self.errors.append(field.invalid(path, url, "URL must not contain a fragment"))

    def _authority(self, pem: str, path: str) -> bytes | None:
        if not pem:
            return None
        from kubegate.pki.certificates import BadCertificate, parse_certificates

        try:
            parse_certificates(pem.encode())
        except BadCertificate:
            text = "data does not contain any valid RSA or ECDSA certificates"
            self.errors.append(field.invalid(path, "<omitted>", text))
            return None
        return pem.encode()

    # ------------------------------------------------------------------ rules and mappings
    def _claim_rule(self, value: Any, path: str, emails: _EmailUse) -> ClaimRule:
        entry = self._mapping(value, path, ("claim", "requiredValue", "expression", "message"))
        claim, wanted = self._text(entry, "claim", path), self._text(entry, "requiredValue", path)
        expression, message = self._text(entry, "expression", path), self._text(entry, "message", path)
        emails.saw(expression)
        if claim and expression:
            self.errors.append(field.invalid(path, claim, "claim and expression can't both be set"))
        elif not claim and not expression:
            self.errors.append(field.required(path, "claim or expression is required"))
        elif claim and message:
            text = "may not be specified when claim is set"
            self.errors.append(field.invalid(f"{path}.message", message, text))
        elif expression and wanted:
            text = "may not be specified when expression is set"
            self.errors.append(field.invalid(f"{path}.requiredValue", wanted, text))
        elif expression:
            return ClaimRule(
                expression=self._claims_program(expression, f"{path}.expression", rule=True), message=message
            )
        return ClaimRule(claim, wanted)

    def _check_repeated(self, rules: Any, path: str) -> None:
        """No rule may stand there twice."""
        seen = set()
        for position, rule in enumerate(rules if isinstance(rules, list) else ()):
            for name in ("claim", "expression"):
                value = rule.get(name) if isinstance(rule, dict) else None
                if value and (name, str(value)) in seen:
                    self.errors.append(field.duplicate(f"{field.index(path, position)}.{name}", value))
                seen.add((name, str(value)))

    def _user_rule(self, value: Any, path: str) -> UserRule | None:
        entry = self._mapping(value, path, ("expression", "message"))
        expression = self._text(entry, "expression", path)
        if not expression:
            self.errors.append(field.required(f"{path}.expression"))
            return None
        program = self._user_program(expression, f"{path}.expression")
        return UserRule(program, self._text(entry, "message", path)) if program is not None else None

    def _mapped(self, value: Any, path: str, *, prefixed: bool) -> Mapped:
        entry = self._mapping(value, path, ("claim", "prefix", "expression") if prefixed else ("claim", "expression"))
        claim, expression = self._text(entry, "claim", path), self._text(entry, "expression", path)
        prefix = self._text(entry, "prefix", path)
        has_prefix = entry.get("prefix") is not None
        if claim and expression:
            self.errors.append(field.invalid(path, "", "claim and expression can't both be set"))
        elif expression:
            if has_prefix:
                text = "may not be specified when expression is set"
                self.errors.append(field.invalid(f"{path}.prefix", prefix, text))
            return Mapped(expression=self._claims_program(expression, f"{path}.expression"))
        elif claim and prefixed and not has_prefix:
            text = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            self.errors.append(field.required(f"{path}.prefix", text))
        elif has_prefix and not claim:
            text = "non-nil prefix without claim: prefix can't be set when claim is not set"
            self.errors.append(field.required(f"{path}.claim", text))
        return Mapped(claim, prefix)

    def _extra(self, value: Any, path: str, emails: _EmailUse) -> tuple[tuple[str, Program], ...]:
        found: list[tuple[str, Program]] = []
        for position, item in enumerate(self._list(value, path)):
            place = field.index(path, position)
            entry = self._mapping(item, place, ("key", "valueExpression"))
            key, expression = self._text(entry, "key", place), self._text(entry, "valueExpression", place)
            emails.saw(expression)
            self._check_extra_key(key, f"{place}.key", [known for known, _ in found])
            if not expression:
                self.errors.append(field.required(f"{place}.valueExpression"))
                continue
            program = self._claims_program(expression, f"{place}.valueExpression")
            if program is not None:
                found.append((key, program))
        return tuple(found)

    def _check_extra_key(self, key: str, path: str, known: Sequence[str]) -> None:
        domain = key.partition("/")[0]
        wrong = [field.invalid(path, part, text) for part, text in is_domain_prefixed_path(key)] if key else []
        if not key:
            wrong.append(field.required(path))
        elif key != key.lower():
            wrong.append(field.invalid(path, key, "must be lowercase"))
        self.errors += wrong
        if wrong:
            return
        if any(domain == own or domain.endswith(f".{own}") for own in ("k8s.io", "kubernetes.io")):
            text = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
            self.errors.append(field.invalid(path, key, text))
        elif key in known:
            self.errors.append(field.duplicate(path, key))

    # ------------------------------------------------------------------ expressions
    def _claims_program(self, expression: str, path: str, *, rule: bool = False) -> Program | None:
        from kubegate.cel import types

        variables = {"claims": types.map_of(types.STRING, types.DYN)}
        return self._program(expression, path, variables, None, rule=rule)

    def _user_program(self, expression: str, path: str) -> Program | None:
        from kubegate.cel import types

        texts = types.list_of(types.STRING)
        objects = {
            "kubernetes.UserInfo": {
                "username": types.STRING,
                "uid": types.STRING,
                "groups": texts,
                "extra": types.map_of(types.STRING, texts),
            }
        }
        return self._program(expression, path, {"user": types.object_of("kubernetes.UserInfo")}, objects, rule=True)

    def _program(self, expression: str, path: str, variables: Any, objects: Any, *, rule: bool) -> Program | None:
        """A rule is true or false; what else an expression makes is looked at when it has made it."""
        from kubegate import cel
        from kubegate.cel import types

        try:
            return cel.compile(expression, variables, result=[types.BOOL] if rule else None, objects=objects)
        except cel.CompileError as error:
            said = error.message
            if said.startswith("ERROR"):
                said = f"compilation failed: {said}"
            elif said.startswith("must evaluate to "):
                said = "must evaluate to bool"
            self.errors.append(field.invalid(path, expression, said))
            return None


class _EmailUse:
    """Who takes the user's name from an e-mail address must look at whether it was verified."""

    def __init__(self) -> None:
        self.username = ""
        self._others: list[str] = []

    def saw_username(self, username: Mapped) -> None:
        self.username = username.expression.expression if username.expression is not None else ""

    def saw(self, expression: str) -> None:
        self._others.append(expression)

    @property
    def unverified(self) -> bool:
        if not re.search(r"\bclaims\s*\.\s*\??email\b(?!_)|claims\[\??['\"]email['\"]\]", self.username):
            return False
        return not any("email_verified" in text for text in (self.username, *self._others))


def _listed(texts: Sequence[str]) -> str:
    return "[" + " ".join(texts) + "]"
