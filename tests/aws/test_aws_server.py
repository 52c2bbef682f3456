"""IAM identities at the API server: the places of mappings, access policies, and what is told of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aws_tokens import ACCOUNT, CLUSTER, JANE, identity, refusal, token
from remote_server import Serve, Server
from server_client import Answer, Client, client_for

from kubegate.api.clock import SystemClock
from kubegate.authentication.signing import BoundObjects, TokenSigner
from kubegate.authentication.sources.config import TokenSources, load
from kubegate.pki import keys
from kubegate.server.options import UsageError, parse
from kubegate.server.process import Server as ApiServer
from kubegate.tokens.credential import jwt_claims
from kubegate.webhooks.gate import Deny, Review
from kubegate.webhooks.pod_identity import pod_identity
from kubegate.webhooks.sources import token_sources

ROLE = f"arn:aws:iam::{ACCOUNT}:role/Dev"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/Dev/jane"
AWS_AUTH = "/api/v1/namespaces/kube-system/configmaps"
POLICY = "arn:aws:eks::aws:cluster-access-policy/"
ENTRIES = "/apis/iam.kubegate.dev/v1alpha1/accessentries"


class Cluster:
    """An API server that asks the STS of the test; requests as admin, or as whoever STS says."""

    def __init__(self, server: ApiServer, client: Client, sts: Server) -> None:
        self.server, self.client, self.sts = server, client, sts
        self.token = token(time.time(), f"127.0.0.1:{sts.port}")

    async def admin(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.client.ask(method, path, body, **headers)

    async def iam(self, method: str, path: str, body: Any = None) -> Answer:
        return await self.client.ask(method, path, body, token=self.token)

    async def whoami(self) -> dict[str, Any]:
        answer = await self.iam("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", REVIEW)
        assert answer.status == 201, answer.body
        found: dict[str, Any] = answer.json["status"]["userInfo"]
        return found


REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
Begin = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def begin(tmp_path: Path, serve: Serve) -> AsyncIterator[Begin]:
    """`await begin("--flag=value", …, answer=bytes of STS)`."""
    running: list[ApiServer] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(*flags: str, answer: bytes = b"") -> Cluster:
        async def on_request(head: str, body: bytes) -> bytes:
            return answer or identity(SESSION, "AROA:jane")

        sts = await serve(on_request)
        (tmp_path / "sts.crt").write_bytes(sts.authority.pem)
        (tmp_path / "tokens.csv").write_text('admin-token,admin,u-admin,"system:masters"\n')
        server = ApiServer(
            parse(
                [
                    "--secure-port=0", "--storage=memory", f"--data-dir={tmp_path}",
                    f"--token-auth-file={tmp_path / 'tokens.csv'}", f"--aws-iam-cluster-id={CLUSTER}",
                    f"--aws-iam-sts-endpoint=127.0.0.1:{sts.port}", f"--aws-iam-sts-cafile={tmp_path / 'sts.crt'}",
                    *flags,
                ]
            ).options
        )  # fmt: skip
        await server.start()
        running.append(server)
        client, session = client_for(server)
        sessions.append(session)
        return Cluster(server, client, sts)

    yield start
    for session in sessions:
        await session.close()
    for each in running:
        await each.stop()


def aws_auth(**data: str) -> dict[str, Any]:
    return {"metadata": {"name": "aws-auth", "namespace": "kube-system"}, "data": data}


def entry(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "iam.kubegate.dev/v1alpha1", "kind": "AccessEntry", "metadata": metadata, "spec": spec}


async def until(cluster: Cluster, path: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first object of a watch that is as wanted."""
    client, headers = cluster.client, {"Authorization": "Bearer admin-token"}
    url = f"{client.url}{path}?watch=true&timeoutSeconds=20"
    async with client.session.get(url, headers=headers, ssl=client.context) as answer:
        async for line in answer.content:
            found: dict[str, Any] = orjson.loads(line)["object"]
            if wanted(found):
                return found
    raise AssertionError(f"{path}: nothing came that is as wanted")


