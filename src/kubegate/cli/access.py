"""`kubegate why`, `who-can`, `lookup` and their kin: questions about access, asked of a cluster or of manifests.

Each command reads a cluster (by a kubeconfig, kubectl's own where none is named) or, with --from, a folder of
manifests; the output is the same. What takes a while shows its progress on a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import html
import io
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from kubegate.cli.errors import fail, telling
from kubegate.cli.terminal import visible

if TYPE_CHECKING:
    from kubegate.analysis.client import ApiServer
    from kubegate.analysis.sources import Cluster, Progress
    from kubegate.analysis.subjects import Holding, Matrix
    from kubegate.analysis.why import Explanation
    from kubegate.authorization import Attributes

Answer = TypeVar("Answer")

Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="kubeconfig file (kubectl's own otherwise)")]
Context = Annotated[str, typer.Option("--context", help="context of the kubeconfig")]
From = Annotated[Path | None, typer.Option("--from", help="read manifests of this file or folder, not a cluster")]
Output = Annotated[str, typer.Option("--output", "-o", help="text or json")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="namespace (the whole cluster otherwise)")]
System = Annotated[bool, typer.Option("--system", help="also what every cluster has")]
As = Annotated[str, typer.Option("--as", help="user, or a service account as NAMESPACE:NAME")]
AsGroup = Annotated[list[str] | None, typer.Option("--as-group", help="group of the user; may be repeated")]
Subresource = Annotated[str, typer.Option("--subresource", help="subresource, as log or scale")]
Words = Annotated[list[str], typer.Argument(help="VERB RESOURCE[.GROUP][/NAME] [NAME], or VERB /PATH")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for name, (command, short) in _COMMANDS.items():
        app.command(name, short_help=short)(command)


@dataclass(frozen=True, slots=True)
class Source:
    """Where to read from: a folder, or a context of a kubeconfig."""

    folder: Path | None = None
    kubeconfig: Path | None = None
    context: str = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """`context:NAME`, `kubeconfig:FILE`, or a path."""
        kind, colon, rest = text.partition(":")
        if colon and kind == "context":
            return cls(context=rest)
        if colon and kind == "kubeconfig":
            return cls(kubeconfig=Path(rest))
        return cls(folder=Path(text))

    async def read(self, progress: Progress | None = None, patch: Path | None = None) -> Cluster:
        from kubegate.analysis.sources import from_folder

        if self.folder is not None:
            return await asyncio.to_thread(from_folder, self.folder, patch=patch)
        async with self.connect() as server:
            return await server.cluster(progress, patch)

    def connect(self) -> contextlib.AbstractAsyncContextManager[ApiServer]:
        from kubegate.analysis.client import connect

        return connect(self.kubeconfig, self.context)


# --------------------------------------------------------------------------------------------------- the commands
def why(
    words: Words,
    as_user: As = "",
    as_group: AsGroup = None,
    namespace: Namespace = "",
    subresource: Subresource = "",
    audit_log: Annotated[
        Path | None, typer.Option("--audit-log", help="explain the request of this log whose audit ID is named")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Output = "text",
) -> None:
    """Why may they, or why not: every binding that grants it, or why each does not, and the smallest change.

    kubegate why --as alice get secrets/db -n prod
    kubegate why --audit-log audit.log 6f8a0f0e-9f0b-4a51-8a0f-9d8f4a1f0c11

    Exits with 0 where it is allowed, with 1 where it is not.
    """
    from kubegate.analysis import auditlog
    from kubegate.analysis.why import explain

    source = Source(folder, kubeconfig, context)

    async def ask() -> tuple[Explanation, dict[str, Any] | None]:
        if audit_log is not None:
            recorded = await asyncio.to_thread(auditlog.find, audit_log, words[0])
            if recorded is None:
                raise _UsageError(f"{audit_log}: no request has the audit ID {words[0]}")
            attributes = recorded.attributes
        else:
            attributes = _question(words, as_user, as_group, namespace, subresource)
        with _progress("reading roles") as progress:
            cluster = await source.read(progress)
        return explain(cluster, attributes), await _said_by_server(source, attributes)

    explanation, said = _run(ask())
    if output == "json":
        found = explanation.to_dict()
        if said is not None:
            found["server"] = said
        _print_json(found)
    else:
        _print_explanation(explanation, said)
    raise typer.Exit(0 if explanation.allowed or (said or {}).get("allowed") else 1)


def who_can(
    words: Words,
    namespace: Namespace = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="in any namespace")] = False,
    subresource: Subresource = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Output = "text",
) -> None:
    """Who can do this: every subject that some binding gives it to.

    kubegate who-can get secrets -n prod
    """
    from kubegate.analysis import whocan

    attributes = _run(_asked(words, "", None, namespace, subresource))
    found = whocan.who_can(_read(folder, kubeconfig, context), attributes, all_namespaces=all_namespaces)
    if output == "json":
        _print_json([holder.to_dict() for holder in found])
        return
    rows = []
    for holder in found:
        label = f"{holder.namespace}/{holder.name}" if holder.namespace else holder.name
        through = _binding_text(holder.binding) if holder.binding is not None else "its members may do everything"
        rows.append((holder.kind, label, holder.scope or "*", through))
    _print_table(("KIND", "SUBJECT", "NAMESPACE", "THROUGH"), rows)


def lookup(
    subject: Annotated[str, typer.Argument(help="name, NAMESPACE/NAME of a service account, or with -e an expression")],
    regex: Annotated[bool, typer.Option("--regex", "-e", help="the subject is a regular expression")] = False,
    kind: Annotated[str, typer.Option("--kind", help="User, Group or ServiceAccount")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Output = "text",
) -> None:
    """The roles that a subject is bound to, and where.

    kubegate lookup -e '^system:kube'
    """
    found = _lookup(subject, regex, kind, folder, kubeconfig, context)
    if output == "json":
        _print_json([holding.to_dict() for holding in found])
        return
    rows = []
    for each in found:
        role = f"{each.role.kind}/{each.role.name}" + ("" if each.role.rules is not None else " (missing)")
        scope = "Role" if each.scope else "ClusterRole"
        rows.append((each.label, each.kind, scope, each.scope or "*", role, each.binding.name))
    _print_table(("SUBJECT", "TYPE", "SCOPE", "NAMESPACE", "ROLE", "BINDING"), rows)


def rolesum(
    subject: Annotated[str, typer.Argument(help="user, or a service account as NAMESPACE:NAME")],
    as_group: AsGroup = None,
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Output = "text",
) -> None:
    """What a subject may do, as a table of resources by verbs.

    kubegate rolesum alice --as-group dev
    """
    from kubegate.analysis.questions import user_of
    from kubegate.analysis.subjects import STANDARD_VERBS
    from kubegate.analysis.subjects import rolesum as summarize

    user = _run(_awaited(lambda: user_of(subject, as_group or ())))
    summaries = summarize(_read(folder, kubeconfig, context), user)
    if output == "json":
        _print_json({"user": user.name, "groups": list(user.groups), "scopes": [each.to_dict() for each in summaries]})
        return
    _echo(f"{user.name} (groups: {', '.join(user.groups)})")
    for summary in summaries:
        _echo("")
        _echo(f"in namespace {summary.scope}" if summary.scope else "in the whole cluster")
        for binding in summary.bindings:
            missing = " (missing)" if binding.role.rules is None else ""
            _echo(f"  {_binding_text(binding)}{missing}")
        rows = []
        for key in sorted(summary.lines):
            line = summary.lines[key]
            every = "*" in line.verbs
            marks = ["x" if every or verb in line.verbs else "-" for verb in STANDARD_VERBS]
            others = sorted(line.verbs - set(STANDARD_VERBS) - {"*"})
            rows.append((line.resource, line.name, *marks, "*" if every else ",".join(others)))
        _print_table(("  RESOURCE", "NAME", *_SHORT_VERBS, "OTHERS"), [("  " + row[0], *row[1:]) for row in rows])


def whoami(kubeconfig: Kubeconfig = None, context: Context = "", output: Output = "text") -> None:
    """Who the server takes you for: name, uid, groups and extra."""

    async def ask() -> dict[str, Any]:
        async with Source(None, kubeconfig, context).connect() as server:
            return await server.whoami()

    user = _run(ask())
    if output == "json":
        _print_json(user)
        return
    rows = [("Username", str(user.get("username", "")))]
    if user.get("uid"):
        rows.append(("UID", str(user["uid"])))
    rows.append(("Groups", _bracketed(user.get("groups") or ())))
    rows += [(f"Extra: {key}", _bracketed(values)) for key, values in sorted((user.get("extra") or {}).items())]
    _print_table(("ATTRIBUTE", "VALUE"), rows)


def matrix(
    resources: Annotated[list[str] | None, typer.Argument(help="resources; the usual ones otherwise")] = None,
    namespace: Namespace = "",
    system: System = False,
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text, json, csv or html")] = "text",
) -> None:
    """Subjects by resources: who has which verbs on what.

    kubegate matrix pods secrets deployments -n prod -o html > matrix.html
    """
    from kubegate.analysis.questions import question, user_of
    from kubegate.analysis.subjects import matrix as make

    asked = [question(user_of("nobody"), "get", each, namespace=namespace) for each in resources or _USUAL_RESOURCES]
    found = make(_read(folder, kubeconfig, context), asked, namespace, system=system)
    match output:
        case "json":
            _print_json(found.to_dict())
        case "csv":
            _echo(_matrix_csv(found), nl=False)
        case "html":
            _echo(_matrix_html(found), nl=False)
        case _:
            rows = [(kind, label, *(_initials(cell) for cell in cells)) for kind, label, cells in found.rows]
            _print_table(("KIND", "SUBJECT", *(name.upper() for name in found.resources)), rows)
            _echo("\nG get  L list  W watch  C create  U update  P patch  D delete  X deletecollection  + others")


def policy_rules(
    subject: Annotated[str, typer.Argument(help="as for lookup; everybody where it is left out")] = "",
    regex: Annotated[bool, typer.Option("--regex", "-e", help="the subject is a regular expression")] = False,
    kind: Annotated[str, typer.Option("--kind", help="User, Group or ServiceAccount")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or csv")] = "text",
) -> None:
    """Every rule that a subject holds, a line each, with the role and binding that it comes from."""
    from kubegate.analysis.subjects import policy_rules as rules_of

    cluster = _read(folder, kubeconfig, context)
    lines = list(rules_of(cluster, _lookup_in(cluster, subject, regex, kind)))
    if output == "json":
        _print_json([line.to_dict() for line in lines])
        return
    columns = ("KIND", "SUBJECT", "VERBS", "NAMESPACE", "API GROUP", "RESOURCE", "NAMES", "PATH", "ORIGIN")
    rows = [
        (each.kind, each.subject, ",".join(each.verbs), each.namespace,
         each.api_group or ("core" if each.resource else ""), each.resource, ",".join(each.names), each.path,
         each.origin)
        for each in lines
    ]  # fmt: skip
    if output == "csv":
        _echo(_csv([columns, *rows]), nl=False)
    else:
        _print_table(columns, rows)


def audit_roles(
    system: System = False,
    severity: Annotated[str, typer.Option("--severity", help="show from low, medium, high or critical on")] = "low",
    fail_on: Annotated[str, typer.Option("--fail-on", help="exit with 1 from this severity on")] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    folder: From = None,
    output: Output = "text",
) -> None:
    """What is dangerous, broken or left over in roles and bindings, and each way to cluster-admin."""
    from kubegate.analysis.audit_roles import Severity, audit

    def level(text: str) -> Severity:
        try:
            return Severity[text.upper()]
        except KeyError:
            raise _UsageError(f"{text!r} is no severity: there are low, medium, high and critical") from None

    least, failing = _run(_awaited(lambda: (level(severity), level(fail_on) if fail_on else None)))
    found = [each for each in audit(_read(folder, kubeconfig, context), system=system) if each.severity >= least]
    if output == "json":
        _print_json([each.to_dict() for each in found])
    else:
        rows = []
        for each in found:
            rows.append((each.severity.name, each.check, each.where, each.message))
            rows += [("", "", "", f"  {number}. {step}") for number, step in enumerate(each.steps, 1)]
        _print_table(("SEVERITY", "CHECK", "WHERE", "FINDING"), rows)
        _echo(f"\n{len(found)} findings")
    if failing is not None and any(each.severity >= failing for each in found):
        raise typer.Exit(1)


def diff(
    old: Annotated[str, typer.Argument(help="a folder, context:NAME or kubeconfig:FILE")],
    new: Annotated[str, typer.Argument(help="the same; or a file, whose objects are put on OLD")],
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit with 1 where something differs")] = False,
    output: Output = "text",
) -> None:
    """Which subjects gain and lose what between two states, or by a patch.

    kubegate diff context:prod ./manifests
    kubegate diff context:prod change.yaml
    """
    from kubegate.analysis.whatif import diff as differences

    async def read() -> tuple[Cluster, Cluster]:
        first = Source.parse(old)
        patch = Path(new) if Path(new).is_file() else None  # noqa: ASYNC240
        second = first if patch is not None else Source.parse(new)
        with _progress("reading roles") as progress:
            return await first.read(progress), await second.read(progress, patch)

    before, after = _run(read())
    with _progress("comparing") as progress:
        found = differences(before, after, progress)
    if output == "json":
        _print_json([each.to_dict() for each in found])
    else:
        _print_differences(found)
    if exit_code and found:
        raise typer.Exit(1)


def replay(
    audit_log: Annotated[Path, typer.Argument(help="audit log, a JSON event a line (.gz too)")],
    policy: Annotated[str, typer.Option("--policy", help="a folder, context:NAME or kubeconfig:FILE")],
    patch: Annotated[
        Path | None, typer.Option("--patch", help="file whose objects are put on the policy first")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="requests to print")] = 50,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit with 1 where something differs")] = False,
    output: Output = "text",
) -> None:
    """Which of the recorded requests would be decided otherwise by another policy.

    kubegate replay audit.log --policy context:prod --patch change.yaml
    """
    from kubegate.analysis import auditlog
    from kubegate.analysis.questions import text_of
    from kubegate.analysis.replay import replay as play

    cluster = _run(Source.parse(policy).read(patch=patch))
    with _progress("replaying") as progress:
        found = _run(_awaited(lambda: play(cluster, auditlog.read(audit_log, progress))))
    if output == "json":
        _print_json(found.to_dict())
    else:
        rows = [
            (f"{each.count:,}", "allow" if each.allowed else "FORBID", each.attributes.user.name,
             text_of(each.attributes))
            for each in found.otherwise[:limit]
        ]  # fmt: skip
        if rows:
            _print_table(("TIMES", "NOW", "USER", "REQUEST"), rows)
            more = len(found.otherwise) - len(rows)
            _echo(f"… and {more:,} more kinds of request\n" if more > 0 else "")
        _echo(f"{found.requests:,} requests: {found.same:,} as recorded, {found.changed:,} otherwise", nl=False)
        _echo(f", {found.elsewhere:,} allowed by other authorizers, {found.undecided:,} without a decision")
    if exit_code and found.changed:
        raise typer.Exit(1)


def least_privilege(
    audit_log: Annotated[Path, typer.Argument(help="audit log, a JSON event a line (.gz too)")],
    subject: Annotated[str, typer.Option("--for", help="user, or a service account as NAMESPACE:NAME")],
    name: Annotated[str, typer.Option("--name", help="name of the roles and bindings")] = "",
    max_names: Annotated[int, typer.Option("--max-names", help="narrow verbs to so many object names at most")] = 5,
    refused: Annotated[bool, typer.Option("--refused", help="also what was tried and refused")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json")] = "yaml",
) -> None:
    """The smallest roles that cover what a subject did, as manifests.

    kubegate least-privilege audit.log --for ci:deployer > roles.yaml
    """
    from kubegate.analysis import auditlog
    from kubegate.analysis.changes import slug
    from kubegate.analysis.least_privilege import Used, roles_for, used_by
    from kubegate.analysis.questions import user_of
    from kubegate.authentication import UserInfo

    with _progress("reading the log") as progress:

        def work() -> tuple[UserInfo, Used]:
            user = user_of(subject)
            return user, used_by(user, auditlog.read(audit_log, progress), refused=refused)

        user, used = _run(_awaited(work))
    objects = roles_for(user, used, name or f"{slug(user.name)}-used", max_names=max_names)
    if not objects:
        fail(f"{audit_log} has no request of {user.name}")
    if output == "json":
        _print_json({"apiVersion": "v1", "kind": "List", "items": objects})
        return
    import yaml

    _echo(f"# what {user.name} used in {used.requests:,} requests")
    _echo(yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False, explicit_start=True), nl=False)


# ------------------------------------------------------------------------------------------------ how they ask
class _UsageError(Exception):
    """Words that cannot be understood; one line for people."""


def _run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run it; what cannot be read or understood is one line on stderr, and exit code 2."""

    from kubegate.analysis.questions import QuestionError
    from kubegate.analysis.sources import SourceError

    with telling(SourceError, QuestionError, _UsageError, code=2):
        try:
            return asyncio.run(work)
        except re.error as error:
            fail(f"not a regular expression: {error}", 2)


