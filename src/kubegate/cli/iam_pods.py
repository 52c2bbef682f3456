"""`kubegate iam service-account`, `trust-policy` and `whoami`: roles that pods assume by their service account."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubegate.cli.errors import fail
from kubegate.cli.iam_shared import Context, Kubeconfig, ask, passed, refused, run, telling
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from kubegate.analysis.client import ApiServer
    from kubegate.aws.walk import Way

service_account = typer.Typer(
    no_args_is_help=True,
    help="Service accounts with a role, as eksctl's iamserviceaccount.",
    short_help="Service accounts with a role.",
)

Namespace = Annotated[str, typer.Option("--namespace", "-n")]
Audience = Annotated[str, typer.Option("--audience", help="whom the tokens are for")]
_PREFIX = "eks.amazonaws.com"
_DISCOVERY = "/.well-known/openid-configuration"


def register(app: typer.Typer) -> None:
    app.add_typer(service_account, name="service-account")
    app.command(name="trust-policy", short_help="Print the trust policy of a role for pods.")(trust_policy)
    app.command()(whoami)


@service_account.command(short_help="Give a service account's pods a role.")
def create(
    name: Annotated[str, typer.Argument(help="the service account; one that is there is annotated")],
    role: Annotated[str, typer.Option("--role", help="ARN of the role that its pods assume")],
    namespace: Namespace = "default",
    audience: Annotated[str, typer.Option("--audience", help="another than sts.amazonaws.com")] = "",
    token_expiration: Annotated[
        int | None, typer.Option("--token-expiration", min=600, max=86400, help="seconds that its tokens last")
    ] = None,
    regional: Annotated[
        bool | None, typer.Option("--sts-regional-endpoints/--sts-global-endpoint", help="which STS its pods ask")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Make a service account whose pods assume a role, or give a role to one that is there.

    kubegate iam service-account create reader -n default --role arn:aws:iam::111122223333:role/Reader
    """
    from kubegate.aws.arn import BadArn, identity

    with telling():
        if identity(role).kind != "role":
            raise BadArn(f"--role: {role} is no role")
        annotations = {"role-arn": role}
        if audience:
            annotations["audience"] = audience
        if token_expiration is not None:
            annotations["token-expiration"] = str(token_expiration)
        if regional is not None:
            annotations["sts-regional-endpoints"] = "true" if regional else "false"
        named = {f"{_PREFIX}/{key}": value for key, value in annotations.items()}
        metadata = {"name": name, "namespace": namespace, "annotations": named}
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}?fieldManager=kubegate-iam&force=true"
        run(kubeconfig, context, lambda server: server.send("PATCH", path, body, "application/apply-patch+yaml"))
        echo(f"serviceaccount/{name} in {namespace}: its pods assume {role}")


