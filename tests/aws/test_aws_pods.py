"""IAM roles for service accounts: what pods are given, whom roles trust, and which step of the way fails."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aws_tokens import ACCOUNT
from hypothesis import given
from hypothesis import strategies as st
from people import HandClock
from remote_server import Serve, Server, reply

from kubegate.admission.config import ConfigurationError
from kubegate.admission.plugins.pod_identity_webhook import settings
from kubegate.authentication.signing import BoundObjects, TokenSigner, jwks
from kubegate.aws import awsauth
from kubegate.aws.arn import BadArn
from kubegate.aws.mapping import BadMapping
from kubegate.aws.pod_identity import PodIdentity
from kubegate.aws.trust import NotTrusted, check, trust_policy
from kubegate.aws.walk import StepFailed, Way, steps
from kubegate.cli.iam_pods import signed
from kubegate.pki import keys
from kubegate.tokens.credential import jwt_claims
from kubegate.webhooks.client import GateClient
from kubegate.webhooks.gate import Gate
from kubegate.webhooks.pod_identity import pod_identity

sys.path.append(str(Path(__file__).parent.parent / "admission"))

from admission_world import World, attributes, run
from admission_world import pod as pod_of

ROLE = f"arn:aws:iam::{ACCOUNT}:role/reader"
PATH = "/var/run/secrets/eks.amazonaws.com/serviceaccount"


def account(**annotations: str) -> dict[str, Any]:
    named = {f"eks.amazonaws.com/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"metadata": {"name": "reader", "namespace": "ns", "annotations": named}}


def pod(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web", "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"containers": list(containers) or [{"name": "c"}], **spec}}


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env") or ()}


def test_a_pod_of_an_annotated_account_finds_role_token_and_region() -> None:
    given_pod = pod({"name": "c"}, initContainers=[{"name": "i", "env": [{"name": "A", "value": "b"}]}])
    assert PodIdentity(aws_default_region="eu-west-1").inject(given_pod, account(role_arn=ROLE))
    (container,), (init,) = given_pod["spec"]["containers"], given_pod["spec"]["initContainers"]
    assert list(variables(container).items()) == [
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ROLE_ARN", ROLE),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", f"{PATH}/token"),
    ]
    assert variables(init) == {"A": "b", **variables(container)}
    assert container["volumeMounts"] == [{"name": "aws-iam-token", "readOnly": True, "mountPath": PATH}]
    token = {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}
    volume = {"name": "aws-iam-token", "projected": {"sources": [{"serviceAccountToken": token}]}}
    assert given_pod["spec"]["volumes"] == [volume]


def test_nothing_is_given_twice() -> None:
    given_pod, identity = pod(), PodIdentity(aws_default_region="eu-west-1")
    identity.inject(given_pod, account(role_arn=ROLE))
    before = copy.deepcopy(given_pod)
    assert not identity.inject(given_pod, account(role_arn=ROLE))
    assert given_pod == before


def test_an_account_without_a_role_changes_nothing() -> None:
    given_pod = pod()
    assert not PodIdentity().inject(given_pod, account(audience="x"))
    assert given_pod == pod()


@pytest.mark.parametrize(
    ("env", "absent"),
    [
        ([{"name": "AWS_ROLE_ARN", "value": "mine"}], "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ([{"name": "AWS_REGION", "value": "mine"}], "AWS_DEFAULT_REGION"),
    ],
)
def test_what_a_container_brings_itself_is_left_to_it(env: list[dict[str, str]], absent: str) -> None:
    given_pod = pod({"name": "c", "env": env})
    PodIdentity(aws_default_region="eu-west-1").inject(given_pod, account(role_arn=ROLE))
    found = variables(given_pod["spec"]["containers"][0])
    assert found[env[0]["name"]] == "mine" and absent not in found


@pytest.mark.parametrize(
    ("of_account", "of_pod", "wanted"),
    [
        ({}, None, 86400), ({"token_expiration": "3600"}, None, 3600), ({"token_expiration": "1"}, None, 600),
        ({"token_expiration": "99999999"}, None, 86400), ({"token_expiration": "3600"}, "7200", 7200),
        ({"token_expiration": "3600"}, "soon", 3600), ({"token_expiration": "x"}, None, 86400),
    ],
)  # fmt: skip
def test_the_pods_word_on_its_token_counts_before_its_accounts(
    of_account: dict[str, str], of_pod: str | None, wanted: int
) -> None:
    annotations = {"eks.amazonaws.com/token-expiration": of_pod} if of_pod else {}
    assert PodIdentity().seconds(pod(annotations=annotations), account(role_arn=ROLE, **of_account)) == wanted


def test_annotations_choose_audience_and_endpoint_and_leave_containers_out() -> None:
    given_pod = pod({"name": "a"}, {"name": "b,c"}, annotations={"eks.amazonaws.com/skip-containers": 'a,"b,c"'})
    PodIdentity().inject(given_pod, account(role_arn=ROLE, audience="mine", sts_regional_endpoints="false"))
    assert given_pod["spec"]["containers"] == [{"name": "a"}, {"name": "b,c"}]
    source = given_pod["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    assert source["audience"] == "mine"
    given_pod = pod()
    PodIdentity().inject(given_pod, account(role_arn=ROLE, sts_regional_endpoints="false"))
    assert "AWS_STS_REGIONAL_ENDPOINTS" not in variables(given_pod["spec"]["containers"][0])


def test_windows_names_files_in_its_own_way() -> None:
    given_pod = pod(nodeSelector={"kubernetes.io/os": "windows"})
    PodIdentity().inject(given_pod, account(role_arn=ROLE))
    path = variables(given_pod["spec"]["containers"][0])["AWS_WEB_IDENTITY_TOKEN_FILE"]
    assert path == r"C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token"


NAMES = st.sampled_from(["AWS_ROLE_ARN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_STS_REGIONAL_ENDPOINTS", "X"])


@given(st.lists(st.lists(NAMES, unique=True), min_size=1, max_size=3), st.booleans())
def test_however_often_it_is_asked_every_name_is_there_once(envs: list[list[str]], regional: bool) -> None:
    containers = [{"name": str(n), "env": [{"name": e, "value": "v"} for e in env]} for n, env in enumerate(envs)]
    given_pod, identity = pod(*containers), PodIdentity(aws_default_region="r", sts_regional_endpoint=regional)
    for _ in range(3):
        identity.inject(given_pod, account(role_arn=ROLE))
    for container in given_pod["spec"]["containers"]:
        names = [each["name"] for each in container["env"]]
        assert len(names) == len(set(names)) and "AWS_ROLE_ARN" in names
        assert len(container["volumeMounts"]) == 1
    assert len(given_pod["spec"]["volumes"]) == 1


# ---------------------------------------------------------------------- as a plugin, and as a policy
@pytest.fixture
def world() -> World:
    return World()


async def test_the_plugin_looks_at_the_pods_account(world: World) -> None:
    world.objects.put("serviceaccounts", account(role_arn=ROLE))
    chain = world.chain("PodIdentityWebhook", PodIdentityWebhook={"awsDefaultRegion": "eu-west-1"})
    found = await run(chain, attributes("pods", pod_of(serviceAccountName="reader", containers=[{"name": "c"}])))
    assert variables(found["spec"]["containers"][0])["AWS_REGION"] == "eu-west-1"
    plain = await run(chain, attributes("pods", pod_of(serviceAccountName="other", containers=[{"name": "c"}])))
    assert "volumes" not in plain["spec"]


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"tokenAudiense": "x"}, 'unknown field "tokenAudiense", did you mean tokenAudience?'),
        ({"tokenExpiration": "86400"}, "tokenExpiration: must be a whole number"),
        ({"tokenExpiration": 60}, "tokenExpiration: must be from 600 to 86400 seconds"),
        ({"stsRegionalEndpoint": "yes"}, "stsRegionalEndpoint: must be true or false"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(configuration: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        settings(configuration)


def test_the_same_is_a_policy_for_the_webhook_server() -> None:
    async def find(namespace: str, name: str) -> dict[str, Any] | None:
        return account(role_arn=ROLE) if (namespace, name) == ("ns", "reader") else None

    gate = Gate()
    gate.mutate("pods", operations=["CREATE"])(pod_identity(find))
    sent = {"apiVersion": "v1", "kind": "Pod", **pod(serviceAccountName="reader")}
    sent["metadata"]["namespace"] = "ns"
    with GateClient(gate) as client:
        answer = client.admit(sent)
    assert answer.allowed and answer.object is not None
    assert variables(answer.object["spec"]["containers"][0])["AWS_ROLE_ARN"] == ROLE


# ---------------------------------------------------------------------- trust policies
CLAIMS = {"iss": "https://id.example.org/x", "sub": "system:serviceaccount:ns:reader", "aud": ["sts.amazonaws.com"]}


def policy(**more: Any) -> dict[str, Any]:
    return trust_policy("https://id.example.org/x", ACCOUNT, "ns", "reader", **more)


def test_a_trust_policy_names_provider_subject_and_audience() -> None:
    (statement,) = policy()["Statement"]
    assert statement["Principal"]["Federated"] == f"arn:aws:iam::{ACCOUNT}:oidc-provider/id.example.org/x"
    assert statement["Condition"] == {
        "StringEquals": {
            "id.example.org/x:aud": "sts.amazonaws.com",
            "id.example.org/x:sub": "system:serviceaccount:ns:reader",
        }
    }
    check(policy(), CLAIMS, ROLE)
    wide = trust_policy("https://id.example.org/x", ACCOUNT, "ns", "*")
    assert wide["Statement"][0]["Condition"]["StringLike"] == {"id.example.org/x:sub": "system:serviceaccount:ns:*"}
    check(wide, CLAIMS, ROLE)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"sub": "system:serviceaccount:ns:other"}, "the token has system:serviceaccount:ns:other; in the policy is"),
        ({"aud": ["x"]}, "StringEquals id.example.org/x:aud: the token has x; in the policy is sts.amazonaws.com"),
        ({"iss": "https://other.example.org"}, "its Principal.Federated is arn:aws:iam::111122223333:oidc-provider/id"),
    ],
)
def test_a_token_that_is_not_trusted_is_told_why(claims: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotTrusted, match=r"^Statement\[0\]: ") as caught:
        check(policy(), CLAIMS | claims, ROLE)
    assert reason in str(caught.value)


def test_a_statement_that_denies_counts_before_those_that_allow() -> None:
    denied = copy.deepcopy(policy())
    denied["Statement"].append({**denied["Statement"][0], "Effect": "Deny"})
    with pytest.raises(NotTrusted, match=r"Statement\[1\] denies it"):
        check(denied, CLAIMS, ROLE)
    with pytest.raises(NotTrusted, match="there is no Statement"):
        check({}, CLAIMS, ROLE)


# ---------------------------------------------------------------------- the whole way
class Issuer:
    """An issuer of web identities on this machine; `documents` by path may be changed."""

    def __init__(self, server: Server, clock: HandClock) -> None:
        self.server, self.clock = server, clock
        self.key, self.old = keys.generate(), keys.generate()
        self.url = f"https://127.0.0.1:{server.port}"
        self.documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": json.loads(jwks([self.old.public_key(), self.key.public_key()])),
        }

    def way(self, key: keys.PrivateKey | None = None, **more: Any) -> Way:
        metadata = {"namespace": "ns", "name": "reader", "uid": "u"}
        token = TokenSigner(key or self.key, self.url).bound(
            {"metadata": metadata}, BoundObjects(), audiences=["sts.amazonaws.com"], now=self.clock.now(), seconds=600
        )
        given = {"token": token, "claims": jwt_claims(token), "role": ROLE, "authority": self.server.authority.pem}
        return Way(**(given | more))


@pytest.fixture
async def issuer(serve: Serve) -> Issuer:
    made: list[Issuer] = []

    async def answer(head: str, body: bytes) -> bytes:
        found = made[0].documents.get(head.split(" ")[1])
        if found is None:
            return reply(b"", "404 Not Found")
        return found if isinstance(found, bytes) else reply(orjson.dumps(found))

    made.append(Issuer(await serve(answer), HandClock()))
    return made[0]


async def walked(issuer: Issuer, way: Way) -> list[str]:
    """The steps that hold, and the failure after them."""
    found = []
    try:
        async for step, _ in steps(way, signed, issuer.clock):
            found.append(step)
    except StepFailed as error:
        assert way.token not in str(error)
        found.append(str(error))
    return found


ALL = ["role", "token", "audience", "issuer discovery", "keys"]


async def test_keys_old_and_new_are_both_good_while_they_are_published(issuer: Issuer) -> None:
    trusted = trust_policy(issuer.url, ACCOUNT, "ns", "reader")
    assert await walked(issuer, issuer.way(trust_policy=trusted)) == [*ALL, "trust policy"]
    assert await walked(issuer, issuer.way(key=issuer.old)) == ALL


@pytest.mark.parametrize(
    ("spoil", "step", "reason"),
    [
        (lambda i: i.way(role="reader"), 0, "role: 'reader' is no ARN"),
        (lambda i: i.way(role=f"arn:aws:iam::{ACCOUNT}:user/jane"), 0, "is no role"),
        (lambda i: i.way(claims={}), 1, "token: it is no service account's token"),
        (lambda i: i.clock.move(601) or i.way(claims=i.way().claims | {"exp": 1}), 1, "token: it ended"),
        (lambda i: i.way(audience="mine"), 2, "audience: the token is for sts.amazonaws.com; mine is right"),
        (lambda i: i.way(claims=i.way().claims | {"iss": "kubernetes"}), 3, "AWS takes issuers of https:// alone"),
        (lambda i: i.documents.clear() or i.way(), 3, "answers 404; everybody must be able to read it"),
        (
            lambda i: i.documents["/.well-known/openid-configuration"].update(issuer="https://x") or i.way(),
            3, "issuer discovery: the document is of https://x; the token of",
        ),
        (
            lambda i: i.documents["/.well-known/openid-configuration"].update(jwks_uri="http://x") or i.way(),
            3, "jwks_uri is http://x; an https:// address is right",
        ),
        (lambda i: i.documents.update({"/keys": {"keys": []}}) or i.way(), 4, "keys: no key that the issuer publishes"),
        (lambda i: i.documents.update({"/keys": {}}) or i.way(), 4, "keys: the key set has no list of keys"),
        (lambda i: i.way(key=keys.generate()), 4, "keys: no key that the issuer publishes made the token's signature"),
        (lambda i: i.way(trust_policy=trust_policy(i.url, ACCOUNT, "ns", "x")), 5, "trust policy: Statement[0]: "),
        (lambda i: i.way(sts_url=f"{i.url}/sts"), 5, "STS: it answered 404"),
    ],
)  # fmt: skip
async def test_the_step_that_fails_is_named(
    issuer: Issuer, spoil: Callable[[Issuer], Way], step: int, reason: str
) -> None:
    found = await walked(issuer, spoil(issuer))
    assert found[:-1] == ALL[:step] and reason in found[-1]


# ---------------------------------------------------------------------- the aws-auth ConfigMap, changed
def test_a_mapping_is_added_replaced_and_removed_and_all_else_stays() -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/Dev"
    data = awsauth.added(
        {"other": "x", "mapUsers": "- userarn: arn:aws:iam::111122223333:user/a\n  username: a\n"}, arn, "dev", []
    )
    data = awsauth.added(data, arn, "dev:{{SessionName}}", ["dev"])
    data = awsauth.with_account(data, "012345670123")
    assert [(row.arn.rpartition(":")[2], row.username, row.groups) for row in awsauth.rows(data)] == [
        ("role/Dev", "dev:{{SessionName}}", ("dev",)), ("user/a", "a", ()), ("012345670123", "", ())
    ]  # fmt: skip
    assert data["mapAccounts"] == "- '012345670123'\n" and data["other"] == "x"
    removed = awsauth.removed(data, arn)
    assert removed is not None and removed["mapRoles"] == "" and awsauth.removed(removed, arn) is None
    assert awsauth.removed(data, "012345670123") == {**data, "mapAccounts": ""}


def test_a_session_is_mapped_as_its_role_and_what_is_none_is_refused() -> None:
    assert awsauth.normal(f"arn:aws:sts::{ACCOUNT}:assumed-role/Dev/jane") == f"arn:aws:iam::{ACCOUNT}:role/Dev"
    assert awsauth.normal(f"arn:aws:iam::{ACCOUNT}:role/team/Dev") == f"arn:aws:iam::{ACCOUNT}:role/Dev"
    with pytest.raises(BadArn):
        awsauth.normal("jane")
    with pytest.raises(BadMapping, match="is no template"):
        awsauth.added({}, f"arn:aws:iam::{ACCOUNT}:user/jane", "{{Name}}", [])
    with pytest.raises(BadMapping, match="not YAML"):
        awsauth.added({"mapUsers": "- ["}, f"arn:aws:iam::{ACCOUNT}:user/jane", "jane", [])
