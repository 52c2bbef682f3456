"""Tokens of real clients, verified against moto's STS: aws eks get-token, kubegate token aws, roles, other clusters."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubegate.api.clock import SystemClock
from kubegate.authentication import AuthenticationError
from kubegate.authentication.aws_iam import AwsIamAuthenticator, AwsIamSettings
from kubegate.authentication.aws_maps import ConfigMapMaps
from kubegate.aws import endpoints
from kubegate.aws.sts import StsSettings
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Authority, Subject

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / ".tools" / "aws" / "bin"
HERE = Path(__file__).parent
ACCOUNT = "123456789012"

pytestmark = pytest.mark.skipif(not (PROGRAMS / "kubegate").exists(), reason="wants .tools/aws: scripts/tools.py aws")


@dataclass(frozen=True)
class Aws:
    """moto's AWS, and programs that speak to it as somebody."""

    port: int
    authority: Authority
    folder: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def run(self, program: str, *words: str, key: tuple[str, str], **more: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KUBE"))}
        environment |= {
            "AWS_ENDPOINT_URL": f"https://{self.host}", "AWS_CA_BUNDLE": str(self.folder / "ca.crt"),
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1],
            "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(self.folder), "PYTHONPATH": str(ROOT / "src"),
        }  # fmt: skip
        command = [str(PROGRAMS / program), *words]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=60)

    def aws(self, *words: str, key: tuple[str, str] = ("setup", "setup")) -> str:
        done = self.run("aws", *words, "--output", "json", key=key)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def control(self, **asked: bool) -> None:
        import ssl

        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        request = urllib.request.Request(f"https://{self.host}/control", json.dumps(asked).encode())
        urllib.request.urlopen(request, context=context, timeout=10).close()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    folder = tmp_path_factory.mktemp("aws")
    authority, key = certificates.new_authority("aws"), keys.generate()
    made = certificates.issue(
        authority, key.public_key(), Subject("aws"), usages=certificates.SERVER, hosts=["127.0.0.1"]
    )
    certificates.save_pair(made, key, folder / "aws")
    (folder / "ca.crt").write_bytes(authority.pem)
    files = [str(folder / name) for name in ("aws.crt", "aws.key", "ca.crt")]
    process = subprocess.Popen(
        [str(PROGRAMS / "python"), str(HERE / "moto_aws.py"), *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield Aws(int(process.stdout.readline()), authority, folder)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def jane(cloud: Aws) -> tuple[str, str]:
    """The keys of a user who may assume the role Dev; from now on moto checks signatures."""
    cloud.aws("iam", "create-user", "--user-name", "jane")
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cloud.aws("iam", "put-user-policy", "--user-name", "jane", "--policy-name", "x", "--policy-document", document)
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/jane"}}
    trusts = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    cloud.aws("iam", "create-role", "--role-name", "Dev", "--path", "/team/", "--assume-role-policy-document", trusts)
    found = json.loads(cloud.aws("iam", "create-access-key", "--user-name", "jane"))["AccessKey"]
    cloud.control(auth=True)
    return found["AccessKeyId"], found["SecretAccessKey"]


async def who(cloud: Aws, token: str, cluster: str = "demo") -> str:
    """Whom a cluster knows by it, or why nobody."""
    maps = ConfigMapMaps()
    maps.put(
        {
            "data": {
                "mapUsers": f"- userarn: arn:aws:iam::{ACCOUNT}:user/jane\n  username: jane\n",
                "mapRoles": f"- rolearn: arn:aws:iam::{ACCOUNT}:role/Dev\n  username: dev:{{{{SessionName}}}}\n",
            }
        }
    )
    settings = AwsIamSettings(cluster, hosts=(cloud.host,), sts=StsSettings(cloud.authority.pem))
    authenticator = AwsIamAuthenticator(settings, [maps], SystemClock())
    try:
        found = await authenticator.authenticate_token(token)
    except AuthenticationError as error:
        return str(error)
    finally:
        await authenticator.close()
    return found.user.name if found is not None else "nobody"


def token_of(text: str) -> str:
    found: str = json.loads(text)["status"]["token"]
    return found


async def test_a_token_of_the_aws_cli_is_verified(cloud: Aws, jane: tuple[str, str]) -> None:
    token = token_of(cloud.aws("eks", "get-token", "--cluster-name", "demo", key=jane))
    assert await who(cloud, token) == "jane"
    assert await who(cloud, token, "other") == (
        f"aws-iam: STS refuses the token: {cloud.host} answered 403 SignatureDoesNotMatch"
    )


async def test_a_token_of_an_assumed_role_is_the_roles(cloud: Aws, jane: tuple[str, str]) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/team/Dev"
    token = token_of(cloud.aws("eks", "get-token", "--cluster-name", "demo", "--role-arn", role, key=jane))
    assert await who(cloud, token) == "dev:EKSGetTokenAuth"


async def test_a_token_with_another_secret_is_refused_by_sts(cloud: Aws, jane: tuple[str, str]) -> None:
    token = token_of(cloud.aws("eks", "get-token", "--cluster-name", "demo", key=(jane[0], "x" * 40)))
    assert "answered 403 SignatureDoesNotMatch" in await who(cloud, token)


async def test_the_plugin_makes_the_same_and_keeps_it(cloud: Aws, jane: tuple[str, str], tmp_path: Path) -> None:
    kept = {"KUBEGATE_TOKEN_CACHE": str(tmp_path)}
    role = f"arn:aws:iam::{ACCOUNT}:role/team/Dev"
    found = []
    for more in ((), (), ("--role", role, "--session-name", "jane@example.org")):
        done = cloud.run("kubegate", "token", "aws", "--cluster", "demo", *more, key=jane, **kept)
        assert done.returncode == 0, done.stderr
        found.append(token_of(done.stdout))
    assert found[0] == found[1] and await who(cloud, found[0]) == "jane"
    assert await who(cloud, found[2]) == "dev:jane-example.org"
    files = [tmp_path / name for name in os.listdir(tmp_path) if name.endswith(".json")]
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in files] == [0o600, 0o600]


def test_the_plugin_says_what_is_missing(cloud: Aws, jane: tuple[str, str], tmp_path: Path) -> None:
    refused = cloud.run("kubegate", "token", "aws", "--cluster", "demo", "--role", "x", key=jane)
    assert refused.returncode == 1 and refused.stderr.startswith("kubegate: botocore: ")
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = cloud.run("kubegate", "token", "aws", "--cluster", "demo", key=jane, **nothing)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kubegate: botocore finds no credentials: AWS_ACCESS_KEY_ID, a profile, SSO")


def test_whoami_asks_sts_who_has_these_credentials(cloud: Aws, jane: tuple[str, str]) -> None:
    words = ("iam", "whoami", "--sts-endpoint", f"https://{cloud.host}", "--cafile", str(cloud.folder / "ca.crt"))
    done = cloud.run("kubegate", *words, key=jane)
    assert (done.stdout, done.stderr) == (f"arn:aws:iam::{ACCOUNT}:user/jane\n", "")


def test_verify_prints_nothing_that_can_be_replayed(cloud: Aws, jane: tuple[str, str], tmp_path: Path) -> None:
    token = token_of(cloud.aws("eks", "get-token", "--cluster-name", "demo", key=jane))
    mapping = tmp_path / "map.yaml"
    mapping.write_text(f"mapUsers:\n- userarn: arn:aws:iam::{ACCOUNT}:user/jane\n  username: jane\n  groups: [dev]\n")
    words: tuple[str, ...] = ("--sts-endpoint", cloud.host, "--sts-cafile", str(cloud.folder / "ca.crt"))
    done = cloud.run(
        "kubegate", "iam", "verify", token, "--cluster", "demo", "--mapping-file", str(mapping), *words, key=jane
    )
    assert done.stdout.splitlines()[-2:] == [
        f"ok      STS: signed by arn:aws:iam::{ACCOUNT}:user/jane, for the cluster demo",
        "ok      mapping: the user jane in dev",
    ]
    assert token[20:60] not in done.stdout and "Signature=" not in done.stdout
    stranger = cloud.run("kubegate", "iam", "verify", token, key=jane)
    assert stranger.returncode == 1
    assert stranger.stdout.splitlines()[-1] == f"refused host: {cloud.host} is no endpoint of STS that is known here"


def test_the_endpoints_are_those_that_botocore_knows(cloud: Aws) -> None:
    code = (
        "import json, os, botocore; folder = os.path.join(os.path.dirname(botocore.__file__), 'data')\n"
        "print(json.dumps([json.load(open(os.path.join(folder, 'partitions.json'))), "
        "json.load(open(os.path.join(folder, 'endpoints.json')))]))"
    )
    done = subprocess.run([str(PROGRAMS / "python"), "-c", code], capture_output=True, text=True, check=True)
    partitions, listed = json.loads(done.stdout)
    hosts = endpoints.sts_hosts()
    for partition in partitions["partitions"]:
        for region in partition["regions"]:
            if not region.endswith("-global"):
                assert f"sts.{region}.{partition['outputs']['dnsSuffix']}" in hosts
    for partition in listed["partitions"]:
        for endpoint in partition["services"].get("sts", {}).get("endpoints", {}).values():
            if "hostname" in endpoint and not endpoint.get("deprecated"):
                assert endpoint["hostname"] in hosts
