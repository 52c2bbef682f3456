"""Where a pod may run: node selectors, affinity, tolerations, spreading, gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_selector
from kubegate.registry.checks import dns_label, listed, mapped, positive, qualified_name, wrong
from kubegate.registry.core.podspec.options import Options

_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def label_name(value: str, path: str) -> list[FieldError]:
    return qualified_name(value, path)


# ---------------------------------------------------------------------- node selectors
def node_selector_requirement(found: Object, path: str, *, check_values: bool) -> list[FieldError]:
    errors = []
    operator, values = found.get("operator", ""), listed(found, "values")
    here = field.child(path, "values")
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(field.required(here, "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(field.forbidden(here, text))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            errors.append(field.required(here, "must be specified single value when `operator` is 'Lt' or 'Gt'"))
    else:
        errors.append(field.invalid(field.child(path, "operator"), operator, "not a valid selector operator"))
    errors += label_name(found.get("key", ""), field.child(path, "key"))
    if check_values:
        for position, value in enumerate(values):
            errors += wrong(field.index(here, position), value, names.is_valid_label_value(value))
    return errors


def _node_field_requirement(found: Object, path: str) -> list[FieldError]:
    errors = []
    operator, values, key = found.get("operator", ""), listed(found, "values"), found.get("key", "")
    if operator not in ("In", "NotIn"):
        errors.append(field.invalid(field.child(path, "operator"), operator, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(field.required(field.child(path, "values"), text))
    if key != "metadata.name":
        errors.append(field.invalid(field.child(path, "key"), key, "not a valid field selector key"))
        return errors
    for position, value in enumerate(values):
        here = field.index(field.child(path, "values"), position)
        errors += wrong(here, value, names.is_dns1123_subdomain(value))
    return errors


def _node_selector_term(term: Object, path: str, *, check_values: bool) -> list[FieldError]:
    errors = []
    for position, found in enumerate(listed(term, "matchExpressions")):
        here = field.index(field.child(path, "matchExpressions"), position)
        errors += node_selector_requirement(found, here, check_values=check_values)
    for position, found in enumerate(listed(term, "matchFields")):
        errors += _node_field_requirement(found, field.index(field.child(path, "matchFields"), position))
    return errors


def node_selector(found: Object, path: str, *, check_values: bool = True) -> list[FieldError]:
    here = field.child(path, "nodeSelectorTerms")
    terms = listed(found, "nodeSelectorTerms")
    if not terms:
        return [field.required(here, "must have at least one node selector term")]
    errors = []
    for position, term in enumerate(terms):
        errors += _node_selector_term(term, field.index(here, position), check_values=check_values)
    return errors


def topology_selector_term(term: Object, path: str) -> tuple[dict[str, frozenset[str]], list[FieldError]]:
    """A StorageClass' allowed topology: its values by key, and what is wrong with it."""
    found: dict[str, frozenset[str]] = {}
    errors = []
    for position, requirement in enumerate(listed(term, "matchLabelExpressions")):
        here = field.index(field.child(path, "matchLabelExpressions"), position)
        values, key = listed(requirement, "values"), requirement.get("key", "")
        if not values:
            errors.append(field.required(field.child(here, "values")))
        seen: set[str] = set()
        for index, value in enumerate(values):
            if value in seen:
                errors.append(field.duplicate(field.index(field.child(here, "values"), index), value))
            seen.add(value)
        errors += label_name(key, field.child(here, "key"))
        if key in found:
            errors.append(field.duplicate(field.child(here, "key"), key))
        found[key] = frozenset(seen)
    return found, errors


# ---------------------------------------------------------------------- affinity
def affinity(found: Any, path: str, options: Options) -> list[FieldError]:
    if not isinstance(found, dict):
        return []
    errors = []
    if "nodeAffinity" in found:
        errors += _node_affinity(found["nodeAffinity"], field.child(path, "nodeAffinity"))
    for name in ("podAffinity", "podAntiAffinity"):
        if name in found:
            errors += _pod_affinity(found[name], field.child(path, name), options)
    return errors


def _weight(term: Object, path: str) -> list[FieldError]:
    weight = term.get("weight", 0)
    if 0 < weight <= 100:
        return []
    return [field.invalid(field.child(path, "weight"), weight, "must be in the range 1-100")]


def _node_affinity(found: Object, path: str) -> list[FieldError]:
    errors = []
    if _REQUIRED in found:
        errors += node_selector(found[_REQUIRED], field.child(path, _REQUIRED))
    for position, term in enumerate(listed(found, _PREFERRED)):
        here = field.index(field.child(path, _PREFERRED), position)
        preference = field.child(here, "preference")
        errors += _weight(term, here) + _node_selector_term(mapped(term, "preference"), preference, check_values=False)
    return errors