async def served(cluster: Cluster, path: str) -> None:
    """Until the custom resource is there: its definition is established in the background."""
    plural = path.rpartition("/")[2]

    def established(definition: dict[str, Any]) -> bool:
        conditions = (definition.get("status") or {}).get("conditions") or []
        return definition["metadata"]["name"].startswith(plural) and any(
            each["type"] == "Established" and each["status"] == "True" for each in conditions
        )

    await until(cluster, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", established)


async def test_a_mapping_counts_from_the_next_request_on_and_ends_so(begin: Begin) -> None:
    cluster = await begin()
    assert (await cluster.iam("GET", "/api/v1/nodes")).status == 401
    mapping = f"- rolearn: {ROLE}\n  username: dev:{{{{SessionName}}}}\n  groups: [system:masters]\n"
    assert (await cluster.admin("POST", AWS_AUTH, aws_auth(mapRoles=mapping))).status == 201
    assert (await cluster.iam("GET", "/api/v1/nodes")).status == 200
    found = await cluster.whoami()
    assert found["username"] == "dev:jane" and found["extra"]["arn"] == [SESSION]
    assert (await cluster.admin("DELETE", f"{AWS_AUTH}/aws-auth")).status == 200
    refused = await cluster.iam("GET", "/api/v1/nodes")
    assert refused.status == 401 and refused.json["message"] == "Unauthorized"
    assert len(cluster.sts.received) == 1


async def test_a_refusal_has_its_reason_in_the_log_alone(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    cluster = await begin(answer=refusal("403 Forbidden", "SignatureDoesNotMatch"))
    caplog.set_level("INFO", "kubegate")
    refused = await cluster.iam("GET", "/api")
    assert refused.status == 401 and refused.json["message"] == "Unauthorized"
    assert "STS refuses the token" in caplog.text and "SignatureDoesNotMatch" in caplog.text
    assert cluster.token not in caplog.text and "X-Amz-Signature" not in caplog.text
    metrics = (await cluster.admin("GET", "/metrics")).body.decode()
    assert 'aws_iam_authenticator_sts_response_total{code="403"} 1' in metrics


async def test_a_sign_in_that_sts_had_no_time_for_is_told_to_wait(begin: Begin) -> None:
    cluster = await begin(answer=refusal("400 Bad Request", "Throttling"))
    refused = await cluster.iam("GET", "/api")
    assert refused.status == 429 and refused.headers["retry-after"] == "1"
    assert refused.json["message"] == "too many sign-ins, please try again later."
    metrics = (await cluster.admin("GET", "/metrics")).body.decode()
    assert 'aws_iam_authenticator_authenticate_latency_seconds_count{result="sts_throttling"} 1' in metrics


async def test_a_broken_map_is_told_in_an_event(begin: Begin) -> None:
    cluster = await begin()
    good = f"- rolearn: {ROLE}\n  username: jane\n"
    await cluster.admin("POST", AWS_AUTH, aws_auth(mapRoles=good))
    await cluster.admin("PUT", f"{AWS_AUTH}/aws-auth", aws_auth(mapRoles="- rolearn: ["))
    assert (await cluster.whoami())["username"] == "jane"
    path = "/api/v1/namespaces/kube-system/events"
    found = await until(cluster, path, lambda event: event["reason"] == "BrokenMapping")
    assert found["involvedObject"]["name"] == "aws-auth" and found["type"] == "Warning"
    assert "mapRoles: line 2 not YAML" in found["message"]
    metrics = (await cluster.admin("GET", "/metrics")).body.decode()
    assert 'kubegate_aws_iam_mapping_problems{backend="EKSConfigMap"} 1' in metrics


async def test_identity_mappings_are_custom_resources(begin: Begin) -> None:
    cluster = await begin("--aws-iam-backend-mode=CRD,EKSConfigMap")
    path = "/apis/iamauthenticator.k8s.aws/v1alpha1/iamidentitymappings"
    await served(cluster, path)
    spec = {"arn": SESSION, "username": "dev:{{SessionName}}", "groups": ["dev"]}
    body = {"apiVersion": "iamauthenticator.k8s.aws/v1alpha1", "kind": "IAMIdentityMapping", "spec": spec}
    made = await cluster.admin("POST", path, body | {"metadata": {"name": "dev"}})
    assert made.status == 201, made.body
    assert (await cluster.whoami())["groups"] == ["dev", "system:authenticated"]
    await cluster.admin("DELETE", f"{path}/dev")
    assert (await cluster.iam("GET", "/api")).status == 401


async def test_an_access_policy_allows_what_its_role_allows_where_it_is_scoped(begin: Begin) -> None:
    cluster = await begin("--aws-iam-backend-mode=AccessEntry")
    await served(cluster, ENTRIES)
    await cluster.admin("POST", "/api/v1/namespaces", {"metadata": {"name": "dev-a"}})
    view = {"policyArn": f"{POLICY}AmazonEKSViewPolicy", "accessScope": {"type": "cluster"}}
    edit = {"policyArn": f"{POLICY}AmazonEKSEditPolicy", "accessScope": {"type": "namespace", "namespaces": ["dev-*"]}}
    made = await cluster.admin("POST", ENTRIES, entry("dev", principalArn=ROLE, accessPolicies=[view, edit]))
    assert made.status == 201, made.body
    assert (await cluster.whoami())["username"] == SESSION
    config = {"metadata": {"name": "c"}}
    assert (await cluster.iam("GET", "/api/v1/pods")).status == 200
    assert (await cluster.iam("POST", "/api/v1/namespaces/dev-a/configmaps", config)).status == 201
    refused = await cluster.iam("POST", "/api/v1/namespaces/default/configmaps", config)
    assert refused.status == 403
    assert (await cluster.iam("GET", "/api/v1/secrets")).status == 403
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
        "resourceAttributes": {"verb": "create", "resource": "configmaps", "namespace": "dev-a"}
    }}  # fmt: skip
    told = await cluster.iam("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert told.json["status"]["reason"] == "access entry 'dev': AmazonEKSEditPolicy in namespace 'dev-a'"
    rules = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "dev-a"}}
    listed = await cluster.iam("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", rules)
    assert any("configmaps" in rule["resources"] for rule in listed.json["status"]["resourceRules"])
    admin = {"policyArn": f"{POLICY}AmazonEKSClusterAdminPolicy", "accessScope": {"type": "cluster"}}
    changed = {"spec": {"accessPolicies": [admin]}}
    patched = await cluster.admin("PATCH", f"{ENTRIES}/dev", changed, Content_Type="application/merge-patch+json")
    assert patched.status == 200, patched.body
    assert (await cluster.iam("GET", "/api/v1/secrets")).status == 200
    await cluster.admin("DELETE", f"{ENTRIES}/dev")
    assert (await cluster.iam("GET", "/api")).status == 401


