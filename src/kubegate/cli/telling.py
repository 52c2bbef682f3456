"""What the commands tell of errors: one line for people, and exit code 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """For commands that make files. A ValueError's text is for people; NotSigned is a refusal of a signer."""
    from kubegate.pki.signers import NotSigned

    try:
        yield
    except FileExistsError as error:
        typer.echo(f"kubegate: {error}; --force overwrites it", err=True)
    except OSError as error:
        typer.echo(f"kubegate: {error.filename}: {error.strerror}", err=True)
    except (ValueError, NotSigned) as error:
        typer.echo(f"kubegate: {error}", err=True)
    else:
        return
    raise typer.Exit(1)
