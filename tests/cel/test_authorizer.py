"""Expressions that ask the authorizer."""

from __future__ import annotations

import pytest

from kubegate import cel
from kubegate.cel.decisions import Answer, Answers, Question, evaluate_with
from kubegate.cel.libraries import authorizer
from kubegate.cel.libraries.authorizer import Authorizer

VARIABLES = {"authorizer": authorizer.AUTHORIZER, "authorizer.requestResource": authorizer.RESOURCE_CHECK}


class Asked:
    """Says yes to whoever gets; keeps the questions."""

    def __init__(self) -> None:
        self.questions: list[Question] = []

    async def __call__(self, question: Question) -> Answer:
        self.questions.append(question)
        return Answer(question.verb == "get", f"because {question.verb}", "")


async def evaluate(expression: str, asked: Asked) -> object:
    answers = Answers(asked)
    caller = Authorizer("alice", answers)
    values = {
        "authorizer": caller,
        "authorizer.requestResource": authorizer.resource_check(caller, "apps", "deployments", "", "ns", "web"),
    }
    program = cel.compile(expression, VARIABLES)

    async def once() -> object:
        return program.evaluate(values)

    return await evaluate_with(answers, once)


async def test_a_check_asks_about_the_resource_that_was_described() -> None:
    asked = Asked()
    expression = (
        "authorizer.group('apps').resource('deployments').subresource('scale').namespace('ns').name('web')"
        ".fieldSelector('metadata.name=web').labelSelector('a=b').check('get').allowed()"
    )
    assert await evaluate(expression, asked) is True
    [question] = asked.questions
    assert (question.group, question.resource, question.subresource) == ("apps", "deployments", "scale")
    assert (question.namespace, question.name, question.verb) == ("ns", "web", "get")
    assert (question.field_selector, question.label_selector) == ("metadata.name=web", "a=b")


async def test_the_same_question_is_asked_once() -> None:
    asked = Asked()
    check = "authorizer.path('/healthz').check('get')"
    assert await evaluate(f"{check}.allowed() && {check}.reason() == 'because get'", asked)
    assert len(asked.questions) == 1


async def test_a_question_is_asked_even_where_the_other_side_would_decide() -> None:
    asked = Asked()
    assert await evaluate("authorizer.requestResource.check('delete').allowed() || true", asked) is True
    assert [q.verb for q in asked.questions] == ["delete"]


async def test_service_accounts_can_be_asked_about() -> None:
    asked = Asked()
    expression = "authorizer.serviceAccount('ns', 'robot').group('').resource('pods').check('list').allowed()"
    assert await evaluate(expression, asked) is False
    assert asked.questions[0].service_account == ("ns", "robot")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("authorizer.path(' ')", "path must not be empty"),
        ("authorizer.group('').resource('')", "resource must not be empty"),
        ("authorizer.serviceAccount('N', 'robot')", "Invalid service account namespace"),
        ("authorizer.serviceAccount('ns', 'R')", "Invalid service account name"),
    ],
)
async def test_what_makes_no_question_is_an_error(expression: str, text: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        await evaluate(expression, Asked())
    assert str(caught.value) == text


async def test_at_most_two_checks_can_be_paid_for() -> None:
    checks = " || ".join(f"authorizer.path('/{n}').check('post').allowed()" for n in range(3))
    with pytest.raises(cel.CostExceeded):
        await evaluate(checks, Asked())
