"""What a namespace wants of its pods: levels and versions from its labels, else from the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from kubegate.admission.podsecurity.checks import BASELINE, LATEST, PRIVILEGED, RESTRICTED
from kubegate.api.field import FieldError, invalid, key

PREFIX = "pod-security.kubernetes.io/"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
"""From the most to the least that is let in."""
MODES = ("enforce", "audit", "warn")

LEVEL_ERROR = f"must be one of {', '.join(LEVELS)}"
VERSION_ERROR = 'must be "latest" or "v1.x"'

_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")


class LevelVersion(Struct, frozen=True):
    level: str = PRIVILEGED
    version: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.version == LATEST else f'v1.{self.version}'}"


class Policy(Struct, frozen=True):
    """The three modes."""

    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()

    @property
    def forbids_nothing(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED

    def is_equivalent(self, other: Policy) -> bool:
        """Whether it forbids what the other one does: versions of privileged are all the same."""
        return all(
            one.level == two.level and (one.level == PRIVILEGED or one.version == two.version)
            for one, two in zip(self, other, strict=True)
        )

    def labelled(self, labels: Mapping[str, str]) -> str:
        """Which modes that forbid anything the labels set: `enforce=baseline:latest, warn=restricted:v1.25`."""
        modes = zip(MODES, self, strict=True)
        return ", ".join(
            f"{mode}={wanted}"
            for mode, wanted in modes
            if wanted.level != PRIVILEGED and (PREFIX + mode in labels or f"{PREFIX}{mode}-version" in labels)
        )

    def __iter__(self) -> Iterator[LevelVersion]:
        return iter((self.enforce, self.audit, self.warn))


def parse_level(text: str) -> str | None:
    return text if text in LEVELS else None


def parse_version(text: str) -> int | None:
    if text == "latest":
        return LATEST
    found = _VERSION.fullmatch(text)
    # Longer ones are beyond any release; they are `latest` with another name.
    return min(int(found.group(1)[:9]), LATEST - 1) if found else None


def of_labels(labels: Mapping[str, str] | None, defaults: Policy) -> tuple[Policy, list[FieldError]]:
    """The policy of a namespace. There is always one: what cannot be read is enforced as restricted and latest,
    and neither audited nor warned of.
    """
    policy = defaults
    errors: list[FieldError] = []
    if not labels:
        return policy, errors
    for mode in MODES:
        wanted: LevelVersion = getattr(policy, mode)
        text = labels.get(PREFIX + mode)
        if text is not None:
            level = parse_level(text)
            if level is None:
                errors.append(invalid(key("metadata.labels", PREFIX + mode), text, LEVEL_ERROR))
                level = RESTRICTED if mode == "enforce" else PRIVILEGED
            wanted = replace(wanted, level=level)
        text = labels.get(f"{PREFIX}{mode}-version")
        if text is not None:
            version = parse_version(text)
            if version is None:
                errors.append(invalid(key("metadata.labels", f"{PREFIX}{mode}-version"), text, VERSION_ERROR))
                version = LATEST
            wanted = replace(wanted, version=version)
        if wanted is not getattr(policy, mode):
            policy = replace(policy, **{mode: wanted})
    return policy, errors
