"""Who signed a token, as STS says, and who that is here: one call a token, reasons apart, changes at once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from unittest import mock

import pytest
from aws_tokens import ACCOUNT, CLUSTER, JANE, Make, World, encoded, identity, pairs, query, refusal, token
from hypothesis import given
from hypothesis import strategies as st
from people import HandClock
from remote_server import reply

from kubegate.authentication import Authenticated, AuthenticationError
from kubegate.authentication.aws_iam import AwsIamAuthenticator, AwsIamSettings
from kubegate.authentication.aws_maps import FileMaps, ObjectMaps
from kubegate.aws import mapping
from kubegate.aws.sts import Rate, StsSettings
from kubegate.pki import certificates
from kubegate.remote.client import Client, RemoteError, Response

KEYS = st.sampled_from(
    [
        "rolearn", "USERARN", "userarn", "username", "groups", "sso", "permissionSetName", "accountID", "principalArn",
        "type", "kubernetesGroups", "accessPolicies", "policyArn", "accessScope",
    ]
)  # fmt: skip


async def who(world: World, text: str) -> str:
    """The user's name and groups, or why there is none."""
    try:
        found = await world.authenticator.authenticate_token(text)
    except AuthenticationError as error:
        return str(error)
    return "not mine" if found is None else f"{found.user.name} {','.join(found.user.groups)}"


async def test_a_user_is_who_the_map_says(make: Make) -> None:
    world = await make()
    found = await world.authenticator.authenticate_token(world.token())
    assert isinstance(found, Authenticated)
    assert (found.user.name, found.user.groups) == ("jane", ("dev", "system:authenticated"))
    assert found.user.uid == f"aws-iam-authenticator:{ACCOUNT}:AIDAEXAMPLE"
    assert found.user.extra["canonicalArn"] == (JANE,)
    assert found.user.extra["accessKeyId"] == ("AKIAIOSFODNN7EXAMPLE",)
    (head, _) = world.sts.received[0]
    assert head.startswith(f"GET /?{query(pairs(world.clock.now()))} HTTP/1.1\r\n")
    assert f"\r\nx-k8s-aws-id: {CLUSTER}\r\n" in head and "\r\nAccept: application/json\r\n" in head


async def test_tokens_of_other_kinds_are_not_looked_at(make: Make) -> None:
    world = await make()
    assert await who(world, "sesame") == "not mine"
    assert world.sts.received == []


async def test_a_token_is_asked_about_once_as_long_as_it_lives(make: Make) -> None:
    world = await make()
    text = world.token()
    for _ in range(3):
        assert (await who(world, text)).startswith("jane")
    assert len(world.sts.received) == 1
    world.clock.move(901)
    assert "15 minutes are over" in await who(world, text)
    assert len(world.sts.received) == 1


async def test_requests_with_one_token_at_once_share_one_call(make: Make) -> None:
    answer = asyncio.Event()

    async def slowly(head: str) -> bytes:
        await answer.wait()
        return identity()

    world = await make(slowly)
    text = world.token()
    asked = [asyncio.create_task(who(world, text)) for _ in range(50)]
    await asyncio.sleep(0)
    asked[0].cancel()  # who goes away does not end it for the others
    answer.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert found[1:] == ["jane dev,system:authenticated"] * 49
    assert len(world.sts.received) == 1