async def test_an_entry_that_does_not_count_allows_nothing(begin: Begin) -> None:
    cluster = await begin("--aws-iam-backend-mode=AccessEntry")
    await served(cluster, ENTRIES)
    admin = {"policyArn": f"{POLICY}AmazonEKSClusterAdminPolicy", "accessScope": {"type": "cluster"}}
    await cluster.admin("POST", ENTRIES, entry("a-first", principalArn=ROLE))
    await cluster.admin("POST", ENTRIES, entry("b-second", principalArn=ROLE, accessPolicies=[admin]))
    assert (await cluster.iam("GET", "/api/v1/secrets")).status == 403
    await cluster.admin("DELETE", f"{ENTRIES}/a-first")
    assert (await cluster.iam("GET", "/api/v1/secrets")).status == 200


async def test_an_access_policy_cannot_be_had_by_impersonation(begin: Begin) -> None:
    cluster = await begin("--aws-iam-backend-mode=AccessEntry")
    await served(cluster, ENTRIES)
    admin = {"policyArn": f"{POLICY}AmazonEKSClusterAdminPolicy", "accessScope": {"type": "cluster"}}
    await cluster.admin("POST", ENTRIES, entry("dev", principalArn=ROLE, accessPolicies=[admin]))
    headers = {"Impersonate-User": "bob", "Impersonate-Extra-canonicalArn": ROLE}
    assert (await cluster.admin("GET", "/api/v1/secrets", **headers)).status == 403


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"principalArn": ROLE, "username": "system:admin"}, "a user name must not begin with system:"),
        ({"principalArn": ROLE, "kubernetesGroups": ["system:masters"]}, "a group must not begin with system:"),
        ({"principalArn": ROLE, "type": "NODE"}, "Unsupported value"),
        ({}, "spec.principalArn: Required value"),
    ],
)
async def test_an_entry_with_reserved_names_is_not_stored(begin: Begin, spec: dict[str, Any], message: str) -> None:
    cluster = await begin("--aws-iam-backend-mode=AccessEntry")
    await served(cluster, ENTRIES)
    refused = await cluster.admin("POST", ENTRIES, entry("x", **spec))
    assert refused.status == 422 and message in refused.json["message"]


