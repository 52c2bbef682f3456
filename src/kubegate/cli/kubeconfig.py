"""`kubegate kubeconfig`: new ones, several as one, and whether one can be used."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubegate.cli.errors import telling
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from kubegate.pki.kubeconfig import Config, Connection

app = typer.Typer(no_args_is_help=True, help="Make, merge and check kubeconfig files.")

Output = Annotated[Path | None, typer.Option("--output", "-o", help="file (0600); printed otherwise")]
Force = Annotated[bool, typer.Option("--force", help="overwrite a file that is there")]

_EXEC_VERSION = "client.authentication.k8s.io/v1"
_SOON = timedelta(days=30)


@app.command(short_help="A kubeconfig with one cluster and one user.")
def new(
    server: Annotated[str, typer.Option("--server", help="URL of the API server")],
    certificate_authority: Annotated[
        Path | None, typer.Option("--certificate-authority", help="PEM file of the server's authority")
    ] = None,
    client_certificate: Annotated[Path | None, typer.Option("--client-certificate", help="PEM file")] = None,
    client_key: Annotated[Path | None, typer.Option("--client-key", help="PEM file")] = None,
    token: Annotated[str, typer.Option("--token", envvar="KUBEGATE_TOKEN", help="bearer token")] = "",
    token_file: Annotated[Path | None, typer.Option("--token-file", help="file that holds a bearer token")] = None,
    exec_command: Annotated[str, typer.Option("--exec-command", help="credential plugin")] = "",
    exec_arg: Annotated[list[str] | None, typer.Option("--exec-arg", help="its arguments; may be repeated")] = None,
    oidc_issuer: Annotated[str, typer.Option("--oidc-issuer", help="sign in at this issuer (kubegate token)")] = "",
    oidc_client_id: Annotated[str, typer.Option("--oidc-client-id", help="as which client")] = "kubernetes",
    embed_certs: Annotated[bool, typer.Option("--embed-certs/--refer", help="put files in, or name them")] = True,
    user: Annotated[str, typer.Option("--user", help="name of the user's entry")] = "user",
    cluster: Annotated[str, typer.Option("--cluster", help="name of the cluster's entry")] = "kubernetes",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="namespace of the context")] = "",
    output: Output = None,
    force: Force = False,
) -> None:
    """A kubeconfig with one cluster and one user: by certificate, token, plugin, or an OIDC issuer.

    kubegate kubeconfig new --server https://127.0.0.1:6443 --certificate-authority ca.crt \\
        --client-certificate jane.crt --client-key jane.key -o jane.kubeconfig
    """
    from kubegate.pki import kubeconfig

    def file(path: Path | None) -> bytes | Path | None:
        if path is None:
            return None
        return path.read_bytes() if embed_certs else path.resolve()

    plugin = None
    if oidc_issuer:
        arguments = ["token", "oidc", f"--issuer={oidc_issuer}", f"--client-id={oidc_client_id}"]
        plugin = _plugin("kubegate", arguments, interactive=True)
    elif exec_command:
        plugin = _plugin(exec_command, exec_arg or [], interactive=False)
    with telling(ValueError):
        if (client_certificate is None) != (client_key is None):
            raise ValueError("--client-certificate and --client-key go together")
        entry = kubeconfig.User(
            certificate=file(client_certificate),
            key=file(client_key),
            token=token,
            token_file=token_file.resolve() if token_file else None,
            exec=plugin,
        )
        made = kubeconfig.new(
            server,
            authority=file(certificate_authority),
            user=entry,
            user_name=user,
            cluster_name=cluster,
            namespace=namespace,
        )
        _give(made, output, force)


@app.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="the first to name something wins")],
    output: Output = None,
    force: Force = False,
) -> None:
    """Several kubeconfigs as one."""
    from kubegate.pki import kubeconfig

    with telling(ValueError):
        _give(kubeconfig.merge(*(kubeconfig.load(path) for path in paths)), output, force)


@app.command(short_help="What is wrong in kubeconfig files.")
def check(
    path: Annotated[Path | None, typer.Argument(metavar="FILE", help="kubectl's own otherwise")] = None,
    context: Annotated[str, typer.Option("--context", help="this context alone")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="do not call the servers")] = False,
) -> None:
    """What is wrong: entries that are missing, files that others may read, what has ended, servers that do not answer.

    Exits with 1 where something is wrong.
    """
    import asyncio

    from kubegate.pki import kubeconfig

    file = path or kubeconfig.default_paths()[0]
    with telling(ValueError):
        config = kubeconfig.load(file)
        findings = list(_file_findings(file))
        names = [context] if context else [entry["name"] for entry in config.get("contexts") or []] or [""]
        for name in names:
            try:
                connection = kubeconfig.resolve(config, str(file), name, file.parent)
            except kubeconfig.BadKubeconfig as error:
                findings.append(_Finding(name, str(error)))
                continue
            findings += _connection_findings(name, connection)
            if not offline:
                findings += asyncio.run(_server_findings(name, connection))
        wrong = [finding for finding in findings if finding.wrong]
        for finding in findings:
            echo(finding.line())
        if not findings:
            echo(f"{file}: nothing is wrong")
    raise typer.Exit(1 if wrong else 0)


# ---------------------------------------------------------------------- what is found
@dataclass(frozen=True, slots=True)
class _Finding:
    """Something about a context ("" for the file). `wrong` is false for what will only be wrong soon."""

    context: str
    text: str
    wrong: bool = True

    def line(self) -> str:
        word = "error" if self.wrong else "warning"
        return f"{word}: {self.context}: {self.text}" if self.context else f"{word}: {self.text}"


def _file_findings(path: Path) -> Iterator[_Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield _Finding("", f"{path} can be read by others (mode {mode:04o}); chmod 600 {path}")


def _connection_findings(context: str, connection: Connection) -> Iterator[_Finding]:
    from kubegate.pki import certificates, keys

    if connection.server.startswith("http://"):
        yield _Finding(context, f"{connection.server} is not encrypted: credentials are sent in clear")
    if not connection.verify:
        yield _Finding(context, "insecure-skip-tls-verify: anybody may pretend to be the server")
    shown = [connection.certificate, connection.token, connection.token_file, connection.username, connection.exec]
    if not any(shown):
        yield _Finding(context, "the user has no credentials", wrong=False)
    if connection.token_file is not None and not connection.token_file.exists():
        yield _Finding(context, f"{connection.token_file} is not there")
    for word, pem in (("the authority's", connection.authority), ("the client's", connection.certificate)):
        if pem is not None:
            try:
                found = certificates.parse_certificates(pem, f"{word} certificate")
            except certificates.BadCertificate as error:
                yield _Finding(context, str(error))
            else:
                yield from _life(context, word, found[0].not_valid_after_utc)
    if connection.certificate is not None and connection.key is not None:
        try:
            leaf = certificates.parse_certificates(connection.certificate)[0]
            if keys.parse_private(connection.key, "the client's key").public_key() != leaf.public_key():
                yield _Finding(context, "the client's key is not that of its certificate")
        except ValueError as error:
            yield _Finding(context, str(error))
    if connection.token:
        yield from _token_life(context, connection.token)


def _life(context: str, word: str, end: datetime) -> Iterator[_Finding]:
    left, day = end - datetime.now(UTC), end.strftime("%Y-%m-%d")
    if left < timedelta(0):
        yield _Finding(context, f"{word} certificate has ended on {day}")
    elif left < _SOON:
        yield _Finding(context, f"{word} certificate ends on {day}", wrong=False)


def _token_life(context: str, token: str) -> Iterator[_Finding]:
    """A JWT tells its end; other tokens do not."""
    from kubegate.authentication import jose

    try:
        expiry = jose.parse(token).claims.get("exp")
    except jose.BadToken:
        return
    if isinstance(expiry, int | float) and expiry < datetime.now(UTC).timestamp():
        yield _Finding(context, f"the token has ended on {datetime.fromtimestamp(expiry, UTC):%Y-%m-%d}")


async def _server_findings(context: str, connection: Connection) -> list[_Finding]:
    """Whether the server answers, and knows the credentials."""
    from kubegate.remote.client import Client, Endpoint, RemoteError

    endpoint = Endpoint(
        url=connection.server,
        authority=connection.authority,
        certificate=connection.certificate,
        key=connection.key,
        token=connection.token,
        token_file=connection.token_file,
        username=connection.username,
        password=connection.password,
        server_name=connection.tls_server_name,
        verify=connection.verify,
        proxy_url=connection.proxy_url,
    )
    try:
        client = Client(endpoint)
    except ValueError as error:
        return [_Finding(context, str(error))]
    try:
        answer = await client.get(f"{connection.server.rstrip('/')}/version", within=5)
    except RemoteError as error:
        return [_Finding(context, str(error))]
    finally:
        await client.close()
    if answer.status == 401 and connection.exec is None:
        return [_Finding(context, "the server does not know the credentials (Unauthorized)")]
    if answer.status >= 500 or answer.status == 404:
        return [_Finding(context, f"{connection.server} answers with status {answer.status}: is it an API server?")]
    return []


# ---------------------------------------------------------------------- what the commands share
def _plugin(command: str, arguments: list[str], *, interactive: bool) -> dict[str, object]:
    return {
        "apiVersion": _EXEC_VERSION,
        "command": command,
        "args": arguments,
        "interactiveMode": "IfAvailable" if interactive else "Never",
        "provideClusterInfo": False,
    }


def _give(config: Config, output: Path | None, force: bool) -> None:
    from kubegate.pki import kubeconfig

    if output is None:
        typer.echo(kubeconfig.dump(config).decode(), nl=False)
        return
    kubeconfig.write(config, output, force=force)
    echo(f"{output}: {config['current-context']}")
