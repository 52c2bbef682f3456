"""MutatingAdmissionPolicy: expressions that change what is about to be stored.

Follows k8s.io/apiserver/pkg/admission/plugin/policy/mutating.
"""

from __future__ import annotations

import time
from typing import Any

import orjson
from msgspec import Struct, field

from kubegate import cel
from kubegate.admission import Attributes, GroupVersionKind, Operation, refusal
from kubegate.admission.dependencies import Authorize, Objects
from kubegate.admission.policies import params, patches, programs
from kubegate.admission.policies.params import ConfigurationError
from kubegate.admission.policies.patches import PatchFailed
from kubegate.admission.policies.programs import Compiled, Environment, Evaluation, Failed, OutOfBudget
from kubegate.admission.policies.source import Binding, Hook, Source, concerns
from kubegate.admission.policies.validating import request_of
from kubegate.admission.webhooks.calls import may_be_shown
from kubegate.admission.webhooks.expressions import ConditionError, Conditions, Invocation, Pace, condition_values
from kubegate.admission.webhooks.matching import Equivalents
from kubegate.api import Object, status
from kubegate.api.resources import Resources
from kubegate.api.status import StatusError
from kubegate.api.trace import Stage
from kubegate.cel import types
from kubegate.cel.costs import POLICY_BUDGET
from kubegate.storage import Reader

NAME = "MutatingAdmissionPolicy"

OBJECT = types.object_of("Object")
JSON_PATCHES = types.list_of(types.object_of("JSONPatch"))


class Mutation(Struct, frozen=True):
    """`json_patch`: the expression makes a JSON patch, otherwise an apply configuration."""

    expression: str
    program: Compiled
    json_patch: bool
    pace: Pace = field(default_factory=Pace)


class Policy(Struct, frozen=True):
    """A policy's spec, compiled."""

    environment: Environment
    conditions: Conditions
    mutations: tuple[Mutation, ...]
    reinvoked: bool


def compile_spec(spec: Object) -> Policy:
    environment = programs.environment(spec)
    mutations = []
    for entry in spec.get("mutations") or ():
        json_patch = entry.get("patchType") == "JSONPatch"
        expression = (entry.get("jsonPatch" if json_patch else "applyConfiguration") or {}).get("expression", "")
        wanted = JSON_PATCHES if json_patch else OBJECT
        mutations.append(Mutation(expression, environment.compile(expression, (wanted,), mutation=True), json_patch))
    conditions = Conditions(spec.get("matchConditions") or (), programs.declared(environment.has_params))
    return Policy(environment, conditions, tuple(mutations), spec.get("reinvocationPolicy") == "IfNeeded")


class _Failure(Struct, frozen=True):
    """What went wrong with a policy, or with one of its bindings."""

    hook: Hook[Policy]
    binding: Binding | None
    message: str
    reason: str = "Invalid"


class _Turn(Struct, frozen=True):
    """One policy with one binding and one parameter, about one request."""

    hook: Hook[Policy]
    binding: Binding
    parameter: Object | None
    invocation: Invocation

    @property
    def key(self) -> tuple[str, str, str]:
        metadata = (self.parameter or {}).get("metadata") or {}
        return self.hook.name, self.binding.name, f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


class _Rounds(Struct):
    """What one request's first round leaves for its second."""

    called: set[tuple[str, str, str]] = field(default_factory=set)
    again: set[tuple[str, str, str]] = field(default_factory=set)
    output: bytes = b""

    def changed(self) -> None:
        self.again |= self.called
        self.called = set()