def _pod_affinity(found: Object, path: str, options: Options) -> list[FieldError]:
    errors = []
    for position, term in enumerate(listed(found, _REQUIRED)):
        errors += _pod_affinity_term(term, field.index(field.child(path, _REQUIRED), position), options)
    for position, term in enumerate(listed(found, _PREFERRED)):
        here = field.index(field.child(path, _PREFERRED), position)
        inner = field.child(here, "podAffinityTerm")
        errors += _weight(term, here) + _pod_affinity_term(mapped(term, "podAffinityTerm"), inner, options)
    return errors


def _pod_affinity_term(term: Object, path: str, options: Options) -> list[FieldError]:
    errors = []
    lenient = options.allow_invalid_label_values_in_selector
    for name in ("labelSelector", "namespaceSelector"):
        errors += validate_selector(term.get(name), field.child(path, name), allow_invalid_values=lenient)
    for namespace in listed(term, "namespaces"):
        errors += dns_label(namespace, field.child(path, "namespace"))
    errors += label_keys(path, listed(term, "matchLabelKeys"), listed(term, "mismatchLabelKeys"), term)
    topology, here = term.get("topologyKey", ""), field.child(path, "topologyKey")
    if not topology:
        errors.append(field.required(here, "can not be empty"))
    return errors + label_name(topology, here)


def label_keys(path: str, match: Sequence[str], mismatch: Sequence[str], term: Object) -> list[FieldError]:
    """`matchLabelKeys` and `mismatchLabelKeys` beside a labelSelector."""
    selector = term.get("labelSelector")
    errors = _keys(match, field.child(path, "matchLabelKeys"), selector)
    errors += _keys(mismatch, field.child(path, "mismatchLabelKeys"), selector)
    if isinstance(selector, dict):
        positions = {key: position for position, key in enumerate(match)}
        seen = set(mapped(selector, "matchLabels"))
        for expression in listed(selector, "matchExpressions"):
            key = expression.get("key", "")
            if key in positions and key in seen:
                here = field.index(path, positions[key])
                errors.append(field.invalid(here, key, "exists in both matchLabelKeys and labelSelector"))
            seen.add(key)
    for position, key in enumerate(match):
        if key in mismatch:
            here = field.index(field.child(path, "matchLabelKeys"), position)
            errors.append(field.invalid(here, key, "exists in both matchLabelKeys and mismatchLabelKeys"))
    return errors


def _keys(keys: Sequence[str], path: str, selector: Any) -> list[FieldError]:
    if not keys:
        return []
    if selector is None:
        return [field.forbidden(path, "must not be specified when labelSelector is not set")]
    return [error for position, key in enumerate(keys) for error in label_name(key, field.index(path, position))]


# ---------------------------------------------------------------------- tolerations and taints
def tolerations(found: Sequence[Object], path: str) -> list[FieldError]:
    errors = []
    for position, toleration in enumerate(found):
        errors += _toleration(toleration, field.index(path, position))
    return errors


def _toleration(found: Object, path: str) -> list[FieldError]:
    errors = []
    key, operator, value = found.get("key", ""), found.get("operator", ""), found.get("value", "")
    effect = found.get("effect", "")
    operator_path = field.child(path, "operator")
    if key:
        errors += label_name(key, field.child(path, "key"))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(field.invalid(operator_path, operator, text))
    if "tolerationSeconds" in found and effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(field.invalid(field.child(path, "effect"), effect, text))
    if operator in ("Equal", ""):
        texts = names.is_valid_label_value(value)
        if texts:
            errors.append(field.invalid(operator_path, value, ";".join(texts)))
    elif operator == "Exists":
        if value:
            errors.append(field.invalid(operator_path, value, "value must be empty when `operator` is 'Exists'"))
    else:
        errors.append(field.not_supported(operator_path, operator, ("Equal", "Exists")))
    if effect:
        errors += taint_effect(effect, field.child(path, "effect"))
    return errors


def taint_effect(effect: str, path: str) -> list[FieldError]:
    if not effect:
        return [field.required(path)]
    return [] if effect in _EFFECTS else [field.not_supported(path, effect, _EFFECTS)]


def only_added_tolerations(new: Sequence[Object], old: Sequence[Object], path: str) -> list[FieldError]:
    def without_seconds(toleration: Object) -> frozenset[tuple[str, Any]]:
        return frozenset((name, value) for name, value in toleration.items() if name != "tolerationSeconds")

    kept = {without_seconds(toleration) for toleration in new}
    if any(without_seconds(toleration) not in kept for toleration in old):
        return [field.forbidden(path, "existing toleration can not be modified except its tolerationSeconds")]
    return tolerations(new, path)


