"""What expressions ask the authorizer, and how they come by the answers.

Authorizers answer later; evaluation cannot wait. A check whose answer is not known yet raises `DecisionNeeded`, and
`evaluate_with` gets the answer and evaluates again: expressions have no effects, and the answers are kept, so that
each question is asked once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from kubegate.cel import types
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `user` is the caller's own user object; `service_account` (namespace, name) asks for another."""

    user: Any = field(compare=False)
    service_account: tuple[str, str] | None = None
    verb: str = ""
    path: str = ""
    resource_request: bool = False
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    cel_type: ClassVar[CelType] = types.parse("decision")
    allowed: bool
    reason: str = ""
    error: str = ""


Ask = Callable[[Question], Awaitable[Answer]]


class DecisionNeeded(BaseException):
    """No error of the expression: `||` must not take it for one."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.question = question


@dataclass(slots=True)
class Answers:
    """What has been asked for one request, and answered."""

    ask: Ask
    known: dict[Question, Answer] = field(default_factory=dict)


async def evaluate_with(answers: Answers, evaluate: Callable[[], Awaitable[T]], most: int = 100) -> T:
    """Call `evaluate` until it needs no more answers. Raises EvaluationError after `most` questions."""
    for _ in range(most):
        try:
            return await evaluate()
        except DecisionNeeded as needed:
            answers.known[needed.question] = await answers.ask(needed.question)
    raise EvaluationError("too many authorization checks")
