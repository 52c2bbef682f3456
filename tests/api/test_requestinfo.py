"""What a list is of: one name where the field selector lets only that through."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from kubegate.api import requestinfo


@pytest.mark.parametrize(
    ("query", "verb", "name"),
    [
        ("fieldSelector=metadata.name%3Da", "list", "a"),
        ("fieldSelector=metadata.name%3D%3Da,spec.x%3Db&watch=1&limit=5&timeoutSeconds=9", "watch", "a"),
        ("fieldSelector=metadata.name!%3Da", "list", ""),
        ("fieldSelector=metadata.name%3Da%2Fb", "list", ""),
        # an option that cannot be read takes the name with it, and leaves the verb
        ("fieldSelector=metadata.name%3Da&limit=x&watch=1", "watch", ""),
        ("fieldSelector=metadata.name%3Da&timeoutSeconds=", "list", ""),
        ("fieldSelector=metadata.name%3Da&labelSelector=((", "list", ""),
        ("fieldSelector=((metadata.name%3Da", "list", ""),
    ],
)
def test_a_list_is_of_one_name_where_all_of_its_options_can_be_read(query: str, verb: str, name: str) -> None:
    found = requestinfo.parse("GET", "/api/v1/namespaces/x/pods", parse_qs(query, keep_blank_values=True))
    assert (found.verb, found.name) == (verb, name)


@pytest.mark.parametrize(
    ("path", "verb", "subresource"),
    [
        ("/api/v1/namespaces/x/pods/p/log", "get", "log"),
        ("/api/v1/watch/namespaces/x/pods/p/log", "watch", "log"),
        ("/api/v1/proxy/namespaces/x/pods/p/log", "proxy", ""),
    ],
)
def test_what_follows_a_name_is_a_subresource_but_on_the_old_proxy_path(path: str, verb: str, subresource: str) -> None:
    found = requestinfo.parse("GET", path, {})
    assert (found.verb, found.resource, found.name, found.subresource) == (verb, "pods", "p", subresource)
    assert found.verb_in_path == (verb != "get")
