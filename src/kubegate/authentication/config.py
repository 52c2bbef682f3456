"""AuthenticationConfiguration (apiserver.config.k8s.io v1, v1beta1): issuers of JWTs, and who may be anonymous where.

`load` reads and checks a file and compiles its CEL expressions; the --oidc-* flags become the same values. Follows
k8s.io/apiserver/pkg/apis/apiserver (types and validation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kubegate.api import field
from kubegate.api.configfile import ConfigFileError, decode
from kubegate.api.field import FieldError
from kubegate.api.names import is_domain_prefixed_path
from kubegate.authentication.jose import ALGORITHMS

if TYPE_CHECKING:
    from kubegate.authentication.build import AuthenticationOptions
    from kubegate.cel import Program

_GO_TYPES = {
    "AuthenticationConfiguration": {"jwt": "[]JWTAuthenticator", "anonymous": "AnonymousAuthConfig"},
    "AnonymousAuthConfig": {"enabled": "bool", "conditions": "[]AnonymousAuthCondition"},
    "AnonymousAuthCondition": {"path": "string"},
    "JWTAuthenticator": {
        "issuer": "Issuer",
        "claimValidationRules": "[]ClaimValidationRule",
        "claimMappings": "ClaimMappings",
        "userValidationRules": "[]UserValidationRule",
    },
    "Issuer": {
        **dict.fromkeys(("url", "discoveryURL", "certificateAuthority"), "string"),
        "audiences": "[]string",
        **dict.fromkeys(("audienceMatchPolicy", "egressSelectorType"), "string"),
    },
    "ClaimValidationRule": dict.fromkeys(("claim", "requiredValue", "expression", "message"), "string"),
    "ClaimMappings": {
        "username": "PrefixedClaimOrExpression",
        "groups": "PrefixedClaimOrExpression",
        "uid": "ClaimOrExpression",
        "extra": "[]ExtraMapping",
    },
    "PrefixedClaimOrExpression": dict.fromkeys(("claim", "prefix", "expression"), "string"),
    "ClaimOrExpression": dict.fromkeys(("claim", "expression"), "string"),
    "ExtraMapping": dict.fromkeys(("key", "valueExpression"), "string"),
    "UserValidationRule": dict.fromkeys(("expression", "message"), "string"),
}
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


def from_oidc_flags(options: AuthenticationOptions) -> AuthenticationConfiguration:
    """The one issuer of the --oidc-* flags, checked as one of a file would be. Raises BadConfiguration, OSError."""
    from pathlib import Path

    url, claim = options.oidc_issuer_url, options.oidc_username_claim or "sub"
    prefix = options.oidc_username_prefix
    if prefix == "-":
        prefix = ""
    elif not prefix and claim != "email":
        # so that users of an issuer are not taken for others by accident
        prefix = f"{url}#"
    unknown = sorted(set(options.oidc_signing_algs) - SIGNING_ALGORITHMS)
    if unknown:
        raise BadConfiguration(f"oidc: unsupported signing alg: {field.quoted(unknown[0])}")
    rules = {}
    for pair in options.oidc_required_claim:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadConfiguration(f"--oidc-required-claim: {pair!r} is not of the form key=value")
        rules[name] = value
    authority = Path(options.oidc_ca_file).read_text() if options.oidc_ca_file else ""
    mappings: dict[str, Any] = {"username": {"claim": claim, "prefix": prefix}}
    if options.oidc_groups_claim:
        mappings["groups"] = {"claim": options.oidc_groups_claim, "prefix": options.oidc_groups_prefix}
    entry = {
        "issuer": {"url": url, "audiences": [options.oidc_client_id], "certificateAuthority": authority},
        "claimMappings": mappings,
        "claimValidationRules": [{"claim": name, "requiredValue": value} for name, value in rules.items()],
    }
    reader = _Reader(options.service_account_issuer)
    found = reader.configuration({"jwt": [entry]})
    if reader.errors:
        raise BadConfiguration(f"invalid authentication configuration: {field.aggregate(map(str, reader.errors))}")
    algorithms = frozenset(options.oidc_signing_algs) or frozenset(("RS256",))
    return replace(found, jwt=tuple(replace(issuer, algorithms=algorithms) for issuer in found.jwt))


def load(content: bytes, source: str, own_issuers: Sequence[str] = ()) -> AuthenticationConfiguration:
    """Read a configuration file. `own_issuers` are the server's own, which no entry may claim to be.

    Raises BadConfiguration with every error that was found.
    """
    try:
        if not content:
            raise ConfigFileError("empty config data")
        document = decode(content, "AuthenticationConfiguration", _GO_TYPES)
    except ConfigFileError as error:
        raise BadConfiguration(f"{source}: {error}") from None
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

    # ------------------------------------------------------------------ the document
    def configuration(self, document: Mapping[str, Any]) -> AuthenticationConfiguration:
        entries = document.get("jwt") or ()
        if len(entries) > MAX_ISSUERS:
            self.errors.append(field.too_many("jwt", len(entries), MAX_ISSUERS))
            return AuthenticationConfiguration((), None)
        authenticators = []
        seen: dict[str, set[str]] = {"url": set(), "discoveryURL": set()}
        for position, entry in enumerate(entries):
            path = field.index("jwt", position)
            authenticator = self._jwt(entry, path)
            authenticators.append(authenticator)
            issuer = authenticator.issuer
            for name, url in (("url", issuer.url), ("discoveryURL", issuer.discovery_url)):
                if name == "discoveryURL" and not url:
                    continue
                if url in seen[name]:
                    self.errors.append(field.duplicate(f"{path}.issuer.{name}", url))
                seen[name].add(url)
        return AuthenticationConfiguration(tuple(authenticators), self._anonymous(document.get("anonymous")))

    def _anonymous(self, found: Mapping[str, Any] | None) -> Anonymous | None:
        if found is None:
            return None
        enabled: bool = found.get("enabled", False)
        conditions = found.get("conditions") or ()
        paths = tuple(condition.get("path", "") for condition in conditions)
        if conditions and not enabled:
            shown = [{"Path": path} for path in paths]  # as Go has it
            text = "enabled should be set to true when conditions are defined"
            self.errors.append(field.invalid("anonymous.conditions", shown, text))
        return Anonymous(enabled, paths if conditions else None)

    def _jwt(self, entry: Mapping[str, Any], path: str) -> JwtAuthenticator:
        emails = _EmailUse()
        issuer = self._issuer(entry.get("issuer") or {}, f"{path}.issuer")
        claim_rules = self._claim_rules(entry.get("claimValidationRules") or (), f"{path}.claimValidationRules", emails)
        mappings, place = entry.get("claimMappings") or {}, f"{path}.claimMappings"
        username = self._mapped(mappings.get("username") or {}, f"{place}.username", required=True)
        emails.saw_username(username)
        groups = self._mapped(mappings.get("groups") or {}, f"{place}.groups")
        uid = self._mapped({"prefix": "", **(mappings.get("uid") or {})}, f"{place}.uid", prefixed=False)
        extra = self._extra(mappings.get("extra") or (), f"{place}.extra", emails)
        if emails.unverified:
            text = (
                "claims.email_verified must be used in claimMappings.username.expression or "
                "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is "
                "used in claimMappings.username.expression"
            )
            self.errors.append(field.invalid(f"{place}.username.expression", emails.username, text))
        return JwtAuthenticator(
            issuer=issuer,
            username=username,
            groups=groups,
            uid=uid,
            extra=extra,
            claim_rules=claim_rules,
            user_rules=self._user_rules(entry.get("userValidationRules") or (), f"{path}.userValidationRules"),
        )

    def _issuer(self, entry: Mapping[str, Any], path: str) -> Issuer:
        url, discovery = entry.get("url", ""), entry.get("discoveryURL", "")
        if not url:
            self.errors.append(field.required(f"{path}.url"))
        else:
            self._check_url(url, f"{path}.url", self._own_issuers)
        if discovery:
            place = f"{path}.discoveryURL"
            if url and discovery.rstrip("/") == url.rstrip("/"):
                self.errors.append(field.invalid(place, discovery, "discoveryURL must be different from URL"))
            self._check_url(discovery, place)
        audiences = entry.get("audiences") or ()
        self._check_audiences(audiences, entry.get("audienceMatchPolicy", ""), path)
        authority = self._authority(entry.get("certificateAuthority", ""), f"{path}.certificateAuthority")
        egress = entry.get("egressSelectorType")
        if egress and egress not in ("controlplane", "cluster"):
            text = "egress selector must be either controlplane or cluster"
            self.errors.append(field.invalid(f"{path}.egressSelectorType", egress, text))
        return Issuer(url, tuple(audiences), discovery, authority)

    def _check_url(self, url: str, path: str, not_these: Sequence[str] = ()) -> None:
        from kubegate.cel.libraries import urls

        if url in not_these:
            text = f"URL must not overlap with disallowed issuers: {_listed(sorted(set(not_these)))}"
            self.errors.append(field.invalid(path, url, text))
        try:
            parts = urls.parse(url, reference=True)
        except urls.URLError as error:
            self.errors.append(field.invalid(path, url, str(error)))
            return
        if parts.scheme != "https":
            self.errors.append(field.invalid(path, url, "URL scheme must be https"))
        if "@" in urlsplit(url).netloc:
            self.errors.append(field.invalid(path, url, "URL must not contain a username or password"))
        if parts.query:
            self.errors.append(field.invalid(path, url, "URL must not contain a query"))
        if parts.fragment:
            self.errors.append(field.invalid(path, url, "URL must not contain a fragment"))

    def _check_audiences(self, audiences: Sequence[str], policy: str, path: str) -> None:
        where = f"{path}.audiences"
        if not audiences:
            self.errors.append(field.required(where, f"at least one {where} is required"))
            return
        for position, audience in enumerate(audiences):
            if not audience:
                self.errors.append(field.required(field.index(where, position)))
            if audience in audiences[:position]:
                self.errors.append(field.duplicate(field.index(where, position), audience))
        if len(audiences) > 1 and policy != "MatchAny":
            text = "audienceMatchPolicy must be MatchAny for multiple audiences"
            self.errors.append(field.invalid(f"{path}.audienceMatchPolicy", policy, text))
        elif policy not in ("", "MatchAny"):
            text = "audienceMatchPolicy must be empty or MatchAny for single audience"
            self.errors.append(field.invalid(f"{path}.audienceMatchPolicy", policy, text))

    def _authority(self, pem: str, path: str) -> bytes | None:
        if not pem:
            return None
        from kubegate.pki.certificates import BadCertificate, parse_certificates

        try:
            parse_certificates(pem.encode())
        except BadCertificate:
            there = "-----BEGIN CERTIFICATE-----" in pem
            none = "data does not contain any valid RSA or ECDSA certificates"
            text = "x509: malformed certificate" if there else none
            self.errors.append(field.invalid(path, "<omitted>", text))
            return None
        return pem.encode()

    # ------------------------------------------------------------------ rules and mappings
    def _claim_rules(self, rules: Sequence[Mapping[str, Any]], path: str, emails: _EmailUse) -> tuple[ClaimRule, ...]:
        found: list[ClaimRule] = []
        claims: set[str] = set()
        expressions: set[str] = set()
        for position, rule in enumerate(rules):
            place = field.index(path, position)
            claim, wanted = rule.get("claim", ""), rule.get("requiredValue", "")
            expression, message = rule.get("expression", ""), rule.get("message", "")
            if claim and expression:
                self.errors.append(field.invalid(place, claim, "claim and expression can't both be set"))
            elif claim:
                if message:
                    text = "may not be specified when claim is set"
                    self.errors.append(field.invalid(f"{place}.message", message, text))
                if claim in claims:
                    self.errors.append(field.duplicate(f"{place}.claim", claim))
                claims.add(claim)
                found.append(ClaimRule(claim, wanted))
            elif expression:
                if wanted:
                    text = "may not be specified when expression is set"
                    self.errors.append(field.invalid(f"{place}.requiredValue", wanted, text))
                if expression in expressions:
                    self.errors.append(field.duplicate(f"{place}.expression", expression))
                    continue
                expressions.add(expression)
                program = self._claims_program(expression, f"{place}.expression", rule=True)
                emails.saw(program)
                found.append(ClaimRule(expression=program, message=message))
            else:
                self.errors.append(field.required(place, "claim or expression is required"))
        return tuple(found)

    def _user_rules(self, rules: Sequence[Mapping[str, Any]], path: str) -> tuple[UserRule, ...]:
        found: dict[str, UserRule | None] = {}
        for position, rule in enumerate(rules):
            place = f"{field.index(path, position)}.expression"
            expression = rule.get("expression", "")
            if not expression:
                self.errors.append(field.required(place))
            elif expression in found:
                self.errors.append(field.duplicate(place, expression))
            else:
                program = self._user_program(expression, place)
                found[expression] = None if program is None else UserRule(program, rule.get("message", ""))
        return tuple(rule for rule in found.values() if rule is not None)

    def _mapped(self, entry: Mapping[str, Any], path: str, *, required: bool = False, prefixed: bool = True) -> Mapped:
        """What has no claim and no expression maps nothing, whatever prefix it has."""
        claim, expression, prefix = entry.get("claim", ""), entry.get("expression", ""), entry.get("prefix")
        if claim and expression:
            self.errors.append(field.invalid(path, "", "claim and expression can't both be set"))
        elif expression:
            if prefixed and prefix is not None:
                text = "may not be specified when expression is set"
                self.errors.append(field.invalid(f"{path}.prefix", prefix, text))
            return Mapped(expression=self._claims_program(expression, f"{path}.expression"))
        elif not claim and required:
            self.errors.append(field.required(path, "claim or expression is required"))
        elif claim and prefix is None:
            text = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            self.errors.append(field.required(f"{path}.prefix", text))
        return Mapped(claim, prefix or "") if claim else Mapped()

    def _extra(
        self, entries: Sequence[Mapping[str, Any]], path: str, emails: _EmailUse
    ) -> tuple[tuple[str, Program], ...]:
        found: list[tuple[str, Program]] = []
        seen: set[str] = set()
        for position, entry in enumerate(entries):
            place = field.index(path, position)
            key, expression = entry.get("key", ""), entry.get("valueExpression", "")
            self._check_extra_key(key, f"{place}.key")
            if key in seen:
                self.errors.append(field.duplicate(f"{place}.key", key))
                continue
            seen.add(key)
            if not expression:
                self.errors.append(field.required(f"{place}.valueExpression"))
                continue
            program = self._claims_program(expression, f"{place}.valueExpression")
            emails.saw(program)
            if program is not None:
                found.append((key, program))
        return tuple(found)

    def _check_extra_key(self, key: str, path: str) -> None:
        if not key:
            self.errors.append(field.required(path))
        else:
            self.errors += [field.invalid(path, part, text) for part, text in is_domain_prefixed_path(key)]
        if key != key.lower():
            self.errors.append(field.invalid(path, key, "must be lowercase"))
        domain, slash, _ = key.partition("/")
        if slash and any(domain == own or domain.endswith(f".{own}") for own in ("k8s.io", "kubernetes.io")):
            text = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
            self.errors.append(field.invalid(path, key, text))

    # ------------------------------------------------------------------ expressions
    def _claims_program(self, expression: str, path: str, *, rule: bool = False) -> Program | None:
        from kubegate.cel import types

        variables = {"claims": types.map_of(types.STRING, types.ANY)}
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

    def saw(self, program: Program | None) -> None:
        if program is not None:
            self._others.append(program.expression)

    @property
    def unverified(self) -> bool:
        if not self.username or not _selects(self.username, "email"):
            return False
        return not any(_selects(text, "email_verified") for text in (self.username, *self._others))


def _selects(expression: str, name: str) -> bool:
    """Whether an expression has `claims.NAME` or `claims.?NAME` in it."""
    from kubegate.cel.syntax import Call, Constant, Ident, Select, nodes, parse

    for node in nodes(parse(expression).root):
        match node:
            case Select(operand=Ident(name="claims"), field=found) if found == name:
                return True
            case Call(function="_?._", arguments=(Ident(name="claims"), Constant(value=found))) if found == name:
                return True
    return False


def _listed(texts: Sequence[str]) -> str:
    return "[" + " ".join(texts) + "]"
