"""The applied version of access.yaml: an item of InventoryTable that reconciles write and vending compares with."""

from rdsiam.state.inventory_items import InventoryItems

#: Key of the item; those of databases are ARNs.
KEY = "access.yaml"
#: Attributes of the item, and of no other: the table's policy lets OnboardFunction alone write them.
VERSION, PUBLISHED = "applied_version", "applied_published"


class AppliedAccess(InventoryItems):
    """The version of access.yaml that the last reconcile applied to the fleet."""

    def begin_reading(self) -> None:
        """Begin to read the version, which `version` will return; the client must be a fast one."""
        self._dynamodb.begin_get_item(**self._reading(KEY))

    def version(self) -> str | None:
        """Return the applied version; None before the first reconcile."""
        item = self._item(KEY)
        return item[VERSION]["S"] if item and VERSION in item else None

    def record(self, version: str, published: str) -> bool:
        """Record a version as applied, and return whether it is; a version that was published later stays.

        :param published: when the version was published, RFC 3339.
        """
        latest = f"attribute_not_exists(#{PUBLISHED}) OR #{PUBLISHED} <= :{PUBLISHED}"
        return self._set_if(KEY, latest, **{VERSION: version, PUBLISHED: published})
