"""MutatingAdmissionWebhook: webhooks that may change the object, one after the other.

Follows k8s.io/apiserver/pkg/admission/plugin/webhook/mutating.
"""

from __future__ import annotations

import logging
from functools import partial

import orjson
from msgspec import Struct, field

from kubegate.admission import Attributes, GroupVersionKind, Operation
from kubegate.admission.dependencies import Objects
from kubegate.admission.refusal import unexpected
from kubegate.admission.webhooks import jsonpatch, matching
from kubegate.admission.webhooks.calls import Caller, CallFailed, Told, Versions, may_be_shown
from kubegate.admission.webhooks.configurations import Configurations, Webhook
from kubegate.admission.webhooks.expressions import Invocation
from kubegate.api import Object, status
from kubegate.api.codec import split_api_version
from kubegate.api.field import quoted
from kubegate.api.status import StatusError
from kubegate.remote import result

_log = logging.getLogger(__name__)

NAME = "MutatingAdmissionWebhook"
_MUTATION = "mutation.webhook.admission.k8s.io/round_{}_index_{}"
_PATCH = "patch.webhook.admission.k8s.io/round_{}_index_{}"


class _Rounds(Struct):
    """What one request's first round leaves for its second."""

    called: set[str] = field(default_factory=set)
    """Webhooks with reinvocationPolicy IfNeeded that were called since the object last changed."""
    again: set[str] = field(default_factory=set)
    """Those that have to look once more, because something after them changed the object."""
    output: bytes = b""
    """The object as the last round left it, where there are such webhooks."""

    def changed(self) -> None:
        self.again |= self.called
        self.called = set()


class MutatingWebhooks:
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

    async def admit(self, attributes: Attributes) -> None:
        webhooks = self._configurations.webhooks()
        if not webhooks or matching.concerns_configurations(attributes):
            return
        routes = self._caller.routes.of(webhooks, attributes)
        if not routes:
            return
        rounds: _Rounds = attributes.state.setdefault(NAME, _Rounds())
        if attributes.reinvoking and rounds.called and orjson.dumps(attributes.object) != rounds.output:
            rounds.changed()
        versions = Versions(attributes, self._objects)
        try:
            for position, webhook, invocation in routes:
                if not await self._caller.wanted(webhook, attributes, versions, invocation):
                    continue
                if attributes.reinvoking and webhook.uid not in rounds.again:
                    continue
                await self._call(webhook, attributes, versions, invocation, rounds, position)
        finally:
            if rounds.called:
                rounds.output = orjson.dumps(attributes.object)

    async def _call(
        self,
        webhook: Webhook,
        attributes: Attributes,
        versions: Versions,
        invocation: Invocation,
        rounds: _Rounds,
        position: int,
    ) -> None:
        told, changed = Told.begin(webhook, mutating=True), False
        place = (int(attributes.reinvoking), position)
        try:
            changed = await self._mutate(webhook, attributes, versions, invocation, told, place)
        except CallFailed as failure:
            told.stage.decision, told.stage.reason = "error", str(failure)
            if not webhook.ignores_failure:
                raise status.internal(str(failure)) from failure
            _log.warning("failing open: %s", failure)
            attributes.trace.annotate("failed-open." + _MUTATION.format(*place), webhook.name)
        except StatusError as error:
            told.stage.decision, told.stage.reason = "deny", error.message
            raise
        finally:
            if changed:
                rounds.changed()
                attributes.reinvoke = True
                told.stage.decision = "changed"
            if webhook.reinvoked:
                rounds.called.add(webhook.uid)
            what = {"configuration": webhook.configuration, "webhook": webhook.name, "mutated": changed}
            attributes.trace.annotate(_MUTATION.format(*place), orjson.dumps(what).decode())
            told.end(attributes)

    async def _mutate(
        self,
        webhook: Webhook,
        attributes: Attributes,
        versions: Versions,
        invocation: Invocation,
        told: Told,
        place: tuple[int, int],
    ) -> bool:
        """Ask, and do what is asked for. Gives whether the object is another now."""
        answer = await self._caller.ask(webhook, attributes, versions, invocation, mutating=True)
        if not answer.patch:
            return False
        try:
            operations = jsonpatch.decode(answer.patch)
        except ValueError as error:
            why = f"received undecodable patch in webhook response: {error}"
            raise CallFailed(webhook.name, why) from None
        if not operations:
            return False
        new, _ = await versions.of(invocation.kind)
        if new is None:
            why = "attempted to modify the object, which is not supported for this operation"
            raise status.internal(f"admission webhook {quoted(webhook.name)} {why}")
        if answer.patch_type != "JSONPatch":
            raise CallFailed(webhook.name, f"unsupported patch type {quoted(answer.patch_type)}")
        try:
            patched = self._decoded(jsonpatch.apply(new, operations), invocation)
        except (jsonpatch.PatchError, ValueError) as error:
            raise status.internal(str(error)) from None
        kind = _kind_of(patched)
        self._objects.default(kind, patched)
        if may_be_shown(attributes):
            what = {"configuration": webhook.configuration, "webhook": webhook.name, "patch": operations}
            shown = orjson.dumps({**what, "patchType": answer.patch_type}).decode()
            attributes.trace.request_annotations.setdefault(_PATCH.format(*place), shown)
        if orjson.dumps(patched, option=orjson.OPT_SORT_KEYS) == orjson.dumps(new, option=orjson.OPT_SORT_KEYS):
            return False
        if may_be_shown(attributes):
            told.stage.difference = partial(jsonpatch.decode, answer.patch)
        if kind != attributes.kind:
            try:
                patched = await self._objects.convert(patched, attributes.kind)
            except ValueError as error:
                raise unexpected(str(error)) from None
        attributes.object = patched
        versions.changed()
        return True

    def _decoded(self, patched: object, invocation: Invocation) -> Object:
        if not isinstance(patched, dict):
            raise ValueError(result.NO_OBJECT.format("array"))
        return self._objects.decode(invocation.kind, patched)


def _kind_of(obj: Object) -> GroupVersionKind:
    """A patch may have made it another than was sent."""
    return GroupVersionKind(*split_api_version(obj["apiVersion"]), obj["kind"])
