"""All commands but `serve` and `up`."""

from __future__ import annotations

import importlib

import typer

from kubegate import KUBERNETES_VERSION, __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # brackets in help texts are brackets
    help="Kubernetes access control: an API server, webhook servers, and tools. "
    "`kubegate up` starts an API server; `kubegate serve` takes kube-apiserver's flags.",
)


@app.command(short_help="Print the version, and that of Kubernetes.")
def version() -> None:
    """Print the version, and that of the Kubernetes whose behaviour this is."""
    typer.echo(f"kubegate {__version__} (Kubernetes {KUBERNETES_VERSION})")


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    short_help="Run the API server with kube-apiserver's flags.",
)
def serve() -> None:
    """Run the API server with kube-apiserver's flags."""


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    short_help="Run the API server, and say how to reach it.",
)
def up() -> None:
    """Run the API server on a state directory of its own, and say how to reach it."""


# Groups of commands: a module of this package each, with an `app`.
GROUPS = ("storage", "pki", "kubeconfig", "token", "iam")
# Modules whose `register(app)` adds commands beside these.
_REGISTERED = ("access", "webhook", "exec", "trace")


def load(word: str) -> typer.Typer:
    """The commands that a command line which begins with `word` may need: one group, or all that there are."""
    groups = (word,) if word in GROUPS else GROUPS
    for name in groups:
        app.add_typer(importlib.import_module(f"kubegate.cli.{name}").app, name=name)
    if word not in GROUPS:
        for module in _REGISTERED:
            importlib.import_module(f"kubegate.cli.{module}").register(app)
    return app
