"""Many namespaces with ten objects each, made and deleted: nothing is left. `bench/controllers.py` has a thousand."""

from __future__ import annotations

from controllers_world import Flags, controllers_world

COUNT = 25


async def test_nothing_is_left_of_many_namespaces() -> None:
    async with controllers_world(Flags(service_account_legacy_tokens=True)) as world:
        world.run(
            "namespace-controller",
            "garbage-collector-controller",
            "serviceaccount-controller",
            "serviceaccount-token-controller",
            "deployment-controller",
            "replicaset-controller",
            "job-controller",
            "endpoints-controller",
            "endpointslice-controller",
            "resourcequota-controller",
        )
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        sets = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        job = {"template": {"spec": {**template["spec"], "restartPolicy": "Never"}}}
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
        names = [f"team-{number}" for number in range(COUNT)]
        for name in names:
            await world.client.create("namespaces", "", {"metadata": {"name": name}})
            for kind, rest in (
                ("configmaps", {"data": {"k": "v"}}),
                ("secrets", {"stringData": {"k": "v"}}),
                ("serviceaccounts", {}),
                ("roles.rbac.authorization.k8s.io", {"rules": [rule]}),
                ("services", {"spec": {"selector": labels, "ports": [{"port": 80}]}}),
                ("resourcequotas", {"spec": {"hard": {"pods": "9"}}}),
                ("deployments.apps", {"spec": sets}),
                ("jobs.batch", {"spec": job}),
                ("leases.coordination.k8s.io", {"spec": {}}),
                ("pods", {"spec": template["spec"]}),
            ):
                await world.client.create(kind, name, {"metadata": {"name": "x"}, **rest})
        await world.settle(200 * COUNT)
        assert len(world.registry.reader.list("pods")) == 3 * COUNT
        for name in names:
            await world.client.delete("namespaces", "", name)
        await world.settle(400 * COUNT)
        for _ in range(5):
            await world.advance(5)
        assert world.names("namespaces", "") == []
        left = {
            resource.stored_as: len(found)
            for resource in world.registry.resources
            if resource.namespaced and resource.persistent and (found := world.registry.reader.list(resource.stored_as))
        }
        left.pop("events", None)
        assert left == {}
