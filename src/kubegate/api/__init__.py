"""The object model: resources, schemas, selectors, patches, server-side apply, tables, Status errors. No I/O."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON. Treated as immutable once stored: copy before changing."""