# ---------------------------------------------------------------------- spreading and gates
def topology_spread(constraints: Sequence[Object], path: str, options: Options) -> list[FieldError]:
    errors = []
    last = {(c.get("topologyKey", ""), c.get("whenUnsatisfiable", "")): at for at, c in enumerate(constraints)}
    for position, constraint in enumerate(constraints):
        here = field.index(path, position)
        action, topology = constraint.get("whenUnsatisfiable", ""), constraint.get("topologyKey", "")
        errors += positive(constraint.get("maxSkew", 0), field.child(here, "maxSkew"))
        if not topology:
            errors.append(field.required(field.child(here, "topologyKey"), "can not be empty"))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            supported = ("DoNotSchedule", "ScheduleAnyway")
            errors.append(field.not_supported(field.child(here, "whenUnsatisfiable"), action, supported))
        if last[topology, action] > position:
            pair = field.child(here, "{topologyKey, whenUnsatisfiable}")
            errors.append(field.duplicate(pair, f"{{{topology}, {action}}}"))
        errors += _min_domains(constraint, action, field.child(here, "minDomains"))
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if name in constraint and constraint[name] not in ("Honor", "Ignore"):
                errors.append(field.not_supported(field.child(here, name), constraint[name], ("Honor", "Ignore")))
        errors += label_keys(here, listed(constraint, "matchLabelKeys"), (), constraint)
        if not options.allow_invalid_topology_selector:
            errors += validate_selector(constraint.get("labelSelector"), field.child(here, "labelSelector"))
    return errors


def _min_domains(constraint: Object, action: str, path: str) -> list[FieldError]:
    domains = constraint.get("minDomains")
    if domains is None:
        return []
    errors = positive(domains, path)
    if action != "DoNotSchedule":
        text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.append(field.invalid(path, domains, text))
    return errors


def scheduling_gates(gates: Sequence[Object], path: str) -> list[FieldError]:
    errors = []
    seen: set[str] = set()
    for position, gate in enumerate(gates):
        here, name = field.index(path, position), gate.get("name", "")
        errors += qualified_name(name, here)
        if name in seen:
            errors.append(field.duplicate(here, name))
        seen.add(name)
    return errors


def only_deleted_gates(new: Sequence[Object], old: Sequence[Object], path: str) -> list[FieldError]:
    before = {gate.get("name", "") for gate in old}
    added = {gate.get("name", ""): position for position, gate in enumerate(new) if gate.get("name", "") not in before}
    return [
        field.forbidden(
            field.child(field.index(path, position), "name"),
            f"only deletion is allowed, but found new scheduling gate '{name}'",
        )
        for name, position in added.items()
    ]


# ---------------------------------------------------------------------- what a gated pod may still change
def node_selector_only_grew(new: Mapping[str, str], old: Mapping[str, str], path: str) -> list[FieldError]:
    if all(new.get(key) == value for key, value in old.items()):
        return []
    text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    return [field.invalid(path, dict(sorted(new.items())) or None, text)]


def node_affinity_only_grew(new: Object | None, old: Object | None, path: str) -> list[FieldError]:
    before = mapped(old, _REQUIRED) if old else {}
    if not before:
        return []
    old_terms = listed(before, "nodeSelectorTerms")
    new_terms = listed(mapped(new, _REQUIRED), "nodeSelectorTerms")
    here = field.child(path, f"{_REQUIRED}.nodeSelectorTerms")
    if old_terms and len(old_terms) != len(new_terms):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [field.invalid(here, _shown_terms(new_terms), text)]
    return [
        field.invalid(
            field.index(here, position),
            _shown_terms([new_terms[position]])[0],
            "only additions are allowed (no mutations or deletions)",
        )
        for position, term in enumerate(old_terms)
        if not _only_grew(new_terms[position], term)
    ]


def _shown_terms(terms: Sequence[Object]) -> list[dict[str, Any]]:
    from kubegate.registry.goshape import shape

    return [shape(term, "NodeSelectorTerm") for term in terms]


def _only_grew(new: Object, old: Object) -> bool:
    empty = not listed(old, "matchExpressions") and not listed(old, "matchFields")
    if empty:
        return not listed(new, "matchExpressions") and not listed(new, "matchFields")
    return all(
        listed(new, name)[: len(listed(old, name))] == listed(old, name) for name in ("matchExpressions", "matchFields")
    )
