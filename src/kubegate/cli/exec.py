"""`kubegate exec`: a local command with what a pod on a simulated node would have."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def execute(
    pod: Annotated[str, typer.Argument(help="The pod's name.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The pod's namespace.")] = "default",
    container: Annotated[str, typer.Option("--container", "-c", help="The container (default: the first).")] = "",
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The server's --data-dir.")] = Path(".kubegate"),
) -> None:
    """Run a local command with the volumes, variables and service account of a pod on a simulated node.

    Where the system allows, the pod's volumes are at /var/run/secrets for this command alone; kubectl finds them.
    It runs as you, on this machine: nothing else of a container is there.
    """
    from kubegate.nodes import commands

    try:
        folder = commands.find(data_dir.resolve() / "pods", namespace, pod)
        prepared = commands.prepare(folder, container, command)
    except commands.NotThere as error:
        print(f"kubegate: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if prepared.note:
        print(f"kubegate: {prepared.note}", file=sys.stderr)
    os.chdir(prepared.folder / "home")
    try:
        os.execvpe(prepared.argv[0], prepared.argv, prepared.env)
    except OSError as error:
        print(f"kubegate: {command[0]}: {error.strerror}", file=sys.stderr)
        raise typer.Exit(127) from None


def register(app: typer.Typer) -> None:
    app.command("exec")(execute)