async def test_a_refusal_is_remembered_shortly_and_a_throttled_call_is_not(make: Make) -> None:
    answers = [
        refusal("400 Bad Request", "Throttling"), refusal("429 Too Many", "x"),
        refusal("403 Forbidden", "SignatureDoesNotMatch"), refusal("503 Unavailable", "ServiceUnavailable"), identity(),
    ]  # fmt: skip

    async def answer(head: str) -> bytes:
        return answers.pop(0)

    world = await make(answer)
    text = world.token()
    for status in ("400 Throttling", "429 x"):
        assert await who(world, text) == f"aws-iam: STS could not be asked now: {world.host} answered {status}"
    for _ in range(2):
        refused = f"aws-iam: STS refuses the token: {world.host} answered 403 SignatureDoesNotMatch"
        assert await who(world, text) == refused
    world.clock.move(11)
    assert await who(world, text) == f"aws-iam: STS gave no identity: {world.host} answered 503 ServiceUnavailable"
    assert (await who(world, text)).startswith("jane")
    lines = [line for metric in world.authenticator.metrics for line in metric.lines()]
    counted = {"sts_throttling": 2, "invalid_token": 2, "sts_error": 1, "success": 1}
    for result, number in counted.items():
        assert f'aws_iam_authenticator_authenticate_latency_seconds_count{{result="{result}"}} {number}' in lines
    assert 'aws_iam_authenticator_sts_response_total{code="429"} 1' in lines


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(b"", "302 Found", "Location: https://example.com/"), "answered 302: a redirect, which is not followed"),
        (reply(b"<html>", "200 OK"), "answered with something else than a caller's identity"),
        (reply(b"[]", "200 OK"), "answered with something else than a caller's identity"),
        (reply(b"x" * 70_000, "200 OK"), "the answer is larger than 65536 bytes"),
        (None, "EOF"),
        (identity(arn="arn:aws:s3:::bucket"), "the account must be 12 digits"),
        (identity(user_id="a:b:c"), "the UserId has more than one colon"),
    ],
)
async def test_an_answer_that_is_no_identity_is_refused_with_its_reason(
    make: Make, answer: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def give(head: str) -> bytes | None:
        return answer

    world = await make(give)
    caplog.set_level(logging.DEBUG, "kubegate")
    said = await who(world, world.token())
    assert said.startswith("aws-iam: STS gave no identity: ") and reason in said
    assert "X-Amz" not in said + caplog.text


async def test_sts_is_given_up_after_its_time(make: Make) -> None:
    async def never(head: str) -> bytes:
        await asyncio.Event().wait()
        return b""

    world = await make(never, timeout=0.05)
    assert "context deadline exceeded" in await who(world, world.token())


async def test_another_endpoint_than_those_configured_is_not_asked(make: Make) -> None:
    world = await make()
    for host in ("sts.amazonaws.com", f"localhost:{world.sts.port}", "127.0.0.1", f"{world.host}.example.com"):
        assert "token is not good" in await who(world, token(world.clock.now(), host))
    assert world.sts.connections == 0


async def test_a_rate_lets_a_burst_through_and_the_rest_one_by_one(make: Make) -> None:
    world = await make()
    rate = Rate(world.clock, 10.0, 3)
    assert [await rate.wait(0.0) for _ in range(4)] == [True, True, True, False]
    world.clock.move(0.1)
    assert await rate.wait(0.0)
    late = asyncio.create_task(rate.wait(1.0))
    await asyncio.sleep(0)
    assert not late.done()
    world.clock.move(0.1)
    assert await late


async def test_more_calls_than_the_bound_are_told_to_wait(make: Make) -> None:
    world = await make(calls_per_second=1.0, burst=2, timeout=0.0001)
    texts = [world.token(key=f"AKIAIOSFODNN7EXAMPL{number}") for number in range(3)]
    found = [await who(world, text) for text in texts]
    assert found[2] == "aws-iam: STS could not be asked now: too many calls of STS are waiting here"


# ---------------------------------------------------------------------- who that is here
async def test_changes_of_the_map_count_at_once(make: Make) -> None:
    world = await make()
    text = world.token()
    world.maps.put(None)
    assert await who(world, text) == f"aws-iam: {JANE} is not mapped to a user"
    world.map(mapUsers=f"- userarn: {JANE}\n  username: j\n")
    assert await who(world, text) == "j system:authenticated"
    world.map(mapAccounts=f"- {ACCOUNT}\n")
    assert await who(world, text) == f"{JANE} system:authenticated"


@pytest.mark.parametrize(
    ("arn", "user_id", "roles", "wanted"),
    [
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/Node/i-0123456789abcdef0", "AROA:i-0123456789abcdef0",
            f"- rOlEaRn: arn:aws:iam::{ACCOUNT}:role/node\n  UsErNaMe: system:node:{{{{EC2PrivateDNSName}}}}\n"
            "  gRoUpS: [system:nodes]\n",
            "system:node:ip-10-0-0-1.ec2.internal system:nodes,system:authenticated",
        ),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/Node/i-0000000000abcdef0", "AROA:i-0000000000abcdef0",
            f"- rolearn: arn:aws:iam::{ACCOUNT}:role/Node\n  username: system:node:{{{{EC2PrivateDNSName}}}}\n",
            "aws-iam: the mapping of arn:aws:iam::111122223333:role/Node: {{EC2PrivateDNSName}}: the name of "
            "i-0000000000abcdef0 is not in the file of private DNS names",
        ),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/Node/jane", "AROA:jane",
            f"- rolearn: arn:aws:iam::{ACCOUNT}:role/Node\n  username: system:node:{{{{EC2PrivateDNSName}}}}\n",
            "aws-iam: the mapping of arn:aws:iam::111122223333:role/Node: {{EC2PrivateDNSName}} is for EC2 instances, "
            "and the session's name is no instance's id",
        ),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/Dev/jane@example.org", "AROA:jane@example.org",
            f"- rolearn: arn:aws:iam::{ACCOUNT}:role/Dev\n"
            "  username: dev:{{SessionName}}\n  groups: ['{{AccountID}}:{{SessionNameRaw}}', 'key:{{AccessKeyID}}']\n",
            "dev:jane-example.org 111122223333:jane@example.org,key:AKIAIOSFODNN7EXAMPLE,system:authenticated",
        ),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Ops_0123456789abcdef/jane", "AROA:jane",
            f"- sso: {{permissionSetName: Ops, accountID: '{ACCOUNT}'}}\n  username: ops:{{{{SessionName}}}}\n",
            "ops:jane system:authenticated",
        ),
    ],
)  # fmt: skip
async def test_templates_are_filled_in_or_say_what_is_missing(
    make: Make, arn: str, user_id: str, roles: str, wanted: str
) -> None:
    async def answer(head: str) -> bytes:
        return identity(arn, user_id)

    world = await make(answer)
    world.map(mapRoles=roles)
    assert world.maps.problems == {}
    assert await who(world, world.token()) == wanted


