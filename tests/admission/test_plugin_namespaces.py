"""NamespaceLifecycle."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, refusal, run

from kubegate.api.status import StatusError

CONFIG_MAP = {"metadata": {"name": "a"}}


@pytest.fixture
def chain(world: World):
    return world.chain("NamespaceLifecycle")


async def test_nothing_is_made_or_changed_in_a_namespace_that_is_not_there(chain):
    for old in (None, CONFIG_MAP):
        with pytest.raises(StatusError) as caught:
            await run(chain, attributes("configmaps", CONFIG_MAP, old, namespace="none"))
        assert caught.value.status()["message"] == 'namespaces "none" not found'
        assert caught.value.code == 404


async def test_deleting_and_asking_about_rights_need_no_namespace(chain):
    await run(chain, attributes("configmaps", None, CONFIG_MAP, namespace="none"))
    review = {"spec": {"user": "a"}}
    await run(chain, attributes("localsubjectaccessreviews.authorization.k8s.io", review, namespace="none"))


async def test_a_namespace_that_another_process_just_made_is_found_in_the_store(world: World, chain):
    world.objects.late["namespaces", "", "new"] = {"metadata": {"name": "new"}, "status": {"phase": "Active"}}
    await run(chain, attributes("configmaps", CONFIG_MAP, namespace="new"))


async def test_in_a_namespace_that_goes_away_things_are_changed_but_not_made(world: World, chain):
    world.namespace("going", "Terminating")
    await run(chain, attributes("configmaps", CONFIG_MAP, CONFIG_MAP, namespace="going"))
    with pytest.raises(StatusError) as caught:
        await run(chain, attributes("configmaps", CONFIG_MAP, namespace="going"))
    status = caught.value.status()
    assert status["message"] == (
        'configmaps "a" is forbidden: unable to create new content in namespace going because it is being terminated'
    )
    assert status["details"] == {
        "name": "a",
        "kind": "configmaps",
        "causes": [
            {
                "reason": "NamespaceTerminating",
                "message": "namespace going is being terminated",
                "field": "metadata.namespace",
            }
        ],
    }


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
async def test_the_namespaces_of_the_system_cannot_be_deleted(chain, name):
    asked = attributes("namespaces", None, {"metadata": {"name": name}})
    assert await refusal(chain, asked) == f'namespaces "{name}" is forbidden: this namespace may not be deleted'
