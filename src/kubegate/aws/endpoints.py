"""The hosts at which STS answers, by partition. Facts of AWS's own list of endpoints (botocore's `endpoints.json`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of AWS with identities of its own. `suffixes` are the domains of its regional hosts.

    `fips` are the regions whose FIPS host has a name of its own; `global_host` answers for no region in particular.
    """

    regions: tuple[str, ...]
    suffixes: tuple[str, ...]
    fips: tuple[str, ...] = ()
    global_host: str = ""


PARTITIONS: dict[str, Partition] = {
    "aws": Partition(
        (
            "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3",
            "ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4",
            "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1",
            "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
            "il-central-1", "me-central-1", "me-south-1", "me-west-1", "mx-central-1", "sa-east-1", "sa-west-1",
            "us-east-1", "us-east-2", "us-west-1", "us-west-2",
        ),
        ("amazonaws.com", "api.aws"),
        ("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
        "sts.amazonaws.com",
    ),
    "aws-cn": Partition(
        ("cn-north-1", "cn-northwest-1"), ("amazonaws.com.cn", "api.amazonwebservices.com.cn")
    ),
    "aws-us-gov": Partition(("us-gov-east-1", "us-gov-west-1"), ("amazonaws.com", "api.aws")),
    "aws-iso": Partition(("us-iso-east-1", "us-iso-west-1"), ("c2s.ic.gov",)),
    "aws-iso-b": Partition(("us-isob-east-1", "us-isob-west-1"), ("sc2s.sgov.gov",)),
    "aws-iso-e": Partition(("eu-isoe-west-1",), ("cloud.adc-e.uk",)),
    "aws-iso-f": Partition(("us-isof-east-1", "us-isof-south-1"), ("csp.hci.ic.gov",)),
    "aws-eusc": Partition(("eusc-de-east-1",), ("amazonaws.eu", "api.amazonwebservices.eu")),
}  # fmt: skip


def sts_hosts(partitions: Iterable[str] = ()) -> frozenset[str]:
    """The hosts of these partitions (none named: of all). Raises ValueError for one that there is not."""
    found: set[str] = set()
    for name in partitions or PARTITIONS:
        partition = PARTITIONS.get(name)
        if partition is None:
            raise ValueError(f"{name!r} is no partition of AWS; there are {', '.join(PARTITIONS)}")
        found |= {f"sts.{region}.{suffix}" for region in partition.regions for suffix in partition.suffixes}
        found |= {f"sts-fips.{region}.{suffix}" for region in partition.fips for suffix in partition.suffixes}
        if partition.global_host:
            found.add(partition.global_host)
    return frozenset(found)
