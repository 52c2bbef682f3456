"""JWTs of issuers: which are believed, what users they make, and what a bad issuer can do."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from people import HandClock, World, bearer, unsigned

from kubegate.authentication import Headers, jose, oidc
from kubegate.authentication.config import BadConfiguration, load
from kubegate.authentication.signing import TokenSigner
from kubegate.pki import keys

sys.path.append(str(Path(__file__).parent.parent / "remote"))

from remote_server import Serve, Server, reply, serve  # noqa: F401

RSA, STRANGER = keys.generate("rsa-2048"), keys.generate("rsa-2048")


@dataclass
class IssuerOf:
    """An issuer over TLS. `keys` are those it shows; tokens are signed with the last one."""

    clock: HandClock
    server: Server = field(init=False)
    keys: list[keys.PrivateKey] = field(default_factory=lambda: [RSA])
    named: str = ""
    broken: bool = False
    hangs: bool = False
    extra_keys: int = 0
    asked: list[str] = field(default_factory=list)
    distributed: str = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"

    async def answer(self, head: str, body: bytes) -> bytes | None:
        path = head.split(" ", 2)[1]
        self.asked.append(path)
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            return reply(b"no", "500 Oops")
        if path == "/.well-known/openid-configuration":
            return reply(orjson.dumps({"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"}))
        if path == "/groups":
            return reply(self.distributed.encode()) if self.distributed else reply(b"", "404 Not Found")
        shown = [
            jose.public_jwk(key.public_key(), jose.algorithm_of(key), f"k{number}")
            for number, key in enumerate(self.keys)
        ]
        return reply(orjson.dumps({"keys": shown + [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}] * self.extra_keys}))

    def token(
        self,
        *,
        kid: str | None = None,
        key: keys.PrivateKey | None = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        signer = TokenSigner(key or self.keys[-1], self.url)
        signer._header["kid"] = f"k{len(self.keys) - 1}" if kid is None else kid
        signer._header |= header or {}
        now = int(self.clock.time)
        base = {"iss": self.url, "aud": "kubernetes", "sub": "peter", "exp": now + 3600, "iat": now}
        return signer.sign({k: v for k, v in (base | claims).items() if v is not None})


@dataclass
class Oidc:
    """A world with one issuer."""

    world: World
    issuer: IssuerOf

    def configuration(self, **changes: Any) -> dict[str, Any]:
        issuer = {
            "url": self.issuer.url,
            "audiences": ["kubernetes"],
            "certificateAuthority": self.issuer.server.authority.pem.decode(),
        }
        entry = {"claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}}} | changes
        entry["issuer"] = issuer | entry.get("issuer", {})
        return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [entry]}

    async def start(self, *, settles: bool = True, **changes: Any) -> None:
        document = self.configuration(**changes)
        await self.world.start(
            authentication_config=self.world.write("authentication.yaml", yaml.safe_dump(document)),
            api_audiences=("https://api",),
        )
        if settles:
            await self.settle()

    async def settle(self) -> None:
        """Until the issuer's keys are there."""
        async with asyncio.timeout(5):
            while "not initialized" in await self.who(self.issuer.token(sub="probe")):  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def failed_once(self) -> None:
        """Until the issuer was asked, and is to be asked again later."""
        async with asyncio.timeout(5):
            while oidc.RETRY_SECONDS not in self.world.clock.slept:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def who(self, token: str) -> str:
        return await self.world.who(bearer(token))


@pytest.fixture
async def one(world: World, serve: Serve) -> AsyncIterator[Oidc]:  # noqa: F811
    issuer = IssuerOf(world.clock)
    issuer.server = await serve(issuer.answer)
    yield Oidc(world, issuer)


def refused(text: str) -> bool:
    return text.startswith("refused: ")


# ---------------------------------------------------------------------- users of claims
async def test_claims_make_a_user(one: Oidc) -> None:
    await one.start(
        claimMappings={
            "username": {"expression": '"oidc:" + claims.sub'},
            "groups": {"claim": "groups", "prefix": "oidc:"},
            "uid": {"claim": "sub"},
            "extra": [{"key": "example.org/tenant", "valueExpression": "claims.tenant"}],
        }
    )
    found = await one.world.ask(bearer(one.issuer.token(groups=["a", "a", ""], tenant="acme", jti="t-1")))
    assert found is not None
    assert (found.user.name, found.user.uid) == ("oidc:peter", "peter")
    assert found.user.groups == ("oidc:a", "oidc:a", "oidc:", "system:authenticated")
    assert found.user.extra == {
        "authentication.kubernetes.io/credential-id": ("JTI=t-1",),
        "example.org/tenant": ("acme",),
    }


