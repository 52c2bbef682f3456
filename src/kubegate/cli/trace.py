"""`kubegate trace`: what became of a request, step by step: who decided, why, how long it took and what changed."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kubegate.analysis.traces import Line

_FILE = Path(".kubegate", "traces.jsonl")  # that of `kubegate up`
_PIPE_WIDTH = 110
_POLL_SECONDS = 0.2
_ADMISSION = "admission/"
_PASSES = {"admit": "may change it", "validate": "may refuse it"}
_AGAIN = "admission: all of them once more, for a webhook or policy changed it"
# Other names for what the stages decide, where theirs tell little without the code beside it.
_DECISIONS = {("authorization", "no opinion"): "nobody allows it", ("store", ""): "written"}
# What must not reach a terminal: names and texts in a trace are the clients'.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def trace(
    file: Annotated[Path, typer.Argument(help="File of --request-trace-path; `-` reads standard input.")] = _FILE,
    denied: Annotated[
        bool, typer.Option("--denied", help="Only what authentication, authorization or admission refused.")
    ] = False,
    user: Annotated[str, typer.Option("--user", help="Only requests of this user, or in this user's name.")] = "",
    resource: Annotated[str, typer.Option("--resource", help="Only of RESOURCE[.GROUP][/SUBRESOURCE].")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only in this namespace.")] = "",
    request: Annotated[
        str, typer.Option("--id", help="Only the request with this Audit-Id, or one beginning so.")
    ] = "",
    most: Annotated[int, typer.Option("--last", min=0, help="How many, the last ones.")] = 5,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then those that come, until Ctrl-C.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Each plugin on a line of its own; values in whole length.")
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json (a line for each request)")] = "text",
) -> None:
    """What became of requests, step by step.

    Who decided, why, how long it took and what it changed. `kubegate up` writes the file; `kubegate serve` does with
    --request-trace-path=FILE.
    """
    from kubegate.analysis import traces

    if output not in ("text", "json"):
        _fail(f"--output {output}: there are text and json")
    wanted = traces.Wanted(denied, user, resource, namespace, request)
    printer = _Json() if output == "json" else _Text(verbose)
    try:
        if str(file) == "-":
            lines = sys.stdin.buffer
            found = [] if follow else traces.last_of(lines, wanted, most)
            coming: Iterator[Line] = (t for t in map(traces.parsed, lines) if t is not None and wanted.fits(t))
        else:
            end = file.stat().st_size
            found = traces.last(file, wanted, most)
            coming = traces.follow(file, wanted, end, lambda: time.sleep(_POLL_SECONDS))
        for line in found:
            printer.print(line)
        if follow:
            for line in coming:
                printer.print(line)
        elif not found:
            print(f"{file} tells of no such request", file=sys.stderr)
            raise typer.Exit(1 if request else 0)
    except FileNotFoundError:
        _fail(f"{file}: no such file; `kubegate up` writes it, `kubegate serve` with --request-trace-path={file}")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        _fail(f"{file}: {error.strerror}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def register(app: typer.Typer) -> None:
    app.command("trace")(trace)


def _fail(text: str) -> None:
    print(f"kubegate: {text}", file=sys.stderr)
    raise typer.Exit(1)


class _Json:
    def print(self, line: Line) -> None:
        import orjson

        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()


class _Text:
    """An indented list of steps for each request, with an empty line between two."""

    def __init__(self, verbose: bool) -> None:
        self._verbose, self._first = verbose, True
        self._width = max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _PIPE_WIDTH

    def print(self, line: Line) -> None:
        if not self._first:
            print()
        self._first = False
        for text in self._lines(line):
            print(text)
        sys.stdout.flush()

    def _lines(self, line: Line) -> Iterator[str]:
        code = int(line.get("code") or 0)
        when = str(line.get("time", ""))
        shown = " ".join(filter(None, (str(code), _plain(line.get("reason") or ""))))
        if sys.stdout.isatty():
            shown = typer.style(shown, fg="red" if code >= 400 else "green", bold=True)
        yield f"{_plain(when[11:23])}  {_plain(line.get('method'))} {_plain(line.get('uri'))}  {shown} in {_time(line)}"
        yield f"  id              {_plain(line.get('id'))}"
        if missing := line.get("missing"):
            yield f"  ({missing} before it were left out: there were too many at once)"
        if who := _who(line):
            yield f"  user            {who}"
        if asked := _asked(line):
            yield f"  asks to         {asked}"
        for name, group in groupby(_steps(line), key=lambda step: step.heading):
            if name:
                yield f"  {name}"
            yield from self._group(list(group))
        for warning in line.get("warnings") or ():
            yield from self._wrapped("  warning         ", warning)
        for key, value in (line.get("annotations") or {}).items():
            yield from self._wrapped("  audit           ", f"{key}: {value}")
        if line.get("withheld"):
            yield "  (changes and texts are left out: the request is about Secrets or tokens)"
        said = {stage.get("reason") for stage in line.get("stages") or ()} | {line.get("reason")}
        if line.get("message") and line["message"] not in said:
            yield from self._wrapped("  answer          ", line["message"])
        if question := _question(line):
            yield f"  to learn why    {question}"

    def _group(self, steps: list[_Step]) -> Iterator[str]:
        """Steps of one pass; plugins one after the other that found nothing to do share a line."""
        indent = "    " if steps[0].heading else "  "
        shown = [step.name for step in steps if self._verbose or not step.quiet]
        column = max(map(len, [*shown, "authentication"])) + 2
        for quiet, group in groupby(steps, key=lambda step: step.quiet and not self._verbose):
            if not quiet:
                for step in group:
                    yield from self._step(step, indent, column)
            else:
                head = "unchanged" if steps[0].stage.get("by") == "admit" else "allow"
                yield from self._wrapped(f"{indent}{head:<{column}}", ", ".join(step.name for step in group))

    def _step(self, step: _Step, indent: str, column: int) -> Iterator[str]:
        stage = step.stage
        decision = str(stage.get("decision") or "")
        if any(inner.stage.get("decision") == "changed" for inner in step.within):
            decision = "changed"
        words = _DECISIONS.get((stage["name"], decision), decision) or "done"
        if stage.get("by") and not step.heading:
            words += f" by {stage['by']}"
        head, reason = f"{indent}{_plain(step.name):<{column}}{_plain(words)}", step.reason
        ending = f" ({_time(stage)})"
        if reason and len(head) + len(reason) + len(ending) + 2 <= self._width:
            head, reason = f"{head}: {_plain(reason)}", ""
        yield head + ending
        below = indent + "    "
        if reason:
            yield from self._wrapped(below, reason)
        for change in stage.get("changes") or ():
            yield self._change(change, below)
        if left_out := stage.get("changesLeftOut"):
            yield f"{below}(changes are left out: {_plain(left_out)})"
        for inner in step.within:
            yield from self._step(inner, below, len(inner.name) + 2)

    def _change(self, change: Any, indent: str) -> str:
        import orjson

        if not isinstance(change, dict):
            return indent + _plain(change)
        op, path = change.get("op"), _plain(change.get("path"))
        sign = {"add": "+", "replace": "~", "remove": "-"}.get(str(op), _plain(op))
        value = f" = {_plain(orjson.dumps(change['value']).decode())}" if "value" in change else ""
        source = f" from {_plain(change['from'])}" if "from" in change else ""
        text = f"{indent}{sign} {path}{source}{value}"
        return text if self._verbose or len(text) <= self._width else text[: self._width - 1] + "…"

    def _wrapped(self, head: str, text: str) -> Iterator[str]:
        lines = textwrap.wrap(_plain(text), max(20, self._width - len(head)), break_on_hyphens=False)
        for number, each in enumerate(lines or [""]):
            yield (head if number == 0 else " " * len(head)) + each


class _Step:
    """A stage as it is shown; `within` are those of the webhooks and policies that a plugin asked."""

    def __init__(self, stage: Line, within: list[_Step]) -> None:
        self.stage, self.within = stage, within
        name = str(stage["name"])
        plugin = name.startswith(_ADMISSION)
        self.name = name.removeprefix(_ADMISSION)
        self.heading = f"admission: who {_PASSES.get(str(stage.get('by')), 'is asked')}" if plugin else ""
        told = str(stage.get("reason") or "")
        self.reason: str = "" if any(inner.reason == told for inner in within) else told
        self.quiet = plugin and stage.get("decision") == "allow" and not within and not told


def _steps(line: Line) -> Iterator[_Step]:
    """Webhooks and policies end before the plugin that asked them: they are its own."""
    within: list[_Step] = []
    asked: set[str] = set()
    again = False
    for stage in line.get("stages") or ():
        if str(stage["name"]).startswith(("webhook/", "policy/")):
            within.append(_Step(stage, []))
            continue
        step = _Step(stage, within)
        if step.heading and stage.get("by") == "admit":
            again = again or step.name in asked
            asked.add(step.name)
            step.heading = _AGAIN if again else step.heading
        yield step
        within = []
    yield from within


def _who(line: Line) -> str:
    from kubegate.analysis.traces import name_of

    user = line.get("user")
    if not isinstance(user, dict):
        return ""
    groups = f" ({', '.join(map(str, user.get('groups') or ()))})" if user.get("groups") else ""
    by = name_of(line, "impersonator")
    return _plain(f"{user.get('username')}{groups}" + (f", impersonated by {by}" if by else ""))


def _asked(line: Line) -> str:
    """The verb and what it is about; "" for a path that is no resource's."""
    about = line.get("objectRef")
    if not isinstance(about, dict):
        return ""
    words = [line.get("verb"), _resource(about)]
    if about.get("name"):
        words.append(about["name"])
    if about.get("namespace"):
        words += ["in", about["namespace"]]
    return _plain(" ".join(map(str, words)))


