"""What the commands of `kubegate iam` share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from kubegate.cli import errors
from kubegate.cli.terminal import echo

if TYPE_CHECKING:
    from kubegate.analysis.client import ApiServer
    from kubegate.aws import Identity

Answer = TypeVar("Answer")
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="kubectl's own where none is named")]
Context = Annotated[str, typer.Option("--context")]


def run(kubeconfig: Path | None, context: str, work: Callable[[ApiServer], Awaitable[Answer]]) -> Answer:
    """Do it with the server of a kubeconfig."""
    from kubegate.analysis.client import connect

    async def connected() -> Answer:
        async with connect(kubeconfig, context) as server:
            return await work(server)

    return asyncio.run(connected())


async def ask(call: Any, cluster: str, authority: bytes | None) -> Identity:
    """Who signed it, as STS says to this cluster."""
    from kubegate.api.clock import SystemClock
    from kubegate.aws.sts import Sts, StsError, StsSettings

    sts = Sts(StsSettings(authority), SystemClock())
    try:
        return await sts.identity(call, cluster)
    except StsError as error:
        refused("STS", f"{error} (signed for another cluster, or by keys that are not good any more?)")
    finally:
        await sts.close()


def passed(step: str, found: str) -> None:
    echo(f"ok      {step}: {found}")


def refused(step: str, problem: str) -> NoReturn:
    echo(f"refused {step}: {problem}")
    raise typer.Exit(1)


def telling() -> contextlib.AbstractContextManager[None]:
    """For what these commands read, ask and are told."""
    from kubegate.analysis.sources import SourceError
    from kubegate.tokens.credential import TokenError

    return errors.telling(SourceError, TokenError, ValueError)