@pytest.mark.parametrize(
    ("mappings", "claims", "groups"),
    [
        ({"claim": "groups", "prefix": ""}, {"groups": "one"}, ("one",)),
        ({"claim": "groups", "prefix": ""}, {"groups": None}, ()),
        ({"claim": "groups", "prefix": "p:"}, {}, ()),
        ({"claim": "groups", "prefix": "p:"}, {"groups": ["a", None]}, ("p:a", "p:")),
        ({"expression": "claims.roles.split(',')"}, {"roles": "a,b,"}, ("a", "b")),
        ({"expression": "dyn(claims.roles).map(r, 'x:' + r)"}, {"roles": ["a"]}, ("x:a",)),
        ({"expression": "has(claims.roles) ? claims.roles : ''"}, {}, ()),
    ],
)
async def test_groups_are_a_text_or_a_list(
    one: Oidc, mappings: dict[str, str], claims: dict[str, Any], groups: tuple[str, ...]
) -> None:
    await one.start(claimMappings={"username": {"claim": "sub", "prefix": ""}, "groups": mappings})
    found = await one.world.ask(bearer(one.issuer.token(**claims)))
    assert found is not None
    assert found.user.groups == (*groups, "system:authenticated")


@pytest.mark.parametrize(
    ("entry", "claims", "why"),
    [
        ({}, {"sub": None}, "claim not present"),
        ({}, {"sub": 7}, "cannot unmarshal number into Go struct field idToken.sub of type string"),
        (
            {"claimMappings": {"username": {"claim": "name", "prefix": ""}}},
            {"name": [1]},
            "cannot unmarshal array into Go value",
        ),
        ({"claimMappings": {"username": {"expression": "claims.sub"}}}, {"sub": ""}, "empty username"),
        ({"claimMappings": {"username": {"expression": "claims.name"}}}, {}, "no such key"),
        (
            {"claimMappings": {"username": {"claim": "email", "prefix": ""}}},
            {"email": "e", "email_verified": False},
            "email not verified",
        ),
        (
            {"claimMappings": {"username": {"claim": "email", "prefix": ""}}},
            {"email": "e", "email_verified": "true"},
            "oidc: parse 'email_verified' claim: json: cannot unmarshal string into Go value of type bool",
        ),
        (
            {"claimValidationRules": [{"expression": "claims.n < 10"}]},
            {"n": 50},
            "validation expression 'claims.n < 10' failed: ]",
        ),
        ({"claimValidationRules": [{"expression": "claims.n + 1 < 10"}]}, {"n": 5}, "no such overload"),
        (
            {"claimMappings": {"username": {"claim": "sub", "prefix": ""}, "groups": {"claim": "g", "prefix": ""}}},
            {"g": [1]},
            'oidc: parse groups claim "g": json: cannot unmarshal array into Go value of type string',
        ),
        (
            {"claimValidationRules": [{"claim": "tenant", "requiredValue": "acme"}]},
            {},
            "required claim tenant not present",
        ),
        (
            {"claimValidationRules": [{"claim": "tenant", "requiredValue": "acme"}]},
            {"tenant": "ACME"},
            "does not match",
        ),
        (
            {"claimValidationRules": [{"claim": "tenant", "requiredValue": "acme"}]},
            {"tenant": 5},
            "oidc: parse claim tenant: json: cannot unmarshal number into Go value of type string",
        ),
        ({}, {"nonce": 5}, "json: cannot unmarshal number into Go struct field idToken.nonce of type string"),
        ({}, {"iat": "soon"}, 'json: invalid number literal, trying to unmarshal "\\"soon\\"" into Number'),
        ({}, {"aud": {}}, "json: cannot unmarshal object into Go struct field idToken.aud of type []string"),
        ({}, {"aud": [5]}, "json: cannot unmarshal number into Go struct field idToken.aud of type string"),
        ({}, {"exp": True}, "json: cannot unmarshal bool into Go struct field idToken.exp of type json.Number"),
        ({}, {"exp": 1e30}, "oidc: token is expired (Token Expiry: 292277026596-12-04 15:30:08 +0000 UTC)"),
        ({}, {"aud": "nobody", "exp": 5}, "expected audience"),
        ({"issuer": {"audiences": ["a", "b"], "audienceMatchPolicy": "MatchAny"}}, {"exp": 5}, "token is expired"),
        ({}, {"_claim_names": {"a": 1}}, "idToken._claim_names of type string"),
        ({}, {"_claim_names": {"groups": "src"}}, "oidc: source does not exist"),
        ({}, {"_claim_names": {"groups": ""}}, "oidc: failed to obtain source from claim name"),
        ({}, {"_claim_sources": {"src": []}}, "idToken._claim_sources of type oidc.claimSource"),
        ({}, {"aud": "nobody"}, 'oidc: verify token: oidc: expected audience "kubernetes" got ["nobody"]'),
        (
            {
                "claimMappings": {
                    "username": {"claim": "sub", "prefix": ""},
                    "extra": [{"key": "a.io/b", "valueExpression": "claims.b"}],
                }
            },
            {"b": 5},
            "oidc: error evaluating extra claim expression: claims.b: expression must return a string or a list",
        ),
        (
            {"claimValidationRules": [{"expression": "claims.exp - claims.iat < 60", "message": "too long"}]},
            {},
            "too long",
        ),
        (
            {
                "userValidationRules": [
                    {"expression": "!user.username.startsWith('oidc:system:')", "message": "reserved"}
                ]
            },
            {"sub": "system:admin"},
            "reserved",
        ),
    ],
)
async def test_claims_that_do_not_fit_are_refused(
    one: Oidc, entry: dict[str, Any], claims: dict[str, Any], why: str
) -> None:
    await one.start(**entry)
    text = await one.who(one.issuer.token(**claims))
    assert refused(text)
    assert why in text


