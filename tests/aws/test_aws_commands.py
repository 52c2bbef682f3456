"""`kubegate iam` at a server of its own: what it writes, what it prints, and what it refuses."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import yaml
from aws_tokens import encoded, token
from typer.testing import CliRunner, Result

from kubegate.cli.commands import load
from kubegate.testing.running import Kubegate

# pytest takes these apart for its assertions, and Python 3.11 cannot do that in two threads: not while a server starts
for module in (
    "analysis.client", "analysis.sources", "api.clock", "authentication.aws_maps", "authentication.jose",
    "aws.access_entries", "aws.awsauth", "aws.endpoints", "aws.pod_identity", "aws.presigned", "aws.sts", "aws.trust",
    "aws.walk", "cli.iam", "remote.result", "server.process", "tokens.credential",
):  # fmt: skip
    importlib.import_module(f"kubegate.{module}")

ARN = "arn:aws:iam::111122223333:user/jane"
AWS_AUTH = "/api/v1/namespaces/kube-system/configmaps/aws-auth"


def run(*words: str, stdin: str = "", **environment: str) -> Result:
    unset = {"AWS_ROLE_ARN": None, "AWS_WEB_IDENTITY_TOKEN_FILE": None, "KUBECONFIG": None}
    return CliRunner().invoke(load("iam"), ["iam", *words], input=stdin, env=unset | environment)


def test_mappings_are_made_listed_and_taken_away(kubegate: Kubegate) -> None:
    at = ("--kubeconfig", str(kubegate.kubeconfig))
    session = "arn:aws:sts::111122223333:assumed-role/Dev/jane"
    made = run("map", "create", "--arn", ARN, "--username", "jane", "--group", "a", "--group", "b", *at)
    assert made.output == f"{ARN}: jane in a, b\n"
    assert run("map", "create", "--arn", session, "--username", "dev", *at).exit_code == 0
    assert run("map", "create", "--account", "111122223333", *at).exit_code == 0
    listed = run("map", "get", *at).output.splitlines()
    assert [line.split() for line in listed] == [
        ["ARN", "USERNAME", "GROUPS"], ["arn:aws:iam::111122223333:role/Dev", "dev"], [ARN, "jane", "a,b"],
        ["111122223333"],
    ]  # fmt: skip
    assert len(run("map", "get", "--arn", session, *at).output.splitlines()) == 2
    assert run("map", "delete", "--arn", ARN, *at).output == f"{ARN}: no longer mapped\n"
    assert kubegate.get(AWS_AUTH)["data"]["mapUsers"] == ""
    again = run("map", "delete", "--arn", ARN, *at)
    assert (again.exit_code, again.output) == (1, f"kubegate: {ARN} is not mapped\n")
    assert run("map", "delete", "--account", "111122223333", *at).exit_code == 0


def test_a_map_that_cannot_be_read_is_left_as_it_is(kubegate: Kubegate) -> None:
    metadata = {"name": "aws-auth", "namespace": "kube-system"}
    kubegate.create(AWS_AUTH.rpartition("/")[0], {"metadata": metadata, "data": {"mapUsers": "- ["}})
    at = ("--kubeconfig", str(kubegate.kubeconfig))
    done = run("map", "create", "--arn", ARN, "--username", "jane", *at)
    assert done.exit_code == 1 and done.output.startswith("kubegate: mapUsers: line 2 not YAML")
    assert kubegate.get(AWS_AUTH)["data"] == {"mapUsers": "- ["}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("map", "create"), "one of --arn and --account is needed"),
        (("map", "create", "--arn", ARN), "--username is needed"),
        (("map", "create", "--arn", "jane", "--username", "x"), "'jane' is no ARN"),
        (("map", "create", "--account", "12"), "--account: '12' is not 12 digits"),
        (("map", "create", "--arn", ARN, "--username", "{{Name}}"), "{{Name}} is no template"),
        (("map", "delete"), "one of --arn and --account is needed"),
        (("service-account", "create", "x", "--role", ARN), f"--role: {ARN} is no role"),
        (("trust-policy", "--account", "12", "--service-account", "x"), "--account: '12' is not 12 digits"),
        (
            ("trust-policy", "--account", "111122223333", "--service-account", "x", "--issuer", "kubernetes"),
            "AWS takes issuers of https:// alone",
        ),
    ],
)
def test_what_cannot_be_is_one_line(kubegate: Kubegate, words: tuple[str, ...], message: str) -> None:
    done = run(*words, "--kubeconfig", str(kubegate.kubeconfig))
    assert done.exit_code == 1 and message in done.output and len(done.output.splitlines()) == 1


def test_a_service_account_that_is_there_is_annotated(kubegate: Kubegate) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts"
    kubegate.create(path, {"metadata": {"name": "reader", "labels": {"a": "b"}}})
    role = "arn:aws:iam::111122223333:role/reader"
    words = ("--token-expiration", "3600", "--sts-global-endpoint", "--audience", "mine")
    at = ("--kubeconfig", str(kubegate.kubeconfig))
    assert run("service-account", "create", "reader", "--role", role, *words, *at).exit_code == 0
    metadata = kubegate.get(f"{path}/reader")["metadata"]
    assert metadata["labels"] == {"a": "b"}
    assert metadata["annotations"] == {
        "eks.amazonaws.com/role-arn": role,
        "eks.amazonaws.com/audience": "mine",
        "eks.amazonaws.com/sts-regional-endpoints": "false",
        "eks.amazonaws.com/token-expiration": "3600",
    }


def test_a_trust_policy_is_of_the_clusters_issuer(kubegate: Kubegate) -> None:
    words = ("--account", "111122223333", "-n", "ns", "--service-account", "reader")
    found = json.loads(run("trust-policy", *words, "--kubeconfig", str(kubegate.kubeconfig)).output)
    (statement,) = found["Statement"]
    assert statement["Principal"]["Federated"].endswith(":oidc-provider/kubernetes.default.svc.cluster.local")
    assert "system:serviceaccount:ns:reader" in str(statement["Condition"])


def test_the_definitions_are_taken_by_any_cluster(kubegate: Kubegate) -> None:
    documents = list(yaml.safe_load_all(run("manifests").output))
    for document in documents:
        made = kubegate.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)
        assert made["metadata"]["name"] == document["metadata"]["name"]
    assert len(documents) == 2


def test_verify_reads_tokens_and_exec_credentials() -> None:
    import time

    good = token(time.time())
    for text in (good, json.dumps({"kind": "ExecCredential", "status": {"token": good}})):
        done = run("verify", stdin=text)
        assert done.exit_code == 0 and "STS was not asked: name the cluster" in done.output
        assert "0123456789abcdef" not in done.output
    assert "no ExecCredential" in run("verify", stdin="{}").output
    refused = run("verify", encoded("https://example.com/?x=y"))
    assert refused.exit_code == 1
    assert refused.output.splitlines()[-1] == "refused host: example.com is no endpoint of STS that is known here"


def test_the_way_of_a_pod_ends_where_something_is_missing(tmp_path: Path) -> None:
    role = "arn:aws:iam::111122223333:role/reader"
    assert run("whoami", "--pod").output.startswith("refused role: AWS_ROLE_ARN is not set")
    missing = run("whoami", "--pod", AWS_ROLE_ARN=role, AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"))
    assert missing.exit_code == 1 and "there is no such file" in missing.output
    (tmp_path / "token").write_text("secret-of-another-kind")
    wrong = run("whoami", "--pod", AWS_ROLE_ARN=role, AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"))
    assert wrong.output.splitlines() == [
        f"ok      role: {role}",
        "refused token: it is no service account's token: a JWT with iss, sub and exp",
    ]


def test_a_pod_without_a_role_is_told_so(kubegate: Kubegate) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    kubegate.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "plain"}})
    pod = {"metadata": {"name": "web"}, "spec": {**spec, "serviceAccountName": "plain"}}
    kubegate.create("/api/v1/namespaces/default/pods", pod)
    done = run("whoami", "--pod", "--of", "web", "--kubeconfig", str(kubegate.kubeconfig))
    assert done.exit_code == 1 and done.output.startswith("refused pod: web has no role: is its account annotated")
