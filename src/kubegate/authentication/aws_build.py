"""The authenticator of IAM identities, put together from the server's --aws-iam-* flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubegate.api.clock import Clock
from kubegate.authentication import aws_maps
from kubegate.authentication.aws_iam import AwsIamAuthenticator, AwsIamSettings
from kubegate.authentication.secrets import Digest
from kubegate.authentication.watched import WatchedFile, naming
from kubegate.aws.sts import StsSettings
from kubegate.storage import Reader

if TYPE_CHECKING:
    from kubegate.authentication.build import AuthenticationOptions

_FILE_WANTED = "--aws-iam-mapping-file goes with MountedFile in --aws-iam-backend-mode, and that with the file"


def build(
    options: AuthenticationOptions, reader: Reader, clock: Clock, digest: Digest, files: list[WatchedFile[Any]]
) -> AwsIamAuthenticator:
    """Adds to `files` those that are to be looked at again and again. Raises ValueError, naming the flag."""
    modes = options.aws_iam_backend_mode
    if bool(options.aws_iam_mapping_file) != any(mode in aws_maps.FILE_MODES for mode in modes):
        raise ValueError(_FILE_WANTED)
    maps: list[aws_maps.Maps] = []
    for mode in modes:
        if mode in aws_maps.FILE_MODES:
            with naming("--aws-iam-mapping-file"):
                file = aws_maps.FileMaps(Path(options.aws_iam_mapping_file), mode)
            files.append(file.file)
            maps.append(file)
        else:
            with naming("--aws-iam-backend-mode"):
                maps.append(aws_maps.following(mode, reader))
    names: WatchedFile[dict[str, str]] | None = None
    if options.aws_iam_private_dns_file:
        path = Path(options.aws_iam_private_dns_file)
        with naming("--aws-iam-private-dns-file"):
            names = WatchedFile(path, lambda content: aws_maps.parse_private_dns_names(content, str(path)))
        files.append(names)
    authority = None
    if options.aws_iam_sts_cafile:
        with naming("--aws-iam-sts-cafile"):
            authority = Path(options.aws_iam_sts_cafile).read_bytes()
    per_second = options.aws_iam_sts_qps
    if per_second < 1:
        raise ValueError("--aws-iam-sts-qps must be at least 1")
    settings = AwsIamSettings(
        options.aws_iam_cluster_id,
        options.aws_iam_partition,
        options.aws_iam_sts_endpoint,
        StsSettings(authority, calls_per_second=per_second, burst=5 * per_second),
    )
    with naming("--aws-iam-partition, --aws-iam-sts-endpoint, --aws-iam-sts-cafile"):
        return AwsIamAuthenticator(
            settings,
            maps,
            clock,
            private_dns_name=lambda instance: None if names is None else names.value.get(instance),
            digest=digest,
        )