async def test_numbers_of_claims_are_floating_ones(one: Oidc) -> None:
    await one.start(claimValidationRules=[{"expression": "claims.exp - claims.n > 0.5 && claims.m == 5"}])
    assert await one.who(one.issuer.token(n=1.5, m=5)) == "oidc:peter"


async def test_a_token_in_no_base64_is_told_to_be_one_by_the_issuer_that_it_names(one: Oidc) -> None:
    await one.start()
    header, payload, signature = one.issuer.token().split(".")
    for token, place in (
        (f"ey!.{payload}.{signature}", 2),
        (f"{header}.{payload}.{signature}=", len(signature)),
    ):
        told = f"oidc: verify token: oidc: malformed jwt: illegal base64 data at input byte {place}"
        assert told in await one.who(token)
    assert "oidc" not in await one.who(f"{header}.AAAA.!")


async def test_a_name_that_is_empty_is_its_prefix(one: Oidc) -> None:
    await one.start()
    assert await one.who(one.issuer.token(sub="")) == "oidc:"


async def test_groups_that_are_kept_elsewhere_are_fetched_and_must_be_the_same_issuers(one: Oidc) -> None:
    await one.start(
        claimMappings={"username": {"claim": "sub", "prefix": ""}, "groups": {"claim": "groups", "prefix": ""}}
    )
    sources = {"src": {"endpoint": f"{one.issuer.url}/groups", "access_token": "sesame"}}
    token = one.issuer.token(_claim_names={"groups": "src"}, _claim_sources=sources)

    async def groups(served: str) -> tuple[str, ...]:
        one.issuer.distributed = served
        found = await one.world.ask(bearer(token))
        assert found is not None
        return found.user.groups

    assert "error while getting distributed claim JWT: 404" in await one.who(token)
    for served, why in (
        (one.issuer.token(iss="https://else.example", groups=["a"]), "untrusted issuer https://else.example"),
        (one.issuer.token(key=STRANGER, groups=["a"]), "failed to verify signature"),
        (one.issuer.token(aud="nobody", groups=["a"]), "expected audience"),
        (one.issuer.token(), "did not contain claim: groups"),
        ("no token", "could not expand distributed claims"),
    ):
        one.issuer.distributed = served
        assert why in await one.who(token)
    assert await groups(one.issuer.token(groups=["a", "b"])) == ("a", "b", "system:authenticated")
    assert one.issuer.asked[-1] == "/groups"


async def test_times_are_as_in_go_oidc(one: Oidc) -> None:
    await one.start()
    now = int(one.world.clock.time)
    assert await one.who(one.issuer.token(exp=now + 1)) == "oidc:peter"
    assert refused(await one.who(one.issuer.token(exp=now - 1)))
    assert "Token Expiry: 0001-01-01 00:00:00 +0000 UTC" in await one.who(one.issuer.token(exp=None))
    assert await one.who(one.issuer.token(exp=str(now + 60))) == "oidc:peter"
    assert refused(await one.who(one.issuer.token(exp="soon")))
    assert await one.who(one.issuer.token(nbf=now + 59)) == "oidc:peter"
    assert refused(await one.who(one.issuer.token(nbf=now + 61)))
    assert await one.who(one.issuer.token(iat=now + 3600)) == "oidc:peter"


