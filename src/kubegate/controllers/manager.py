"""Runs the controllers that --controllers names, each with its workers, until it is told to stop."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Sequence

from kubegate.api.clock import Clock
from kubegate.api.status import StatusError
from kubegate.controllers import Controller, Worker, World
from kubegate.storage import StoreUnavailable

log = logging.getLogger("kubegate.controllers")

# kube-controller-manager's name -> the module here; each has `build() -> Controller`.
MODULES: dict[str, str] = {
    "apiservice-availability-controller": "apiservice_availability",  # kube-apiserver's own
    "aws-iam-mapping-controller": "aws_mappings",  # of no kube-controller-manager
    "bootstrap-signer-controller": "bootstrap_signer",
    "certificatesigningrequest-approving-controller": "csr_approving",
    "certificatesigningrequest-cleaner-controller": "csr_cleaning",
    "certificatesigningrequest-signing-controller": "csr_signing",
    "clusterrole-aggregation-controller": "clusterrole_aggregation",
    "crd-autoregistration-controller": "apiservice_registration",  # kube-apiserver's own
    "cronjob-controller": "cronjobs",
    "daemonset-controller": "daemonsets",
    "deployment-controller": "deployments",
    "disruption-controller": "disruption",
    "endpoints-controller": "endpoints",
    "endpointslice-controller": "endpointslices",
    "endpointslice-mirroring-controller": "endpointslice_mirroring",
    "ephemeral-volume-controller": "ephemeral_volumes",
    "flowschema-status-controller": "flowschema_status",  # kube-apiserver's own
    "garbage-collector-controller": "garbage",
    "horizontal-pod-autoscaler-controller": "pod_autoscaling",
    "job-controller": "jobs",
    "legacy-serviceaccount-token-cleaner-controller": "legacy_token_cleaner",
    "namespace-controller": "namespaces",
    "node-lifecycle-controller": "node_lifecycle",
    "persistentvolume-binder-controller": "volume_binding",
    "persistentvolume-protection-controller": "volume_protection",
    "persistentvolumeclaim-protection-controller": "claim_protection",
    "pod-garbage-collector-controller": "pod_garbage",
    "replicaset-controller": "replicasets",
    "replicationcontroller-controller": "replicationcontrollers",
    "resourcequota-controller": "resourcequotas",
    "root-ca-certificate-publisher-controller": "root_ca",
    "service-cidr-controller": "service_cidrs",
    "service-ip-address-controller": "service_addresses",  # kube-apiserver's own
    "serviceaccount-controller": "serviceaccounts",
    "serviceaccount-token-controller": "token_secrets",
    "statefulset-controller": "statefulsets",
    "taint-eviction-controller": "taint_eviction",
    "token-cleaner-controller": "token_cleaner",
    "ttl-after-finished-controller": "ttl_after_finished",
    "ttl-controller": "node_ttl",
    "validatingadmissionpolicy-status-controller": "policy_status",
    "volumeattributesclass-protection-controller": "attributes_protection",
}
# kube-controller-manager has bootstrap-signer-controller and token-cleaner-controller switched off unless they are
# named; whoever sets up clusters, and the measured control plane, names them, and here they are on.
_WORKERS = 4


def chosen(flag: Sequence[str]) -> list[str]:
    """The names that --controllers asks for: `*`, NAME, -NAME, `none`. Raises ValueError for one that is not known."""
    if list(flag) == ["none"]:
        return []
    for word in flag:
        if word.removeprefix("-") not in MODULES and word != "*":
            raise ValueError(f"--controllers: {word!r} is no controller; known are {', '.join(sorted(MODULES))}")
    return [name for name in MODULES if f"-{name}" not in flag and (name in flag or "*" in flag)]


class Manager:
    def __init__(self, world: World, names: Sequence[str]) -> None:
        self._world, self._names = world, names

    async def run(self) -> None:
        """Until cancelled. A controller's failure is logged and tried again; it never ends the others."""
        controllers: list[Controller] = []
        for name in self._names:
            controllers.append(importlib.import_module(f"kubegate.controllers.{MODULES[name]}").build())
            await asyncio.sleep(0)  # the server has begun to answer: nobody waits for all of them to be loaded
        for controller in controllers:
            controller.start(self._world)
        async with asyncio.TaskGroup() as group:
            for controller in controllers:
                for _ in range(_WORKERS):
                    group.create_task(work(controller, self._world.clock), name=controller.name)


async def work(controller: Worker, clock: Clock) -> None:
    """Works on the keys of one controller; several may."""
    queue = controller.queue
    while True:
        key = await queue.get(clock)
        try:
            await controller.sync(key)
            queue.succeeded(key)
        except StatusError as error:
            log.debug("%s: %s: %s", controller.name, key, error)
            queue.failed(key, clock.monotonic())
        except StoreUnavailable as error:
            log.warning("%s: %s: %s", controller.name, key, error)
            queue.failed(key, clock.monotonic())
        except Exception:
            log.exception("%s: %s", controller.name, key)
            queue.failed(key, clock.monotonic())
        finally:
            queue.done(key)
