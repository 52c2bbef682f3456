"""All commands but `serve` and `up`."""

from __future__ import annotations

import importlib
import importlib.util

import typer

from kubegate import KUBERNETES_VERSION, __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # brackets in help texts are brackets
    help="Kubernetes access control: an API server, webhook servers, and tools. "
    "`kubegate up` starts an API server; `kubegate serve` takes kube-apiserver's flags.",
)


@app.command()
def version() -> None:
    """Print the version, and that of the Kubernetes whose behaviour this is."""
    typer.echo(f"kubegate {__version__} (Kubernetes {KUBERNETES_VERSION})")


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def serve() -> None:
    """Run the API server with kube-apiserver's flags."""


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def up() -> None:
    """Run the API server on a state directory of its own, and say how to reach it."""


# Commands by module of this package: `app` is a group of its own, `register(app)` adds commands beside these.
_GROUPS = {"storage": "storage", "pki": "pki", "kubeconfig": "kubeconfig", "token": "token"}
_REGISTERED = ("access", "webhook")

for _name, _module in _GROUPS.items():
    if importlib.util.find_spec(f"kubegate.cli.{_module}") is not None:
        app.add_typer(importlib.import_module(f"kubegate.cli.{_module}").app, name=_name)
for _module in _REGISTERED:
    if importlib.util.find_spec(f"kubegate.cli.{_module}") is not None:
        importlib.import_module(f"kubegate.cli.{_module}").register(app)
