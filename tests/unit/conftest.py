"""Unit tests ask no name server."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

#: Names that are AWS's or nobody's.
_NOT_HERE = (".amazonaws.com", ".example", ".example.com", ".invalid")


@pytest.fixture(scope="module", autouse=True)
def no_name_server() -> Iterator[None]:
    """Let the names of others not resolve, at once: a name server may take seconds to say so.

    For each module anew: integration tests, whose databases have such names, may come next in the same process.
    """
    resolve = socket.getaddrinfo

    def resolve_here(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(_NOT_HERE):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve_here)
        yield
