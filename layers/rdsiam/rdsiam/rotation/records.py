"""Records of the secrets of one database's users, as one run reads and replaces them."""

from collections.abc import Mapping
from dataclasses import replace

from rdsiam.state.inventory import Inventory
from rdsiam.state.record import SecretRecord


class SecretRecords:
    """User → the record of its secret.

    :param arn: ARN of the database.
    :param records: records that the inventory had when the run began.
    :param plan: leave the inventory as it is.
    """

    def __init__(self, inventory: Inventory, arn: str, records: Mapping[str, SecretRecord], plan: bool) -> None:
        self._inventory = inventory
        self._arn = arn
        self._records = dict(records)
        self._plan = plan

    def get(self, user: str) -> SecretRecord | None:
        """Return the record of a user's secret; None if there is none."""
        return self._records.get(user)

    def active(self) -> set[str]:
        """Return the users whose rotation has not ended."""
        return {user for user, record in self._records.items() if record.state != "ended"}

    def replace(self, user: str, record: SecretRecord | None) -> None:
        """Replace the record of a user's secret; None removes it.

        :raises Refused: another run has replaced it meanwhile.
        """
        expected = self.get(user)
        if expected == record:
            return
        if not self._plan:
            self._inventory.set_secret(self._arn, user, record, expected)
        if record is None:
            del self._records[user]
        else:
            self._records[user] = record

    def withdraw(self, user: str) -> None:
        """Record that the user's rotation sets no password from now on, whatever the secret's owner does."""
        record = self.get(user)
        if record is not None and record.state == "ready":
            self.replace(user, replace(record, state="ending"))
