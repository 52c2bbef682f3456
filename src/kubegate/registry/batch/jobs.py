"""Jobs: pods that are to end, so many times. A Job finds its pods by labels made of its own uid."""

from __future__ import annotations

from typing import Any, Final

from kubegate.api import Object, clone, field, names, selectors
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.apps import templates
from kubegate.registry.batch import jobspec, jobstatus
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import listed, mapped
from kubegate.registry.core.podspec.options import Options
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.batch.v1.Job"
_NAME_LABELS = ("job-name", "batch.kubernetes.io/job-name")
_UID_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
_IMMUTABLE_FIELDS = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_SHAPES: Final = {"podFailurePolicy": "PodFailurePolicy", "successPolicy": "SuccessPolicy"}
# Parts of a template that may change as long as no pod has been made of it.
_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")


def _default(obj: Object) -> None:
    spec = obj["spec"]
    jobspec.default(spec)
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = spec["parallelism"] = 1
    spec.setdefault("parallelism", 1)
    # Failures are counted for each index where they are limited so.
    spec.setdefault("backoffLimit", 2**31 - 1 if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    _copy_labels(obj)


def _copy_labels(obj: Object) -> None:
    """A Job without labels has those of its template."""
    found = templates.labels_of(obj["spec"]["template"])
    if found and not mapped(obj["metadata"], "labels"):
        obj["metadata"]["labels"] = dict(found)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    templates.drop_disabled(obj, old, scope)
    spec, meta = obj["spec"], obj["metadata"]
    if old is not None:
        return
    if not spec["manualSelector"]:
        labels = spec["template"]["metadata"].setdefault("labels", {})
        for name in _NAME_LABELS:
            labels.setdefault(name, meta.get("name", ""))
        for name in _UID_LABELS:
            labels.setdefault(name, meta["uid"])
        spec["selector"] = spec.get("selector") or {}
        spec["selector"].setdefault("matchLabels", {}).setdefault(_UID_LABELS[1], meta["uid"])
    _copy_labels(obj)


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    before = None if old is None else old["spec"]
    options = templates.options_of(scope, None if before is None else before["template"])
    errors = _generated_selector(obj, before) + _spec(spec, options) + _indexed_names(obj)
    if before is None or old is None:
        return errors
    # An update is looked at as a new Job and as an update, so that everything is told twice.
    errors += _spec(spec, options)
    errors += _completions(spec, before)
    errors += templates.fixed_selector(spec.get("selector"), before.get("selector"))
    errors += _template_update(spec, old)
    for name in _IMMUTABLE_FIELDS:
        new = spec.get(name)
        if new != before.get(name):
            shown = goshape.shape(new, _SHAPES[name]) if name in _SHAPES and new is not None else new
            errors.append(field.invalid(f"spec.{name}", shown, field.IMMUTABLE))
    return errors


def _spec(spec: Object, options: Options) -> list[FieldError]:
    errors = jobspec.validate(spec, "spec", options)
    found = spec.get("selector")
    if found is None:
        errors.append(field.required("spec.selector"))
    else:
        lenient = options.allow_invalid_label_values_in_selector
        errors += selectors.validate_selector(found, "spec.selector", allow_invalid_values=lenient)
    selects = templates.matcher(found)
    if selects is not None:
        errors += templates.matches(selects, spec["template"], "spec.template")
    return errors


def _generated_selector(obj: Object, before: Object | None) -> list[FieldError]:
    spec, meta = obj["spec"], obj["metadata"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    wanted = {_UID_LABELS[0]: meta["uid"], _NAME_LABELS[0]: meta.get("name", "")}
    had = _NAME_LABELS[1], _UID_LABELS[1]
    if before is None or all(name in templates.labels_of(before["template"]) for name in had):
        wanted |= {_UID_LABELS[1]: meta["uid"], _NAME_LABELS[1]: meta.get("name", "")}
    labels, path, errors = templates.labels_of(spec["template"]), "spec.template.metadata.labels", []
    for name, value in wanted.items():
        found = labels.get(name)
        if found is None:
            errors.append(field.required(field.key(path, name), f"must be '{value}'"))
        elif found != value:
            errors.append(field.invalid(field.key(path, name), goshape.plain(labels), f"must be '{value}'"))
    selects = templates.matcher(spec["selector"])
    if selects is not None and not selects.matches(wanted):
        errors.append(field.invalid("spec.selector", goshape.plain(spec["selector"]), "`selector` not auto-generated"))
    return errors


def _indexed_names(obj: Object) -> list[FieldError]:
    """The pods of an Indexed Job have their index in their hostname."""
    spec, name = obj["spec"], obj["metadata"].get("name", "")
    completions = spec.get("completions") or 0
    if spec.get("completionMode") != "Indexed" or completions <= 0:
        return []
    longest = f"{name}-{completions - 1}"
    if not names.is_dns1123_label(longest):
        return []
    text = f"will not able to create pod with invalid DNS label: {longest}"
    return [field.invalid("metadata.name", name, text)]


def _completions(spec: Object, before: Object) -> list[FieldError]:
    new, old = spec.get("completions"), before.get("completions")
    if spec.get("completionMode") != "Indexed":
        return field.immutable("spec.completions", new, old)
    if new == old or new is None or new == spec.get("parallelism"):
        return []
    return [field.invalid("spec.completions", new, "can only be modified in tandem with spec.parallelism")]


def _template_update(spec: Object, old: Object) -> list[FieldError]:
    template, before = spec["template"], old["spec"]["template"]
    if not _may_change(old):
        same = template == before
        return [] if same else [field.invalid("spec.template", goshape.template(template), field.IMMUTABLE)]
    pod = template["spec"]
    if pod == _with_resources(_with_directives(before, template)["spec"], pod):
        return []
    return [field.invalid("spec.template.spec", goshape.shape(pod, "PodSpec"), field.IMMUTABLE)]


def _may_change(old: Object) -> bool:
    """Whether no pod runs, and none will before somebody lets the Job go on."""
    status = mapped(old, "status")
    if not old["spec"].get("suspend") or status.get("active"):
        return False
    return not status.get("startTime") or any(
        condition.get("type") == "Suspended" and condition.get("status") == "True"
        for condition in listed(status, "conditions")
    )


def _with_resources(before: Object, pod: Object) -> Object:
    """The stored pod with the resources of the new one's containers, as far as they are the same ones."""
    for name in ("containers", "initContainers"):
        old, new = listed(before, name), listed(pod, name)
        if len(old) != len(new):
            continue
        for mine, other in zip(old, new, strict=True):
            if mine.get("name") == other.get("name"):
                _take(mine, other, "resources")
    return before


def _with_directives(before: Object, template: Object) -> Object:
    """The stored template with whatever of the new one may differ from it."""
    before = clone(before)
    for name in ("annotations", "labels"):
        _take(before["metadata"], template["metadata"], name)
    spec, new = before["spec"], template["spec"]
    for name in _DIRECTIVES:
        _take(spec, new, name)
    if spec.get("affinity") is not None or new.get("affinity") is not None:
        affinity = dict(spec.get("affinity") or {})
        _take(affinity, new.get("affinity") or {}, "nodeAffinity")
        spec["affinity"] = affinity
        if not affinity and "affinity" not in new:
            del spec["affinity"]
    return before


def _take(into: Object, source: Object, name: str) -> None:
    if name in source:
        into[name] = source[name]
    else:
        into.pop(name, None)


def _warnings(obj: Object, old: Object | None) -> list[str]:
    meta = obj["metadata"]
    if old is not None:
        changed = meta.get("generation") != old["metadata"].get("generation")
        return jobspec.warnings_of(obj["spec"], "spec") if changed else []
    texts = names.is_dns1123_label(meta.get("name", ""))
    found = [f"{templates.POD_NAMES}: [{' '.join(texts)}]"] if texts else []
    return found + jobspec.warnings_of(obj["spec"], "spec")


def _fields(obj: Object) -> dict[str, str]:
    succeeded: Any = mapped(obj, "status").get("succeeded") or 0
    return {"status.successful": str(succeeded)}


_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)
RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, _prepare),
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    fields=_fields,
    field_labels=("status.successful",),
    status=True,
    generation=True,
    orphans=True,
    delete_warning=_ORPHANS,
    subresources={"status": Rules(validate=checked(jobstatus.validate))},
)
