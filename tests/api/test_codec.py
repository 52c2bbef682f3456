"""Bodies: what is read, and in which words the rest is refused."""

from __future__ import annotations

import json

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api import codec, negotiate, yamlcodec
from kubegate.api.codec import (
    JSON,
    DecodeError,
    decode_document,
    decode_json,
    decode_object,
    decode_yaml,
    duplicate_fields,
)
from kubegate.api.status import StatusError

CONFIG_MAP = ("", "v1", "ConfigMap")
KNOWN = {CONFIG_MAP, ("", "v1", "Pod"), ("rbac.authorization.k8s.io", "v1beta1", "ClusterRoleBinding")}


def registered(group, version, kind):
    return (group, version, kind) in KNOWN


def refused(body, media_type=negotiate.JSON, expected=CONFIG_MAP):
    with pytest.raises(StatusError) as raised:
        decode_object(body, media_type, expected, registered)
    assert raised.value.code == 400
    return raised.value.message


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{{{", "invalid character '{' looking for beginning of object key string"),
        (b"", "unexpected end of JSON input"),
        (b'{"apiVersion":', "unexpected end of JSON input"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"1 2", "invalid character '2' after top-level value"),
        (b"-a", "invalid character 'a' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"1ex", "invalid character 'x' in exponent of numeric literal"),
        (b"01", "invalid character '1' after top-level value"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g"', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'"a\nb"', "invalid character '\\n' in string literal"),
        (b"[\x9e]", "invalid character '\\u009e' looking for beginning of value"),
        (b"['", "invalid character '\\'' looking for beginning of value"),
        (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
        (b'{"a":tru', "invalid character ' ' in literal true (expecting 'e')"),
        (b'{"a":-', "invalid character ' ' in numeric literal"),
        (b'{"a":1.', "invalid character ' ' after decimal point in numeric literal"),
        (b'{"a":"x\\', "invalid character ' ' in string escape code"),
        (b'{"a":"\\u00', "invalid character ' ' in \\u hexadecimal character escape"),
        (b'{"a":"x', "unexpected end of JSON input"),
        (b'{"a":12', "unexpected end of JSON input"),
        (b"[" * 300 + b"]" * 300, "exceeded max depth"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "exceeded max depth"),
        (b"[" * 1_000_000, "exceeded max depth"),
    ],
)
def test_json_is_refused_as_go_refuses_it(body, error):
    with pytest.raises(DecodeError) as raised:
        decode_json(body)
    assert str(raised.value) == error


def test_lone_surrogates_become_the_replacement_character():
    assert decode_json(b'["\\ud800"]') == ["\ufffd"]


def test_bytes_of_no_character_become_the_replacement_character_each():
    assert decode_json(b'{"a\xff":"\xe2\x82 \xc3\xbc"}') == {"a\ufffd": "\ufffd\ufffd \xfc"}
    document = decode_document(b'{"kind":"A","apiVersion":"v1","a":"\xff","a":"\xfe"}', JSON)
    assert document.value["a"] == "\ufffd"
    assert document.strict_errors(["b"]) == ['duplicate field "a"']


@given(st.binary(max_size=60) | st.text('{}[]",:0123456789.-+eEtruefalsn\\u \n', max_size=40).map(str.encode))
def test_every_body_is_a_value_or_a_decode_error(body):
    try:
        value = decode_json(body)
    except DecodeError as error:
        try:
            json.loads(body.decode(), parse_constant=lambda name: pytest.fail("not JSON"))
        except (ValueError, RecursionError):
            return
        assert "out of" in str(error) or "float64" in str(error)
    else:
        orjson.dumps(value)


def test_duplicate_fields_are_told_by_their_paths():
    body = b'{"a":{"b":1,"b":2},"c":[{"d":1,"d":3}],"c": 3,"e":"\\":"}'
    assert duplicate_fields(body, decode_json(body)) == ["a.b", "c[0].d", "c"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a" : 1, "a": 2}',
        b'{"a"\n:\t1,"a" :2}',
        b'{"a":1,"a":2,"b":"\\u0022:"}',
        b'{"a":1,"a":2,"b":"\\":","c":"\\u003a"}',
        b'{"a":1,"a":2,"b":"\\u003A"}',
        b'{"\\u0061":1,"a":2}',
    ],
)
def test_duplicate_fields_are_found_however_they_are_written(body: bytes):
    assert duplicate_fields(body, decode_json(body)) == ["a"]


def test_names_that_are_no_text_are_told_with_the_replacement_character():
    document = decode_document(b'{"a\\ud800":1,"a\\ud801":2,"b\\udc00":3,"kind":"A","apiVersion":"v1"}', JSON)
    assert document.strict_errors(["b\ufffd"]) == ['duplicate field "a\ufffd"', 'unknown field "b\ufffd"']


def test_text_that_looks_like_fields_is_no_duplicate():
    body = orjson.dumps({"a": '{"b":1,"b":2}', "b": {"c": '":":'}})
    assert duplicate_fields(body, decode_json(body)) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"metadata:\n\tname: tabs\n", "yaml: line 2: found character that cannot start any token"),
        (b"a: &x [*x\n", "yaml: line 1: did not find expected ',' or ']'"),
        (b"a: &x [*x]\n", "yaml: anchor 'x' value contains itself"),
        (b"a: *x\n", "yaml: unknown anchor 'x' referenced"),
        (b"a: b: c", "yaml: mapping values are not allowed in this context"),
        (b"a: \x01", "yaml: control characters are not allowed"),
        (b"[" * 300, "yaml: exceeded max depth"),
        (b"a: .inf", "json: unsupported value: +Inf"),
    ],
)
def test_yaml_is_refused_as_go_refuses_it(body, error):
    with pytest.raises(DecodeError) as raised:
        decode_yaml(body)
    assert str(raised.value) == error


