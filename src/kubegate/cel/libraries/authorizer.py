"""Asking the authorizer: `authorizer.group('apps').resource('deployments').check('create').allowed()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kubegate.cel import types
from kubegate.cel.decisions import Answer, Answers, DecisionNeeded, Question
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError

library = Library()
overload = library.overload

AUTHORIZER = types.parse("authorizer")
RESOURCE_CHECK = types.parse("resource_check")
"""The types of the variables `authorizer` and `authorizer.requestResource`."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    """The value of the variable `authorizer`."""

    cel_type: ClassVar[CelType] = AUTHORIZER
    user: Any
    answers: Answers
    service_account: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A question without its verb, in the making."""

    cel_type: CelType
    question: Question
    answers: Answers


_PATH_CHECK = types.parse("path_check")
_GROUP_CHECK = types.parse("group_check")


def resource_check(
    authorizer: Authorizer, group: str, resource: str, subresource: str, namespace: str, name: str
) -> Check:
    """The value of `authorizer.requestResource`."""
    question = Question(
        authorizer.user,
        authorizer.service_account,
        resource_request=True,
        group=group,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
    )
    return Check(RESOURCE_CHECK, question, authorizer.answers)


@overload("authorizer.path(string) -> path_check")
def _path(authorizer: Authorizer, path: str) -> Check:
    if not path.strip():
        raise EvaluationError("path must not be empty")
    return Check(_PATH_CHECK, Question(authorizer.user, authorizer.service_account, path=path), authorizer.answers)


@overload("authorizer.group(string) -> group_check")
def _group(authorizer: Authorizer, group: str) -> Check:
    question = Question(authorizer.user, authorizer.service_account, resource_request=True, group=group)
    return Check(_GROUP_CHECK, question, authorizer.answers)


@overload("authorizer.serviceAccount(string, string) -> authorizer")
def _service_account(authorizer: Authorizer, namespace: str, name: str) -> Authorizer:
    from kubegate.api import names

    if names.is_dns1123_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if names.is_dns1123_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    return replace(authorizer, service_account=(namespace, name))


@overload("group_check.resource(string) -> resource_check")
def _resource(check: Check, resource: str) -> Check:
    if not resource.strip():
        raise EvaluationError("resource must not be empty")
    return Check(RESOURCE_CHECK, replace(check.question, resource=resource), check.answers)


def _declare_parts(parts: Sequence[tuple[str, str]]) -> None:
    for function, attribute in parts:

        def changed(check: Check, value: str, attribute: str = attribute) -> Check:
            changes: dict[str, Any] = {attribute: value}
            return Check(check.cel_type, replace(check.question, **changes), check.answers)

        overload(f"resource_check.{function}(string) -> resource_check")(changed)


_declare_parts(
    (
        ("subresource", "subresource"),
        ("namespace", "namespace"),
        ("name", "name"),
        ("fieldSelector", "field_selector"),
        ("labelSelector", "label_selector"),
    )
)


@overload("path_check.check(string) -> decision", "resource_check.check(string) -> decision")
def _check(check: Check, verb: str) -> Answer:
    question = replace(check.question, verb=verb)
    answer = check.answers.known.get(question)
    if answer is None:
        raise DecisionNeeded(question)
    return answer


@overload("decision.allowed() -> bool")
def _allowed(answer: Answer) -> bool:
    return answer.allowed


@overload("decision.reason() -> string")
def _reason(answer: Answer) -> str:
    return answer.reason


@overload("decision.errored() -> bool")
def _errored(answer: Answer) -> bool:
    return bool(answer.error)


@overload("decision.error() -> string")
def _error(answer: Answer) -> str:
    return answer.error
