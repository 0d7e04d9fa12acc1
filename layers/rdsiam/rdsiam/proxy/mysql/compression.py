"""Clients that compress their packets although no server offered it: mysql-connector-python does, if it is asked to."""

from collections.abc import Callable
from typing import Final

from rdsiam.proxy.mysql.packets import error
from rdsiam.proxy.peer import Peer

__all__ = ["refuse_compressed"]

#: The header of a compressed packet: length, number, and length before compression, which is 0 of a short packet.
_HEADER: Final = 7
#: First bytes of what zlib and Zstandard have compressed.
_COMPRESSED: Final = (b"\x78", b"\x28\xb5\x2f\xfd")
#: Of MySQL: the compression algorithm is not among those of the server.
_WRONG_ALGORITHM: Final = 4065
_MESSAGE: Final = "rdsiam proxy does not compress: switch compression off in this client, for example compress=False"


def refuse_compressed(peer: Peer, inspect: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return an `Opened.inspect` that ends a client whose first packet is compressed, which no server would answer.

    Other clients ask for compression too, and do without if it isn't offered: their response doesn't tell.

    :param inspect: gets the bytes of all other clients.
    """
    checked = False

    def inspect_first(data: bytes) -> bytes:
        nonlocal checked
        if checked:
            return inspect(data)
        checked = True
        if not _is_compressed(data):
            return inspect(data)
        payload = error(_WRONG_ALGORITHM, "HY000", _MESSAGE)
        packet = len(payload).to_bytes(3, "little") + b"\1" + payload
        # As this client reads it: a header that says that what follows isn't compressed.
        peer.write(len(packet).to_bytes(3, "little") + b"\1\0\0\0" + packet)
        peer.close()
        return b""

    return inspect_first


def _is_compressed(data: bytes) -> bool:
    """Tell whether a client's first bytes are one compressed packet; a plain one is three bytes shorter."""
    whole = len(data) == _HEADER + int.from_bytes(data[:3], "little")
    return whole and (not any(data[3:_HEADER]) or data.startswith(_COMPRESSED, _HEADER))
