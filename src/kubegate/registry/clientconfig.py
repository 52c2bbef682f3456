"""Where a webhook is: a URL, or a Service and a path on it. For admission's webhooks, and those that convert.

Follows k8s.io/apiserver/pkg/util/webhook.
"""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError, child
from kubegate.cel.libraries import urls


def validate(config: Object, path: str) -> list[FieldError]:
    """The clientConfig of a webhook, but for its caBundle."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [field.required(path, "exactly one of url or service is required")]
    if url is not None:
        return validate_url(url, child(path, "url"))
    return validate_service(service or {}, child(path, "service"))


def validate_url(text: str, path: str) -> list[FieldError]:
    """The address of a webhook: https, a host, a path, and nothing else."""
    form = "; desired format: https://host[/path]"
    try:
        url = urls.parse(text, reference=True)
    except urls.URLError as error:
        return [field.required(path, f"url must be a valid URL: {error}{form}")]
    errors: list[FieldError] = []
    if url.scheme != "https":
        errors.append(field.invalid(path, url.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not url.host:
        errors.append(field.invalid(path, url.host, f"host must be specified{form}"))
    if url.user:
        errors.append(field.invalid(path, url.user, "user information is not permitted in the URL"))
    if url.fragment:
        errors.append(field.invalid(path, url.fragment, "fragments are not permitted in the URL"))
    if url.query:
        errors.append(field.invalid(path, url.query, "query parameters are not permitted in the URL"))
    return errors


def validate_service(service: Object, path: str) -> list[FieldError]:
    """A reference to a Service, its port, and a path on it."""
    errors: list[FieldError] = []
    if not service.get("name"):
        errors.append(field.required(child(path, "name")))
    if not service.get("namespace"):
        errors.append(field.required(child(path, "namespace")))
    port = service.get("port") or 0
    problems = names.is_valid_port_num(port)
    if problems:
        errors.append(field.invalid(child(path, "port"), port, "port is not valid: " + ", ".join(problems)))
    url_path, where = service.get("path"), child(path, "path")
    if not url_path or url_path == "/":
        return errors
    if url_path == "//":
        return [*errors, field.invalid(where, url_path, "segment[0] may not be empty")]
    if not url_path.startswith("/"):
        errors.append(field.invalid(where, url_path, "must start with a '/'"))
    for position, segment in enumerate(url_path[1:].removesuffix("/").split("/")):
        if not segment:
            errors.append(field.invalid(where, url_path, f"segment[{position}] may not be empty"))
            continue
        for text in names.is_dns1123_subdomain(segment):
            errors.append(field.invalid(where, url_path, f"segment[{position}]: {text}"))
    return errors
