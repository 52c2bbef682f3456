"""Facts about the Go types behind the built-in kinds: which fields are pointers, which are left out when zero.

`data/go-types.json.gz` was measured from the type information in kubectl v1.36.3 (apiextensions and apiregistration,
which are not in it, are written after their sources). For each schema name it has fields in Go's order, each as the
type's text with `,o` for omitempty and `,z` for omitzero.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api.resources import data


class GoField(Struct, frozen=True):
    """`text` is the type as Go's errors tell it (pointers followed): `[]v1.Subject`, `int32`."""

    text: str
    pointer: bool
    omit_empty: bool
    omit_zero: bool


@cache
def _facts() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(data("go-types.json.gz"))
    return found


@cache
def fields_of(schema_name: str) -> Mapping[str, GoField]:
    """The fields of a type by its schema's name (io.k8s.api.core.v1.PodSpec); empty where nothing is known."""
    return {name: _field(text) for name, text in _facts()["types"].get(schema_name, {}).items()}


def _field(text: str) -> GoField:
    kind, *options = text.split(",")
    return GoField(kind.removeprefix("*"), kind.startswith("*"), "o" in options, "z" in options)


def registered(group: str, version: str, kind: str) -> bool:
    """Whether kube-apiserver's scheme has the kind, be it served or not (rbac.authorization.k8s.io/v1beta1)."""
    api_version = f"{group}/{version}" if group else version
    return kind in _facts()["kinds"].get(api_version, ())