async def test_a_token_ends_while_it_is_remembered(one: Oidc) -> None:
    await one.start()
    token = one.issuer.token(exp=int(one.world.clock.time) + 60)
    assert await one.who(token) == "oidc:peter"
    one.world.clock.move(61)
    assert refused(await one.who(token))


@pytest.mark.parametrize("audience", ["nobody", ["a", "b"], [], [""], "", {}, None, 7, ["kubernetes", 7]])
async def test_tokens_for_others_are_refused(one: Oidc, audience: Any) -> None:
    """CVE-2020-26160: an audience of another kind counted as none, and none as any."""
    await one.start()
    assert refused(await one.who(one.issuer.token(aud=audience)))


async def test_another_issuers_token_is_not_ours(one: Oidc) -> None:
    await one.start()
    assert await one.who(one.issuer.token(iss="https://else.example")) == "refused: invalid bearer token"


# ---------------------------------------------------------------------- signatures
async def test_forgeries_are_refused(one: Oidc) -> None:
    """CVE-2015-9235 (no signature, or one by a public key), CVE-2018-0114 (a key that the token itself brings)."""
    await one.start()
    stranger = STRANGER
    claims = {"iss": one.issuer.url, "aud": "kubernetes", "sub": "eve", "exp": int(one.world.clock.time) + 60}
    for token in (
        one.issuer.token(key=stranger),
        one.issuer.token(key=stranger, kid="k9"),
        one.issuer.token(kid="k1"),
        unsigned(claims),
        unsigned(claims, {"alg": "HS256", "kid": "k0"}, b"x" * 32),
        unsigned(claims, {"alg": "RS256", "kid": "k0"}, b"\0" * 256),
        one.issuer.token(key=stranger, header={"jwk": jose.public_jwk(stranger.public_key(), "RS256", "k0")}),
        one.issuer.token(key=stranger, header={"jku": f"{one.issuer.url}/keys", "x5u": "https://localhost/x5u"}),
        one.issuer.token(key=stranger, header={"x5c": ["MIIB"], "x5t": "AAAA"}),
        one.issuer.token(key=stranger, kid="../../../../dev/null"),
        one.issuer.token(header={"crit": ["b64"], "b64": False}),
    ):
        assert refused(await one.who(token))
    assert await one.who(one.issuer.token(kid="")) == "oidc:peter"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", ""])
async def test_other_algorithms_are_told_with_those_that_could_be(one: Oidc, algorithm: str) -> None:
    await one.start()
    claims = {"iss": one.issuer.url, "aud": "kubernetes", "sub": "eve", "exp": int(one.world.clock.time) + 60}
    supported = '["ES256" "ES384" "ES512" "PS256" "PS384" "PS512" "RS256" "RS384" "RS512"]'
    assert f'unsupported algorithm, expected {supported} got "{algorithm}"' in await one.who(
        unsigned(claims, {"alg": algorithm, "kid": "k0"})
    )


async def test_a_new_key_is_found_when_a_token_names_it(one: Oidc) -> None:
    await one.start()
    assert await one.who(one.issuer.token()) == "oidc:peter"
    one.issuer.keys.append(keys.generate())
    assert await one.who(one.issuer.token()) == "oidc:peter"


async def test_unknown_keys_do_not_make_the_issuer_answer_each_time(one: Oidc) -> None:
    await one.start()
    before = len(one.issuer.asked)
    stranger = keys.generate()
    for number in range(50):
        assert refused(await one.who(one.issuer.token(key=stranger, kid=f"unknown-{number}")))
    assert len(one.issuer.asked) - before == 5
    one.world.clock.move(5)
    one.issuer.keys.append(keys.generate())
    assert await one.who(one.issuer.token()) == "oidc:peter"


# ---------------------------------------------------------------------- the issuer's own troubles
async def test_an_issuer_that_is_down_at_the_start_is_asked_again(one: Oidc) -> None:
    one.issuer.broken = True
    await one.start(settles=False)
    await one.failed_once()
    text = await one.who(one.issuer.token())
    assert "not initialized" in text
    one.issuer.broken = False
    one.world.clock.move(10)
    await one.settle()
    assert await one.who(one.issuer.token()) == "oidc:peter"


