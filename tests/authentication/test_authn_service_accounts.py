"""Service account tokens: what they say of their user, and when they end."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from people import ISSUER, START, World, bearer, secret, unsigned

from kubegate.authentication import signing
from kubegate.authentication.jose import verify as verify_signature
from kubegate.authentication.signing import BoundObjects
from kubegate.pki import keys

ROBOT = "system:serviceaccount:ns:robot"


async def start(world: World, **options: Any) -> dict[str, Any]:
    await world.with_service_accounts(**options)
    return world.objects.add("serviceaccounts", "ns", "robot", "u-robot")


def make(world: World, account: dict[str, Any], bound: BoundObjects | None = None, **more: Any) -> str:
    signer = world.built.signer
    assert signer is not None
    asked: dict[str, Any] = {"audiences": (ISSUER,), "now": world.clock.time, "seconds": 3600} | more
    return signer.bound(account, bound or BoundObjects(), **asked)


def signed(world: World, **claims: Any) -> str:
    """A token with these claims; those not named are as they should be, those that are None are left out."""
    assert world.built.signer is not None
    base: dict[str, Any] = {
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": ROBOT,
        "exp": START + 3600,
        "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "robot", "uid": "u-robot"}},
    }
    return world.built.signer.sign({k: v for k, v in (base | claims).items() if v is not None})


async def test_a_token_says_who_its_service_account_is(world: World) -> None:
    account = await start(world)
    found = await world.ask(bearer(make(world, account)))
    assert found is not None
    assert (found.user.name, found.user.uid) == (ROBOT, "u-robot")
    assert found.user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
    (credential,) = found.user.extra["authentication.kubernetes.io/credential-id"]
    assert credential.startswith("JTI=")
    assert found.audiences == (ISSUER,)


async def test_a_token_bound_to_a_pod_names_pod_and_node(world: World) -> None:
    account = await start(world)
    pod = world.objects.add("pods", "ns", "host", "u-pod")
    node = world.objects.add("nodes", "", "n1", "u-node")
    found = await world.ask(bearer(make(world, account, BoundObjects(pod=pod, node=node))))
    assert found is not None
    prefix = "authentication.kubernetes.io/"
    extra = {key.removeprefix(prefix): value for key, value in found.user.extra.items()}
    del extra["credential-id"]
    assert extra == {"pod-name": ("host",), "pod-uid": ("u-pod",), "node-name": ("n1",), "node-uid": ("u-node",)}


@pytest.mark.parametrize(
    ("resource", "namespace", "word"), [("pods", "ns", "pod"), ("secrets", "ns", "secret"), ("nodes", "", "node")]
)
async def test_a_token_ends_at_once_with_what_it_is_bound_to(
    world: World, resource: str, namespace: str, word: str
) -> None:
    account = await start(world)
    thing = world.objects.add(resource, namespace, "thing", "u-1")
    token = bearer(make(world, account, BoundObjects(**{word: thing})))
    assert await world.who(token) == ROBOT
    world.objects.remove(resource, namespace, "thing")
    assert await world.who(token) == "refused: [invalid bearer token, service account token has been invalidated]"
    world.objects.add(resource, namespace, "thing", "u-2")
    text = f"{word} UID (u-2) does not match service account {word} ref claim (u-1)"
    assert await world.who(token) == f"refused: [invalid bearer token, {text}]"


async def test_a_token_ends_at_once_with_its_service_account(world: World) -> None:
    account = await start(world)
    token = bearer(make(world, account))
    assert await world.who(token) == ROBOT
    world.objects.remove("serviceaccounts", "ns", "robot")
    assert 'serviceaccounts "robot" not found' in await world.who(token)
    world.objects.add("serviceaccounts", "ns", "robot", "u-other")
    assert "service account UID (u-other) does not match claim (u-robot)" in await world.who(token)


async def test_what_is_being_deleted_ends_a_token_a_minute_later(world: World) -> None:
    account = await start(world)
    deleted = {"deletionTimestamp": "2027-01-15T08:00:00Z"}
    pod = world.objects.add("pods", "ns", "host", "u-pod", metadata=deleted)
    world.clock.time = 1_800_000_000.0
    token = bearer(make(world, account, BoundObjects(pod=pod)))
    world.clock.time = 1_800_000_030.0
    assert await world.who(token) == ROBOT
    world.clock.time = 1_800_000_061.0
    assert "has been invalidated" in await world.who(token)


async def test_clocks_may_differ_by_a_minute(world: World) -> None:
    await start(world)
    assert await world.who(bearer(signed(world, exp=START - 59))) == ROBOT
    assert "service account token has expired" in await world.who(bearer(signed(world, exp=START - 61)))
    assert await world.who(bearer(signed(world, nbf=START + 59))) == ROBOT
    assert "service account token is not valid yet" in await world.who(bearer(signed(world, nbf=START + 61)))
    assert "service account token is issued in the future" in await world.who(bearer(signed(world, iat=START + 61)))


async def test_a_token_ends_while_it_is_remembered(world: World) -> None:
    account = await start(world)
    token = bearer(make(world, account))
    assert await world.who(token) == ROBOT
    world.clock.move(3661)
    assert "service account token has expired" in await world.who(token)


async def test_a_token_is_checked_once_and_looked_up_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await start(world)
    tokens = [bearer(make(world, account)) for _ in range(50)]
    checks = 0

    def counted(*arguments: Any) -> bool:
        nonlocal checks
        checks += 1
        return verify_signature(*arguments)

    monkeypatch.setattr("kubegate.authentication.jose.verify", counted)
    for token in tokens * 2:
        assert await world.who(token) == ROBOT
    assert checks == len(tokens)
    assert world.objects.looked_up >= 2 * len(tokens)


async def test_other_audiences_are_not_ours(world: World) -> None:
    account = await start(world)
    vault = make(world, account, audiences=("vault", "bank"))
    text = f'token audiences ["vault" "bank"] is invalid for the target audiences ["{ISSUER}"]'
    assert await world.who(bearer(vault)) == f"refused: [invalid bearer token, {text}]"
    found = await world.ask(bearer(vault, audiences=("bank", "vault", "x")))
    assert found is not None and found.audiences == ("bank", "vault")
    # remembered with its audiences, not without
    assert "is invalid for the target audiences" in await world.who(bearer(vault))


async def test_a_stale_token_is_told_to_auditors(world: World) -> None:
    account = await start(world)
    token = bearer(make(world, account, seconds=31536000, warn_after=3607))
    fresh = await world.ask(token)
    assert fresh is not None and fresh.annotations == {}
    world.clock.move(3610)
    stale = await world.ask(token)
    assert stale is not None
    text = f"subject: {ROBOT}, seconds after warning threshold: 3"
    assert stale.annotations == {"authentication.k8s.io/stale-token": text}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_keys_are_several_and_the_first_start_signs(world: World) -> None:
    old, new = keys.generate("rsa-2048"), keys.generate("ed25519")
    pem = keys.public_pem(old.public_key()) + keys.public_pem(new.public_key())
    await world.start(
        service_account_issuer=(ISSUER, "https://before.example"),
        service_account_key_file=(world.write("sa.pub", pem),),
        service_account_signing_key_file=world.write("sa.key", keys.private_pem(new)),
    )
    account = world.objects.add("serviceaccounts", "ns", "robot", "u-robot")
    assert await world.who(bearer(make(world, account))) == ROBOT
    before = signing.TokenSigner(old, "https://before.example")
    assert (
        await world.who(bearer(before.bound(account, BoundObjects(), audiences=(ISSUER,), now=START, seconds=600)))
        == ROBOT
    )
    documents = world.built.documents(lambda: "gate.example:6443")
    configuration = json.loads(documents["/.well-known/openid-configuration"]().body)
    assert configuration["issuer"] == ISSUER
    assert configuration["jwks_uri"] == "https://gate.example:6443/openid/v1/jwks"
    assert configuration["id_token_signing_alg_values_supported"] == ["EdDSA", "RS256"]
    listed = json.loads(documents["/openid/v1/jwks"]().body)["keys"]
    assert [(key["kty"], key["alg"], key["kid"]) for key in listed] == [
        ("RSA", "RS256", keys.key_id(old.public_key())),
        ("OKP", "EdDSA", keys.key_id(new.public_key())),
    ]


# ---------------------------------------------------------------------- forgeries
def test_claims_names(world: World) -> None:
    assert signing.split_user_name("system:serviceaccount:ns:a.b") == ("ns", "a.b")
    for name in ("system:serviceaccount:ns", "system:serviceaccount:ns:a:b", "system:serviceaccount::a", "x:ns:a"):
        assert signing.split_user_name(name) is None


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "RS256", "kid": "../../../dev/null"},
        {"alg": "RS256", "jwk": {"kty": "oct", "k": "AA"}},
        {"alg": "ES256", "crit": ["exp"]},
        {"alg": ["ES256"]},
        {},
    ],
)
async def test_a_token_that_no_key_signed_is_no_token(world: World, header: dict[str, Any]) -> None:
    await start(world)
    claims = {
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": ROBOT,
        "exp": START + 60,
        "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "robot", "uid": "u-robot"}},
    }
    for signature in (b"x", b"\0" * 64):
        assert (await world.who(bearer(unsigned(claims, header, signature)))).startswith("refused")


async def test_the_public_key_is_no_shared_secret(world: World) -> None:
    """HS256 with the published key as the secret: the classic confusion.

    CVE-2015-9235, CVE-2016-10555, CVE-2022-29217.
    """
    import hashlib
    import hmac

    await start(world)
    (public,) = world.built.public_keys
    claims = {"iss": ISSUER, "aud": [ISSUER], "sub": ROBOT, "exp": START + 60}
    token = unsigned(claims, {"alg": "HS256", "kid": keys.key_id(public)})
    head = token.rpartition(".")[0]
    digest = hmac.new(keys.public_pem(public), head.encode(), hashlib.sha256).digest()
    forged = f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    assert (await world.who(bearer(forged))).startswith("refused")


async def test_a_name_twice_in_one_object_is_no_token(world: World) -> None:
    await start(world)
    assert world.built.signer is not None
    good = signed(world)
    from joserfc import jws

    payload = json.dumps({"iss": ISSUER}).encode()[:-1] + b', "sub": "a", "sub": "b"}'
    signer = world.built.signer
    twice = jws.serialize_compact({"alg": "ES256"}, payload, signer._key, ["ES256"])
    assert await world.who(bearer(good)) == ROBOT
    assert await world.who(bearer(twice)) == "refused: invalid bearer token"


async def test_a_changed_token_is_refused(world: World) -> None:
    await start(world)
    token = signed(world)
    for changed in (token + "x", token + ".x", "x" + token, token[:-4], token.replace(".", "..")):
        assert (await world.who(bearer(changed))).startswith("refused")


async def test_a_token_over_the_limit_is_not_looked_into(world: World) -> None:
    await start(world)
    huge = signed(world, padding="x" * 70_000)
    assert await world.who(bearer(huge)) == "refused: invalid bearer token"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": 7},
        {"sub": 7},
        {"exp": "soon"},
        {"kubernetes.io": []},
        {"kubernetes.io": {"namespace": "ns", "serviceaccount": "robot"}},
        {"kubernetes.io": {}},
        {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "robot", "uid": "u-robot"}}},
        {
            "kubernetes.io": {
                "namespace": "ns",
                "serviceaccount": {"name": "robot", "uid": "u-robot"},
                "pod": {"name": "no"},
            }
        },
    ],
)
async def test_claims_of_another_kind_are_refused(world: World, claims: dict[str, Any]) -> None:
    """CVE-2020-26160 is of audiences of another kind."""
    await start(world)
    assert (await world.who(bearer(signed(world, **claims)))).startswith("refused: [invalid bearer token, ")


async def test_claims_that_may_be_missing_may_be_missing(world: World) -> None:
    await start(world)
    for name in ("exp", "sub", "aud"):
        assert await world.who(bearer(signed(world, **{name: None}))) == ROBOT


# ---------------------------------------------------------------------- tokens of Secrets
def legacy(world: World, account: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    assert world.built.signer is not None
    kept = world.objects.add("secrets", "ns", "long", "u-secret")
    token = world.built.signer.legacy(account, kept)
    kept["data"] = secret(token=token)
    return token, kept


async def test_a_secrets_token_is_good_while_the_secret_holds_it(world: World) -> None:
    account = await start(world)
    token, kept = legacy(world, account)
    found = await world.ask(bearer(token))
    assert found is not None
    assert (found.user.name, dict(found.user.extra), found.warnings) == (ROBOT, {}, ())
    assert found.annotations == {"authentication.k8s.io/legacy-token": ROBOT}
    kept["data"] = secret(token="another")
    assert "Token does not match server's copy" in await world.who(bearer(token))
    world.objects.remove("secrets", "ns", "long")
    assert "Token has been invalidated" in await world.who(bearer(token))


async def test_the_day_of_use_is_noted_once_a_day(world: World) -> None:
    account = await start(world)
    token, kept = legacy(world, account)
    await world.ask(bearer(token))
    assert world.marked == [("ns", "long", "2027-01-15")]
    kept["metadata"]["labels"] = {"kubernetes.io/legacy-token-last-used": "2027-01-15"}
    await world.ask(bearer(token))
    assert len(world.marked) == 1


async def test_a_token_marked_invalid_is_refused(world: World) -> None:
    account = await start(world)
    token, kept = legacy(world, account)
    kept["metadata"]["labels"] = {"kubernetes.io/legacy-token-invalid-since": "2020-01-01"}
    text = await world.who(bearer(token))
    assert "the token in secret ns/long for service account ns/robot has been marked invalid" in text
    assert token not in text


async def test_a_generated_secrets_token_warns_its_user(world: World) -> None:
    account = await start(world)
    token, _ = legacy(world, account)
    account["secrets"] = [{"name": "long"}]
    found = await world.ask(bearer(token))
    assert found is not None
    assert found.warnings[0].startswith("Use tokens from the TokenRequest API or manually created secret-based tokens")
    assert found.annotations["authentication.k8s.io/legacy-token-autogenerated-secret"] == "long"


@pytest.mark.parametrize("claim", ["namespace", "secret.name", "service-account.name", "service-account.uid"])
async def test_a_secrets_token_without_a_claim_is_refused(world: World, claim: str) -> None:
    account = await start(world)
    _, kept = legacy(world, account)
    assert world.built.signer is not None
    prefix = "kubernetes.io/serviceaccount/"
    claims = {
        "iss": signing.LEGACY_ISSUER,
        "sub": ROBOT,
        f"{prefix}namespace": "ns",
        f"{prefix}secret.name": "long",
        f"{prefix}service-account.name": "robot",
        f"{prefix}service-account.uid": "u-robot",
    }
    del claims[prefix + claim]
    token = world.built.signer.sign(claims)
    kept["data"] = secret(token=token)
    assert "claim is missing" in await world.who(bearer(token))


# ---------------------------------------------------------------------- bootstrap tokens
def bootstrap(world: World, **data: str) -> None:
    values = {"token_id": "abcdef", "token_secret": "0123456789abcdef", "usage_bootstrap_authentication": "true"} | data
    world.objects.add(
        "secrets", "kube-system", "bootstrap-token-abcdef", type="bootstrap.kubernetes.io/token", data=secret(**values)
    )


JOIN = bearer("abcdef.0123456789abcdef")


async def test_a_bootstrap_token_makes_a_bootstrapper(world: World) -> None:
    await world.start(enable_bootstrap_token_auth=True, api_audiences=("api",))
    bootstrap(world, auth_extra_groups="system:bootstrappers:kubeadm:default-node-token")
    found = await world.ask(JOIN)
    assert found is not None
    assert found.user.name == "system:bootstrap:abcdef"
    assert found.user.groups == (
        "system:bootstrappers",
        "system:bootstrappers:kubeadm:default-node-token",
        "system:authenticated",
    )
    world.objects.remove("secrets", "kube-system", "bootstrap-token-abcdef")
    assert await world.who(JOIN) == "refused: invalid bearer token"


@pytest.mark.parametrize(
    "data",
    [
        {"token_secret": "0123456789abcdeX"},
        {"token_id": "zzzzzz"},
        {"usage_bootstrap_authentication": "yes"},
        {"expiration": "2019-05-05T05:05:05Z"},
        {"expiration": "soon"},
        {"expiration": "2099-05-05 05:05:05Z"},
        {"expiration": "2099-05-05T05:05Z"},
        {"auth_extra_groups": "system:masters"},
        {"auth_extra_groups": "system:bootstrappers:x,system:masters"},
    ],
)
async def test_bootstrap_tokens_that_are_not_right_are_not_known(world: World, data: dict[str, str]) -> None:
    await world.start(enable_bootstrap_token_auth=True)
    bootstrap(world, **data)
    assert await world.who(JOIN) == "refused: invalid bearer token"
