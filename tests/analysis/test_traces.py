"""`kubegate trace`: requests step by step, chosen by what they were, found from the end, followed as they come."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from kubegate.analysis import traces
from kubegate.analysis.traces import Wanted
from kubegate.cli.commands import load

Object = dict[str, Any]
ADMIT, VALIDATE = {"decision": "allow", "by": "admit"}, {"decision": "allow", "by": "validate"}


def line(id: str, **more: Any) -> Object:
    return {
        "id": id,
        "time": "2026-11-22T09:10:05.651811Z",
        "method": "GET",
        "uri": "/api/v1/namespaces/default/pods",
        "verb": "list",
        "objectRef": {"apiVersion": "v1", "resource": "pods", "namespace": "default"},
        "user": {"username": "alice", "groups": ["dev", "system:authenticated"]},
        "code": 200,
        "seconds": 0.000603,
        "stages": [
            {
                "name": "authentication",
                "decision": "authenticated",
                "by": "token-file",
                "reason": "alice",
                "seconds": 1e-4,
            }
        ],
        **more,
    }


REFUSED = line(
    "refused",
    code=403,
    reason="Forbidden",
    message='pods is forbidden: User "alice" cannot list resource "pods"',
    refusedBy="authorization",
    stages=[
        {"name": "authentication", "decision": "authenticated", "by": "token-file", "reason": "alice", "seconds": 1e-4},
        {"name": "authorization", "decision": "no opinion", "seconds": 0.00012},
    ],
)
CREATED = line(
    "created",
    method="POST",
    verb="create",
    objectRef={"apiVersion": "v1", "resource": "pods", "namespace": "default", "name": "web"},
    code=201,
    seconds=1.5,
    warnings=["mind the gap"],
    stages=[
        {"name": "authorization", "decision": "allow", "by": "rbac", "reason": "RBAC: because", "seconds": 1e-5},
        {"name": "admission/NamespaceLifecycle", **ADMIT, "seconds": 0.0},
        {"name": "admission/LimitRanger", **ADMIT, "seconds": 0.0},
        {
            "name": "admission/Priority",
            "decision": "changed",
            "by": "admit",
            "seconds": 1e-5,
            "changes": [{"op": "add", "path": "/spec/priority", "value": 0}],
        },
        {
            "name": "webhook/label.example.org",
            "decision": "changed",
            "by": "mutating webhook of label",
            "seconds": 0.002,
            "changes": [
                {"op": "replace", "path": "/metadata/labels/a", "value": "b" * 300},
                {"op": "remove", "path": "/metadata/labels/c"},
            ],
        },
        {"name": "admission/MutatingAdmissionWebhook", **ADMIT, "seconds": 0.0021},
        {"name": "admission/NamespaceLifecycle", **ADMIT, "seconds": 0.0},
        {"name": "admission/LimitRanger", **VALIDATE, "seconds": 0.0},
        {"name": "store", "seconds": 0.0035},
    ],
)


def show(path: Path, *words: str, given: str = "") -> Any:
    return CliRunner().invoke(load("trace"), ["trace", str(path), *words], input=given)


def written(path: Path, *told: Object) -> Path:
    path.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in told))
    return path


def test_a_refusal_is_shown_with_each_step_and_how_to_learn_more(tmp_path: Path) -> None:
    shown = show(written(tmp_path / "t", REFUSED))
    assert shown.exit_code == 0
    assert shown.stdout == (
        "09:10:05.651  GET /api/v1/namespaces/default/pods  403 Forbidden in 0.60 ms\n"
        "  id              refused\n"
        "  user            alice (dev, system:authenticated)\n"
        "  asks to         list pods in default\n"
        "  authentication  authenticated by token-file: alice (0.10 ms)\n"
        "  authorization   nobody allows it (0.12 ms)\n"
        '  answer          pods is forbidden: User "alice" cannot list resource "pods"\n'
        "  to learn why    kubegate why --as alice --as-group dev list pods -n default\n"
    )


def test_a_change_is_shown_with_who_made_it_and_plugins_without_one_share_a_line(tmp_path: Path) -> None:
    shown = show(written(tmp_path / "t", CREATED)).stdout
    assert shown == (
        "09:10:05.651  POST /api/v1/namespaces/default/pods  201 in 1.50 s\n"
        "  id              created\n"
        "  user            alice (dev, system:authenticated)\n"
        "  asks to         create pods web in default\n"
        "  authorization   allow by rbac: RBAC: because (0.01 ms)\n"
        "  admission: who may change it\n"
        "    unchanged                 NamespaceLifecycle, LimitRanger\n"
        "    Priority                  changed (0.01 ms)\n"
        "        + /spec/priority = 0\n"
        "    MutatingAdmissionWebhook  changed (2.10 ms)\n"
        "        webhook/label.example.org  changed by mutating webhook of label (2.00 ms)\n"
        f'            ~ /metadata/labels/a = "{"b" * 73}…\n'
        "            - /metadata/labels/c\n"
        "  admission: all of them once more, for a webhook or policy changed it\n"
        "    unchanged       NamespaceLifecycle\n"
        "  admission: who may refuse it\n"
        "    allow           LimitRanger\n"
        "  store           written (3.50 ms)\n"
        "  warning         mind the gap\n"
    )
    whole = show(tmp_path / "t", "--verbose").stdout
    assert "    NamespaceLifecycle        allow (0.00 ms)\n" in whole
    assert '"' + "b" * 300 + '"\n' in whole


def test_the_last_ones_are_shown_oldest_first_and_as_json_they_are_as_written(tmp_path: Path) -> None:
    path = written(tmp_path / "t", *(line(str(number)) for number in range(9)))
    shown = show(path, "-o", "json").stdout
    assert [orjson.loads(each) for each in shown.splitlines()] == [line(str(number)) for number in range(4, 9)]
    assert len(show(path, "-o", "json", "--last", "100").stdout.splitlines()) == 9
    assert show(path, "-o", "yaml").exit_code == 1


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--denied"], ["refused"]),
        (["--user", "bob"], ["bob", "as-bob"]),
        (["--resource", "deployments"], ["scale"]),
        (["--resource", "deployments.apps/scale"], ["scale"]),
        (["--resource", "deployments.extensions"], []),
        (["-n", "kube-system"], ["system"]),
        (["--id", "sy"], ["system"]),
        (["--last", "1"], ["system"]),
        (["--user", "alice", "--last", "1", "--resource", "pods"], ["system"]),
    ],
)
def test_requests_are_chosen_by_what_they_were(tmp_path: Path, words: list[str], ids: list[str]) -> None:
    about = {"apiGroup": "apps", "resource": "deployments", "subresource": "scale", "name": "web"}
    path = written(
        tmp_path / "t",
        REFUSED,
        line("invalid", code=422, refusedBy="validation"),
        line("bob", user={"username": "bob"}),
        line("as-bob", impersonator={"username": "bob"}),
        line("scale", objectRef=about),
        line("system", objectRef={"resource": "pods", "namespace": "kube-system"}),
    )
    shown = show(path, "-o", "json", *words)
    assert [orjson.loads(each)["id"] for each in shown.stdout.splitlines()] == ids
    if not ids:
        assert "tells of no such request" in shown.stderr


def test_a_file_is_read_from_its_end_and_no_more_of_it_than_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "_BLOCK", 64)
    told = [line(str(number)) for number in range(40)]
    path = written(tmp_path / "t", *told)
    for most in (0, 1, 7, 40, 50):
        assert traces.last(path, Wanted(), most) == told[40 - min(most, 40) :]
    whole = path.read_bytes()
    path.write_bytes(b"\xff no trace\n" * 3 + whole[: -len(orjson.dumps(told[-1])) + 5])  # the last one not whole yet
    assert traces.last(path, Wanted(), 100) == told[:-1]
    path.write_bytes(b"")
    assert traces.last(path, Wanted(), 5) == []


def test_what_was_put_aside_is_read_where_the_file_has_too_few(tmp_path: Path) -> None:
    written(tmp_path / "t-2026-11-21T09-00-00.jsonl", line("oldest"))
    written(tmp_path / "t-2026-11-22T09-00-00.jsonl", line("older"), line("old"))
    written(tmp_path / "t-mine.jsonl", line("something else"))
    path = written(tmp_path / "t.jsonl", line("new"))
    assert [each["id"] for each in traces.last(path, Wanted(), 2)] == ["old", "new"]
    assert [each["id"] for each in traces.last(path, Wanted(), 9)] == ["oldest", "older", "old", "new"]


def test_new_ones_are_shown_as_they_come_also_from_the_file_that_takes_the_place(tmp_path: Path) -> None:
    path = written(tmp_path / "t", line("old"))
    old, new = path.stat().st_size, orjson.dumps(line("whole"))

    def append(data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def rotate() -> None:
        path.rename(tmp_path / "t-1")

    steps = iter(
        [
            lambda: append(new[:20]),
            lambda: append(new[20:] + b"\nthe log of something else\n"),
            lambda: append(orjson.dumps(line("other", user={"username": "bob"})) + b"\n"),
            rotate,
            lambda: written(path, line("rotated")) and None,
            lambda: written(path, line("cut")) and None,
        ]
    )
    following = traces.follow(path, Wanted(user="alice"), old, lambda: next(steps)())
    assert [next(following)["id"] for _ in range(2)] == ["whole", "rotated"]
    path.write_bytes(b"")
    assert next(following)["id"] == "cut"


def test_standard_input_is_read_and_what_is_no_trace_left_aside() -> None:
    given = b"a line of the log\n[1]\n{}\n" + orjson.dumps(line("a")) + b"\n"
    found = traces.last_of(io.BytesIO(given), Wanted(), 5)
    assert [each["id"] for each in found] == ["a"]
    shown = show(Path("-"), "-o", "json", given=given.decode())
    assert orjson.loads(shown.stdout)["id"] == "a"
    assert orjson.loads(show(Path("-"), "-o", "json", "--follow", given=given.decode()).stdout)["id"] == "a"


def test_what_clients_put_into_names_does_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = line("a\x1b]0;x\x07", uri="/x\x1b[2J\r\n\x9b31m", user={"username": "m\x1bn"}, message="\x1b[1m", code=400)
    evil["stages"][0] |= {"reason": "\x1bc", "by": "\x9b", "changes": [{"op": "add", "path": "/\x1b", "value": "\x9b"}]}
    shown = show(written(tmp_path / "t", evil, REFUSED | {"user": {"username": "\x1b[2J"}})).stdout
    assert all(letter == "\n" or letter.isprintable() for letter in shown)


def test_a_file_that_is_not_there_is_told_with_what_would_make_it(tmp_path: Path) -> None:
    shown = show(tmp_path / "none")
    assert shown.exit_code == 1
    assert "no such file; `kubegate up` writes it" in shown.stderr
    assert show(tmp_path).exit_code == 1
