"""A bucket without S3."""

import io
from typing import Any


class Bucket:
    """S3 as far as the store knows it: put, get, list by prefix in the order of keys."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.listings = 0

    def put_object(self, **asked: Any) -> None:
        assert asked["Bucket"] == "reports"
        assert asked["ContentType"]
        self.objects[asked["Key"]] = asked["Body"]

    def get_object(self, **asked: Any) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.objects[asked["Key"]])}

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        self.listings += 1
        start = asked.get("StartAfter", "")
        keys = sorted(key for key in self.objects if key.startswith(asked["Prefix"]) and key > start)
        return {"Contents": [{"Key": key} for key in keys[: asked.get("MaxKeys", 1000)]]} if keys else {}

    def get_paginator(self, name: str) -> "Bucket":
        assert name == "list_objects_v2"
        return self

    def paginate(self, **asked: Any) -> list[dict[str, Any]]:
        return [self.list_objects_v2(**asked, MaxKeys=10**6)]
