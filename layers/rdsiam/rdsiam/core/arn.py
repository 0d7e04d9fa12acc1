"""ARNs in their parts: `arn:<partition>:<service>:<region>:<account>:<resource>`."""

import re
from dataclasses import dataclass, replace

_SEPARATOR = re.compile("[:/]")


@dataclass(frozen=True)
class Arn:
    """An Amazon Resource Name.

    :ivar partition: `aws`, `aws-cn`, …
    :ivar service: such as `rds`.
    :ivar region: empty for services without regions, such as IAM.
    :ivar resource: all after the account, such as `db:orders` or `role/ci`.
    """

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> "Arn":
        """Return the parts of an ARN.

        :raises ValueError: the text is no ARN.
        """
        prefix, *parts = text.split(":", 5)
        if prefix != "arn" or len(parts) != 5:
            raise ValueError("an ARN has six parts, the first of them arn")
        return cls(*parts)

    @property
    def kind(self) -> str:
        """The kind of resource, such as `db`, `cluster` or `role`."""
        return _SEPARATOR.split(self.resource, maxsplit=1)[0]

    @property
    def name(self) -> str:
        """The part after the kind, such as the identifier of a database."""
        return "".join(_SEPARATOR.split(self.resource, maxsplit=1)[1:])

    def beside(self, resource: str) -> str:
        """Return the ARN of another resource of the same service, region and account."""
        return str(Arn(self.partition, self.service, self.region, self.account, resource))

    def __str__(self) -> str:
        return ":".join(("arn", self.partition, self.service, self.region, self.account, self.resource))


def lower_identifier(name: str) -> str:
    """Return a database's identifier or ARN as RDS writes it: identifiers of instances and clusters in lower case."""
    if not is_arn(name):
        return name.lower()
    try:
        arn = Arn.parse(name)
    except ValueError:
        return name
    return str(replace(arn, resource=arn.resource.lower())) if arn.kind in ("db", "cluster") else name


def is_arn(text: str) -> bool:
    """Return whether a text is meant to be an ARN rather than an identifier."""
    return text.startswith("arn:")
