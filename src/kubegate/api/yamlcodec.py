"""YAML to values and back, as Go reads and writes it, within bounds.

Values are built from the parser's events, so that aliases, depth, size and duplicates are in our hands. Follows
go.yaml.in/yaml/v2 and sigs.k8s.io/yaml: 1.1 booleans (yes, on) are booleans, times stay text, keys become text.
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any, Final

import orjson
import yaml

from kubegate.api.codec import MAX_DEPTH, DecodeError, duplicate_fields

_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INFINITIES = {
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), "+Inf"),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), "-Inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), "NaN"),
}
_YAML_INT = re.compile(r"[-+]?(?:0[bB][01]+|0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_YAML_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"
# What takes a second to read.
_MAX_NODES: Final = 250_000


def decode(body: bytes) -> tuple[Any, list[str]]:
    """The value of the first YAML document as JSON would hold it, and what Go's strict decoder says of duplicates.

    Keys are text, times stay text, 1.1 booleans (yes, on) are booleans. Raises DecodeError, also for documents whose
    aliases grow out of proportion.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("yaml: invalid Unicode character") from None
    if text.lstrip(" \t\r\n")[:1] in ("{", "["):
        return _decode_flow(body, text)
    return _decode_block(text)


def _decode_flow(body: bytes, text: str) -> tuple[Any, list[str]]:
    """JSON is YAML: try the faster parser first, where it says the same."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    else:
        if not duplicate_fields(body, value) and body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
            return value, []
    return _decode_block(text)


def _decode_block(text: str) -> tuple[Any, list[str]]:
    loader = yaml.CSafeLoader(text)
    builder = _YAMLBuilder(loader)
    try:
        value = builder.document()
    except yaml.YAMLError as error:
        raise DecodeError(_yaml_error(error)) from None
    finally:
        loader.dispose()
    return value, builder.duplicates


def load(content: bytes | str, loader: Any = yaml.CSafeLoader) -> Any:
    """`yaml.load`, for files and maps that people write. Raises yaml.YAMLError for all that it cannot read.

    PyYAML recurses in C for each level, and would end the process with a document that nests deep enough.
    """
    depth = 0
    try:
        for event in yaml.parse(content, Loader=loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise yaml.MarkedYAMLError(problem="nested too deeply")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        return yaml.load(content, Loader=loader)
    except (ValueError, KeyError, AttributeError) as error:  # a number, a day or a truth value that is none
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None


class _YAMLBuilder:
    """Builds a value from parser events, so that aliases, depth and duplicates are in our hands."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.duplicates: list[str] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.open_anchors: set[str] = set()
        self.looped = ""
        self.nodes = 0
        self.aliased = 0

    def document(self) -> Any:
        self.loader.get_event()
        if not self.loader.check_event(yaml.DocumentStartEvent):
            return None
        self.loader.get_event()
        value = self.node(0)
        if self.looped:
            raise DecodeError(f"yaml: anchor '{self.looped}' value contains itself")
        return value

    def node(self, depth: int) -> Any:
        event = self.loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            return self.alias(str(event.anchor))
        before = self.nodes
        self.count(1)
        if depth > MAX_DEPTH:
            raise DecodeError("yaml: exceeded max depth")
        anchor = event.anchor
        if anchor is not None:
            self.open_anchors.add(anchor)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not self.loader.check_event(yaml.SequenceEndEvent):
                value.append(self.node(depth + 1))
            self.loader.get_event()
        else:
            value = self.mapping(depth)
        if anchor is not None:
            self.open_anchors.discard(anchor)
            self.anchors[anchor] = (value, self.nodes - before)
        return value

    def mapping(self, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        merged: list[Any] = []
        while not self.loader.check_event(yaml.MappingEndEvent):
            start = self.loader.peek_event()
            key = self.node(depth + 1)
            plain = isinstance(start, yaml.ScalarEvent) and start.implicit[0]
            if plain and key == "<<":
                merged.append(self.node(depth + 1))
                continue
            text = _key(key)
            if text in value:
                line = self.loader.peek_event().start_mark.line + 1  # of its value
                self.duplicates.append(f"line {line}: key {orjson.dumps(text).decode()} already set in map")
            value[text] = self.node(depth + 1)
        self.loader.get_event()
        for source in merged:
            for part in source if isinstance(source, list) else [source]:
                if not isinstance(part, dict):
                    raise DecodeError("yaml: map merge requires map or sequence of maps as the value")
                for name, member in part.items():
                    value.setdefault(name, member)
        return value

    def alias(self, anchor: str) -> Any:
        if anchor in self.open_anchors:
            # Told at the end: what is wrong with the syntax comes first.
            self.looped = anchor
            return None
        found = self.anchors.get(anchor)
        if found is None:
            raise DecodeError(f"yaml: unknown anchor '{anchor}' referenced")
        value, size = found
        self.aliased += size
        self.count(size)
        return value

    def count(self, nodes: int) -> None:
        """The document's size with every alias written out; a document may not be mostly aliases."""
        self.nodes += nodes
        if self.aliased > 100 and self.nodes > 1000 and self.aliased > self._allowed():
            raise DecodeError("yaml: document contains excessive aliasing")
        if self.nodes > _MAX_NODES:
            raise DecodeError(f"yaml: document has more than {_MAX_NODES} nodes")

    def _allowed(self) -> float:
        """Small documents may be nearly all aliases, large ones to a tenth."""
        share = 0.99 - 0.89 * max(0.0, min(1.0, (self.nodes - 400_000) / 3_600_000))
        return share * self.nodes


def _scalar(event: Any) -> Any:
    text, tag = event.value, event.tag
    if tag is None and not event.implicit[0]:
        return text
    if tag == "!" or tag == f"{_TAG}str":
        return text
    if tag == f"{_TAG}binary":
        try:
            return base64.b64decode(text, validate=False).decode("utf-8", "replace")
        except ValueError:  # binascii.Error, or of text that is not ASCII
            raise DecodeError("yaml: !!binary value contains invalid base64 data") from None
    value = _resolved(text)
    if tag == f"{_TAG}float" and isinstance(value, int):
        return value
    return text if tag not in (None, f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null") else value


def _resolved(text: str) -> Any:
    """A plain scalar's value."""
    if text in _NULLS:
        return None
    if text[0] in "ynYNtTfFoO" and text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if text in _INFINITIES:
        # JSON has no such numbers.
        raise DecodeError(f"json: unsupported value: {_INFINITIES[text]}")
    digits = text.replace("_", "")
    if len(digits) <= 64 and _YAML_INT.fullmatch(digits):
        number = _integer(digits)
        return number if -(2**63) <= number < 2**64 else float(number)
    if len(digits) <= 400 and _YAML_FLOAT.fullmatch(digits):
        value = float(digits)
        if math.isinf(value):
            return text
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    return text


def _integer(digits: str) -> int:
    sign, magnitude = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
    if len(magnitude) > 1 and magnitude[0] == "0" and magnitude[1].isdigit():
        return sign * int(magnitude, 8)
    return sign * int(magnitude, 0)


def _key(key: Any) -> str:
    """Keys that are not text are written as they would be read."""
    if isinstance(key, str):
        return key
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float):
        return str(key)
    raise DecodeError("yaml: invalid map key: only scalars can be keys")


def _yaml_error(error: yaml.YAMLError) -> str:
    """libyaml's words in the form that Go's port gives them: the problem, and the line if it is not the first."""
    if not isinstance(error, yaml.MarkedYAMLError):
        reason = getattr(error, "reason", None)
        return f"yaml: {reason or 'unknown problem parsing YAML content'}"
    line = 0
    if error.problem_mark is not None and error.problem_mark.line:
        # The scanner counts lines from zero where it stands, the parser from where the next token begins.
        line = error.problem_mark.line + (1 if isinstance(error, yaml.scanner.ScannerError) else 0)
    elif error.context_mark is not None:
        line = error.context_mark.line
    where = f"line {line}: " if line else ""
    return f"yaml: {where}{error.problem or 'unknown problem parsing YAML content'}"


class _Dumper(yaml.CSafeDumper):
    """Go's style: no aliases, text quoted only where it would be read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text:
        style = "|"
    elif text in _NULLS or text in _BOOLEANS or text == "<<" or _looks_like_number(text):
        style = '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?")


def _looks_like_number(text: str) -> bool:
    if text[:1] not in frozenset("+-.0123456789"):
        return False
    digits = text.replace("_", "")
    return bool(
        text in _INFINITIES
        or _YAML_INT.fullmatch(digits)
        or _YAML_FLOAT.fullmatch(digits)
        or _SEXAGESIMAL.fullmatch(text)
        or _TIMESTAMP.fullmatch(text)
    )


_Dumper.add_representer(str, _represent_text)


def encode(value: Any) -> bytes:
    """Keys in order, as kube-apiserver answers `Accept: application/yaml`."""
    written = yaml.dump(value, Dumper=_Dumper, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return written.encode()
