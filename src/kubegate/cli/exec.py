"""`kubegate exec`: a local command with what a pod on a simulated node would have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kubegate.cli.errors import fail, tell


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
        fail(str(error))
    if prepared.note:
        tell(prepared.note)
    os.chdir(prepared.folder / "home")
    try:
        os.execvpe(prepared.argv[0], prepared.argv, prepared.env)
    except OSError as error:
        fail(f"{command[0]}: {error.strerror}", 127)


def register(app: typer.Typer) -> None:
    app.command("exec", short_help="Run a command with what a simulated pod has.")(execute)
