"""Character sets of clients, as far as a server needs them to read a login.

MariaDB counts a response whose names it can't read as a broken connection, and refuses the host after many of them.
"""

from typing import Final

__all__ = ["is_known_of_clients", "is_readable"]

#: Collations of ucs2, utf16, utf16le and utf32, which servers take from no client.
_WIDE: Final = frozenset({35, 54, 55, 56, 60, 61, 62, 90, 159, *range(101, 125), *range(128, 152), *range(160, 184)})
#: Collations of utf8mb3 and utf8mb4, as far as their numbers have one byte; and of latin1, which has all bytes.
_UTF8: Final = frozenset({33, 45, 46, 76, 83, 223, 255, *range(192, 216), *range(224, 248)})
_LATIN1: Final = frozenset({5, 8, 15, 31, 47, 48, 49, 94})


def is_known_of_clients(charset: int) -> bool:
    """Tell whether a client may have this character set."""
    return charset not in _WIDE


def is_readable(name: bytes, charset: int) -> bool:
    """Tell whether every server can read a name in this character set: surely if it has ASCII only."""
    if name.isascii() or charset in _LATIN1:
        return True
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return charset in _UTF8 and max(text) <= "\uffff"