async def test_an_issuer_that_calls_itself_otherwise_is_not_believed(one: Oidc) -> None:
    one.issuer.named = "https://else.example"
    await one.start(settles=False)
    await one.failed_once()
    assert "not initialized" in await one.who(one.issuer.token())


async def test_a_key_set_of_hostile_size_is_refused(one: Oidc) -> None:
    """Whoever answers for the issuer fills no memory."""
    one.issuer.extra_keys = 20_000
    await one.start(settles=False)
    await one.failed_once()
    assert "not initialized" in await one.who(one.issuer.token())
    one.issuer.extra_keys = 0
    one.world.clock.move(10)
    await one.settle()
    assert await one.who(one.issuer.token()) == "oidc:peter"
    one.issuer.extra_keys = 20_000
    assert refused(await one.who(one.issuer.token(key=STRANGER, kid="unknown")))
    assert await one.who(one.issuer.token()) == "oidc:peter"


async def test_while_an_issuer_hangs_others_are_answered_at_once(one: Oidc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "CALL_TIMEOUT", 2.0)
    await one.start()
    one.issuer.hangs = True
    stranger = keys.generate()
    hanging = [asyncio.create_task(one.who(one.issuer.token(key=stranger, kid=f"x{n}"))) for n in range(20)]
    await asyncio.sleep(0.02)
    began = time.perf_counter()
    assert await one.who(one.issuer.token()) == "oidc:peter"
    assert time.perf_counter() - began < 1.0
    assert all(refused(text) for text in await asyncio.gather(*hanging))


# ---------------------------------------------------------------------- the configuration
async def test_a_changed_configuration_is_taken_over_and_a_broken_one_is_not(one: Oidc) -> None:
    await one.start()
    token = one.issuer.token()
    assert await one.who(token) == "oidc:peter"
    changed = one.configuration(claimMappings={"username": {"claim": "sub", "prefix": "new:"}})
    one.world.write("authentication.yaml", yaml.safe_dump(changed))
    await one.world.built.reload()
    assert await one.who(token) == "new:peter"
    one.world.write("authentication.yaml", "kind: Nonsense")
    await one.world.built.reload()
    assert await one.who(token) == "new:peter"
    one.world.write("authentication.yaml", yaml.safe_dump(one.configuration() | {"jwt": []}))
    await one.world.built.reload()
    assert await one.who(token) == "refused: invalid bearer token"


async def test_anonymous_may_be_let_in_on_chosen_paths_alone(world: World) -> None:
    from kubegate.authentication import Request

    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}]},
    }
    await world.start(authentication_config=world.write("authentication.yaml", yaml.safe_dump(document)))
    assert await world.who(Request("GET", "/livez", Headers.of([]))) == "system:anonymous"
    for path in ("/livez/", "/livez/etcd", "/LIVEZ", "/", "/api"):
        assert await world.who(Request("GET", path, Headers.of([]))) == "nobody"


