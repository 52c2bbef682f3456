"""From an IAM identity to a user and groups: mapRoles, mapUsers and mapAccounts, and their templates.

The words of the aws-auth ConfigMap and of aws-iam-authenticator's configuration file. Roles are looked up before
users, ARNs whatever their case; of two mappings of one ARN the later counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubegate.aws import Identity
from kubegate.aws.arn import BadArn, identity
from kubegate.aws.endpoints import PARTITIONS

MAP_ROLES, MAP_USERS, MAP_ACCOUNTS = "mapRoles", "mapUsers", "mapAccounts"
MAPS = (MAP_ROLES, MAP_USERS, MAP_ACCOUNTS)
TEMPLATES = ("AccountID", "SessionName", "SessionNameRaw", "EC2PrivateDNSName", "AccessKeyID")
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_INSTANCE = re.compile(r"i-(\w{8}|\w{17})", re.ASCII)
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_PERMISSION_SET = re.compile(r"[\w+=,.@-]{1,32}", re.ASCII)
_EMPTY = ("", "``", '""', "~", "null")
_MOST = 20_000
"""Entries of one map: a ConfigMap of 1 MiB holds fewer."""

PrivateDnsName = Callable[[str], str | None]
"""The private DNS name of an EC2 instance by its id; None where it is not known."""


class BadMapping(ValueError):
    """A map that cannot be used, or an entry of it: the place, and what would be right."""


class CannotRender(Exception):
    """A template that has no value for this identity; the text says which."""


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One ARN's user name and groups, templates as written. `arn` is in lower case; `matches` of SSO roles instead."""

    arn: str
    username: str
    groups: tuple[str, ...] = ()
    matches: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Mapped:
    username: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AwsMap:
    """What one place says: entries by ARN in lower case, entries that match SSO roles, and accounts mapped whole."""

    roles: Mapping[str, MapEntry]
    users: Mapping[str, MapEntry]
    accounts: frozenset[str]
    patterns: tuple[MapEntry, ...] = ()

    def find(self, caller: Identity) -> MapEntry | None:
        """The entry of this identity; that of an account mapped whole has the ARN itself as the user's name."""
        arn = caller.canonical_arn.lower()
        found = self.roles.get(arn) or next((each for each in self.patterns if _matches(each, arn)), None)
        found = found or self.users.get(arn)
        if found is None and caller.account_id in self.accounts:
            return MapEntry(arn, caller.canonical_arn)
        return found


NOTHING = AwsMap({}, {}, frozenset())


def _matches(entry: MapEntry, arn: str) -> bool:
    return entry.matches is not None and entry.matches.fullmatch(arn) is not None


def parse(data: Mapping[str, Any], before: AwsMap = NOTHING) -> tuple[AwsMap, list[str]]:
    """The map of an aws-auth ConfigMap's data, or of a document that has the same names; and what is wrong in it.

    A text (or list) that cannot be read leaves that of `before` in force; an entry that cannot be used is left out.
    """
    problems: list[str] = []
    given: dict[str, Any] = {}
    names = {name.lower(): name for name in MAPS}
    for name, value in data.items():
        known = names.get(str(name).lower())
        if known is not None and known in given:
            problems.append(f"{name}: {known} is there twice, in different cases; the first counts")
        elif known is not None:
            given[known] = value

    def entries(name: str, arn_key: str) -> tuple[MapEntry, ...] | None:
        try:
            items = _list(given.get(name), name)
        except BadMapping as error:
            problems.append(f"{error}; what was read before stays in force")
            return None
        found = []
        for position, item in enumerate(items):
            try:
                found.append(_entry(item, f"{name}[{position}]", arn_key))
            except BadMapping as error:
                problems.append(f"{error}; the entry is left out")
        return tuple(found)

    roles, users = entries(MAP_ROLES, "rolearn"), entries(MAP_USERS, "userarn")
    accounts = _accounts(given.get(MAP_ACCOUNTS), problems)
    return (
        AwsMap(
            before.roles if roles is None else {each.arn: each for each in roles if each.matches is None},
            before.users if users is None else {each.arn: each for each in users},
            before.accounts if accounts is None else accounts,
            before.patterns if roles is None else tuple(each for each in roles if each.matches is not None),
        ),
        problems,
    )


