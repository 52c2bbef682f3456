"""Leases: who holds something, and since when."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import qualified_name
from kubegate.registry.objectmeta import checked


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    # CoordinatedLeaderElection is switched off in v1.36; what an object has already is borne with.
    before = {} if old is None else old["spec"]
    for name in ("strategy", "preferredHolder"):
        if name not in before:
            obj["spec"].pop(name, None)


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec, errors = obj["spec"], []
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(field.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        text = "must be greater than or equal to 0"
        errors.append(field.invalid("spec.leaseTransitions", transitions, text))
    if spec.get("strategy") is not None:
        errors += _strategy(spec["strategy"], "spec.strategy")
    if spec.get("preferredHolder") and not spec.get("strategy"):
        text = "may only be specified if `strategy` is defined"
        errors.append(field.forbidden("spec.preferredHolder", text))
    return errors


def _strategy(strategy: str, path: str) -> list[FieldError]:
    if strategy == "OldestEmulationVersion" or "/" in strategy:
        return qualified_name(strategy, path)
    return [field.not_supported(path, strategy, ("OldestEmulationVersion",))]


RULES = Rules(
    default=Defaulted("io.k8s.api.coordination.v1.Lease"),
    prepare=_prepare,
    validate=checked(_validate),
    create_on_update=True,
    unconditional_update=False,
)
