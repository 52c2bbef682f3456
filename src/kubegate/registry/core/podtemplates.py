"""PodTemplates: a pod's template that stands alone."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.apps import templates
from kubegate.registry.canonical import Defaulted
from kubegate.registry.core.podspec import warnings
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.core.podspec.features import drop_disabled
from kubegate.registry.core.podspec.spec import validate_template
from kubegate.registry.objectmeta import checked


def _default(obj: Object) -> None:
    default_template(obj["template"])


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    drop_disabled(obj["template"]["spec"], None if old is None else old["template"]["spec"])


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    before = None if old is None else old["template"]
    return validate_template(obj["template"], "template", templates.options_of(scope, before))


def _warnings(obj: Object, old: Object | None) -> list[str]:
    return warnings.of_template(obj["template"], "template")


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.PodTemplate", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    generation=True,
    returns_deleted=True,
)
