"""`kubegate token`: a credential plugin for kubectl and every client that uses client-go's kubeconfigs.

Each command prints an ExecCredential on stdout, and nothing else; what is for people goes to stderr.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubegate.cli.errors import telling
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from kubegate.tokens.credential import Credential
    from kubegate.tokens.oidc import Settings
    from kubegate.tokens.store import Entry, Kept, Store

app = typer.Typer(
    no_args_is_help=True,
    short_help="Print a token: a credential plugin for kubectl.",
    help="Print a token as an ExecCredential: a client-go credential plugin, for `users[].user.exec` of a kubeconfig. "
    "Tokens are kept until shortly before their end, in files that their owner alone may read.",
)

CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", envvar="KUBEGATE_TOKEN_CACHE", help="default ~/.cache/kubegate/tokens")
]


@app.command(short_help="A token in a file or in KUBEGATE_TOKEN.")
def static(
    token_file: Annotated[Path | None, typer.Option("--token-file", help="file with the token")] = None,
    token: Annotated[str, typer.Option("--token", envvar="KUBEGATE_TOKEN", help="better in the variable")] = "",
) -> None:
    """A token that is there already: in a file, or in KUBEGATE_TOKEN.

    kubegate token static --token-file ~/.secrets/token
    """
    from kubegate.tokens.credential import TokenError, checked

    with telling(TokenError):
        if token_file is not None:
            _print(checked(token_file.read_text().strip(), None, str(token_file)))
        elif token:
            _print(checked(token.strip(), None, "KUBEGATE_TOKEN"))
        else:
            raise TokenError("there is no token: give --token-file, or set KUBEGATE_TOKEN")


@app.command(short_help="An ID token of an OpenID Connect issuer.")
def oidc(
    issuer: Annotated[str, typer.Option("--issuer", help="URL of the issuer")],
    client_id: Annotated[str, typer.Option("--client-id", help="as which client")] = "kubernetes",
    client_secret_file: Annotated[
        Path | None, typer.Option("--client-secret-file", help="or KUBEGATE_OIDC_CLIENT_SECRET; where one is wanted")
    ] = None,
    scope: Annotated[list[str] | None, typer.Option("--scope", help="beside openid; may be repeated")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", help="NAME=VALUE for the request to sign in; may be repeated")
    ] = None,
    certificate_authority: Annotated[
        Path | None, typer.Option("--certificate-authority", help="PEM file of the issuer's authority")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="browser, device (a code for a page on any machine), or auto")
    ] = "auto",
    redirect_port: Annotated[
        int, typer.Option("--redirect-port", min=0, max=65535, help="of http://127.0.0.1:PORT/callback; 0: a free one")
    ] = 0,
    browser_command: Annotated[
        str, typer.Option("--browser-command", envvar="KUBEGATE_BROWSER", help="opens the page given to it")
    ] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="seconds to sign in")] = 300,
    cache_dir: CacheDir = None,
) -> None:
    """An ID token of an OpenID Connect issuer: kept, refreshed, or by signing in (authorization code with PKCE).

    kubegate token oidc --issuer https://id.example.org --client-id kubernetes
    """
    from kubegate.tokens.credential import TokenError
    from kubegate.tokens.oidc import METHODS, Settings

    with telling(TokenError):
        if method not in METHODS:
            raise TokenError(f"--method: {method} is none of {', '.join(METHODS)}")
        secret = os.environ.get("KUBEGATE_OIDC_CLIENT_SECRET", "")
        settings = Settings(
            issuer,
            client_id,
            client_secret_file.read_text().strip() if client_secret_file else secret,
            tuple(scope or ()),
            certificate_authority.read_bytes() if certificate_authority else None,
            redirect_port,
            tuple(_pair(each) for each in parameter or ()),
            timeout,
        )
        with _store(cache_dir).entry("oidc", *settings.key, within=timeout + 30) as entry:
            _print(asyncio.run(_from_issuer(settings, entry, method, browser_command)))


@app.command()
def command(
    words: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGUMENT...]", help="prints the token")],
    token_path: Annotated[
        str, typer.Option("--token-path", help="the output is JSON, and the token in this field (a.b.c)")
    ] = "",
    expiry_path: Annotated[str, typer.Option("--expiry-path", help="field with its end")] = "",
    lifetime: Annotated[
        float | None, typer.Option("--lifetime", min=1, help="seconds that it lasts, where nothing else tells")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="seconds for the command")] = 60,
    cache_dir: CacheDir = None,
) -> None:
    """The token that a command prints. It is kept where its end is known: from the output, a JWT, or --lifetime.

    kubegate token command --token-path data.token --lifetime 600 -- vault read -format=json kubernetes/creds/dev
    """
    import time

    from kubegate.tokens import command as commands
    from kubegate.tokens.credential import TokenError
    from kubegate.tokens.store import remembered

    shape = commands.Shape(token_path, expiry_path, lifetime)
    key = ("command", os.getcwd(), token_path, expiry_path, str(lifetime), *words)
    with telling(TokenError):
        now = time.time()
        _print(remembered(_store(cache_dir), key, now, lambda: commands.run(words, shape, now=now, timeout=timeout)))


@app.command(short_help="A token of an IAM identity, as EKS takes it.")
def aws(
    cluster: Annotated[str, typer.Option("--cluster", help="what the token is signed for: the cluster's name or ID")],
    role: Annotated[str, typer.Option("--role", help="ARN of a role to assume")] = "",
    session_name: Annotated[str, typer.Option("--session-name", help="of the role's session")] = "KubegateToken",
    external_id: Annotated[str, typer.Option("--external-id", help="where the role wants one")] = "",
    profile: Annotated[str, typer.Option("--profile", help="of AWS's configuration files")] = "",
    region: Annotated[str, typer.Option("--region", help="of the STS endpoint")] = "",
    cache_dir: CacheDir = None,
) -> None:
    """A token of an IAM identity, as `aws eks get-token` makes it, by botocore's credentials (kubegate[aws]).

    kubegate token aws --cluster demo --role arn:aws:iam::111122223333:role/Dev
    """
    import time

    from kubegate.tokens.aws import Signer, Wanted
    from kubegate.tokens.credential import TokenError
    from kubegate.tokens.store import remembered

    with telling(TokenError):
        signer, now = Signer(Wanted(cluster, role, session_name, external_id, profile, region)), time.time()
        _print(remembered(_store(cache_dir), ("aws", *signer.key), now, lambda: signer.token(now)))


@app.command(name="service-account", short_help="A service account's token by TokenRequest.")
def service_account(
    name: Annotated[str, typer.Argument(help="the service account")],
    namespace: Annotated[str, typer.Option("--namespace", "-n")] = "default",
    audience: Annotated[
        list[str] | None, typer.Option("--audience", help="for whom; default: the API server; may be repeated")
    ] = None,
    duration: Annotated[int | None, typer.Option("--duration", min=600, help="seconds that it is to last")] = None,
    bound_to: Annotated[str, typer.Option("--bound-to", help="KIND/NAME of the Pod, Secret or Node it ends with")] = "",
    bound_uid: Annotated[str, typer.Option("--bound-uid", help="uid of that object")] = "",
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="who asks for the token: one that may create it")
    ] = None,
    context: Annotated[str, typer.Option("--context")] = "",
    cache_dir: CacheDir = None,
) -> None:
    """A service account's token by TokenRequest, asked for through a kubeconfig.

    kubegate token service-account builder -n ci --kubeconfig admin.kubeconfig
    """
    import time

    from kubegate.tokens.credential import TokenError
    from kubegate.tokens.service_account import Wanted
    from kubegate.tokens.store import remembered

    wanted = Wanted(namespace, name, tuple(audience or ()), duration, bound_to, bound_uid)
    with telling(TokenError):
        path = _kubeconfig(kubeconfig)
        key = ("service-account", str(path.resolve()), str(path.stat().st_mtime_ns), context, *wanted.key)
        _print(remembered(_store(cache_dir), key, time.time(), lambda: asyncio.run(_requested(wanted, path, context))))


@app.command(name="hash", short_help="A hash for a file of static users.")
def hash_(
    algorithm: Annotated[str, typer.Option("--algorithm", help="argon2 or bcrypt")] = "argon2",
) -> None:
    """A hash for a file of static users, of the secret that is typed or comes on stdin."""
    from kubegate.authentication.sources.passwords import PasswordError, hashed

    secret = (
        typer.prompt("Secret", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    )
    with telling(PasswordError):
        typer.echo(hashed(secret, algorithm))


@app.command()
def forget(cache_dir: CacheDir = None) -> None:
    """Remove all tokens that are kept."""
    from kubegate.tokens.credential import TokenError

    with telling(TokenError):
        typer.echo(f"{_store(cache_dir).clear()} tokens forgotten")


# ---------------------------------------------------------------------- what the commands share
async def _from_issuer(settings: Settings, entry: Entry, method: str, browser: str) -> Credential:
    from kubegate.api.clock import SystemClock
    from kubegate.tokens import oidc
    from kubegate.tokens.credential import TokenError
    from kubegate.tokens.store import fresh

    clock, kept = SystemClock(), entry.read()
    known = fresh(kept, clock.now())
    if known is not None:
        return known
    terminal = oidc.Terminal(lambda page: oidc.show_in_browser(page, browser), lambda text: echo(text, err=True))
    # kubectl's `interactive` tells of stdin, which nothing here reads: `kubectl apply -f -` may well have somebody
    somebody = method != "auto" or bool(browser) or oidc.has_browser() or sys.stderr.isatty()
    client = oidc.OidcClient(settings, clock)
    try:
        found: Kept = await oidc.obtain(client, kept, terminal, method=method, interactive=somebody)
    finally:
        await client.close()
    entry.write(found)
    if found.credential is None:
        raise TokenError("the issuer gave no token")
    return found.credential


async def _requested(wanted: Any, path: Path, context: str) -> Credential:
    from kubegate.analysis.client import connect
    from kubegate.analysis.sources import SourceError
    from kubegate.tokens.credential import TokenError
    from kubegate.tokens.service_account import request

    try:
        async with connect(path, context) as server:
            return await request(server.post, wanted)
    except SourceError as error:
        raise TokenError(str(error)) from None


def _kubeconfig(named: Path | None) -> Path:
    from kubegate.pki.kubeconfig import default_paths

    return named if named is not None else default_paths()[0]


def _store(folder: Path | None) -> Store:
    from kubegate.tokens.store import Store, default_folder

    return Store(folder or default_folder(os.environ))


def _print(credential: Credential) -> None:
    from kubegate.tokens.credential import exec_credential, exec_info

    typer.echo(exec_credential(credential, exec_info(os.environ)))


def _pair(text: str) -> tuple[str, str]:
    from kubegate.tokens.credential import TokenError

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise TokenError(f"--parameter: {text} is not of the form NAME=VALUE")
    return name, value
