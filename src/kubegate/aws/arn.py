"""Amazon Resource Names of identities, and their canonical form: a session of a role is that role."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubegate.aws.endpoints import PARTITIONS

_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_MOST = 2048


class BadArn(ValueError):
    """No name of an identity; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Arn:
    """`arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; identities have no region."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Raises BadArn."""
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not parts[5]:
            raise BadArn(f"{text[:_MOST]!r} is no ARN: arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE")
        if len(text) > _MOST or not text.isascii() or not text.isprintable():
            raise BadArn(f"{text[:_MOST]!r} is no ARN: at most {_MOST} printable ASCII characters")
        return cls(*parts[1:])

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"

    @property
    def kind(self) -> str:
        """`user`, `role`, `root`, `assumed-role`, `federated-user`."""
        return self.resource.split("/", 1)[0]


def identity(text: str) -> Arn:
    """The ARN of a user, role, session, federated user or account. Raises BadArn."""
    found = Arn.parse(text)
    if found.partition not in PARTITIONS:
        raise BadArn(f"{text}: {found.partition!r} is no partition of AWS; there are {', '.join(PARTITIONS)}")
    if not _ACCOUNT.fullmatch(found.account):
        raise BadArn(f"{text}: the account must be 12 digits")
    kinds = {"iam": ("user", "role", "root"), "sts": ("assumed-role", "federated-user")}.get(found.service, ())
    if found.kind not in kinds or (found.kind != "root" and not found.resource.rpartition("/")[2]):
        raise BadArn(
            f"{text}: no identity; there are iam's user/, role/ and root, sts's assumed-role/, federated-user/"
        )
    return found


def canonical(text: str) -> str:
    """The ARN by which an identity is mapped: of a session the role's, all else as it is. Raises BadArn.

    STS leaves a role's path out of its sessions' names, so that the canonical form of a role has none.
    """
    found = identity(text)
    if found.kind != "assumed-role":
        return text
    parts = found.resource.split("/")
    if len(parts) < 3 or not all(parts):
        raise BadArn(f"{text}: an assumed role has a role and a session: assumed-role/ROLE/SESSION")
    return f"arn:{found.partition}:iam::{found.account}:role/{'/'.join(parts[1:-1])}"


def without_path(text: str) -> str:
    """A role's ARN without its path, as its sessions have it; of all else the text itself. Raises BadArn."""
    found = identity(text)
    if found.service != "iam" or found.kind != "role":
        return text
    return f"arn:{found.partition}:iam::{found.account}:role/{found.resource.rpartition('/')[2]}"