async def _awaited(work: Callable[[], Answer]) -> Answer:
    return work()


async def _asked(
    words: Sequence[str], as_user: str, as_group: Sequence[str] | None, namespace: str, subresource: str
) -> Attributes:
    return _question(words, as_user or "nobody", as_group, namespace, subresource)


def _question(
    words: Sequence[str], as_user: str, as_group: Sequence[str] | None, namespace: str, subresource: str
) -> Attributes:
    from kubegate.analysis.questions import question, user_of

    if not as_user and not as_group:
        raise _UsageError("name the user with --as (or a group with --as-group)")
    if not 2 <= len(words) <= 3:
        raise _UsageError("a question is VERB RESOURCE [NAME], or VERB /PATH")
    name = words[2] if len(words) == 3 else ""
    return question(
        user_of(as_user, as_group or ()), words[0], words[1], name, namespace=namespace, subresource=subresource
    )


def _read(folder: Path | None, kubeconfig: Path | None, context: str) -> Cluster:
    with _progress("reading roles") as progress:
        return _run(Source(folder, kubeconfig, context).read(progress))


async def _said_by_server(source: Source, attributes: Attributes) -> dict[str, Any] | None:
    """What all of a server's authorizers say; None where there is no server, or one may not ask it."""
    from kubegate.analysis.sources import SourceError

    if source.folder is not None:
        return None
    with contextlib.suppress(SourceError):
        async with source.connect() as server:
            return await server.review(attributes)
    return None