def entry(**changes: Any) -> dict[str, Any]:
    found = {
        "issuer": {"url": "https://issuer.example", "audiences": ["a"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    }
    return found | changes


def read(*jwt: dict[str, Any], **more: Any) -> Any:
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": list(jwt)}
    return load(yaml.safe_dump(document | more).encode(), "authentication.yaml", ("https://own",))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"issuer": {"url": "http://issuer.example", "audiences": ["a"]}},
            'jwt[0].issuer.url: Invalid value: "http://issuer.example": URL scheme must be https',
        ),
        ({"issuer": {"url": "https://own", "audiences": ["a"]}}, "URL must not overlap with disallowed issuers"),
        ({"issuer": {"url": "https://a:b@c", "audiences": ["a"]}}, "URL must not contain a username or password"),
        ({"issuer": {"url": "https://i"}}, "jwt[0].issuer.audiences: Required value"),
        (
            {"issuer": {"url": "https://i", "audiences": ["a", "b"]}},
            "audienceMatchPolicy must be MatchAny for multiple audiences",
        ),
        (
            {"issuer": {"url": "https://i", "audiences": ["a"], "certificateAuthority": "x"}},
            "jwt[0].issuer.certificateAuthority",
        ),
        ({"claimMappings": {}}, "jwt[0].claimMappings.username: Required value: claim or expression is required"),
        ({"claimMappings": {"username": {"claim": "sub"}}}, "prefix is required when claim is set"),
        ({"claimMappings": {"username": {"claim": "a", "expression": "b"}}}, "claim and expression can't both be set"),
        (
            {"claimMappings": {"username": {"expression": "claims.sub +"}}},
            "jwt[0].claimMappings.username.expression: Invalid value",
        ),
        ({"claimMappings": {"username": {"expression": "claims.email"}}}, "claims.email_verified must be used"),
        (
            {
                "claimMappings": {
                    "username": {"claim": "s", "prefix": ""},
                    "extra": [{"key": "x", "valueExpression": "'a'"}],
                }
            },
            "must be a domain-prefixed path",
        ),
        (
            {
                "claimMappings": {
                    "username": {"claim": "s", "prefix": ""},
                    "extra": [{"key": "a.k8s.io/x", "valueExpression": "'a'"}],
                }
            },
            "reserved for Kubernetes use",
        ),
        ({"claimValidationRules": [{}]}, "claim or expression is required"),
        (
            {"claimValidationRules": [{"expression": "claims.a", "requiredValue": "b"}]},
            'requiredValue: Invalid value: "b": may not be specified when expression is set',
        ),
        (
            {"userValidationRules": [{"expression": "user.nothing == 'a'"}]},
            "jwt[0].userValidationRules[0].expression: Invalid value",
        ),
        (
            {"claimValidationRules": [{"expression": "claims.a"}]},
            'claimValidationRules[0].expression: Invalid value: "claims.a": must evaluate to bool',
        ),
        (
            {"claimValidationRules": [{"expression": "true"}, {"claim": "a"}, {"expression": "true"}, {"claim": "a"}]},
            '[jwt[0].claimValidationRules[2].expression: Duplicate value: "true", '
            'jwt[0].claimValidationRules[3].claim: Duplicate value: "a"]',
        ),
        (
            {"userValidationRules": [{"expression": "true"}, {"expression": "true"}]},
            'userValidationRules[1].expression: Duplicate value: "true"',
        ),
        ({"userValidationRules": [{"expression": "a"}]}, 'Invalid value: "a": compilation failed: ERROR: <input>:1:1'),
        (
            {"issuer": {"url": "https://i", "audiences": ["a"], "egressSelectorType": "other"}},
            "egress selector must be either controlplane or cluster",
        ),
        ({"surprise": 1}, 'strict decoding error: unknown field "jwt[0].surprise"'),
        (
            {"issuer": {"url": 7, "audiences": ["a"]}},
            "json: cannot unmarshal number into Go struct field Issuer.jwt.issuer.url of type string",
        ),
        (
            {"issuer": {"url": "https://[::1", "audiences": ["a"]}},
            """url: Invalid value: "https://[::1": parse "https://[::1": missing ']' in host""",
        ),
        (
            {"userValidationRules": [{}], "claimValidationRules": [{}], "issuer": {"url": "http://i"}},
            '[jwt[0].issuer.url: Invalid value: "http://i": URL scheme must be https, '
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required, "
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required, "
            "jwt[0].userValidationRules[0].expression: Required value]",
        ),
        (
            {"claimMappings": {"username": {"expression": "claims.roles.filter(r, r == 'a')[0]"}}},
            "expression of type 'any' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
    ],
)
def test_a_wrong_configuration_says_where_and_what(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadConfiguration) as failure:
        read(entry(**changes))
    assert str(failure.value).startswith("authentication.yaml: ")
    assert why in str(failure.value)


def test_two_entries_may_not_be_one_issuer() -> None:
    with pytest.raises(BadConfiguration, match=r"jwt\[1\].issuer.url: Duplicate value"):
        read(entry(), entry())


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
def test_all_versions_are_read(version: str) -> None:
    assert read(entry(), apiVersion=f"apiserver.config.k8s.io/{version}").jwt[0].username.claim == "sub"


async def test_the_flags_describe_one_issuer(one: Oidc) -> None:
    await one.world.start(
        oidc_issuer_url=one.issuer.url,
        oidc_client_id="kubernetes",
        oidc_ca_file=one.world.write("issuer.crt", one.issuer.server.authority.pem),
        oidc_groups_claim="groups",
        oidc_groups_prefix="g:",
        oidc_required_claim=("tenant=acme",),
    )
    await one.settle()
    found = await one.world.ask(bearer(one.issuer.token(tenant="acme", groups=["a"])))
    assert found is not None
    assert (found.user.name, found.user.groups) == (f"{one.issuer.url}#peter", ("g:a", "system:authenticated"))
    assert refused(await one.who(one.issuer.token()))
    one.issuer.keys.append(keys.generate())
    assert refused(await one.who(one.issuer.token(tenant="acme")))  # ES256 is not among the algorithms
