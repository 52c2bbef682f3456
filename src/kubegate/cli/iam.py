"""`kubegate iam`: who of AWS is who in the cluster, what a token says, and roles for pods."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubegate.cli import iam_pods
from kubegate.cli.errors import fail
from kubegate.cli.iam_shared import Context, Kubeconfig, ask, passed, refused, run, telling
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from kubegate.analysis.client import ApiServer
    from kubegate.aws import Identity

app = typer.Typer(
    no_args_is_help=True,
    short_help="AWS IAM as EKS uses it.",
    help="AWS IAM as EKS uses it: IAM identities as users, IAM roles for pods.",
)
mapping = typer.Typer(
    no_args_is_help=True,
    short_help="Mappings of the aws-auth ConfigMap.",
    help="Mappings of the aws-auth ConfigMap, as eksctl's iamidentitymapping.",
)
app.add_typer(mapping, name="map")
iam_pods.register(app)

_CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_ATTEMPTS = 5


@mapping.command(short_help="Map an ARN to a user and groups.")
def create(
    arn: Annotated[str, typer.Option("--arn", help="of the user or role; of a session, its role's is taken")] = "",
    username: Annotated[str, typer.Option("--username", help="may have templates, as {{SessionName}}")] = "",
    group: Annotated[list[str] | None, typer.Option("--group", help="may be repeated")] = None,
    account: Annotated[str, typer.Option("--account", help="instead: map all of this account to their ARNs")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Map an ARN to a user and groups; a mapping of the same ARN is replaced.

    kubegate iam map create --arn arn:aws:iam::111122223333:user/jane --username jane --group developers
    """
    from kubegate.aws import awsauth

    if bool(arn) == bool(account):
        fail("one of --arn and --account is needed")
    with telling():
        if account:
            run(kubeconfig, context, lambda server: _change(server, lambda data: awsauth.with_account(data, account)))
            echo(f"{account}: each of its identities is the user of its ARN")
            return
        found = awsauth.normal(arn)
        if not username:
            fail("--username is needed")
        groups = list(group or ())

        def change(data: dict[str, str]) -> dict[str, str]:
            return awsauth.added(data, found, username, groups)

        run(kubeconfig, context, lambda server: _change(server, change))
        echo(f"{found}: {_shown(username, groups)}")


