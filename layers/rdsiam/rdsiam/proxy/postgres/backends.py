"""The servers behind open connections, so that a request to cancel reaches the right one."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from rdsiam.proxy.contracts import Upstream
from rdsiam.proxy.postgres.messages import KEY_LENGTHS, CancelRequest, Malformed, Message
from rdsiam.proxy.postgres.server_login import open_verified


@dataclass(frozen=True, eq=False)
class _Backend:
    process: int
    key: bytes = field(repr=False)
    address: tuple[str, int]


class Backends:
    """Open connections of one listener, by the keys that the servers gave to their clients.

    An endpoint may lead to several servers, whose process numbers may be the same; so the address is kept with a key.
    """

    def __init__(self) -> None:
        self._backends: dict[int, list[_Backend]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._backends.values()))

    def add(self, key_data: Message, address: tuple[str, int]) -> Callable[[], None]:
        """Record a server's BackendKeyData, and return what forgets it.

        :raises Malformed: it is no BackendKeyData.
        """
        process, key = int.from_bytes(key_data.body[:4], "big"), key_data.body[4:]
        if len(key) not in KEY_LENGTHS:
            raise Malformed(f"a key to cancel by of {len(key)} bytes")
        backend = _Backend(process, key, address)
        self._backends.setdefault(process, []).append(backend)
        return lambda: self._forget(backend)

    def _forget(self, backend: _Backend) -> None:
        others = [other for other in self._backends.get(backend.process, []) if other is not backend]
        if others:
            self._backends[backend.process] = others
        else:
            self._backends.pop(backend.process, None)

    async def cancel(self, request: CancelRequest, upstream: Upstream) -> None:
        """Pass a request on to the server that gave its key, and wait until the server has taken it.

        A request with a key that no open connection has is dropped, as a server drops it.

        :raises UpstreamFailed: no verified connection to the server can be had.
        """
        for backend in self._backends.get(request.process, []):
            if hmac.compare_digest(backend.key, request.key):
                peer = await open_verified(upstream, backend.address)
                try:
                    peer.write(request.packet)
                    await peer.ended()
                finally:
                    peer.abort()
                return