def _lookup(
    subject: str, regex: bool, kind: str, folder: Path | None, kubeconfig: Path | None, context: str
) -> list[Holding]:
    return _lookup_in(_read(folder, kubeconfig, context), subject, regex, kind)


def _lookup_in(cluster: Cluster, subject: str, regex: bool, kind: str) -> list[Holding]:
    from kubegate.analysis.subjects import lookup as find

    return _run(_awaited(lambda: find(cluster, subject, regex=regex, kind=kind)))


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield tell


# ------------------------------------------------------------------------------------------------- how they look
_SHORT_VERBS = ("GET", "LIST", "WATCH", "CREATE", "UPDATE", "PATCH", "DELETE", "DELCOL")
_INITIALS = {
    "get": "G", "list": "L", "watch": "W", "create": "C", "update": "U", "patch": "P", "delete": "D",
    "deletecollection": "X",
}  # fmt: skip
_USUAL_RESOURCES = (
    "pods", "deployments", "services", "configmaps", "secrets", "serviceaccounts", "roles", "rolebindings", "nodes",
    "namespaces",
)  # fmt: skip


def _echo(text: str, *, nl: bool = True) -> None:
    typer.echo(visible(text), nl=nl)


def _print_json(value: Any) -> None:
    import orjson

    _echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Fitted to a terminal; in a pipe each row is one line, whatever its length."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell.replace("\n", " "))) for cell in row))
    wide = None if sys.stdout.isatty() else 10_000
    buffer = io.StringIO()
    Console(file=buffer, width=wide or _terminal_width(), force_terminal=wide is None, highlight=False).print(table)
    typer.echo("\n".join(line.rstrip() for line in buffer.getvalue().rstrip("\n").split("\n")))


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _binding_text(binding: Any) -> str:
    role = binding.role
    own = f"{binding.namespace}/{binding.name}" if binding.namespace else binding.name
    target = f"{role.namespace}/{role.name}" if role.namespace else role.name
    return f"{binding.kind} {own} -> {role.kind} {target}"


