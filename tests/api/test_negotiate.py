"""What refusals are written in."""

from __future__ import annotations

import pytest

from kubegate.api.negotiate import JSON, YAML, for_error

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/yaml", YAML),
        ("application/yaml, application/json", YAML),
        ("application/json, application/yaml", JSON),
        ("application/json;q=0.5, application/yaml", YAML),
        ("application/yaml;q=0.1, */*", JSON),
        ("text/html", JSON),
        ("application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"),
        ("application/vnd.kubernetes.protobuf, */*", JSON),
        (TABLE, JSON),
        (f"{TABLE}, application/yaml", YAML),
        (f"application/yaml;as=Table;v=v1;g=meta.k8s.io, {JSON}", JSON),
        ("application/json;stream=watch", JSON),
    ],
)
def test_a_refusal_is_written_as_is_most_wanted_and_never_as_a_table(accept: str, media_type: str) -> None:
    assert for_error(accept) == media_type
