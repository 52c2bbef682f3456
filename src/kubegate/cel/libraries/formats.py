"""Named formats: `format.dns1123Label().validate(text)` gives what is wrong with a text, if anything is."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from kubegate.api import names
from kubegate.cel import types, values
from kubegate.cel.functions import Library
from kubegate.cel.libraries import urls
from kubegate.cel.types import CelType
from kubegate.cel.values import NONE, Optional

library = Library()
overload = library.overload

Check = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Format:
    """`pattern_size` is the length of the regular expression that costs are counted with."""

    cel_type: ClassVar[CelType] = types.parse("named_format")
    check: Check
    pattern_size: int


def _prefix(check: Check) -> Check:
    """A prefix may end in a dash. As in Kubernetes, the letter before it is not looked at then."""

    def checked(text: str) -> list[str]:
        return check(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)

    return checked


def _uri(text: str) -> list[str]:
    try:
        urls.parse(text)
    except urls.URLError as error:
        return [str(error)]
    return []


_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _uuid(text: str) -> list[str]:
    return [] if _UUID.fullmatch(text) else ["does not match the UUID format"]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return [] if text else ["invalid base64"]


def _date(text: str) -> list[str]:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        return ["invalid date"]
    return []


def _datetime(text: str) -> list[str]:
    return [] if values.parse_timestamp(text.upper()) else ["invalid datetime"]


FORMATS = {
    "dns1123Label": Format(names.is_dns1123_label, 30),
    "dns1123Subdomain": Format(names.is_dns1123_subdomain, 60),
    "dns1035Label": Format(names.is_dns1035_label, 30),
    "qualifiedName": Format(names.is_qualified_name, 60),
    "dns1123LabelPrefix": Format(_prefix(names.is_dns1123_label), 30),
    "dns1123SubdomainPrefix": Format(_prefix(names.is_dns1123_subdomain), 60),
    "dns1035LabelPrefix": Format(_prefix(names.is_dns1035_label), 30),
    "labelValue": Format(names.is_valid_label_value, 40),
    "uri": Format(_uri, 1103),
    "uuid": Format(_uuid, 70),
    "byte": Format(_byte, 84),
    "date": Format(_date, 71),
    "datetime": Format(_datetime, 71),
}


def _declare() -> None:
    for name, made in FORMATS.items():

        def constant(made: Format = made) -> Format:
            return made

        overload(f"format.{name}() -> named_format")(constant)


_declare()


@overload("format.named(string) -> optional(named_format)")
def _named(name: str) -> Optional:
    return Optional(True, FORMATS[name]) if name in FORMATS else NONE


@overload("named_format.validate(string) -> optional(list(string))")
def _validate(format_: Format, text: str) -> Optional:
    problems = format_.check(text)
    return Optional(True, problems) if problems else NONE
