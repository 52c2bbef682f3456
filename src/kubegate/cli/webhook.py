"""`kubegate webhook`, `manifests` and `test`: policies as Python functions, for any cluster."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from kubegate.cli.errors import fail

Policies = Annotated[Path, typer.Argument(metavar="POLICIES.PY", help="the file with the policies")]
CertDir = Annotated[
    Path, typer.Option("--cert-dir", help="folder of the authority and the certificate that are made and renewed here")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Serve policies to API servers over TLS.")(webhook)
    app.command(short_help="Print what a cluster needs to call the webhook.")(manifests)
    app.command(name="test", short_help="Run the examples beside a policy file.")(test)


def webhook(
    policies: Policies,
    port: Annotated[int, typer.Option("--secure-port", help="0 takes a free one")] = 8443,
    address: Annotated[str, typer.Option("--bind-address")] = "0.0.0.0",
    certificate: Annotated[Path | None, typer.Option("--tls-cert-file", help="a certificate that is given")] = None,
    key: Annotated[Path | None, typer.Option("--tls-private-key-file", help="and its key")] = None,
    secret: Annotated[
        Path | None, typer.Option("--tls-secret-dir", help="or a mounted Secret: tls.crt and tls.key")
    ] = None,
    cert_dir: CertDir = Path(".kubegate-webhook"),
    host: Annotated[
        list[str] | None, typer.Option("--host", help="a name or address that the certificate made here is for")
    ] = None,
    client_ca_file: Annotated[
        Path | None, typer.Option("--client-ca-file", help="answer reviews only for callers with a certificate of it")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="processes")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="for functions that are not async")] = 16,
    most: Annotated[int, typer.Option("--max-reviews-inflight", min=1, help="in each process")] = 256,
    max_body: Annotated[int, typer.Option("--max-request-body-bytes", min=1024)] = 7 * 1024 * 1024,
    most_connections: Annotated[int, typer.Option("--max-connections", min=1, help="in each process")] = 512,
    delay: Annotated[
        float, typer.Option("--shutdown-delay", min=0, help="seconds to go on answering when told to end")
    ] = 0.0,
    decisions: Annotated[bool, typer.Option("--decision-log/--no-decision-log", help="JSON lines on stdout")] = True,
) -> None:
    """Serve policies to API servers over TLS: TokenReview, SubjectAccessReview, AdmissionReview, ImageReview.

    kubegate webhook policies.py --host webhook.default.svc
    """
    from kubegate.webhooks.certificates import Source
    from kubegate.webhooks.process import Options, run

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
    if (certificate is None) != (key is None) or (certificate and secret):
        fail("give --tls-cert-file with --tls-private-key-file, or --tls-secret-dir alone")
    if certificate is not None and key is not None:
        source = Source(certificate, key)
    elif secret is not None:
        source = Source.folder(secret)
    else:
        source = Source.generated(cert_dir, [*(host or ()), "localhost", "127.0.0.1"])
    options = Options(
        policies,
        source,
        address=address,
        port=port,
        client_ca_file=client_ca_file,
        most=most,
        max_body=max_body,
        most_connections=most_connections,
        threads=threads,
        transport_threads=1,  # policies are what takes time: a second one would wake and wait more than it works
        delay=delay,
        decisions=sys.stdout.buffer if decisions else None,
    )
    raise typer.Exit(run(options, lambda url: typer.echo(f"kubegate webhook serves on {url}", err=True), workers))


def manifests(
    policies: Policies,
    service: Annotated[str, typer.Option("--service", help="NAME.NAMESPACE of the Service")] = "webhook.default",
    image: Annotated[str, typer.Option("--image", help="the image with kubegate in it")] = "kubegate:latest",
    cert_dir: CertDir = Path(".kubegate-webhook"),
    issuer: Annotated[
        str,
        typer.Option("--cert-manager-issuer", help="a cert-manager Issuer (or ClusterIssuer/NAME) makes the Secret"),
    ] = "",
    replicas: Annotated[int, typer.Option("--replicas", min=1)] = 2,
    url: Annotated[
        str, typer.Option("--url", help="where the server is, for a server outside the cluster: no Deployment then")
    ] = "",
    only: Annotated[
        str, typer.Option("--only", help="server, configurations, authentication, authorization or images")
    ] = "",
    dockerfile: Annotated[bool, typer.Option("--dockerfile", help="print a Dockerfile instead")] = False,
) -> None:
    """Print what a cluster needs to call the webhook server; kubeconfigs for an API server's flags with --only.

    kubegate manifests policies.py --service webhook.default | kubectl apply -f -
    """
    from kubegate.webhooks.manifests import Plan, print_dockerfile, render
    from kubegate.webhooks.policyfile import PolicyFileError

    if dockerfile:
        typer.echo(print_dockerfile(policies.name), nl=False)
        return
    try:
        plan = Plan.of(policies, service=service, image=image, replicas=replicas, issuer=issuer, url=url)
        typer.echo(render(plan, cert_dir, only), nl=False)
    except (PolicyFileError, ValueError, OSError) as error:
        fail(str(error))


def test(
    policies: Policies,
    examples: Annotated[
        list[Path] | None, typer.Argument(metavar="[EXAMPLES.YAML]", help="default: *.yaml beside the policies")
    ] = None,
) -> None:
    """Run the examples beside a policy file: objects, and what is to become of them.

    kubegate test policies.py
    """
    from kubegate.webhooks.examples import ExampleError, run
    from kubegate.webhooks.policyfile import PolicyFileError

    try:
        results = run(policies, examples or None)
    except (ExampleError, PolicyFileError) as error:
        fail(str(error))
    for result in results:
        typer.echo(f"{'ok    ' if not result.problem else 'FAILED'}  {result.place}: {result.name}")
        if result.problem:
            typer.echo(f"        {result.problem}")
    wrong = sum(1 for result in results if result.problem)
    typer.echo(f"{len(results)} examples, {wrong} failed")
    raise typer.Exit(1 if wrong else 0)