class MutatingPolicies:
    name = NAME
    handles = frozenset({Operation.CREATE, Operation.UPDATE, Operation.CONNECT})
    resources: frozenset[str] | None = None
    changes = False

    def __init__(
        self, reader: Reader, authorize: Authorize, served: Resources, objects: Objects, equivalents: Equivalents
    ) -> None:
        self._reader, self._authorize, self._served, self._objects = reader, authorize, served, objects
        self._equivalents = equivalents
        self._source = Source(reader, "mutatingadmissionpolic", compile_spec, equivalents)

    def idle(self, attributes: Attributes) -> bool:
        return not self._source.bound()

    async def admit(self, attributes: Attributes) -> None:
        hooks = self._source.hooks(attributes)
        if not hooks or not concerns(attributes):
            return
        errors: list[_Failure] = []
        turns = [turn for _, hook, invocation in hooks for turn in self._turns(hook, attributes, invocation, errors)]
        rounds: _Rounds = attributes.state.setdefault(NAME, _Rounds())
        if attributes.reinvoking and orjson.dumps(attributes.object) != rounds.output:
            rounds.changed()
        taken: list[tuple[GroupVersionKind, bool]] = []
        try:
            for turn in turns:
                taken += await self._take(turn, attributes, rounds, errors)
            if taken and (taken[-1][0], True) in taken:
                # kube-apiserver does not look whether the object is another now: who wants to be asked again when
                # something changed is asked again after every mutation that could be done, also after its own.
                rounds.changed()
                attributes.reinvoke = True
        finally:
            rounds.output = orjson.dumps(attributes.object)
        if errors:
            raise _refused(attributes, errors)

    def _turns(
        self,
        hook: Hook[Policy],
        attributes: Attributes,
        invocation: Invocation,
        errors: list[_Failure],
    ) -> list[_Turn]:
        try:
            if not hook.match.selects(attributes, self._reader):
                return []
            if hook.parameters is not None:
                params.resource_of(hook.parameters, self._served)
        except (StatusError, ConfigurationError) as error:
            _remember(errors, _Failure(hook, None, f"failed to configure policy: {error}", "Forbidden"))
            return []
        turns = []
        for binding in hook.bindings:
            try:
                if not binding.match.matches(attributes, self._equivalents, self._reader):
                    continue
                chosen = params.collect(
                    hook.parameters, binding.parameters, attributes.namespace, self._served, self._reader
                )
            except (StatusError, ConfigurationError) as error:
                _remember(errors, _Failure(hook, binding, f"failed to configure binding: {error}", "Forbidden"))
                continue
            turns += [_Turn(hook, binding, parameter, invocation) for parameter in chosen]
        return turns

    async def _take(
        self,
        turn: _Turn,
        attributes: Attributes,
        rounds: _Rounds,
        errors: list[_Failure],
    ) -> list[tuple[GroupVersionKind, bool]]:
        """Do all that the policy wants done. Gives for each mutation as what it saw the object, and if it succeeded."""
        policy = turn.hook.policy
        before = attributes.object
        if policy.conditions:
            values = condition_values(await self._values(turn, attributes), attributes)
            try:
                fail, answers = not turn.hook.ignores_failure, values["authorizer"].answers
                matches = await policy.conditions.hold(values, fail, answers)
            except ConditionError as error:
                _remember(errors, _Failure(turn.hook, turn.binding, str(error)))
                return []
            if not matches:
                return []
        if attributes.reinvoking and turn.key not in rounds.again:
            return []
        taken = []
        start = time.perf_counter()
        stage = Stage(f"policy/{turn.hook.name}", "allow", f"binding {turn.binding.name}")
        for mutation in policy.mutations:
            if attributes.object is None:
                continue
            done = True
            try:
                await self._mutate(mutation, turn, attributes)
            except (Failed, OutOfBudget, PatchFailed) as error:
                done = False
                stage.decision, stage.reason = "error", str(error)
                _remember(errors, _Failure(turn.hook, turn.binding, str(error)))
            taken.append((turn.invocation.kind, done))
        if attributes.object != before:
            rounds.changed()
            attributes.reinvoke = True
            stage.decision = "changed"
            if may_be_shown(attributes):
                _show(stage, before, attributes.object)
        if policy.reinvoked:
            rounds.called.add(turn.key)
        stage.seconds = time.perf_counter() - start
        attributes.trace.stages.append(stage)
        return taken

    async def _values(self, turn: _Turn, attributes: Attributes) -> dict[str, Any]:
        """Anew for each mutation, because the one before may have changed the object."""
        request = request_of(attributes, self._objects, self._authorize, self._reader)
        values = await request.values_for(turn.invocation)
        if turn.hook.policy.environment.has_params:
            values = {**values, "params": turn.parameter}
        return values

    async def _mutate(self, mutation: Mutation, turn: _Turn, attributes: Attributes) -> None:
        values = await self._values(turn, attributes)
        policy = turn.hook.policy
        kind = turn.invocation.kind

        def evaluate() -> Any:
            budget = cel.Budget(POLICY_BUDGET)
            try:
                return Evaluation(policy.environment, values, budget).result(mutation.program, mutation.expression)
            finally:
                mutation.pace.cost = budget.spent

        made = await mutation.pace.evaluate(values["authorizer"].answers, evaluate)
        current: Object = values["object"]
        change = patches.json_patch if mutation.json_patch else patches.apply_configuration
        patched = change(current, made, kind, self._objects)
        if patched is current:
            return
        patched = orjson.loads(orjson.dumps(patched))
        try:
            patched = self._objects.defaulted(kind, patched)
        except ValueError as error:
            raise PatchFailed(str(error)) from None
        if patched["apiVersion"] != attributes.kind.api_version:
            try:
                patched = await self._objects.convert(patched, attributes.kind)
            except ValueError as error:
                raise status.internal(f"failed to convert object: {error}") from None
        attributes.object = patched


def _show(stage: Stage, before: Object | None, after: Object | None) -> None:
    from functools import partial

    from kubegate.admission.difference import between

    stage.difference = partial(between, orjson.dumps(before), orjson.dumps(after))


def _remember(errors: list[_Failure], failure: _Failure) -> None:
    if not failure.hook.ignores_failure:
        errors.append(failure)


def _refused(attributes: Attributes, errors: list[_Failure]) -> StatusError:
    messages = []
    for failure in errors:
        name, binding = failure.hook.name, failure.binding
        bound = f"'{name}' with binding '{binding.name}'" if binding is not None else f'"{name}"'
        messages.append(f"policy {bound} denied request: {failure.message}")
    error = refusal.forbidden(attributes, "")
    details = {**(error.details or {}), "causes": [{"message": message} for message in messages]}
    return StatusError(403, errors[0].reason, messages[0], details)
