"""Partitions of AWS: the DNS suffixes of their endpoints, and the regions that each one has.

Read from the data that botocore ships, so that a new partition needs no new version of rdsiam. botocore itself isn't
imported: it is slow to load, and a command that signs offline doesn't need it.
"""

import re
from collections.abc import Mapping
from functools import cache

_COMMERCIAL = "amazonaws.com"
#: Addresses at which AWS publishes RDS's certificate authorities, by partition.
_BUNDLES: Mapping[str, str] = {
    "aws": "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
    "aws-us-gov": "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem",
    "aws-cn": "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem",
}


def dns_suffix(region: str) -> str:
    """Return the suffix of AWS's endpoints in a region, such as `amazonaws.com`; of an unknown region the commonest."""
    return next((suffix for suffix, regions in _partitions().items() if re.match(regions, region)), _COMMERCIAL)


def is_dns_suffix(text: str) -> bool:
    """Tell whether AWS's endpoints in one of the partitions have this suffix."""
    return text == _COMMERCIAL or text in _partitions()


def ca_bundle(partition: str) -> str:
    """Return the address of RDS's certificate authorities in a partition; empty if AWS publishes none for everybody."""
    return _BUNDLES.get(partition, "")


@cache
def _partitions() -> Mapping[str, str]:
    """Return the DNS suffix of each partition and the regular expression of its regions, as botocore has them.

    GovCloud has the suffix of the commercial partition, so there may be fewer suffixes than partitions.
    """
    # Imported late: a token for an endpoint of the commercial partition is signed without them.
    import json
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("botocore")
    if spec is None or spec.origin is None:
        return {}
    data = json.loads((Path(spec.origin).parent / "data" / "partitions.json").read_text(encoding="utf-8"))
    partitions = [(str(each["outputs"]["dnsSuffix"]), str(each["regionRegex"])) for each in data["partitions"]]
    return {
        suffix: "|".join(f"(?:{regions})" for other, regions in partitions if other == suffix)
        for suffix, _ in partitions
    }