def _print_explanation(explanation: Explanation, said: dict[str, Any] | None) -> None:
    from kubegate.analysis.questions import text_of
    from kubegate.analysis.whocan import subject_text
    from kubegate.authorization.rules import compact_string

    user = explanation.attributes.user
    groups = f" (groups: {', '.join(user.groups)})" if user.groups else ""
    elsewhere = said is not None and bool(said.get("allowed")) and not explanation.allowed
    may = "may" if explanation.allowed or elsewhere else "may not"
    _echo(f"{user.name or 'the group'}{groups} {may} {text_of(explanation.attributes)}")
    if elsewhere:
        reason = (said or {}).get("reason") or "it gives no reason"
        _echo(f"\nroles do not give it, but another of the server's authorizers allows it: {reason}")
        return
    if explanation.masters:
        _echo("\nbecause system:masters may do everything, without a binding")
    if explanation.grants:
        _echo("\nbecause of")
    for grant in explanation.grants:
        _echo(f"  {_binding_text(grant.binding)}, for {subject_text(grant.subject, grant.binding.namespace)}")
        _echo(f"    rule {grant.rule_number}: {compact_string(grant.rule)}")
    own = [miss for miss in explanation.near_misses if not miss.system]
    if not explanation.allowed:
        _echo("\nbindings that name it, and what they lack:" if own else "\nno binding of this cluster's own names it")
    for miss in own:
        rule = "" if miss.rule_number is None else f", rule {miss.rule_number} comes closest"
        subject = subject_text(miss.subject, miss.binding.namespace)
        _echo(f"  {_binding_text(miss.binding)}, for {subject}{rule}")
        for name, text in miss.problems:
            _echo(f"    {name}: {text}")
    if len(own) < len(explanation.near_misses):
        names = ", ".join(miss.binding.name for miss in explanation.near_misses if miss.system)
        _echo(f"  (and what every cluster has: {names})")
    for alike in explanation.lookalikes:
        _echo(f"  {_binding_text(alike.binding)} would allow it, but {alike.message}")
    for number, change in enumerate(explanation.changes):
        _echo(f"\n{'the smallest change' if not number else 'or'}: {change.title}")
        if change.others:
            _echo(f"  (gives it to {_few(change.others)} as well)")
        if change.note:
            _echo(f"  ({change.note})")
        for command in change.commands:
            _echo(f"  {command}")
    if said is not None and explanation.allowed and not said.get("allowed"):
        reason = said.get("reason") or said.get("evaluationError") or "it gives no reason"
        _echo(f"\nroles give it, but another of the server's authorizers refuses it: {reason}")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _print_differences(found: Sequence[Any]) -> None:
    from kubegate.authorization.rules import compact_string

    if not found:
        _echo("nobody gains or loses anything")
    for each in found:
        _echo(f"{each.kind} {each.subject} {f'in namespace {each.scope}' if each.scope else 'in the whole cluster'}")
        for sign, rules in (("+", each.gains), ("-", each.losses)):
            for rule in rules:
                _echo(f"  {sign} {compact_string(rule)}")


