"""What kube-apiserver's own kinds say about metadata, beyond what is checked for every object."""

from __future__ import annotations

from kubegate.api import Object, field, metadata, names
from kubegate.api.field import FieldError
from kubegate.api.metadata import NameCheck
from kubegate.registry import Change, Check, Scope
from kubegate.registry.checks import listed

# Finalizers that need no domain, as in the first days.
STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})


def finalizer_name(value: str, path: str) -> list[FieldError]:
    """A finalizer without a domain must be one of the old ones."""
    if "/" in value or value in STANDARD_FINALIZERS or names.is_qualified_name(value):
        return []
    return [field.invalid(path, value, "name is neither a standard finalizer name nor is it fully qualified")]


# What writes to the status of many kinds leave alone.
SAID_OF_IT = ("labels", "annotations", "finalizers", "ownerReferences")


def keeping(*names: str) -> Change:
    """`prepare` of a status whose writes leave `names` in the metadata as they were (see `SAID_OF_IT`)."""

    def prepare(obj: Object, old: Object | None, scope: Scope) -> None:
        assert old is not None
        meta, before = obj["metadata"], old["metadata"]
        for name in names:
            if name in before:
                meta[name] = before[name]
            else:
                meta.pop(name, None)

    return prepare


def checked(validate: Check | None = None, again: str | NameCheck | None = None) -> Check:
    """`validate` of a kind's rules with the kind's own look at the metadata before it.

    `again` is the rule for names of those kinds that check the metadata of an update as if the object were new.
    """

    def check(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
        meta = obj["metadata"]
        errors = _finalizers(meta) if "finalizers" in meta else []
        if old is not None and again is not None:
            errors += metadata.validate_create(meta, scope.resource.namespaced, again) + _finalizers(meta)
        return errors + (validate(obj, old, scope) if validate is not None else [])

    return check


def _finalizers(meta: Object) -> list[FieldError]:
    errors = []
    for position, finalizer in enumerate(listed(meta, "finalizers")):
        errors += finalizer_name(finalizer, field.index("metadata.finalizers", position))
    return errors