def trust_policy(
    account: Annotated[str, typer.Option("--account", help="12 digits: the account of the role")],
    name: Annotated[str, typer.Option("--service-account", help="the service account; * for any letters")],
    namespace: Namespace = "default",
    issuer: Annotated[str, typer.Option("--issuer", help="of the tokens; else the cluster is asked for it")] = "",
    audience: Audience = "sts.amazonaws.com",
    partition: Annotated[str, typer.Option("--partition")] = "aws",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Print the trust policy of a role for a service account's pods.

    kubegate iam trust-policy --account 111122223333 -n default --service-account reader > trust.json
    """
    import orjson

    from kubegate.aws import trust

    if len(account) != 12 or not account.isdigit():
        fail(f"--account: {account!r} is not 12 digits")
    with telling():
        found = issuer or str(run(kubeconfig, context, lambda server: server.document(_DISCOVERY)).get("issuer") or "")
        if not found.startswith("https://"):
            fail(f"the issuer is {found!r}; AWS takes issuers of https:// alone (--service-account-issuer)")
        made = trust.trust_policy(found, account, namespace, name, audience=audience, partition=partition)
        typer.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))


def whoami(
    pod: Annotated[bool, typer.Option("--pod", help="the way of a pod to its role, by its environment")] = False,
    of: Annotated[str, typer.Option("--of", help="POD of the cluster, by a kubeconfig; without it, here")] = "",
    namespace: Namespace = "default",
    container: Annotated[str, typer.Option("--container", help="of --of; the first where none is named")] = "",
    audience: Audience = "sts.amazonaws.com",
    trust: Annotated[Path | None, typer.Option("--trust-policy", help="the role's, JSON: checked as well")] = None,
    sts_endpoint: Annotated[str, typer.Option("--sts-endpoint", help="URL: STS is asked for the role's session")] = "",
    cafile: Annotated[Path | None, typer.Option("--cafile", help="PEM of who signed issuer and STS")] = None,
    cluster: Annotated[str, typer.Option("--cluster", help="without --pod: sign a token for it, and ask STS")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Who one is for AWS. With --pod: token, audience, issuer, keys, trust policy, STS; the step that fails is named.

    kubegate iam whoami --pod --of web-1 -n default --trust-policy trust.json
    """
    with telling():
        if not pod:
            _caller(cluster or "whoami", sts_endpoint, cafile)
            return
        if of:
            variables = run(kubeconfig, context, lambda server: _of_pod(server, namespace, of, container, audience))
        else:
            variables = dict(os.environ)
        asyncio.run(_walk(_way(variables, audience, trust, sts_endpoint, cafile)))


# ---------------------------------------------------------------------- the way of a pod
_TOKEN = "token"
"""Where `_of_pod` puts the token itself; in a pod it is in the file that AWS_WEB_IDENTITY_TOKEN_FILE names."""


async def _of_pod(server: ApiServer, namespace: str, name: str, container: str, audience: str) -> dict[str, str]:
    """A container's variables, and a token as its volume has it, asked for by TokenRequest."""
    from kubegate.aws.pod_identity import VOLUME

    pod = await server.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    spec = pod["spec"]
    found = [each for each in spec["containers"] if container in ("", each["name"])]
    if not found:
        refused("pod", f"{name} has no container {container}")
    variables = {each["name"]: str(each.get("value") or "") for each in found[0].get("env") or ()}
    volumes = [each for each in spec.get("volumes") or () if each["name"] == VOLUME]
    if "AWS_ROLE_ARN" not in variables or not volumes:
        refused("pod", f"{name} has no role: is its account annotated, and PodIdentityWebhook (or its policy) on?")
    (source,) = volumes[0]["projected"]["sources"]
    projected = source["serviceAccountToken"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}
    asked = {"audiences": [projected.get("audience") or audience], "boundObjectRef": bound}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": asked}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{spec['serviceAccountName']}/token"
    variables[_TOKEN] = (await server.post(path, review))["status"]["token"]
    return variables


def _way(variables: dict[str, str], audience: str, trust: Path | None, sts: str, cafile: Path | None) -> Way:
    import orjson

    from kubegate.aws.walk import Way
    from kubegate.tokens.credential import jwt_claims

    role, token = variables.get("AWS_ROLE_ARN", ""), variables.get(_TOKEN, "")
    if not role:
        refused("role", "AWS_ROLE_ARN is not set: is this a pod of an account with a role?")
    if not token:
        path = Path(variables.get("AWS_WEB_IDENTITY_TOKEN_FILE", ""))
        if not path.is_file():
            refused("token", f"AWS_WEB_IDENTITY_TOKEN_FILE is {str(path)!r}, and there is no such file")
        token = path.read_text().strip()
    policy = orjson.loads(trust.read_bytes()) if trust else None
    authority = cafile.read_bytes() if cafile else None
    return Way(token, jwt_claims(token) or {}, role, audience, policy, sts, authority)


async def _walk(way: Way) -> None:
    from kubegate.api.clock import SystemClock
    from kubegate.aws.walk import StepFailed, steps

    try:
        async for step, found in steps(way, signed, SystemClock()):
            passed(step, found)
    except StepFailed as error:
        refused(error.step, error.problem)


def signed(token: str, document: Any) -> bool:
    from kubegate.authentication import jose

    try:
        parsed, keys = jose.parse(token), jose.key_set(document)
    except jose.BadToken as error:
        raise ValueError(str(error)) from None
    named = [key for key in keys if key.key_id == parsed.header.get("kid")]
    return jose.verify(parsed, named or keys)


# ---------------------------------------------------------------------- who has these credentials
def _caller(cluster: str, sts_endpoint: str, cafile: Path | None) -> None:
    import time
    from urllib.parse import urlsplit

    from kubegate.aws import presigned
    from kubegate.aws.endpoints import sts_hosts
    from kubegate.tokens.aws import Signer, Wanted

    now = time.time()
    token = Signer(Wanted(cluster)).token(now).token
    hosts = frozenset({urlsplit(sts_endpoint).netloc or sts_endpoint}) if sts_endpoint else sts_hosts()
    try:
        call = presigned.parse(token, hosts, now)
    except presigned.BadToken as error:
        refused(error.check, error.problem)
    caller = asyncio.run(ask(call, cluster, cafile.read_bytes() if cafile else None))
    echo(caller.arn)