@mapping.command(name="get")
def get_(
    arn: Annotated[str, typer.Option("--arn", help="this one alone")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """List the mappings."""
    from kubegate.aws import awsauth

    with telling():
        found = awsauth.rows((run(kubeconfig, context, _aws_auth) or {}).get("data") or {})
        if arn:
            wanted = awsauth.normal(arn).lower()
            found = [row for row in found if row.arn.lower() == wanted]
            if not found:
                fail(f"{arn} is not mapped")
        _table([("ARN", "USERNAME", "GROUPS"), *((row.arn, row.username, ",".join(row.groups)) for row in found)])


@mapping.command()
def delete(
    arn: Annotated[str, typer.Option("--arn", help="of the user or role")] = "",
    account: Annotated[str, typer.Option("--account", help="instead: an account that is mapped whole")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Take the mapping of an ARN away."""
    from kubegate.aws import awsauth

    if bool(arn) == bool(account):
        fail("one of --arn and --account is needed")
    with telling():
        found = account or awsauth.normal(arn)

        def change(data: dict[str, str]) -> dict[str, str]:
            changed = awsauth.removed(data, found)
            if changed is None:
                fail(f"{found} is not mapped")
            return changed

        run(kubeconfig, context, lambda server: _change(server, change))
        echo(f"{found}: no longer mapped")


@app.command()
def verify(
    token: Annotated[str, typer.Argument(help="or - to read it, or an ExecCredential, from stdin")] = "-",
    cluster: Annotated[str, typer.Option("--cluster", help="ask STS as this cluster would; else nobody is asked")] = "",
    mapping_file: Annotated[
        Path | None, typer.Option("--mapping-file", help="mapRoles, mapUsers and mapAccounts: say who it would be")
    ] = None,
    sts_endpoint: Annotated[
        list[str] | None, typer.Option("--sts-endpoint", help="HOST[:PORT] instead of AWS's own; may be repeated")
    ] = None,
    sts_cafile: Annotated[Path | None, typer.Option("--sts-cafile", help="PEM of who signed its certificate")] = None,
) -> None:
    """Explain a k8s-aws-v1 token step by step. Nothing that could be replayed is printed.

    aws eks get-token --cluster-name demo | kubegate iam verify --cluster demo
    """
    import time

    from kubegate.aws import presigned
    from kubegate.aws.endpoints import sts_hosts

    text = _token(sys.stdin.read() if token == "-" else token)
    hosts = frozenset(sts_endpoint) if sts_endpoint else sts_hosts()
    try:
        call = presigned.parse(text, hosts, time.time(), passed)
    except presigned.BadToken as error:
        refused(error.check, error.problem)
    if not cluster:
        typer.echo("        STS was not asked: name the cluster with --cluster")
        return
    with telling():
        caller = asyncio.run(ask(call, cluster, sts_cafile.read_bytes() if sts_cafile else None))
        passed("STS", f"signed by {caller.arn}, for the cluster {cluster}")
        if caller.canonical_arn != caller.arn:
            passed("ARN", f"mapped as {caller.canonical_arn}")
        if mapping_file is not None:
            _mapped(caller, mapping_file)


@app.command(short_help="Print the definitions of AccessEntry and its kin.")
def manifests() -> None:
    """Print the CustomResourceDefinitions of AccessEntry and IAMIdentityMapping, for clusters of others.

    kubegate iam manifests | kubectl apply -f -
    """
    import yaml

    from kubegate.aws.access_entries import definitions

    typer.echo(yaml.safe_dump_all(definitions(), sort_keys=False))


# ---------------------------------------------------------------------- what the commands share


async def _aws_auth(server: ApiServer) -> dict[str, Any] | None:
    from kubegate.analysis.sources import SourceError

    try:
        return await server.get(f"{_CONFIG_MAPS}/aws-auth")
    except SourceError as error:
        if error.code == 404:
            return None
        raise


async def _change(server: ApiServer, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Read, change and write the ConfigMap; again, where somebody else wrote it meanwhile."""
    from kubegate.analysis.sources import SourceError

    for attempt in range(_ATTEMPTS):
        found = await _aws_auth(server)
        try:
            if found is None:
                metadata = {"name": "aws-auth", "namespace": "kube-system"}
                await server.post(
                    _CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": change({})}
                )
            else:
                changed = {**found, "data": change(found.get("data") or {})}
                await server.send("PUT", f"{_CONFIG_MAPS}/aws-auth", changed)
            return
        except SourceError as error:
            if error.code != 409 or attempt == _ATTEMPTS - 1:
                raise


def _mapped(caller: Identity, path: Path) -> None:
    from kubegate.authentication.aws_maps import FileMaps
    from kubegate.aws.mapping import CannotRender, render

    entry = FileMaps(path).find(caller)
    if entry is None:
        refused("mapping", f"{caller.canonical_arn} is not mapped in {path}")
    try:
        found = render(entry, caller, lambda instance: None)
    except CannotRender as error:
        refused("mapping", str(error))
    passed("mapping", f"the user {_shown(found.username, found.groups)}")


def _shown(username: str, groups: Sequence[str]) -> str:
    return f"{username} in {', '.join(groups)}" if groups else username


def _token(text: str) -> str:
    """A token as it is, or that of an ExecCredential."""
    import orjson

    text = text.strip()
    if not text.startswith("{"):
        return text
    try:
        found = orjson.loads(text)["status"]["token"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str):
        fail("stdin is JSON, and no ExecCredential with status.token")
    return found


def _table(lines: list[tuple[str, ...]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        echo("   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