async def test_a_broken_map_leaves_the_last_good_one_in_force_and_says_so(make: Make) -> None:
    world = await make()
    text = world.token()
    world.map(mapUsers="- userarn: [\n", mapRoles="- rolearn: x\n  username: y\n")
    assert (await who(world, text)).startswith("jane")
    problem = world.maps.problems["aws-auth"]
    assert "mapUsers: line 2 not YAML" in problem and "what was read before stays in force" in problem
    assert "mapRoles[0].rolearn: 'x' is no ARN" in problem and "the entry is left out" in problem
    (broken,) = [m for m in world.authenticator.metrics if m.name == "kubegate_aws_iam_mapping_problems"]
    assert list(broken.lines()) == ['kubegate_aws_iam_mapping_problems{backend="EKSConfigMap"} 1']
    world.map(mapUsers="", mapRoles="``")
    assert world.maps.problems == {}
    assert "is not mapped" in await who(world, text)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"mapUsers": "userarn: x"}, "mapUsers: must be a list"),
        ({"mapUsers": "[" * 100_000}, "not YAML: nested too deeply"),
        ({"mapUsers": "- jane"}, "mapUsers[0]: must have userarn, username and groups"),
        ({"mapUsers": f"- userarn: {JANE}\n"}, "mapUsers[0].username: must be a text, and not an empty one"),
        ({"mapUsers": f"- userarn: {JANE}\n  username: a\n  USERNAME: b"}, "mapUsers[0]: a name is there twice"),
        ({"mapUsers": f"- userarn: {JANE}\n  username: '{{{{Nope}}}}'"}, "{{Nope}} is no template"),
        ({"mapUsers": f"- userarn: {JANE}\n  username: a\n  groups: dev"}, "mapUsers[0].groups: must be a list"),
        ({"mapUsers": "", "MAPUSERS": ""}, "MAPUSERS: mapUsers is there twice"),
        ({"mapAccounts": "- 12"}, "mapAccounts[0]: must be 12 digits"),
        ({"mapRoles": "- sso: {permissionSetName: x}\n  username: a"}, "mapRoles[0].sso.accountID: must be 12 digits"),
    ],
)
async def test_what_is_wrong_in_a_map_is_named_with_its_place(make: Make, data: dict[str, str], problem: str) -> None:
    world = await make()
    world.map(**data)
    assert problem in world.maps.problems["aws-auth"]


async def test_an_account_may_begin_with_zeros(make: Make) -> None:
    async def answer(head: str) -> bytes:
        return identity("arn:aws:iam::012345670123:user/jane", account="012345670123")

    world = await make(answer)
    world.map(mapAccounts="- 012345670123\n")
    assert await who(world, world.token()) == "arn:aws:iam::012345670123:user/jane system:authenticated"


