"""Large results without S3."""

import hashlib


class Results:
    """A store of large results in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def put(self, name: str, text: str) -> str:
        address = f"s3://results/{name}-{hashlib.sha256(text.encode()).hexdigest()}.json"
        self.texts[address] = text
        return address

    def get(self, address: str) -> str:
        return self.texts[address]
