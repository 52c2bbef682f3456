"""PriorityLevelConfigurations: how many requests of a level are served at once, and what becomes of the others."""

from __future__ import annotations

import math

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import mapped, nonnegative
from kubegate.registry.flowcontrol.conditions import fixed_spec, validate_status
from kubegate.registry.objectmeta import SAID_OF_IT, checked, keeping

_TYPE = "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration"
_MAX_QUEUES = 10 * 1000 * 1000
_MAX_HASH_BITS = 60


def _default(obj: Object) -> None:
    spec = obj["spec"]
    limited, exempt = spec.get("limited"), spec.get("exempt")
    if limited is not None:
        _fill(limited, nominalConcurrencyShares=30, lendablePercent=0)
        queuing = mapped(limited, "limitResponse").get("queuing")
        if queuing is not None:
            for name, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                if not queuing.get(name):
                    queuing[name] = value
    if exempt is None and spec.get("type") == "Exempt":
        exempt = spec["exempt"] = {}
    if exempt is not None:
        _fill(exempt, nominalConcurrencyShares=0, lendablePercent=0)


def _fill(holder: Object, **values: int) -> None:
    """What is not there; what was sent as null is not there either."""
    for name, value in values.items():
        if holder.get(name) is None:
            holder[name] = value


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec, errors = obj["spec"], []
    name, kind = obj["metadata"].get("name", ""), spec.get("type", "")
    if (name == "exempt") != (kind == "Exempt"):
        errors.append(field.invalid("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'"))
    limited, exempt = spec.get("limited"), spec.get("exempt")
    if kind == "Exempt":
        if limited is not None:
            errors.append(field.forbidden("spec.limited", "must be nil if the type is not Limited"))
        if exempt is not None:
            errors += _shares(exempt, "spec.exempt", lowest=0)
    elif kind == "Limited":
        if exempt is not None:
            errors.append(field.forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errors.append(field.required("spec.limited", "must not be empty when type is Limited"))
        else:
            errors += _limited(limited, "spec.limited")
    else:
        errors.append(field.not_supported("spec.type", kind, ("Exempt", "Limited")))
    return errors + fixed_spec(obj, "PriorityLevelConfiguration", *(("exempt",) if name == "exempt" else ()))


def _shares(holder: Object, path: str, *, lowest: int) -> list[FieldError]:
    shares, lendable = holder.get("nominalConcurrencyShares", 0), holder.get("lendablePercent", 0)
    errors = []
    if shares < lowest:
        text = "must be a non-negative integer" if lowest == 0 else "must be positive"
        errors.append(field.invalid(field.child(path, "nominalConcurrencyShares"), shares, text))
    if not 0 <= lendable <= 100:
        text = "must be between 0 and 100, inclusive"
        errors.append(field.invalid(field.child(path, "lendablePercent"), lendable, text))
    return errors


def _limited(limited: Object, path: str) -> list[FieldError]:
    errors = _shares(limited, path, lowest=0)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None:
        errors += nonnegative(borrowing, field.child(path, "borrowingLimitPercent"))
    response, path = mapped(limited, "limitResponse"), field.child(path, "limitResponse")
    kind, queuing, where = response.get("type", ""), response.get("queuing"), field.child(path, "queuing")
    if kind == "Reject":
        if queuing is not None:
            text = "must be nil if limited.limitResponse.type is not Limited"
            errors.append(field.forbidden(where, text))
    elif kind != "Queue":
        errors.append(field.not_supported(field.child(path, "type"), kind, ("Queue", "Reject")))
    elif queuing is None:
        errors.append(field.required(where, "must not be empty if limited.limitResponse.type is Limited"))
    else:
        errors += _queuing(queuing, where)
    return errors


def _queuing(queuing: Object, path: str) -> list[FieldError]:
    limit, queues, hand = (queuing.get(name, 0) for name in ("queueLengthLimit", "queues", "handSize"))
    errors = []
    if limit <= 0:
        errors.append(field.invalid(field.child(path, "queueLengthLimit"), limit, "must be positive"))
    where = field.child(path, "queues")
    if queues <= 0:
        errors.append(field.invalid(where, queues, "must be positive"))
    elif queues > _MAX_QUEUES:
        errors.append(field.invalid(where, queues, f"must not be greater than {_MAX_QUEUES}"))
    where = field.child(path, "handSize")
    if hand <= 0:
        errors.append(field.invalid(where, hand, "must be positive"))
    elif hand > queues:
        errors.append(field.invalid(where, hand, f"should not be greater than queues ({queues})"))
    elif _entropy(queues, hand) > _MAX_HASH_BITS:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than "
        errors.append(field.invalid(where, hand, f"{text}{_MAX_HASH_BITS}"))
    return errors


def _entropy(deck: int, hand: int) -> int:
    """Bits of a hash that dealing such a hand takes."""
    return math.ceil(math.log2(deck) * hand)


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate, again="subdomain"),
    status=True,
    generation=True,
    subresources={"status": Rules(prepare=keeping(*SAID_OF_IT), validate=validate_status)},
)