def load_list(text: str, place: str) -> list[Any]:
    """The YAML of one map as a list; all scalars are texts. Raises BadMapping."""
    import yaml

    from kubegate.api import yamlcodec

    if text.strip() in _EMPTY:
        return []
    try:
        found = yamlcodec.load(text, yaml.CBaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise BadMapping(f"{place}:{line} not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    if found in ("", None):
        return []
    if not isinstance(found, list) or len(found) > _MOST:
        raise BadMapping(f"{place}: must be a list of at most {_MOST} entries")
    return found


def _list(value: Any, place: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        return load_list(value, place)
    if not isinstance(value, list) or len(value) > _MOST:
        raise BadMapping(f"{place}: must be a list of at most {_MOST} entries")
    return value


def _entry(item: Any, place: str, arn_key: str) -> MapEntry:
    if not isinstance(item, Mapping):
        raise BadMapping(f"{place}: must have {arn_key}, username and groups")
    fields = {str(name).lower(): value for name, value in item.items()}
    if len(fields) != len(item):
        raise BadMapping(f"{place}: a name is there twice, in different cases")
    username = template(fields.get("username"), f"{place}.username")
    groups = fields.get("groups")
    if groups is None or (isinstance(groups, str) and groups.strip() in _EMPTY):
        groups = []
    if not isinstance(groups, list):
        raise BadMapping(f"{place}.groups: must be a list of texts")
    texts = tuple(template(group, f"{place}.groups[{number}]") for number, group in enumerate(groups))
    if arn_key == "rolearn" and fields.get("sso"):
        if fields.get("rolearn"):
            raise BadMapping(f"{place}: has rolearn and sso, and one of them is right")
        return MapEntry("", username, texts, _sso(fields["sso"], f"{place}.sso"))
    return MapEntry(mapped_arn(fields.get(arn_key), f"{place}.{arn_key}"), username, texts)


def mapped_arn(value: Any, place: str) -> str:
    """An ARN to be looked up, in lower case. Raises BadMapping."""
    try:
        return str(identity(value if isinstance(value, str) else "")).lower()
    except BadArn as error:
        raise BadMapping(f"{place}: {error}") from None


def template(value: Any, place: str) -> str:
    """A text whose templates are known ones. Raises BadMapping."""
    if not isinstance(value, str) or not value:
        raise BadMapping(f"{place}: must be a text, and not an empty one")
    for name in _TEMPLATE.findall(value):
        if name not in TEMPLATES:
            raise BadMapping(f"{place}: {{{{{name}}}}} is no template; there are {', '.join(TEMPLATES)}")
    return value


def _sso(value: Any, place: str) -> re.Pattern[str]:
    """Roles that IAM Identity Center makes of a permission set; their names end with letters that nobody chooses."""
    fields = {str(name).lower(): each for name, each in value.items()} if isinstance(value, Mapping) else {}
    name, account = fields.get("permissionsetname"), fields.get("accountid")
    partition = fields.get("partition") or "aws"
    if not isinstance(name, str) or not _PERMISSION_SET.fullmatch(name):
        raise BadMapping(f"{place}.permissionSetName: must be the name of a permission set")
    if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
        raise BadMapping(f"{place}.accountID: must be 12 digits")
    if partition not in PARTITIONS:
        raise BadMapping(f"{place}.partition: there are {', '.join(PARTITIONS)}")
    fixed = f"arn:{partition}:iam::{account}:role/AWSReservedSSO_{name}_".lower()
    return re.compile(re.escape(fixed) + "[0-9a-f]+", re.ASCII)


def _accounts(value: Any, problems: list[str]) -> frozenset[str] | None:
    try:
        items = _list(value, MAP_ACCOUNTS)
    except BadMapping as error:
        problems.append(f"{error}; what was read before stays in force")
        return None
    found: set[str] = set()
    for position, item in enumerate(items):
        text = str(item)
        if _ACCOUNT.fullmatch(text):
            found.add(text)
        else:
            problems.append(f"{MAP_ACCOUNTS}[{position}]: must be 12 digits; the entry is left out")
    return frozenset(found)


def render(entry: MapEntry, caller: Identity, private_dns_name: PrivateDnsName) -> Mapped:
    """User name and groups of this caller. Raises CannotRender."""
    groups = (fill(group, caller, private_dns_name) for group in entry.groups)
    return Mapped(fill(entry.username, caller, private_dns_name), tuple(groups))


def fill(text: str, caller: Identity, private_dns_name: PrivateDnsName) -> str:
    """The text with its templates filled in. Raises CannotRender where one has no value."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name == "EC2PrivateDNSName":
            return _instance_name(caller.session_name, private_dns_name)
        found = {
            "AccountID": caller.account_id,
            "SessionName": caller.session_name.replace("@", "-"),
            "SessionNameRaw": caller.session_name,
            "AccessKeyID": caller.access_key_id,
        }.get(name)
        if not found:
            raise CannotRender(f"{{{{{name}}}}} has no value for {caller.arn}")
        return found

    return _TEMPLATE.sub(value, text)


def _instance_name(session: str, private_dns_name: PrivateDnsName) -> str:
    if not _INSTANCE.fullmatch(session):
        raise CannotRender("{{EC2PrivateDNSName}} is for EC2 instances, and the session's name is no instance's id")
    found = private_dns_name(session)
    if not found:
        raise CannotRender(f"{{{{EC2PrivateDNSName}}}}: the name of {session} is not in the file of private DNS names")
    return found