async def test_a_file_maps_as_well_and_is_read_again(begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(f"mapRoles:\n- rolearn: {ROLE}\n  username: jane\n")
    cluster = await begin("--aws-iam-backend-mode=MountedFile,EKSConfigMap", f"--aws-iam-mapping-file={path}")
    assert (await cluster.whoami())["username"] == "jane"
    path.write_text(f"mapRoles:\n- rolearn: {ROLE}\n  username: jane.doe\n")
    await cluster.server._authentication.reload()
    assert (await cluster.whoami())["username"] == "jane.doe"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--aws-iam-backend-mode=MountedFile"], "--aws-iam-mapping-file goes with MountedFile"),
        (["--aws-iam-backend-mode=Files"], "--aws-iam-backend-mode: 'Files' is no backend; there are EKSConfigMap"),
        (["--aws-iam-private-dns-file=/nowhere"], "--aws-iam-private-dns-file: /nowhere: No such file"),
        (["--aws-iam-sts-qps=0"], "--aws-iam-sts-qps must be at least 1"),
        (["--aws-iam-sts-endpoint=https://sts.example.org"], "'https://sts.example.org' is no HOST or HOST:PORT"),
        (["--aws-iam-cluster-id="], "--aws-iam-sts-endpoint needs --aws-iam-cluster-id"),
    ],
)
async def test_flags_that_cannot_be_used_are_named(begin: Begin, flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        await begin(*flags)


@pytest.mark.parametrize(
    "token_text",
    [
        "k8s-aws-v1." + "a" * 4000, "k8s-aws-v1." + "a" * 100_000, "k8s-aws-v1.\u00e9", "k8s-aws-v1.",
        token(time.time(), "sts.amazonaws.com.example.org"), token(0.0), token(time.time() + 3600),
    ],
    ids=["nonsense", "100 kB", "no ASCII", "empty", "another host", "expired", "from the future"],
)  # fmt: skip
async def test_hostile_tokens_are_refused_and_nobody_is_asked(begin: Begin, token_text: str) -> None:
    cluster = await begin()
    try:
        answer = await cluster.client.ask("GET", "/api", token=token_text)
    except aiohttp.ServerDisconnectedError:
        assert len(token_text) == 100_011  # more than any header may be
    else:
        assert answer.status in (400, 401, 431)
        assert "aws" not in answer.body.decode() and "token" not in answer.body.decode()
    assert cluster.sts.connections == 0


async def test_old_and_new_keys_of_the_issuer_are_published_and_good(begin: Begin, tmp_path: Path) -> None:
    old, new = keys.generate(), keys.generate()
    for name, key in (("old", old), ("new", new)):
        (tmp_path / f"{name}.key").write_bytes(keys.private_pem(key))
        (tmp_path / f"{name}.pub").write_bytes(keys.public_pem(key.public_key()))
    issuer = "https://id.example.org/demo"
    cluster = await begin(
        f"--service-account-issuer={issuer}", f"--service-account-jwks-uri={issuer}/keys",
        f"--service-account-signing-key-file={tmp_path / 'new.key'}",
        f"--service-account-key-file={tmp_path / 'old.pub'}", f"--service-account-key-file={tmp_path / 'new.pub'}",
    )  # fmt: skip
    document = (await cluster.admin("GET", "/.well-known/openid-configuration")).json
    assert (document["issuer"], document["jwks_uri"]) == (issuer, f"{issuer}/keys")
    published = (await cluster.admin("GET", "/openid/v1/jwks")).json["keys"]
    assert {each["kid"] for each in published} == {keys.key_id(old.public_key()), keys.key_id(new.public_key())}
    path = "/api/v1/namespaces/default/serviceaccounts"
    account = (await cluster.admin("POST", path, {"metadata": {"name": "reader"}})).json
    asked = {"spec": {"audiences": ["sts.amazonaws.com", issuer], "expirationSeconds": 900}}
    made = await cluster.admin("POST", f"{path}/reader/token", asked)
    claims = jwt_claims(made.json["status"]["token"])
    assert (
        claims is not None and claims["aud"] == ["sts.amazonaws.com", issuer] and claims["exp"] - claims["iat"] == 900
    )
    before = TokenSigner(old, issuer).bound(account, BoundObjects(), audiences=[issuer], now=time.time(), seconds=600)
    for text in (made.json["status"]["token"], before):
        whoami = await cluster.client.ask(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", REVIEW, token=text
        )
        assert whoami.json["status"]["userInfo"]["username"] == "system:serviceaccount:default:reader"


async def test_the_webhook_servers_policy_asks_the_cluster_for_accounts(begin: Begin) -> None:
    cluster = await begin()
    kubeconfig = cluster.server.write_kubeconfig()
    assert kubeconfig is not None
    annotations = {"eks.amazonaws.com/role-arn": ROLE}
    path = "/api/v1/namespaces/default/serviceaccounts"
    await cluster.admin("POST", path, {"metadata": {"name": "reader", "annotations": annotations}})
    policy = pod_identity(kubeconfig)
    for account, variables in (("reader", 3), ("default", 0), ("missing", 0)):
        pod: dict[str, Any] = {"spec": {"serviceAccountName": account, "containers": [{"name": "c"}]}}
        await policy(pod, Review({"namespace": "default"}))
        assert len(pod["spec"]["containers"][0].get("env") or ()) == variables
    await cluster.server.stop()
    with pytest.raises(Deny, match="the service account other could not be looked up"):
        await policy({"spec": {"serviceAccountName": "other"}}, Review({"namespace": "default"}))


async def test_a_partition_that_there_is_not_is_named(tmp_path: Path) -> None:
    flags = ["--secure-port=0", "--storage=memory", f"--data-dir={tmp_path}", "--aws-iam-cluster-id=demo"]
    server = ApiServer(parse([*flags, "--aws-iam-partition=aws-mars"]).options)
    with pytest.raises(UsageError, match="'aws-mars' is no partition of AWS; there are aws, aws-cn"):
        await server.start()


async def test_iam_identities_are_a_token_source_of_the_webhook_server(
    begin: Begin, serve: Serve, tmp_path: Path
) -> None:
    cluster = await begin("--aws-iam-backend-mode=AccessEntry,EKSConfigMap")
    await served(cluster, ENTRIES)
    cluster.server.write_kubeconfig()
    path = tmp_path / "sources.yaml"
    path.write_text(
        "apiVersion: kubegate.dev/v1\nkind: TokenSources\nsources:\n- name: iam\n  awsIAM:\n    clusterID: demo\n"
        f"    kubeconfig: admin.kubeconfig\n    backends: [AccessEntry, EKSConfigMap]\n    stsCAFile: sts.crt\n"
        f'    stsEndpoints: ["127.0.0.1:{cluster.sts.port}"]\n'
    )
    chain = load(path).build(SystemClock())
    try:
        with pytest.raises(Exception, match=r"iam: aws-iam: .* is not mapped to a user"):
            await chain.authenticate_token(cluster.token)
        await cluster.admin("POST", AWS_AUTH, aws_auth(mapRoles=f"- rolearn: {ROLE}\n  username: jane\n"))
        await chain.refresh()
        found = await chain.authenticate_token(cluster.token)
        assert found is not None and found.user.name == "jane"
        await cluster.admin("POST", ENTRIES, entry("dev", principalArn=ROLE, username="entry:{{SessionName}}"))
        await chain.refresh()
        found = await chain.authenticate_token(cluster.token)
        assert found is not None and found.user.name == "entry:jane"
    finally:
        await chain.close()


async def test_a_source_that_sts_had_no_time_for_is_no_refusal(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await begin(answer=refusal("429 Too Many Requests", "x"))
    (tmp_path / "map.yaml").write_text(f"mapRoles:\n- rolearn: {ROLE}\n  username: jane\n")
    path = tmp_path / "sources.yaml"
    path.write_text(
        "apiVersion: kubegate.dev/v1\nkind: TokenSources\nsources:\n- name: iam\n  awsIAM:\n    clusterID: demo\n"
        "    mappingFile: map.yaml\n    stsCAFile: sts.crt\n"
        f'    stsEndpoints: ["127.0.0.1:{cluster.sts.port}"]\n'
    )
    chain = load(path).build(SystemClock())
    monkeypatch.setattr(TokenSources, "build", lambda self, clock: chain)
    try:
        with pytest.raises(Deny, match="too many sign-ins"):
            await token_sources(path)(cluster.token)
    finally:
        await chain.close()


def test_a_source_without_mappings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    head = "apiVersion: kubegate.dev/v1\nkind: TokenSources\nsources:\n- name: iam\n  awsIAM:\n    clusterID: demo\n"
    path.write_text(head)
    with pytest.raises(ValueError, match=r"sources\[0\].awsIAM: must have mappingFile, or kubeconfig, or both"):
        load(path)
    (tmp_path / "map.yaml").write_text(f"mapUsers:\n- userarn: {JANE}\n  username: jane\n")
    path.write_text(head + "    mappingFile: map.yaml\n    backends: [CRD]\n")
    with pytest.raises(ValueError, match=r"awsIAM.backends: goes with kubeconfig"):
        load(path)
