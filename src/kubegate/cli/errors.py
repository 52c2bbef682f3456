"""How commands tell of what goes wrong: one line for people on stderr that begins `kubegate:`, and an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import typer

from kubegate.cli.terminal import echo


def tell(text: str) -> None:
    echo(f"kubegate: {text}", err=True)


def fail(text: str, code: int = 1) -> NoReturn:
    tell(text)
    raise typer.Exit(code)


@contextlib.contextmanager
def telling(*kinds: type[Exception], code: int = 1) -> Iterator[None]:
    """Tell of files that cannot be read or written, and of errors of these kinds, whose texts are for people."""
    try:
        yield
    except kinds as error:
        fail(str(error), code)
    except FileExistsError as error:
        fail(f"{error}; --force overwrites it", code)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", code)
