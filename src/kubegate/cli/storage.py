"""`kubegate storage`: check, compact, back up, restore, migrate and encrypt again what a server keeps."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kubegate.cli.errors import fail
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from kubegate.storage.build import StorageOptions
    from kubegate.storage.tools import Progress

Answer = TypeVar("Answer")

app = typer.Typer(
    no_args_is_help=True,
    short_help="Look after the store of a server.",
    help="Look after the store of a server. STORE is sqlite:PATH, a path, a data directory, or etcd:URL,URL; "
    "only `restore` and `encrypt` want a file that no server uses.",
)

Name = Annotated[str, typer.Argument(metavar="STORE", help="sqlite:PATH, PATH, a data directory, or etcd:URL,URL")]
Encryption = Annotated[str, typer.Option("--encryption-provider-config", help="EncryptionConfiguration of the server")]

HERE = ".kubegate"
"""The data directory of `kubegate up`."""


@dataclass(frozen=True, slots=True)
class Etcd:
    """The flags that every command has for a store in etcd."""

    etcd_cafile: Annotated[str, typer.Option(help="PEM file of the CA that signed etcd's certificates")] = ""
    etcd_certfile: Annotated[str, typer.Option(help="PEM file of our certificate for etcd")] = ""
    etcd_keyfile: Annotated[str, typer.Option(help="PEM file of our key for etcd")] = ""
    etcd_prefix: Annotated[str, typer.Option(help="what keys in etcd begin with")] = "/registry"


def with_etcd(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command etcd's flags in the place of its argument `etcd`."""
    flags = inspect.signature(Etcd, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "etcd"]
    shown = [*own, *(flag.replace(kind=inspect.Parameter.KEYWORD_ONLY) for flag in flags.values())]

    def run(**given: Any) -> None:
        etcd = Etcd(**{name: given.pop(name) for name in flags})
        command(**given, etcd=etcd)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {each.name: each.annotation for each in shown}
    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return run


@app.command(short_help="Read everything and say what is wrong.")
@with_etcd
def check(
    store: Name = HERE,
    encryption_provider_config: Encryption = "",
    *,
    etcd: Etcd,
) -> None:
    """Read everything and say what is wrong; exit code 1 when something is."""
    from kubegate.storage import tools

    options = _options(store, etcd, encryption_provider_config)
    found = _run(lambda progress: tools.check(options, progress), "checking")
    changes = f", {found.changes:,} changes in the log" if found.changes else ""
    typer.echo(f"{store} is whole: {found.keys:,} keys{changes}, {found.size:,} bytes, revision {found.revision}")


@app.command(short_help="Forget all history and give its space back.")
@with_etcd
def compact(
    store: Name = HERE,
    *,
    etcd: Etcd,
) -> None:
    """Forget all history and give its space back. Clients that were reading it page by page start again."""
    from kubegate.storage import tools

    options = _options(store, etcd)
    before, after = _run(lambda progress: tools.compact(options, progress), "compacting")
    if before:
        typer.echo(f"{store} is compacted: {before:,} bytes before, {after:,} after")
    else:
        typer.echo(f"{store} is compacted; `etcdctl defrag` gives the space of each member back")


@app.command(short_help="Write the store, as it is now, to a new file.")
@with_etcd
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="the new file")],
    store: Name = HERE,
    *,
    etcd: Etcd,
) -> None:
    """Write the store, as it is now, to a new file. What is encrypted stays encrypted: keep its keys as well."""
    from kubegate.storage import tools

    options = _options(store, etcd)
    keys = _run(lambda progress: tools.backup(options, target, progress), "copying")
    typer.echo(f"{target} has {keys:,} keys of {store}")


@app.command(short_help="Put a checked backup in the place of the store.")
@with_etcd
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="a file that `backup` wrote")],
    store: Name = HERE,
    force: Annotated[bool, typer.Option("--force", help="replace the file that is there")] = False,
    bump_revision: Annotated[int, typer.Option(help="how far revisions jump, so that clients list again")] = 1_000_000,
    *,
    etcd: Etcd,
) -> None:
    """Check a backup and put it in the place of the store, which no server may be using."""
    from kubegate.storage import tools

    options = _options(store, etcd)
    keys = _run(
        lambda progress: tools.restore(source, options, force=force, bump=bump_revision, progress=progress), "copying"
    )
    typer.echo(f"{store} has {keys:,} keys of {source}")


@app.command(short_help="Copy all keys into an empty store, and compare.")
@with_etcd
def migrate(
    source: Annotated[str, typer.Option("--from", help="the store to copy: sqlite:PATH or etcd:URL,URL")],
    target: Annotated[str, typer.Option("--to", help="the empty store to copy to")],
    event_ttl: Annotated[int, typer.Option(help="seconds that events live from now on")] = 3600,
    encryption_provider_config: Encryption = "",
    *,
    etcd: Etcd,
) -> None:
    """Copy all keys into an empty store, and compare. Stop the server first: what it writes later is not copied."""
    from kubegate.storage import tools

    here, there = (_options(name, etcd, encryption_provider_config) for name in (source, target))
    keys = _run(lambda progress: tools.migrate(here, there, event_ttl=event_ttl, progress=progress), "copying")
    typer.echo(f"{target} has the {keys:,} keys of {source}, and they are the same")


@app.command(short_help="Encrypt again what another key or none sealed.")
@with_etcd
def encrypt(
    encryption_provider_config: Encryption,
    store: Name = HERE,
    *,
    etcd: Etcd,
) -> None:
    """Write again what is not encrypted as the configuration says first: after it was changed, or a key rotated."""
    from kubegate.storage import tools

    options = _options(store, etcd, encryption_provider_config)
    written, keys = _run(lambda progress: tools.encrypt(options, progress), "encrypting")
    typer.echo(f"{store}: {written:,} of {keys:,} keys were written again")


def _options(store: str, etcd: Etcd, encryption_provider_config: str = "") -> StorageOptions:
    from kubegate.storage.build import StorageOptions
    from kubegate.storage.tools import parse

    with _errors():
        return parse(store, StorageOptions(**asdict(etcd), encryption_provider_config=encryption_provider_config))


def _run(work: Callable[[Progress], Coroutine[Any, Any, Answer]], what: str) -> Answer:
    """Do it, with a progress bar on a terminal; for what goes wrong one line and exit code 1."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with _errors(), Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return asyncio.run(work(progress))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    from kubegate.storage import StoreUnavailable
    from kubegate.storage.tools import Damaged

    said = ""
    try:
        yield
    except* Damaged as group:
        for error in _leaves(group):
            assert isinstance(error, Damaged)
            for fault in error.faults:
                echo(fault, err=True)
            said = f"{len(error.faults)} faults; restore a backup"
    except* FileExistsError as group:
        error = _leaves(group)[0]
        said = f"{getattr(error, 'filename', None) or error} exists already"
    except* (ValueError, OSError, StoreUnavailable) as group:
        said = str(_leaves(group)[0])
    if said:
        fail(said)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors of a group, however deep."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
