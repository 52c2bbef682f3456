"""Changing the aws-auth ConfigMap: one ARN more, one ARN less, all else as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubegate.api import Object
from kubegate.aws.arn import Arn, canonical, identity, without_path
from kubegate.aws.mapping import MAP_ACCOUNTS, MAP_ROLES, MAP_USERS, BadMapping, load_list, template

NAMESPACE, NAME = "kube-system", "aws-auth"
_KEYS = {MAP_ROLES: "rolearn", MAP_USERS: "userarn"}


@dataclass(frozen=True, slots=True)
class Row:
    """One mapping as it is listed. An account mapped whole has the account where others have an ARN."""

    arn: str
    username: str
    groups: tuple[str, ...]


def normal(arn: str) -> str:
    """The ARN by which STS's answers are looked up: a session's is the role's, and a role's has no path.

    Raises BadArn.
    """
    return without_path(canonical(arn))


def rows(data: Mapping[str, str]) -> list[Row]:
    """Every mapping, as written. Raises BadMapping for YAML that cannot be read."""
    found = []
    for name, key in _KEYS.items():
        for item in _items(data, name):
            fields = _fields(item)
            groups = fields.get("groups")
            texts = tuple(map(str, groups)) if isinstance(groups, list) else ()
            found.append(Row(str(fields.get(key) or ""), str(fields.get("username") or ""), texts))
    return found + [Row(str(item), "", ()) for item in _items(data, MAP_ACCOUNTS)]


def added(data: Mapping[str, str], arn: str, username: str, groups: Sequence[str]) -> dict[str, str]:
    """The data with this mapping, in place of one of the same ARN. Raises BadArn, BadMapping."""
    name = _map_of(arn)
    template(username, "--username")
    entry: Object = {_KEYS[name]: arn, "username": username, "groups": [template(each, "--group") for each in groups]}
    kept = [item for item in _items(data, name) if not _is(item, name, arn)]
    return _with(data, name, [*kept, entry])


def with_account(data: Mapping[str, str], account: str) -> dict[str, str]:
    """The data with this account mapped whole. Raises BadMapping."""
    if len(account) != 12 or not account.isdigit():
        raise BadMapping(f"--account: {account!r} is not 12 digits")
    kept = [item for item in _items(data, MAP_ACCOUNTS) if str(item) != account]
    return _with(data, MAP_ACCOUNTS, [*kept, account])


def removed(data: Mapping[str, str], arn: str) -> dict[str, str] | None:
    """The data without the mappings of this ARN (or account); None where there is none. Raises BadArn, BadMapping."""
    if arn.isdigit():
        name = MAP_ACCOUNTS
        kept = [item for item in _items(data, name) if str(item) != arn]
    else:
        name = _map_of(arn)
        kept = [item for item in _items(data, name) if not _is(item, name, arn)]
    return None if len(kept) == len(_items(data, name)) else _with(data, name, kept)


def _map_of(arn: str) -> str:
    found: Arn = identity(arn)
    return MAP_ROLES if found.kind == "role" else MAP_USERS


def _key(data: Mapping[str, str], name: str) -> str:
    return next((each for each in data if each.lower() == name.lower()), name)


def _items(data: Mapping[str, str], name: str) -> list[Any]:
    key = _key(data, name)
    return load_list(data.get(key, ""), key)


def _fields(item: Any) -> dict[str, Any]:
    return {str(name).lower(): value for name, value in item.items()} if isinstance(item, Mapping) else {}


def _is(item: Any, name: str, arn: str) -> bool:
    return str(_fields(item).get(_KEYS[name])).lower() == arn.lower()


def _with(data: Mapping[str, str], name: str, items: list[Any]) -> dict[str, str]:
    import yaml

    # the safe dumper quotes digits that are text, as accounts are
    text = yaml.safe_dump(items, sort_keys=False, default_flow_style=False) if items else ""
    return {**data, _key(data, name): text}
