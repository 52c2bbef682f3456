"""ValidatingAdmissionWebhook: webhooks that may refuse, all asked at the same time.

Follows k8s.io/apiserver/pkg/admission/plugin/webhook/validating.
"""

from __future__ import annotations

import asyncio
import logging

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Objects
from kubegate.admission.webhooks import matching
from kubegate.admission.webhooks.calls import Caller, CallFailed, Told, Versions
from kubegate.admission.webhooks.configurations import Configurations, Webhook
from kubegate.admission.webhooks.expressions import Invocation
from kubegate.api import status
from kubegate.api.status import StatusError

_log = logging.getLogger(__name__)

NAME = "ValidatingAdmissionWebhook"
_FAILED_OPEN = "failed-open.validating.webhook.admission.k8s.io/round_0_index_{}"


class ValidatingWebhooks:
    name = NAME
    handles = frozenset(Operation)
    resources: frozenset[str] | None = None
    changes = False

    def __init__(self, configurations: Configurations, caller: Caller, objects: Objects) -> None:
        self._configurations, self._caller, self._objects = configurations, caller, objects

    async def close(self) -> None:
        await self._caller.dispatcher.close()

    def idle(self, attributes: Attributes) -> bool:
        return not self._configurations.webhooks()

    async def validate(self, attributes: Attributes) -> None:
        webhooks = self._configurations.webhooks()
        if not webhooks or matching.concerns_configurations(attributes):
            return
        versions = Versions(attributes, self._objects)
        asked: list[tuple[int, Webhook, Invocation]] = []
        for position, webhook, invocation in self._caller.routes.of(webhooks, attributes):
            if await self._caller.wanted(webhook, attributes, versions, invocation):
                await versions.of(invocation.kind)
                asked.append((position, webhook, invocation))
        if not asked:
            return
        refusals: list[StatusError] = []
        """In the order in which they arrive: the first is the one that the client is told."""

        async def call(position: int, webhook: Webhook, invocation: Invocation) -> None:
            try:
                await self._call(webhook, attributes, versions, invocation, position)
            except StatusError as error:
                refusals.append(error)

        async with asyncio.TaskGroup() as group:
            for entry in asked[1:]:
                group.create_task(call(*entry))
            await call(*asked[0])
        if refusals:
            raise refusals[0]

    async def _call(
        self, webhook: Webhook, attributes: Attributes, versions: Versions, invocation: Invocation, position: int
    ) -> None:
        told = Told.begin(webhook, mutating=False)
        try:
            await self._caller.ask(webhook, attributes, versions, invocation, mutating=False)
        except CallFailed as failure:
            told.stage.decision, told.stage.reason = "error", str(failure)
            if not webhook.ignores_failure:
                raise status.internal(str(failure)) from failure
            _log.warning("failing open: %s", failure)
            attributes.trace.annotate(_FAILED_OPEN.format(position), webhook.name)
        except StatusError as error:
            told.stage.decision, told.stage.reason = "deny", error.message
            raise
        finally:
            told.end(attributes)