def _bracketed(values: Iterable[str]) -> str:
    return f"[{' '.join(values)}]"


def _initials(verbs: Sequence[str]) -> str:
    text = "".join(letter if verb in verbs else "-" for verb, letter in _INITIALS.items())
    return (text + ("+" if set(verbs) - _INITIALS.keys() else "")) if verbs else ""


def _csv(rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_safe_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _safe_cell(cell: str) -> str:
    """Names are whatever somebody chose: one that begins as a formula must not be one in a spreadsheet."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _matrix_csv(found: Matrix) -> str:
    rows = [(kind, label, *(" ".join(cell) for cell in cells)) for kind, label, cells in found.rows]
    return _csv([("kind", "subject", *found.resources), *rows])


def _matrix_html(found: Matrix) -> str:
    place = f"namespace {found.namespace}" if found.namespace else "the whole cluster"
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in ("kind", "subject", *found.resources))
    body = "".join(
        f"<tr><td>{html.escape(kind)}</td><th scope=row>{html.escape(label)}</th>"
        + "".join(f"<td>{html.escape(' '.join(cell))}</td>" for cell in cells)
        + "</tr>\n"
        for kind, label, cells in found.rows
    )
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        f"<title>Access in {html.escape(place)}</title>\n"
        "<style>body{font:14px system-ui;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}"
        "thead th{position:sticky;top:0;background:#f4f4f4}</style>\n"
        f"<h1>Access in {html.escape(place)}</h1>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></html>\n"
    )


_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "why": (why, "Why they may, or why not."),
    "who-can": (who_can, "Who can do this, and by which bindings."),
    "lookup": (lookup, "The roles that a subject is bound to, and where."),
    "rolesum": (rolesum, "What a subject may do, as a table."),
    "whoami": (whoami, "Who the server takes you for."),
    "matrix": (matrix, "Subjects by resources: who has which verbs."),
    "policy-rules": (policy_rules, "Every rule that a subject holds, a line each."),
    "audit-roles": (audit_roles, "What is dangerous or left over in roles."),
    "diff": (diff, "Who gains and loses what between two states."),
    "replay": (replay, "Which recorded requests would go otherwise."),
    "least-privilege": (least_privilege, "The smallest roles for what a subject did."),
}
