"""What a new server has."""

from __future__ import annotations

import pytest
from kinds_world import kinds_world

from kubegate.api.status import StatusError
from kubegate.registry import bootstrap
from kubegate.registry.internal import Internal
from kubegate.server.options import Options


async def test_everything_that_a_server_starts_with_is_accepted() -> None:
    async with kinds_world() as w:
        options = Options(advertise_address="192.0.2.1", service_cluster_ip_range="10.96.0.0/24")
        w.registry.extensions["options"] = options
        internal = Internal(w.registry)
        for kind, obj in bootstrap.objects(options, 1_800_000_000.0):
            await internal.ensure(kind, obj)
            await internal.ensure(kind, obj)
        service = await internal.get("services", "default", "kubernetes")
        assert service is not None
        assert service["spec"]["clusterIP"] == "10.96.0.1"
        local = await internal.get("apiservices.apiregistration.k8s.io", "", "v1.apps")
        assert local is not None
        assert local["status"]["conditions"][0]["reason"] == "Local"


async def test_the_range_of_services_is_ready_and_gets_a_second_one_from_the_flags() -> None:
    async with kinds_world() as w:
        internal = Internal(w.registry)
        for ranges in ("10.96.0.0/24", "10.96.0.0/24,fd00::/112", "10.97.0.0/24"):
            options = Options(service_cluster_ip_range=ranges)
            w.registry.extensions["options"] = options
            for kind, obj in bootstrap.objects(options, 1_800_000_000.0):
                if kind.startswith("servicecidrs"):
                    await internal.ensure(kind, obj)
            await bootstrap.settle_service_range(internal, options, 1_800_000_000.0)
            found = await internal.get("servicecidrs.networking.k8s.io", "", "kubernetes")
            assert found is not None
            assert found["spec"]["cidrs"] == ["10.96.0.0/24", "fd00::/112"][: 1 if ranges == "10.96.0.0/24" else 2]
            assert found["status"]["conditions"] == [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "",
                    "message": "Kubernetes default Service CIDR is ready",
                    "lastTransitionTime": "2027-01-15T08:00:00Z",
                }
            ]
            assert found["metadata"]["managedFields"][0]["manager"] == "kubernetes-service-cidr-controller"


def test_nobody_is_sent_to_an_address_that_only_the_server_reaches() -> None:
    kinds = [kind for kind, _ in bootstrap.objects(Options(bind_address="127.0.0.1"), 0.0)]
    assert "services" in kinds
    assert "endpoints" not in kinds


async def test_the_levels_that_must_be_there_stay_as_they_are() -> None:
    async with kinds_world() as w:
        internal = Internal(w.registry)
        for kind, obj in bootstrap.objects(Options(), 1_800_000_000.0):
            if "flowcontrol" in kind:
                await internal.ensure(kind, obj)
        change = {"spec": {"limited": {"nominalConcurrencyShares": 7}}}
        with pytest.raises(StatusError) as caught:
            await w.patch("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "catch-all", change)
        assert "spec of 'catch-all' must equal the fixed value" in caught.value.message


async def test_what_tells_of_the_servers_flags_is_written_anew() -> None:
    async with kinds_world() as w:
        internal = Internal(w.registry)
        for text in ("old", "new"):
            obj = {
                "metadata": {"name": bootstrap.CURRENT, "namespace": "kube-system"},
                "data": {"client-ca-file": text},
            }
            await internal.ensure("configmaps", obj, current=True)
            found = await internal.get("configmaps", "kube-system", bootstrap.CURRENT)
            assert found is not None
            assert found["data"] == {"client-ca-file": text}
        await internal.ensure("configmaps", {**obj, "data": {}})
        assert await internal.get("configmaps", "kube-system", bootstrap.CURRENT) == found
