"""Patches that make moto compute once what it computes for every request."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, ClassVar

from localcloud.moto_patches.patch import Patch, replaces


def _once(method: Callable[..., Any]) -> staticmethod[..., Any]:
    return staticmethod(functools.cache(method))


def _json_first(parse: Callable[[str], Any]) -> staticmethod[..., Any]:
    def parse_json_first(template: str) -> Any:
        try:
            return json.loads(template)
        except ValueError:
            return parse(template)

    return staticmethod(parse_json_first)


class ErrorShapes(Patch):
    """The shapes of a service's errors, which moto collects anew for each error that it answers with."""

    target = "moto.core.errors.ErrorLookupFactory"
    changed_values: ClassVar = {"_create_error_lut": _once}


class Backends(Patch):
    """The backend that serves a host, for which moto lists its own folder and tries the patterns of all services."""

    target = "moto.moto_server.werkzeug_app.DomainDispatcherApplication"
    changed_values: ClassVar = {"get_backend_for_host": functools.cache}


class Actions(Patch):
    """The actions of a service, for which moto looks through all members of its class."""

    target = "moto.core.responses"
    changed_values: ClassVar = {"method_names_from_class": functools.cache}


class Templates(Patch):
    """Templates, which moto reads as YAML even if they are JSON."""

    target = "moto.cloudformation.models.Stack"
    changed_values: ClassVar = {"parse_template": _json_first}


class AttributeValues(Patch):
    """Values of DynamoDB, which have one of ten types: moto looks for each of them under five names."""

    target = "moto.core.serialize.ResponseSerializer"

    @replaces
    def _serialize_structure_member(
        self, original: Any, serializer: Any, serialized: Any, value: Any, shape: Any, key: str
    ) -> None:
        """Write one member of a structure."""
        if shape.parent.name == "AttributeValue" and isinstance(value, dict) and key not in value:
            return
        original(serializer, serialized, value, shape, key)
