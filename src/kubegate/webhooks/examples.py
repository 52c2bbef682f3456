"""Examples beside a policy file: YAML documents of objects (tokens, questions, images) and what is to become of them.

name: a pod gets its label
object: {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: kkj-ns}}
expect:
  object: {metadata: {labels: {mutate: admission-test}}}    # these fields; others may be there

name: latest is refused
object: {…}
operation: UPDATE
user: jane
expect: {denied: latest}           # a part of the message; true for any

token: example-token-of-jane
expect: {user: {username: jane}}   # null: nobody knows it

authorize: {user: jane, verb: delete, resource: pods, namespace: vault}
expect: false                      # true, false, null

images: [registry.example.com/a:1]
expect: allowed                    # or {denied: …}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubegate.api import Object
from kubegate.webhooks.answers import BadReview
from kubegate.webhooks.client import GateClient


class ExampleError(Exception):
    """A file of examples that cannot be read as such; one line for people."""


@dataclass(frozen=True, slots=True)
class Result:
    """One example; `problem` is "" where it went as expected."""

    place: str
    name: str
    problem: str = ""


def run(policies: Path, files: Sequence[Path] | None = None) -> list[Result]:
    """Run all examples; `files` None: those in *.yaml and *.yml beside the policy file that are examples.

    Raises PolicyFileError, ExampleError.
    """
    found: list[Result] = []
    given = files is not None
    if files is None:
        files = sorted(path for path in policies.resolve().parent.iterdir() if path.suffix in (".yaml", ".yml"))
    with GateClient(policies) as client:
        for path in files:
            for number, document in enumerate(_documents(path), 1):
                place = f"{path.name}:{number}"
                if not isinstance(document, dict) or "expect" not in document:
                    if given:
                        raise ExampleError(f"{place}: no example: there is no `expect` in it")
                    continue
                try:
                    problem = _check(client, document)
                except (BadReview, ValueError, TypeError, KeyError) as error:
                    raise ExampleError(f"{place}: {error}") from error
                found.append(Result(place, str(document.get("name") or _title(document)), problem))
    if not found:
        raise ExampleError(f"no examples: put a YAML file with `object` and `expect` beside {policies.name}")
    return found


def _documents(path: Path) -> list[Any]:
    import yaml

    try:
        return [each for each in yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader) if each is not None]
    except OSError as error:
        raise ExampleError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ExampleError(f"{path}: {error}") from None


def _title(example: Mapping[str, Any]) -> str:
    for sort in ("object", "token", "authorize", "images"):
        if sort in example:
            return sort
    return "?"


def _check(client: GateClient, example: Object) -> str:
    """What went otherwise than expected."""
    expect = example["expect"]
    if "object" in example:
        return _check_object(client, example, expect)
    if "token" in example:
        user = client.authenticate(example["token"], audiences=example.get("audiences") or ())
        wanted = expect.get("user") if isinstance(expect, dict) else expect
        if wanted is None or user is None:
            return "" if user is wanted else f"the user is {user}; expected {wanted}"
        return _difference(wanted, user, "user")
    if "authorize" in example:
        decided = client.authorize(**example["authorize"])
        return "" if decided is expect else f"it says {_word(decided)}; expected {_word(expect)}"
    if "images" in example:
        reason = client.images(*example["images"], namespace=example.get("namespace") or "default")
        return _verdict(expect, reason == "", reason)
    raise ValueError("an example has one of `object`, `token`, `authorize` and `images`")


def _check_object(client: GateClient, example: Object, expect: Any) -> str:
    names = ("operation", "old", "user", "groups", "resource", "subresource", "dry_run")
    more = {name: example[name] for name in names if name in example}
    found = client.admit(example["object"], **more)
    problem = _verdict(expect, found.allowed, found.message)
    if problem or not isinstance(expect, dict):
        return problem
    if "object" in expect:
        problem = _difference(expect["object"], found.object, "")
    for text in expect.get("warnings") or ():
        if not problem and not any(text in warning for warning in found.warnings):
            problem = f"no warning has {text!r} in it: {list(found.warnings)}"
    return problem


def _verdict(expect: Any, allowed: bool, message: str) -> str:
    denied = expect.get("denied", False) if isinstance(expect, dict) else expect == "denied"
    if not denied:
        return "" if allowed else f"it was denied: {message}"
    if allowed:
        return "it was allowed; expected a denial"
    return "" if denied is True or str(denied) in message else f"the message is {message!r}; expected {denied!r} in it"


def _difference(wanted: Any, found: Any, path: str) -> str:
    """The first field that is otherwise; fields that are not expected do not matter."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            if name not in found:
                return f"{path}.{name} is missing"
            problem = _difference(value, found[name], f"{path}.{name}")
            if problem:
                return problem
        return ""
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        problems = (
            _difference(one, other, f"{path}[{n}]") for n, (one, other) in enumerate(zip(wanted, found, strict=True))
        )
        return next((problem for problem in problems if problem), "")
    return "" if wanted == found else f"{path or 'the object'} is {found!r}; expected {wanted!r}"


def _word(decided: Any) -> str:
    return {True: "yes", False: "no"}.get(decided, "no opinion") if decided is not None else "no opinion"
