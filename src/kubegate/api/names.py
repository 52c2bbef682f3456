"""How names are checked: labels, subdomains, label keys and values, ports, addresses.

Each function takes a value and gives the texts of what is wrong with it, none where it is well formed; the caller
puts them after `Invalid value: "x": `. Follows k8s.io/apimachinery/pkg/util/validation and pkg/api/validate/content
of v1.36, where lengths of names are told in characters and those of label keys and values in bytes; both count bytes.
"""

from __future__ import annotations

import ipaddress
import re

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_UNDERSCORE_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORE_SUBDOMAIN = _UNDERSCORE_LABEL + r"(\." + _UNDERSCORE_LABEL + ")*"
_DNS1035_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD_SUBDOMAIN = r"\*\." + _SUBDOMAIN
_LABEL_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = "(" + _LABEL_KEY + ")?"
_CONFIG_MAP_KEY = "[-._a-zA-Z0-9]+"
_HTTP_HEADER_NAME = "[-A-Za-z0-9]+"
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_PERCENT = "[0-9]+%"

_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_UNDERSCORE_SUBDOMAIN_RE = re.compile(_UNDERSCORE_SUBDOMAIN)
_DNS1035_LABEL_RE = re.compile(_DNS1035_LABEL)
_WILDCARD_SUBDOMAIN_RE = re.compile(_WILDCARD_SUBDOMAIN)
# The first alternative of the published patterns backtracks; these match the same texts in one pass.
_LABEL_KEY_RE = re.compile("[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIXED_KEY_RE = re.compile(r"[a-z0-9]+(?:(?:-+|\.)[a-z0-9]+)*/[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")
_LABEL_VALUE_RE = re.compile("([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_CONFIG_MAP_KEY_RE = re.compile(_CONFIG_MAP_KEY)
_HTTP_HEADER_NAME_RE = re.compile(_HTTP_HEADER_NAME)
_HTTP_PATH_RE = re.compile(_HTTP_PATH)
_C_IDENTIFIER_RE = re.compile(_C_IDENTIFIER)
_PERCENT_RE = re.compile(_PERCENT)
_PORT_NAME_RE = re.compile("[-a-z0-9]+")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)

EMPTY = "must be non-empty"


def regex_error(text: str, pattern: str, *examples: str) -> str:
    """`TEXT (e.g. 'a',  or 'b', regex used for validation is 'PATTERN')`: the two spaces are kube-apiserver's."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def max_length_error(length: int) -> str:
    return f"must be no more than {length} characters"


def inclusive_range_error(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def _bytes(value: str) -> int:
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def is_dns1123_label(value: str) -> list[str]:
    if len(value) <= 63 and _LABEL_RE.fullmatch(value):  # what matches is ASCII
        return []
    errors = []
    if _bytes(value) > 63:
        errors.append(max_length_error(63))
    if not _LABEL_RE.fullmatch(value):
        if _SUBDOMAIN_RE.fullmatch(value):
            errors.append("must not contain dots")
        else:
            text = (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                "and must start and end with an alphanumeric character"
            )
            errors.append(regex_error(text, _LABEL, "my-name", "123-abc"))
    return errors


def is_dns1123_subdomain(value: str) -> list[str]:
    if len(value) <= 253 and _SUBDOMAIN_RE.fullmatch(value):
        return []
    errors = []
    if _bytes(value) > 253:
        errors.append(max_length_error(253))
    if not _SUBDOMAIN_RE.fullmatch(value):
        errors.append(regex_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return errors


def is_dns1123_subdomain_with_underscore(value: str) -> list[str]:
    errors = []
    if _bytes(value) > 253:
        errors.append(max_length_error(253))
    if not _UNDERSCORE_SUBDOMAIN_RE.fullmatch(value):
        text = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        errors.append(regex_error(text, _UNDERSCORE_SUBDOMAIN, "example.com"))
    return errors


def is_dns1035_label(value: str) -> list[str]:
    errors = []
    if _bytes(value) > 63:
        errors.append(max_length_error(63))
    if not _DNS1035_LABEL_RE.fullmatch(value):
        text = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
            "start with an alphabetic character, and end with an alphanumeric character"
        )
        errors.append(regex_error(text, _DNS1035_LABEL, "my-name", "abc-123"))
    return errors


def is_wildcard_dns1123_subdomain(value: str) -> list[str]:
    """`*.example.com`."""
    errors = []
    if _bytes(value) > 253:
        errors.append(max_length_error(253))
    if not _WILDCARD_SUBDOMAIN_RE.fullmatch(value):
        text = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
            "which must consist of lower case alphanumeric characters, '-' or '.' "
            "and end with an alphanumeric character"
        )
        errors.append(regex_error(text, _WILDCARD_SUBDOMAIN, "*.example.com"))
    return errors


def is_qualified_name(value: str) -> list[str]:
    """A label's key: `name` or `example.com/name`. Also finalizers, resource names, annotation keys in lower case."""
    if len(value) <= 63 and _LABEL_KEY_RE.fullmatch(value):
        return []
    slash = value.find("/")
    if slash <= 253 and len(value) - slash <= 64 and _PREFIXED_KEY_RE.fullmatch(value):
        return []
    errors: list[str] = []
    prefix, _, name = value.partition("/")
    if slash < 0:
        name = value
    elif "/" in name:
        more = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return ["a valid label key " + _label_key_error() + more]
    elif not prefix:
        errors.append(f"prefix part {EMPTY}")
    else:
        if _bytes(prefix) > 253:
            errors.append("prefix part must be no more than 253 bytes")
        if not _SUBDOMAIN_RE.fullmatch(prefix):
            errors.append("prefix part " + regex_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    if not name:
        errors.append(f"name part {EMPTY}")
    elif _bytes(name) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _LABEL_KEY_RE.fullmatch(name):
        errors.append("name part " + _label_key_error())
    return errors


def _label_key_error() -> str:
    return regex_error(_LABEL_KEY_TEXT, _LABEL_KEY, "MyName", "my.name", "123-abc")


def is_valid_label_value(value: str) -> list[str]:
    errors = []
    if _bytes(value) > 63:
        errors.append("must be no more than 63 bytes")
    if not _LABEL_VALUE_RE.fullmatch(value):
        text = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character"
        )
        errors.append(regex_error(text, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return errors


def is_fully_qualified_name(value: str) -> list[str]:
    """A subdomain of three parts or more. The empty value is the caller's to refuse (as Required)."""
    errors = is_dns1123_subdomain(value)
    if errors:
        return [",".join(errors)]
    if value.count(".") < 2:
        return ["should be a domain with at least three segments separated by dots"]
    return []


def is_domain_prefixed_path(value: str) -> list[tuple[str, str]]:
    """`acme.io/foo` as in CSR signer names: (the part that is wrong, the text)."""
    host, slash, path = value.partition("/")
    if not slash or not host or not path:
        return [(value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = [(host, text) for text in is_dns1123_subdomain(host)]
    if not _HTTP_PATH_RE.fullmatch(path):
        errors.append((path, regex_error("Invalid path", _HTTP_PATH)))
    return errors


def is_config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap's or Secret's data."""
    errors = []
    if _bytes(value) > 253:
        errors.append(max_length_error(253))
    if not _CONFIG_MAP_KEY_RE.fullmatch(value):
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        errors.append(regex_error(text, _CONFIG_MAP_KEY, "key.name", "KEY_NAME", "key-name"))
    return errors + _parent_folder(value)


def is_env_var_name(value: str) -> list[str]:
    """The relaxed rule, which is v1.36's for containers: printable ASCII without `=`."""
    errors = []
    if not value:
        errors.append(f"environment variable name {EMPTY}")
    if any(not " " <= char <= "~" or char == "=" for char in value):
        errors.append(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        )
    return errors


def _parent_folder(value: str) -> list[str]:
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def is_http_header_name(value: str) -> list[str]:
    if _HTTP_HEADER_NAME_RE.fullmatch(value):
        return []
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [regex_error(text, _HTTP_HEADER_NAME, "X-Header-Name")]


def is_c_identifier(value: str) -> list[str]:
    if _C_IDENTIFIER_RE.fullmatch(value):
        return []
    text = (
        "a valid C identifier must start with alphabetic character or '_', "
        "followed by a string of alphanumeric characters or '_'"
    )
    return [regex_error(text, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def is_valid_percent(value: str) -> list[str]:
    if _PERCENT_RE.fullmatch(value):
        return []
    text = "a valid percent string must be a numeric string followed by an ending '%'"
    return [regex_error(text, _PERCENT, "1%", "93%")]


def is_valid_port_num(port: int) -> list[str]:
    return [] if 1 <= port <= 65535 else [inclusive_range_error(1, 65535)]


def is_in_range(value: int, low: int, high: int) -> list[str]:
    return [] if low <= value <= high else [inclusive_range_error(low, high)]


def is_valid_user_id(value: int) -> list[str]:
    return is_in_range(value, 0, 0xFFFFFFFF)


is_valid_group_id = is_valid_user_id


def is_valid_port_name(value: str) -> list[str]:
    errors = []
    if _bytes(value) > 15:
        errors.append(max_length_error(15))
    if not _PORT_NAME_RE.fullmatch(value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= char <= "z" for char in value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_ip(value: str) -> IPAddress | None:
    """Leading zeros in IPv4 parts are read as decimal and zones are refused, as kube-apiserver's sloppy parser does."""
    if "%" in value:
        return None
    head, colon, tail = value.rpartition(":")
    if "." in tail:
        parts = [part.lstrip("0") or "0" if part.isascii() and part.isdigit() else part for part in tail.split(".")]
        tail = ".".join(parts)
    try:
        return ipaddress.ip_address(head + colon + tail)
    except ValueError:
        return None


def parse_cidr(value: str) -> tuple[IPAddress, IPNetwork] | None:
    """The address as written, and its network."""
    text, slash, bits = value.partition("/")
    address = parse_ip(text)
    if address is None or not slash or not (bits.isascii() and bits.isdigit()):
        return None
    bits = bits.lstrip("0") or "0"
    if len(bits) > 3 or int(bits) > address.max_prefixlen:
        return None
    return address, ipaddress.ip_network(f"{address}/{bits}", strict=False)


def is_valid_ip(value: str, *, borne: bool = False) -> list[str]:
    """`borne`: it was stored before it was asked to be unmistakable."""
    found = parse_ip(value)
    if found is None:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if borne:
        return []
    if _has_leading_zeros(value):
        return ["must not have leading 0s"]
    return ["must not be an IPv4-mapped IPv6 address"] if is_mapped(found) else []


def is_valid_cidr(value: str, *, borne: bool = False) -> list[str]:
    found = parse_cidr(value)
    if found is None:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    address, network = found
    if borne:
        return []
    if _has_leading_zeros(value):
        return ["must not have leading 0s in IP or prefix length"]
    if is_mapped(address):
        return ["must not have an IPv4-mapped IPv6 address"]
    return [] if address == network.network_address else ["must not have bits set beyond the prefix length"]


def is_mapped(address: IPAddress) -> bool:
    """An IPv4 address in the clothes of an IPv6 one."""
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _has_leading_zeros(value: str) -> bool:
    """In an IPv4 part or in the length of a prefix; in IPv6 they are plain."""
    address, _, bits = value.partition("/")
    tail = address.rpartition(":")[2]
    parts = [*(tail.split(".") if "." in tail else ()), bits]
    return any(len(part) > 1 and part[0] == "0" for part in parts)


def ip_warnings(value: str, path: str) -> list[str]:
    """What is to be said of an address that is taken, though others may read it otherwise."""
    found = parse_ip(value)
    if found is None:
        return []
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    if _has_leading_zeros(value) or mapped is not None:
        return [f'{path}: non-standard IP address "{value}" is invalid: use "{mapped or found}"']
    if found.version == 6 and str(found) != value:
        return [f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{found}")']
    return []


def cidr_warnings(value: str, path: str) -> list[str]:
    found = parse_cidr(value)
    if found is None:
        return []
    address, network = found
    warnings = []
    if address != network.network_address:
        single = f"{address}/{address.max_prefixlen}"
        text = f'is ambiguous in this context (should be "{network}" or "{single}"?)'
        warnings.append(f'{path}: CIDR value "{value}" {text}')
    if _has_leading_zeros(value) or is_mapped(address):
        mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
        preferred = f"{mapped}/{network.prefixlen - 96}" if mapped is not None else network
        warnings.append(f'{path}: non-standard CIDR value "{value}" is invalid: use "{preferred}"')
    canonical = f"{address}/{network.prefixlen}"
    if not warnings and address.version == 6 and canonical != value:
        warnings.append(f'{path}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format ("{canonical}")')
    return warnings


def path_segment_name(value: str, prefix: bool = False) -> list[str]:
    """Names that need only fit into a URL's path (RBAC). `prefix`: the value is a generateName."""
    if not prefix and value in (".", ".."):
        return [f"may not be '{value}'"]
    if "/" in value or "%" in value:
        return [f"may not contain '{part}'" for part in ("/", "%") if part in value]
    return []