def test_yaml_that_grows_by_its_aliases_is_refused():
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for level in range(8):
        name, previous = b"%c" % (98 + level), b"*%c" % (97 + level)
        bomb += name + b": &" + name + b" [" + b",".join([previous] * 10) + b"]\n"
    with pytest.raises(DecodeError, match="excessive aliasing"):
        decode_yaml(bomb)


def test_yaml_of_absurd_size_is_refused():
    with pytest.raises(DecodeError, match="more than 250000 nodes"):
        decode_yaml(b"- {a: b}\n" * 100_000)


@pytest.mark.parametrize(
    "content",
    [
        *(opening * 100_000 for opening in (b"[", b"- ", b"{a: ", b"? ")),
        *(b"a: 2001-99-99", b"a: !!bool x", b"a: " + b"9" * 5000, b"a: !!timestamp x"),
        *(b"\xff", "\ud800", b"a: !!python/name:os.system x"),
    ],
)
def test_a_file_that_cannot_be_read_as_yaml_ends_no_process(content):
    with pytest.raises(yaml.YAMLError):
        yamlcodec.load(content)


def test_binary_yaml_that_is_not_ascii_is_refused():
    with pytest.raises(DecodeError, match="invalid base64"):
        decode_yaml("a: !!binary é".encode())


def test_yaml_scalars_are_read_as_go_reads_them():
    text = b"a: 0777\nb: 1:30\nc: yes\nd: 'yes'\ne: 2001-01-01\nf: 1e3\ng: 1.5\n1: ~\ni: 0x1f\nj: !!str 5\nk: 1_000\n"
    assert decode_yaml(text)[0] == {
        "a": 511, "b": "1:30", "c": True, "d": "yes", "e": "2001-01-01", "f": 1000, "g": 1.5, "1": None, "i": 31,
        "j": "5", "k": 1000,
    }  # fmt: skip


def test_yaml_merges_and_aliases():
    assert decode_yaml(b"x: &a {b: c}\nz:\n  <<: *a\n  d: e\nw: *a\n")[0] == {
        "x": {"b": "c"},
        "z": {"b": "c", "d": "e"},
        "w": {"b": "c"},
    }


def test_only_the_first_yaml_document_counts():
    assert decode_yaml(b"a: b\n---\nc: d\n")[0] == {"a": "b"}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_what_is_written_as_yaml_is_read_again(value):
    try:
        written = codec.encode_yaml({"a": value})
    except (UnicodeEncodeError, yaml.YAMLError):
        return
    if any(char in written.decode() for char in "\r\x85\u2028\u2029\ufeff"):
        return
    assert decode_yaml(written)[0] == {"a": value}


def test_a_key_that_yaml_has_twice_is_told_with_the_line_of_its_value():
    _, duplicates = codec.decode_yaml(b"a: 1\nb:\n  c: 1\na: 2\nb:\n  d: 1\n")
    assert duplicates == ['line 4: key "a" already set in map', 'line 6: key "b" already set in map']