def _resource(about: Line, subresource: bool = True) -> str:
    named = str(about.get("resource")) + (f".{about['apiGroup']}" if about.get("apiGroup") else "")
    return f"{named}/{about['subresource']}" if subresource and about.get("subresource") else named


def _question(line: Line) -> str:
    """The command that explains a refusal of the authorizers."""
    if line.get("refusedBy") != "authorization":
        return ""
    from kubegate.analysis.traces import name_of

    words = ["kubegate", "why", "--as", name_of(line, "user")]
    for group in (line.get("user") or {}).get("groups") or ():
        if group != "system:authenticated":
            words += ["--as-group", group]
    words.append(str(line.get("verb")))
    about = line.get("objectRef")
    if not about:
        words.append(str(line.get("uri", "")).partition("?")[0])
    else:
        resource = _resource(about, subresource=False)
        words.append(f"{resource}/{about['name']}" if about.get("name") else resource)
        for option, key in (("--subresource", "subresource"), ("-n", "namespace")):
            if about.get(key):
                words += [option, about[key]]
    return _plain(shlex.join(map(str, words)))


def _time(told: Line) -> str:
    seconds = float(told.get("seconds") or 0.0)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"


def _plain(text: Any) -> str:
    return _CONTROL.sub(" ", str(text))
