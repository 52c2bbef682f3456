"""Who may act as whom, by which permission, and who one is then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import Struct

from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo
from kubegate.authentication.impersonation import Impersonated, Impersonator, wanted

Headers = list[tuple[str, str]]


class Question(Struct, frozen=True):
    """As authorization.Attributes."""

    user: UserInfo
    verb: str
    resource_request: bool = True
    api_group: str = ""
    api_version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_requirements: Any = None
    label_requirements: Any = None

    def text(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        group = f".{self.api_group}" if self.api_group else ""
        namespace = f"{self.namespace}/" if self.namespace else ""
        where = f"{resource}{group}" if self.resource_request else self.path
        return f"{self.verb} {where} {namespace}{self.name}".strip()


@dataclass
class Rules:
    """What may be done, as texts of questions; `*` for everything."""

    allowed: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    async def refuse(self, question: Question, never: str) -> StatusError | None:
        if never:
            return StatusError(403, "Forbidden", f"{question.text()}: {never}")
        self.asked.append(question.text())
        if "*" in self.allowed or question.text() in self.allowed:
            return None
        return StatusError(403, "Forbidden", question.text())


GET_PODS = Question(UserInfo("ann"), "get", resource="pods", namespace="ns", name="p", api_version="v1")


def user(name: str, **more: str) -> Headers:
    return [("impersonate-user", name), *((f"impersonate-{k.replace('_', '-')}", v) for k, v in more.items())]


async def become(rules: Rules, headers: Headers, question: Question = GET_PODS) -> Impersonated:
    found = await Impersonator(rules.refuse).impersonate(headers, question)
    assert found is not None
    return found


async def refused(rules: Rules | Impersonator[Question], headers: Headers, question: Question = GET_PODS) -> str:
    impersonator = Impersonator(rules.refuse) if isinstance(rules, Rules) else rules
    with pytest.raises(StatusError) as failure:
        await impersonator.impersonate(headers, question)
    return failure.value.message


ALL = {"*"}


# ---------------------------------------------------------------------- what the headers ask for
def test_no_header_asks_for_nobody() -> None:
    assert wanted([("authorization", "x"), ("impersonate-nothing", "x")]) is None
    assert wanted([("impersonate-user", "")]) is None


def test_the_first_name_and_uid_count_and_all_groups_and_extras() -> None:
    found = wanted(
        [
            *user("bob", uid="u-1"),
            *user("carol", uid="u-2"),
            ("impersonate-group", "a,b"),
            ("impersonate-group", ""),
            ("impersonate-extra-acme.io%2fteam", "red"),
            ("impersonate-extra-acme.io%2fteam", "blue"),
        ]
    )
    assert found is not None
    assert (found.name, found.uid, found.groups) == ("bob", "u-1", ("a,b", ""))
    assert found.extra == {"acme.io/team": ("red", "blue")}


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ([("impersonate-group", "dev")], 'UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)'),
        ([("impersonate-uid", "u-9")], 'UID:"u-9", Groups:[]string(nil), Extra:map[string][]string(nil)'),
        (
            [("impersonate-extra-b", "2"), ("impersonate-extra-a", "1")],
            'UID:"", Groups:[]string(nil), Extra:map[string][]string{"a":[]string{"1"}, "b":[]string{"2"}}',
        ),
    ],
)
def test_headers_without_a_user_name_are_a_bad_request(headers: Headers, shown: str) -> None:
    with pytest.raises(StatusError) as failure:
        wanted([*headers, ("impersonate-user", "")])
    text = f'requested &user.DefaultInfo{{Name:"", {shown}}} without impersonating a user name'
    assert (failure.value.code, failure.value.message) == (400, text)


# ---------------------------------------------------------------------- who one is then
@pytest.mark.parametrize(
    ("headers", "groups"),
    [
        (user("bob"), ("system:authenticated",)),
        (user("bob", group="dev"), ("dev", "system:authenticated")),
        (user("bob", group="system:authenticated"), ("system:authenticated",)),
        (user("bob", group="system:unauthenticated"), ("system:unauthenticated",)),
        (user("system:anonymous"), ("system:unauthenticated",)),
        (user("system:node:n1"), ("system:nodes", "system:authenticated")),
        (
            user("system:serviceaccount:ns:robot"),
            ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"),
        ),
        (user("system:serviceaccount:ns:robot", group="dev"), ("dev", "system:authenticated")),
    ],
)
async def test_everybody_has_the_groups_that_go_with_the_name(headers: Headers, groups: tuple[str, ...]) -> None:
    assert (await become(Rules(ALL), headers)).user.groups == groups


async def test_uid_and_extra_are_taken_on_and_nothing_of_the_own_user_stays() -> None:
    question = Question(UserInfo("ann", "u-ann", ("admins",), {"a": ("b",)}), "get", resource="pods")
    found = await become(Rules(ALL), user("bob", uid="u-bob", extra_team="red"), question)
    assert (found.user.name, found.user.uid, found.user.extra) == ("bob", "u-bob", {"team": ("red",)})
    assert found.user.groups == ("system:authenticated",)


# ---------------------------------------------------------------------- permissions
@pytest.mark.parametrize(
    ("headers", "needed", "constraint"),
    [
        (
            [*user("bob", uid="u-1", group="dev"), ("impersonate-extra-acme.io%2fteam", "red")],
            [
                "impersonate-on:user-info:get pods ns/p",
                "impersonate:user-info users.authentication.k8s.io bob",
                "impersonate:user-info uids.authentication.k8s.io u-1",
                "impersonate:user-info groups.authentication.k8s.io dev",
                "impersonate:user-info userextras/acme.io/team.authentication.k8s.io red",
            ],
            "impersonate:user-info",
        ),
        (
            user("system:node:Not_A_Node"),
            [
                "impersonate-on:user-info:get pods ns/p",
                "impersonate:user-info users.authentication.k8s.io system:node:Not_A_Node",
            ],
            "impersonate:user-info",
        ),
        (
            user("system:serviceaccount:ns:robot"),
            [
                "impersonate-on:serviceaccount:get pods ns/p",
                "impersonate:serviceaccount serviceaccounts.authentication.k8s.io ns/robot",
            ],
            "impersonate:serviceaccount",
        ),
        (
            user("system:node:n1"),
            [
                "impersonate-on:arbitrary-node:get pods ns/p",
                "impersonate:arbitrary-node nodes.authentication.k8s.io n1",
            ],
            "impersonate:arbitrary-node",
        ),
        (
            user("system:node:n1", group="system:nodes"),
            ["impersonate users system:node:n1", "impersonate groups system:nodes"],
            "",
        ),
        (
            user("system:serviceaccount:ns:robot", group="dev"),
            ["impersonate serviceaccounts ns/robot", "impersonate groups dev"],
            "",
        ),
    ],
)
async def test_each_mode_asks_for_its_own_permissions_and_for_all_of_them(
    headers: Headers, needed: list[str], constraint: str
) -> None:
    rules = Rules(set(needed))
    found = await become(rules, headers)
    assert (rules.asked, found.constraint) == (needed, constraint)
    for missing in needed:
        assert await refused(Rules(set(needed) - {missing}), headers)


async def test_a_service_account_may_be_let_to_act_as_its_own_node() -> None:
    allowed = {
        "impersonate-on:associated-node:get pods ns/p",
        "impersonate:associated-node nodes.authentication.k8s.io *",
    }
    extra = {"authentication.kubernetes.io/node-name": ("n1",)}
    agent = Question(
        UserInfo("system:serviceaccount:ns:agent", extra=extra), "get", resource="pods", namespace="ns", name="p"
    )
    found = await become(Rules(allowed), user("system:node:n1"), agent)
    assert (found.user.name, found.constraint) == ("system:node:n1", "impersonate:associated-node")
    assert await refused(Rules(allowed), user("system:node:n2"), agent)
    assert await refused(Rules(allowed), user("system:node:n1"))


async def test_of_an_agent_that_acts_as_its_own_node_the_keys_of_its_extra_values_alone_are_told() -> None:
    extra = {"authentication.kubernetes.io/node-name": ("n1",), "a": ("b",)}
    agent = Question(UserInfo("system:serviceaccount:ns:agent", extra=extra), "get", resource="pods")
    told: list[Any] = []

    async def refuse(question: Question, never: str) -> StatusError | None:
        told.append(question.user.extra)
        return None

    await Impersonator(refuse).impersonate(user("system:node:n1"), agent)
    shown = {"authentication.kubernetes.io/associated-node-keys": ("a", "authentication.kubernetes.io/node-name")}
    assert told == [shown, shown]


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ([("impersonate-group", "")], "groups.authentication.k8s.io: impersonating the empty string group"),
        (
            [("impersonate-group", "dev"), ("impersonate-group", "system:masters")],
            "groups.authentication.k8s.io system:masters: impersonating the system:masters group",
        ),
        (
            [("impersonate-extra-", "x")],
            "userextras.authentication.k8s.io: impersonating the empty string key in extra",
        ),
        (
            [("impersonate-extra-team", "x")],
            "userextras.authentication.k8s.io: impersonating an invalid key in extra is not allowed: extra.key: "
            'Invalid value: "team": must be a domain-prefixed path (such as "acme.io/foo")',
        ),
        (
            [("impersonate-extra-acme.io%2f%41", "x")],
            'userextras.authentication.k8s.io: impersonating a non-lowercase key in extra is not allowed: "acme.io/A"',
        ),
        (
            [("impersonate-extra-acme.io%2fa", "")],
            "userextras.authentication.k8s.io: impersonating the empty string value in extra",
        ),
    ],
)
async def test_some_groups_and_extra_values_are_taken_on_in_the_old_way_alone(headers: Headers, why: str) -> None:
    wanted = [*user("bob"), *headers]
    constrained = Rules(
        {"impersonate-on:user-info:get pods ns/p", "impersonate:user-info users.authentication.k8s.io bob"}
    )
    assert (await refused(constrained, wanted)).startswith(f"impersonate:user-info {why}")
    assert (await become(Rules(ALL), wanted)).constraint == ""


async def test_for_many_groups_and_extra_values_a_permission_for_all_will_do() -> None:
    groups = [("impersonate-group", f"g{number}") for number in range(4)]
    extra = [("impersonate-extra-acme.io%2fa", f"v{number}") for number in range(4)]
    needed = {
        "impersonate-on:user-info:get pods ns/p",
        "impersonate:user-info users.authentication.k8s.io bob",
        "impersonate:user-info groups.authentication.k8s.io *",
        "impersonate:user-info userextras/*.authentication.k8s.io *",
    }
    headers = [*user("bob"), *groups, *extra]
    assert (await become(Rules(needed), headers)).constraint == "impersonate:user-info"
    assert await refused(Rules(needed), [*user("bob"), *groups[:3]])
    assert await refused(Rules(needed), [*user("bob"), *extra[:3]])


async def test_the_old_way_asks_for_the_uid_before_groups_and_extra_values() -> None:
    rules = Rules({"impersonate users bob"})
    headers = [*user("bob", uid="u-1", group="dev"), ("impersonate-extra-a", "b")]
    await refused(rules, headers)
    assert rules.asked[-1] == "impersonate uids.authentication.k8s.io u-1"


async def test_other_paths_are_asked_about_as_paths() -> None:
    question = Question(UserInfo("ann"), "get", resource_request=False, path="/version")
    assert await refused(Rules(), user("bob"), question) == "impersonate-on:user-info:get /version"


async def test_the_old_permission_still_allows() -> None:
    found = await become(Rules({"impersonate users bob"}), user("bob"))
    assert (found.user.name, found.constraint) == ("bob", "")


async def test_the_refusal_told_is_the_first_and_the_mode_used_last_is_tried_first() -> None:
    rules = Rules({"impersonate users bob"})
    impersonator = Impersonator(rules.refuse)
    assert await refused(impersonator, user("carol")) == "impersonate-on:user-info:get pods ns/p"
    assert await impersonator.impersonate(user("bob"), GET_PODS)
    assert await refused(impersonator, user("carol")) == "impersonate users carol"


async def test_those_who_are_remembered_are_bounded() -> None:
    impersonator = Impersonator(Rules(ALL).refuse)
    for number in range(2000):
        await impersonator.impersonate(user("bob"), Question(UserInfo(f"u{number}"), "get"))
    assert len(impersonator._last) == 1024
