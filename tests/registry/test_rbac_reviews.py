"""Access reviews: checked, read as questions, answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rbac_world import World, role, rule, world

from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Decision, Verdict
from kubegate.registry.authorization.reviews import question, status_of

ALICE = UserInfo("alice", groups=("system:authenticated",))


@pytest.fixture
async def w() -> AsyncIterator[World]:
    async with world() as found:
        await found.bind(role("r", rule("get", "pods")), "alice", "ns")
        yield found


async def refused(work: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await work
    return caught.value.message


def asks(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def resource(**attributes: Any) -> dict[str, Any]:
    return {"namespace": "ns", "verb": "get", "resource": "pods", **attributes}


async def test_an_answer_has_the_reason_and_the_managed_fields_of_who_asked(w: World) -> None:
    review = await w.review("subjectaccessreviews", asks(user="alice", resourceAttributes=resource()))
    assert review["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "r/ns" of Role "r" to User "alice"',
    }
    assert review["metadata"]["managedFields"][0]["manager"] == "test"
    other = await w.review("subjectaccessreviews", asks(user="bob", resourceAttributes=resource()))
    assert other["status"] == {"allowed": False}


async def test_about_oneself_nobody_else_can_be_named(w: World) -> None:
    review = await w.review("selfsubjectaccessreviews", asks(resourceAttributes=resource(), user="bob"), ALICE)
    assert review["status"]["allowed"] is True


async def test_local_reviews_keep_to_their_namespace(w: World) -> None:
    body = asks(user="alice", resourceAttributes=resource())
    local = await w.review("localsubjectaccessreviews", body, namespace="ns")
    assert local["status"]["allowed"]
    assert "must match metadata.namespace" in await refused(
        w.review("localsubjectaccessreviews", body, namespace="other")
    )
    path = asks(user="alice", nonResourceAttributes={"path": "/", "verb": "get"})
    assert "disallowed on this kind of request" in await refused(
        w.review("localsubjectaccessreviews", path, namespace="ns")
    )
    elsewhere = {**body, "metadata": {"namespace": "other"}}
    assert "does not match the namespace sent on the request" in await refused(
        w.review("localsubjectaccessreviews", elsewhere, namespace="ns")
    )


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"user": "a"}, "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or "
                        "resourceAttributes must be specified"),
        ({"resourceAttributes": {}}, 'spec.user: Invalid value: "": at least one of user or group must be specified'),
        ({"user": "a", "resourceAttributes": {}, "nonResourceAttributes": {"verb": "x"}},
         'spec.nonResourceAttributes: Invalid value: {"Path":"","Verb":"x"}: cannot be specified in combination with '
         "resourceAttributes"),
    ],
)  # fmt: skip
async def test_what_a_review_may_not_leave_open(w: World, spec: Any, text: str) -> None:
    message = await refused(w.review("subjectaccessreviews", {"spec": spec}))
    assert message == f'.authorization.k8s.io "" is invalid: {text}'


async def test_a_review_has_no_metadata(w: World) -> None:
    body = {**asks(user="a", resourceAttributes=resource()), "metadata": {"labels": {"b": "c"}, "name": "n"}}
    message = await refused(w.review("subjectaccessreviews", body))
    assert 'metadata: Invalid value: {"name":"n","labels":{"b":"c"},"managedFields":[' in message
    assert message.endswith("}]}: must be empty")


async def test_what_the_server_alone_says_of_an_object_is_not_looked_at_in_a_review(w: World) -> None:
    metadata = {"uid": "u", "creationTimestamp": "2020-01-01T00:00:00Z", "namespace": "x"}
    body = {**asks(user="a", resourceAttributes=resource()), "metadata": metadata}
    review = await w.review("subjectaccessreviews", body)
    assert review["metadata"].keys() == {"managedFields"}


async def test_rules_of_oneself_are_listed_by_namespace(w: World) -> None:
    review = await w.review("selfsubjectrulesreviews", asks(namespace="ns"), ALICE)
    assert review == {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": {},
        "status": {
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
            "nonResourceRules": [],
            "incomplete": False,
        },
    }
    assert await refused(w.review("selfsubjectrulesreviews", {"spec": {}}, ALICE)) == "no namespace on request"


@pytest.mark.parametrize(
    ("attributes", "fields", "labels", "unread"),
    [
        ({"fieldSelector": {"rawSelector": "a=b,c!=d"}},
         [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "NotIn", "values": ["d"]}], None,
         ()),
        ({"fieldSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}}, [], None,
         ("spec.resourceAttributes.fieldSelector ignored due to parse error",)),
        ({"fieldSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]},
                                             {"key": "a", "operator": "Exists"}]}},
         [{"key": "a", "operator": "In", "values": ["b"]}], None,
         ("spec.resourceAttributes.fieldSelector partially ignored due to parse error",)),
        ({"labelSelector": {"rawSelector": "b in (y,x),!c"}}, None,
         [{"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}], ()),
        ({"labelSelector": {"requirements": [{"key": "z", "operator": "In", "values": ["y", "x", "y"]},
                                             {"key": "a", "operator": "Exists"}]}}, None,
         [{"key": "z", "operator": "In", "values": ["y", "x", "y"]}, {"key": "a", "operator": "Exists"}], ()),
        ({"labelSelector": {"rawSelector": "((("}}, None, None,
         ("spec.resourceAttributes.labelSelector ignored due to parse error",)),
    ],
)  # fmt: skip
def test_selectors_are_read_as_far_as_they_can_be(attributes: Any, fields: Any, labels: Any, unread: Any) -> None:
    asked = question({"resourceAttributes": resource(**attributes)}, ALICE)
    assert asked.attributes.field_requirements == fields
    assert asked.attributes.label_requirements == labels
    assert asked.unread == unread


def test_what_went_wrong_is_told_beside_the_answer() -> None:
    decision = Decision(Verdict.DENY, "why", "broken")
    assert status_of(decision, ("unread",)) == {
        "allowed": False,
        "denied": True,
        "reason": "why",
        "evaluationError": "broken; unread",
    }


def test_every_version_is_meant_where_none_is_named() -> None:
    asked = question({"resourceAttributes": resource()}, ALICE)
    assert asked.attributes == Attributes(ALICE, "get", True, "", "*", "pods", "", "ns")


class Refusing:
    async def admit(self, attributes: Any) -> None:
        pass

    async def validate(self, attributes: Any) -> None:
        raise StatusError(403, "Forbidden", "no reviews here", {})


async def test_what_is_wrong_with_a_review_is_told_before_validating_admission_is_asked(w: World) -> None:
    w.registry.admission = Refusing()
    for resource, texts in (
        ("subjectaccessreviews", "spec.user"),
        ("selfsubjectaccessreviews", "spec.resourceAttributes"),
        ("localsubjectaccessreviews", "spec.user"),
        ("selfsubjectrulesreviews", "no namespace on request"),
    ):
        namespace = "ns" if resource.startswith("local") else ""
        assert texts in await refused(w.review(resource, {}, namespace=namespace))
    assert await refused(w.review("selfsubjectrulesreviews", asks(namespace="ns"))) == "no reviews here"
