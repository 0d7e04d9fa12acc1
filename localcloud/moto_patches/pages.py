"""The patch of moto's pages: a database that is deleted between two pages ends no listing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.moto_patches.patch import Patch, replaces

#: The attribute by which moto's RDS names the first item of the next page.
_BY_NAME = ["resource_id"]


class Pages(Patch):
    """Pages of RDS, sorted by name as RDS sorts them. Other services page by attributes of their own."""

    target = "moto.utilities.paginator.Paginator"

    @replaces
    def paginate(self, original: Callable[..., Any], paginator: Any, results: list[Any]) -> Any:
        """Continue with the next item that exists if the first one of the page was deleted; moto answers an error."""
        if paginator._unique_attributes != _BY_NAME:
            return original(paginator, results)
        results = sorted(results, key=lambda item: item.resource_id)
        token = paginator._parsed_token
        if token is not None:
            following = [item.resource_id for item in results if item.resource_id >= token["uniqueAttributes"]]
            if not following:
                return [], None
            token["uniqueAttributes"] = following[0]
        return original(paginator, results)