def test_bodies_that_cannot_be_read_are_told_with_their_beginning():
    start = "the object provided is unrecognized (must be of type ConfigMap): "
    assert refused(b"") == start + "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
    assert refused(b"{{{").endswith("looking for beginning of object key string ({{{)")
    assert refused(b"metadata:\n\tname: tabs\n", negotiate.YAML) == (
        start + "yaml: line 2: found character that cannot start any token "
        "(6d657461646174613a0a096e616d653a20746162730a)"
    )
    assert refused(b"[]") == (
        start + "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type "
        'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" } (5b5d)'
    )
    assert "Go struct field .kind of type string" in refused(b'{"kind":5}')
    assert "unexpected GroupVersion string: a/b/c" in refused(b'{"apiVersion":"a/b/c"}')


def test_bodies_of_another_kind_are_refused():
    assert refused(b'{"apiVersion":"v1","kind":"Pod"}') == (
        'Pod in version "v1" cannot be handled as a ConfigMap: '
        "converting (v1.Pod) to (core.ConfigMap): unknown conversion"
    )
    assert refused(b'{"apiVersion":"v7","kind":"ConfigMap"}') == (
        'ConfigMap in version "v7" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version '
        '"v7" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
    )
    binding = ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding")
    old = b'{"apiVersion":"rbac.authorization.k8s.io/v1beta1","kind":"ClusterRoleBinding"}'
    assert refused(old, expected=binding) == (
        "the API version in the data (rbac.authorization.k8s.io/v1beta1) does not match the expected API version "
        "(rbac.authorization.k8s.io/v1)"
    )


def test_a_body_need_not_say_what_it_is_unless_its_kind_is_custom():
    assert decode_object(b'{"data":{}}', negotiate.JSON, CONFIG_MAP, registered).value == {
        "data": {},
        "apiVersion": "v1",
        "kind": "ConfigMap",
    }
    with pytest.raises(StatusError, match=r"Object 'Kind' is missing in '\{\}'"):
        decode_object(b"{}", negotiate.JSON, ("example.org", "v1", "Form"), None)


def test_duplicates_of_yaml_are_one_error_and_several_warnings():
    body = b"metadata:\n  name: y2\n  name: y3\ndata:\n  a: b\n  a: c\n"
    document = decode_object(body, negotiate.YAML, CONFIG_MAP, registered)
    assert codec.strict_error("ConfigMap", "v1", document.duplicates).message == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n'
        '  line 3: key "name" already set in map\n  line 6: key "a" already set in map'
    )
    assert codec.warnings(document.duplicates) == [
        'line 3: key "name" already set in map',
        'line 6: key "a" already set in map',
    ]


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        ("", negotiate.Answer()),
        ("*/*", negotiate.Answer()),
        ("application/yaml", negotiate.Answer(negotiate.YAML)),
        ("application/vnd.kubernetes.protobuf, application/json;q=0.5", negotiate.Answer()),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", negotiate.Answer(kind="Table")),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", negotiate.Answer()),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1",
            negotiate.Answer(kind="PartialObjectMetadataList", version="v1beta1"),
        ),
        ("application/json;q=0.1,application/yaml", negotiate.Answer(negotiate.YAML)),
    ],
)
def test_what_accept_headers_ask_for(accept, answer):
    assert negotiate.negotiate(accept) == answer


def test_the_router_refuses_media_types_that_are_not_offered():
    negotiate.check_route("application/json;as=Nonsense", negotiate.OBJECTS)
    with pytest.raises(StatusError) as raised:
        negotiate.check_route("text/html", negotiate.OBJECTS)
    assert raised.value.message == (
        "406: Not Acceptable\n\nAvailable representations: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )
    assert raised.value.status()["details"] == {}


def test_tables_of_what_has_none_are_refused():
    with pytest.raises(StatusError) as raised:
        negotiate.negotiate("application/json;as=Table;v=v1;g=meta.k8s.io", tables=False)
    assert (raised.value.code, raised.value.message) == (
        406,
        "only the following media types are accepted: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )


def test_content_types_of_bodies():
    assert negotiate.body_media_type(None) == negotiate.JSON
    assert negotiate.body_media_type("application/yaml; charset=utf-8") == negotiate.YAML
    assert negotiate.body_media_type("application/vnd.kubernetes.protobuf") == negotiate.PROTOBUF
    with pytest.raises(StatusError) as raised:
        negotiate.body_media_type("text/plain")
    assert raised.value.code == 415
    with pytest.raises(StatusError, match="415: Unsupported Media Type"):
        negotiate.check_patch_type(None, ["application/merge-patch+json"])
    with pytest.raises(StatusError, match="accepted media types include: application/merge-patch"):
        negotiate.check_patch_type("application/json", ["application/merge-patch+json"], routed=False)
