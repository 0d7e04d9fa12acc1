"""Tells from the last bytes of a server what its client may do: end between two statements, or send a file."""

from typing import Final

from rdsiam.proxy.mysql.packets import Fields, Malformed
from rdsiam.proxy.peer import TAIL

__all__ = ["file_may_begin", "is_idle"]

_OK: Final = 0x00
#: EOF, or OK at the end of rows.
_END: Final = 0xFE
#: Flags of the status: in a transaction, more results follow, an open cursor, in a transaction that only reads.
_BUSY: Final = 0x0001 | 0x0008 | 0x0040 | 0x2000
#: Bytes of an OK at least, of EOF, and of the answer to a prepared statement, which has no status.
_SHORTEST_OK: Final = 7
_EOF: Final = 5
_PREPARED: Final = 12
#: The last number that a packet can have, and the beginning of a request for a file.
_FILE: Final = b"\xff\xfb"
#: First byte of a number → the bytes that follow it.
_SIZES: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def is_idle(tail: bytes) -> bool:
    """Tell whether the bytes end with a packet after which the client speaks, outside of a transaction.

    An answer that is not recognized counts as busy: among them errors, which may leave a transaction open.

    :param tail: the last bytes that the server has sent; empty if the client has sent more since.
    """
    return any(_is_end(tail[start:]) for start in range(len(tail) - 4))


def file_may_begin(tail: bytes) -> bool:
    """Tell whether the bytes may end with a request for a file (LOAD DATA LOCAL) whose first packet has the number 0.

    The beginning of a request may be out of sight, as it has a name of any length.

    :param tail: as for `is_idle`.
    """
    if len(tail) == TAIL:
        return not is_idle(tail)
    return any(
        tail[start + 3 : start + 5] == _FILE and int.from_bytes(tail[start : start + 3], "little") == length
        for start, length in enumerate(range(len(tail) - 4, 0, -1))
    )


def _is_end(packet: bytes) -> bool:
    length = int.from_bytes(packet[:3], "little")
    if length != len(packet) - 4:
        return False
    kind = packet[4]
    if kind == _END and length == _EOF:
        return not int.from_bytes(packet[7:9], "little") & _BUSY
    if kind not in (_OK, _END) or length < _SHORTEST_OK or length == _PREPARED:
        return False
    fields = Fields(packet[5:])
    try:
        for _ in ("changed rows", "last id"):
            fields.take(_SIZES.get(fields.number(1), 0))
        return not fields.number(2) & _BUSY
    except Malformed:
        return False