def entry(name: str, spec: dict[str, object], created: str = "2026-01-01T00:00:00Z") -> dict[str, object]:
    return {"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}


async def test_access_entries_are_asked_in_their_turn_and_the_older_counts(make: Make) -> None:
    entries = ObjectMaps.access_entries()
    world = await make_with(make, entries)
    entries.put(entry("late", {"principalArn": JANE, "username": "late"}, "2026-01-02T00:00:00Z"))
    entries.put(entry("early", {"principalArn": JANE, "kubernetesGroups": ["ops"]}))
    text = world.token()
    assert await who(world, text) == f"{JANE} ops,system:authenticated"
    entries.remove("early")
    assert await who(world, text) == "late system:authenticated"
    entries.remove("late")
    assert (await who(world, text)).startswith("jane")


async def make_with(make: Make, maps: ObjectMaps) -> World:
    async def jane(head: str) -> bytes:
        return identity()

    return await make(jane, maps)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"username": "system:admin"}, "spec.username: 'system:admin': names that begin with system:, eks:"),
        ({"kubernetesGroups": ["system:masters"]}, "spec.kubernetesGroups: 'system:masters': names that begin with"),
        ({"username": "{{SessionName}}"}, "spec.username: a colon must stand before the session's name"),
        ({"type": "EC2_LINUX"}, "an entry of type EC2_LINUX is a role's"),
        ({"principalArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Dev/jane"}, "a session passes; the role itself"),
        ({"accessPolicies": [{"policyArn": "x"}]}, "spec.accessPolicies[0].policyArn: must be arn:aws:eks"),
        (
            {"accessPolicies": [
                {"policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", "accessScope": {}}
            ]},
            "spec.accessPolicies[0].accessScope: its type must be cluster, or namespace with namespaces",
        ),
    ],
)  # fmt: skip
def test_an_access_entry_gives_no_reserved_names(spec: dict[str, object], problem: str) -> None:
    entries = ObjectMaps.access_entries()
    entries.put(entry("x", {"principalArn": JANE} | spec))
    assert problem in entries.problems["x"]


def test_a_file_counts_when_all_of_it_is_good(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    for text in (
        f"mapUsers:\n- userarn: {JANE}\n  username: jane\n",
        f"clusterID: demo\nserver:\n  mapUsers:\n  - userARN: {JANE}\n    username: jane\n",
        f"kind: ConfigMap\ndata:\n  mapUsers: |\n    - userarn: {JANE}\n      username: jane\n",
    ):
        path.write_text(text)
        assert FileMaps(path).file.value.users[JANE.lower()].username == "jane"
    path.write_text("mapUsers:\n- userarn: x\n  username: jane\n")
    with pytest.raises(ValueError, match=r"map.yaml: mapUsers\[0\].userarn: 'x' is no ARN"):
        FileMaps(path)


# ---------------------------------------------------------------------- whatever comes
AUTHORITY = certificates.new_authority("sts").pem
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([JANE, "{{SessionName}}", "dev"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["mapRoles", "mapUsers", "mapAccounts", "MAPROLES", "x"]), VALUES | st.text()))
def test_whatever_a_map_holds_it_is_read_or_told(data: dict[str, object]) -> None:
    found, problems = mapping.parse(data)
    assert all(isinstance(each, str) and each for each in problems)
    for entry in (*found.roles.values(), *found.users.values()):
        assert entry.username and (entry.arn.startswith("arn:") or entry.matches is not None)


@given(st.fixed_dictionaries({"metadata": st.just({"name": "x"}), "spec": st.dictionaries(KEYS, VALUES)}))
def test_whatever_an_access_entry_holds_it_gives_no_reserved_name(obj: dict[str, object]) -> None:
    entries, others = ObjectMaps.access_entries(), ObjectMaps.identity_mappings()
    for each in (entries, others):
        each.put(obj)
        assert bool(each.problems) != bool(each._entries.all())
    for kept in entries._entries.all().values():
        nodes = kept.username.startswith("system:node:")
        assert nodes or not kept.username.startswith(("system:", "eks:", "aws:", "amazon:", "iam:"))


@given(st.sampled_from(["sts.amazonaws.com", "evil.example", "127.0.0.1", ""]), st.text(max_size=30), st.booleans())
async def test_no_request_leaves_to_a_host_that_is_not_on_the_list(host: str, rest: str, whole: bool) -> None:
    asked: list[str] = []

    async def record(self: Client, url: str = "", **more: object) -> Response:
        asked.append(url)
        raise RemoteError(f'Get "{url}": no')

    # an authority of its own: reading the system's for each example takes its time
    settings = AwsIamSettings("demo", sts=StsSettings(AUTHORITY))
    authenticator = AwsIamAuthenticator(settings, [], HandClock())
    url = f"https://{host}{'' if whole else rest}/?{query(pairs(HandClock().now()))}{rest if whole else ''}"
    with mock.patch.object(Client, "get", record), pytest.raises(AuthenticationError):
        await authenticator.authenticate_token(encoded(url))
    await authenticator.close()
    assert all(each.startswith("https://sts.amazonaws.com/?Action=GetCallerIdentity&") for each in asked)
