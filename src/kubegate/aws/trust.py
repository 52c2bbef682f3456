"""Trust policies of roles that pods assume: written for a service account, and asked whether they trust a token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubegate.api import Object
from kubegate.aws.arn import Arn, BadArn

ACTION = "sts:AssumeRoleWithWebIdentity"
AUDIENCE = "sts.amazonaws.com"


class NotTrusted(Exception):
    """No statement trusts the token; the text says what each one wants."""


def provider(issuer: str) -> str:
    """An issuer as IAM names its OIDC provider: without the scheme."""
    return issuer.removeprefix("https://").rstrip("/")


def trust_policy(
    issuer: str, account: str, namespace: str, service_account: str, *, audience: str = AUDIENCE, partition: str = "aws"
) -> Object:
    """Who may assume the role: the pods of one service account. `*` in either name makes it a pattern."""
    name, subject = provider(issuer), f"system:serviceaccount:{namespace}:{service_account}"
    conditions: Object = {"StringEquals": {f"{name}:aud": audience}}
    how = "StringLike" if "*" in subject else "StringEquals"
    conditions.setdefault(how, {})[f"{name}:sub"] = subject
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{name}"},
        "Action": ACTION,
        "Condition": conditions,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def check(policy: Mapping[str, Any], claims: Mapping[str, Any], role: str) -> None:
    """Whether a policy trusts a web identity token with these claims. Raises NotTrusted."""
    name, problems = provider(str(claims.get("iss") or "")), list[str]()
    allowed = False
    for position, statement in enumerate(_list(policy.get("Statement"))):
        problem = _problem(statement, name, claims, role)
        if statement.get("Effect") == "Deny" and not problem:
            raise NotTrusted(f"Statement[{position}] denies it")
        allowed = allowed or (statement.get("Effect") == "Allow" and not problem)
        problems.append(f"Statement[{position}]: {problem}")
    if not allowed:
        raise NotTrusted("; ".join(problems) or "there is no Statement")


def _problem(statement: Mapping[str, Any], name: str, claims: Mapping[str, Any], role: str) -> str:
    """Why a statement does not hold; "" where it does."""
    if not any(_like(ACTION, action) for action in _list(statement.get("Action"))):
        return f"its Action is not {ACTION}"
    principals = [str(each) for each in _list((statement.get("Principal") or {}).get("Federated"))]
    account = _account(role)
    wanted = f":iam::{account}:oidc-provider/{name}"
    if not any(principal.startswith("arn:") and principal.endswith(wanted) for principal in principals):
        return f"its Principal.Federated is {', '.join(principals) or 'missing'}; right is arn:aws{wanted}"
    known = {f"{name}:sub": _list(claims.get("sub")), f"{name}:aud": _list(claims.get("aud"))}
    for operator, key, values in _conditions(statement):
        compare = _OPERATORS.get(operator)
        if compare is None:
            return f"its condition {operator} is not known here"
        has = known.get(key)
        if has is None:
            return f"its condition on {key}: the token has no such key; there are {', '.join(known)}"
        every = all if operator in _NEGATED else any
        if not every(compare(str(one), str(value)) for one in has for value in values):
            shown = ", ".join(map(str, values))
            return f"{operator} {key}: the token has {', '.join(map(str, has))}; in the policy is {shown}"
    return ""


def _conditions(statement: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Any]]]:
    for operator, pairs in (statement.get("Condition") or {}).items():
        for key, values in pairs.items():
            yield operator, key, _list(values)


def _account(role: str) -> str:
    try:
        return Arn.parse(role).account
    except BadArn:
        return ""


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _like(text: str, pattern: Any) -> bool:
    """IAM's wildcards: `*` any letters, `?` one."""
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in str(pattern))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


_OPERATORS = {
    "StringEquals": lambda has, wanted: has == wanted,
    "StringEqualsIgnoreCase": lambda has, wanted: has.lower() == wanted.lower(),
    "StringNotEquals": lambda has, wanted: has != wanted,
    "StringLike": _like,
    "StringNotLike": lambda has, wanted: not _like(has, wanted),
    "ForAnyValue:StringEquals": lambda has, wanted: has == wanted,
    "ForAnyValue:StringLike": _like,
}
_NEGATED = ("StringNotEquals", "StringNotLike")
