"""Bootstrap roles are made, mended, and left alone where somebody says so."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kubegate.authorization.bootstrap import AUTOUPDATE, AlreadyThere, Changed, mend, objects, reconcile

Object = dict[str, Any]


class FakeWriter:
    def __init__(self) -> None:
        self.stored: dict[tuple[str, str, str], Object] = {}
        self.writes: list[str] = []
        self.raced: list[type[Exception]] = []

    def key(self, resource: str, obj: Object) -> tuple[str, str, str]:
        return resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.stored.get((resource, namespace, name))

    async def create(self, resource: str, obj: Object) -> None:
        self._race("create", obj)
        self.stored[self.key(resource, obj)] = deepcopy(obj)

    async def update(self, resource: str, obj: Object) -> None:
        self._race("update", obj)
        self.stored[self.key(resource, obj)] = deepcopy(obj)

    async def delete(self, resource: str, namespace: str, name: str) -> None:
        self.writes.append(f"delete {name}")
        del self.stored[(resource, namespace, name)]

    def _race(self, verb: str, obj: Object) -> None:
        self.writes.append(f"{verb} {obj['metadata']['name']}")
        if self.raced:
            raise self.raced.pop()


VIEWER = {
    "kind": "ClusterRole",
    "metadata": {"name": "viewer", "annotations": {AUTOUPDATE: "true"}, "labels": {"a": "b"}},
    "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}],
}
VIEWERS = {
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "viewers"},
    "roleRef": {"kind": "ClusterRole", "name": "viewer"},
    "subjects": [{"kind": "Group", "name": "dev"}],
}


def changed(obj: Object, **fields: Any) -> Object:
    return {**deepcopy(obj), **fields}


async def test_a_new_store_gets_all_of_them_and_the_second_start_writes_nothing() -> None:
    writer = FakeWriter()
    assert await reconcile(writer) == len(objects()) == 133
    writer.writes.clear()
    assert await reconcile(writer) == 0
    assert not writer.writes


async def test_missing_permissions_and_subjects_are_added_and_others_stay() -> None:
    writer = FakeWriter()
    await reconcile(writer, [VIEWER, VIEWERS])
    extra = {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}
    role = writer.stored[("clusterroles.rbac.authorization.k8s.io", "", "viewer")]
    role["rules"] = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, extra]
    role["metadata"]["labels"] = {"a": "mine", "c": "d"}
    binding = writer.stored[("clusterrolebindings.rbac.authorization.k8s.io", "", "viewers")]
    binding["subjects"] = [{"kind": "User", "name": "ann"}]
    assert await reconcile(writer, [VIEWER, VIEWERS]) == 2
    role = writer.stored[("clusterroles.rbac.authorization.k8s.io", "", "viewer")]
    assert role["rules"] == [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        extra,
        {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]},
    ]
    assert role["metadata"]["labels"] == {"a": "mine", "c": "d"}
    binding = writer.stored[("clusterrolebindings.rbac.authorization.k8s.io", "", "viewers")]
    assert binding["subjects"] == [{"kind": "User", "name": "ann"}, {"kind": "Group", "name": "dev"}]


async def test_what_says_autoupdate_false_is_left_alone() -> None:
    writer = FakeWriter()
    for obj in (VIEWER, VIEWERS):
        mine = changed(obj, rules=[]) if obj is VIEWER else changed(obj, roleRef={"kind": "Role", "name": "x"})
        mine["metadata"]["annotations"] = {AUTOUPDATE: "false"}
        await writer.create(f"{obj['kind'].lower()}s.rbac.authorization.k8s.io", mine)
    writer.writes.clear()
    assert await reconcile(writer, [VIEWER, VIEWERS]) == 0
    assert not writer.writes


async def test_a_binding_to_another_role_is_made_anew() -> None:
    writer = FakeWriter()
    other = changed(VIEWERS, roleRef={"kind": "ClusterRole", "name": "cluster-admin"})
    await writer.create("clusterrolebindings.rbac.authorization.k8s.io", other)
    assert await reconcile(writer, [VIEWERS]) == 1
    assert writer.writes[-2:] == ["delete viewers", "create viewers"]


@pytest.mark.parametrize("race", [AlreadyThere, Changed])
async def test_a_race_with_another_server_is_tried_again(race: type[Exception]) -> None:
    writer = FakeWriter()
    writer.raced = [race]
    assert await reconcile(writer, [VIEWER]) == 1
    assert writer.writes == ["create viewer", "create viewer"]


def test_aggregated_roles_keep_their_rules_and_get_missing_selectors() -> None:
    selector = {"matchLabels": {"to": "view"}}
    expected = changed(VIEWER, aggregationRule={"clusterRoleSelectors": [selector]})
    existing = changed(VIEWER, rules=None, aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]})
    mended = mend(existing, expected)
    assert mended is not None
    assert mended["rules"] is None
    assert mended["aggregationRule"] == {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}, selector]}
    assert mend(mended, expected) is None
    # one that nobody expects to be gathered would lose its rules again
    plain = mend(existing, VIEWER)
    assert plain is not None
    assert "aggregationRule" not in plain
