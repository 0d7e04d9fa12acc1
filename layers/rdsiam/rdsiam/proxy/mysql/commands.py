"""The commands of a client after its login: COM_CHANGE_USER is refused, everything else passes as it is."""

import re
from collections.abc import Callable
from typing import Final

from rdsiam.proxy.mysql.packets import CONTINUED, Fields, Malformed

__all__ = ["Commands"]

_CHANGE_USER: Final = 0x11
_QUERY: Final = b"\x03"
#: Bytes by which a packet is judged that may be a file: its names come first, and servers ignore what is behind them.
_JUDGED: Final = 64 * 1024
#: The request is passed on as a statement that fails, so its error comes in its turn, after the answers to the
#: commands before it.
_REFUSAL: Final = (
    b"SIGNAL SQLSTATE '28000' SET MYSQL_ERRNO = 1045, MESSAGE_TEXT = "
    b"'rdsiam proxy keeps the user of a connection (COM_CHANGE_USER): open another connection'"
)
_NAME: Final = re.compile(rb"[\x20-\x7e\x80-\xff]*")
_PLUGIN: Final = re.compile(rb"\w*", re.ASCII)


class Commands:
    """Follows the packets of a client, as `Opened.inspect`.

    A packet is a command if it has the number 0, doesn't continue another one, and isn't part of a file that the
    server has asked for (LOAD DATA LOCAL). Such a file begins with another number than 0, and ends with an empty
    packet; only after very many results in one answer may its first packet have the number 0. That one is taken for a
    command, which makes no difference unless it begins as a valid request to change the user does.

    :param attributes: whether statements have attributes before them (CLIENT_QUERY_ATTRIBUTES).
    :param file_may_begin: tells whether a packet of the number 0 may be the first one of a file.
    """

    def __init__(self, attributes: bool, file_may_begin: Callable[[], bool]) -> None:
        self._refusal = _QUERY + (b"\0\1" if attributes else b"") + _REFUSAL
        self._file_may_begin = file_may_begin
        #: Bytes of the present packet that are still to come.
        self._left = 0
        #: The present packet, and what continues it, is refused.
        self._refused = False
        #: The beginning of a packet that isn't passed on yet, as it may be the one to refuse.
        self._held = bytearray()
        #: Bytes that are needed to go on with it.
        self._needed = 0
        self._continued = False
        self._file = False

    def inspect(self, data: bytes) -> bytes:
        """Return the bytes to pass on."""
        if not self._held and self._left >= len(data):
            self._left -= len(data)
            return b"" if self._refused else data
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return b""
            data, self._held = bytes(self._held), bytearray()
        passed: list[bytes | memoryview] = []
        at, end = self._left, len(data)
        start = at if self._refused else 0
        while at < end:
            self._needed = self._decided_by(data, at)
            if end - at < self._needed:
                self._held, self._left = bytearray(data[at:]), 0
                passed.append(memoryview(data)[start:at])
                return b"".join(passed)
            length = int.from_bytes(data[at : at + 3], "little")
            continues = self._continued
            command = self._is_command(data[at + 3], length)
            if not continues:
                self._refused = command and self._refuses(data, at + 4, length)
                if self._refused:
                    passed.append(memoryview(data)[start:at])
                    passed.append(len(self._refusal).to_bytes(3, "little") + b"\0" + self._refusal)
            at += 4 + length
            if self._refused:
                start = at
        self._left = at - end
        if not start:
            return data
        passed.append(memoryview(data)[start:])
        return b"".join(passed)

    def _decided_by(self, data: bytes, at: int) -> int:
        """Return the bytes needed of the packet at `at`: its beginning, and what shows a request to refuse."""
        have = len(data) - at
        if have < 4:
            return 4
        length = int.from_bytes(data[at : at + 3], "little")
        if self._continued or self._file or data[at + 3] or not length:
            return 4
        if have > 4 and data[at + 4] == _CHANGE_USER and self._file_may_begin():
            return 4 + min(length, _JUDGED)
        return 5

    def _refuses(self, data: bytes, start: int, length: int) -> bool:
        """Tell whether the command at `start` is a request to change the user, and no file."""
        if not length or data[start] != _CHANGE_USER:
            return False
        return not self._file_may_begin() or _changes_user(data[start + 1 : start + min(length, _JUDGED)])

    def _is_command(self, sequence: int, length: int) -> bool:
        """Note the beginning of a packet, and tell whether it is a command of one packet or the first of several."""
        if self._continued:
            self._continued = length == CONTINUED
            return False
        self._continued = length == CONTINUED
        if self._file or sequence:
            self._file = length > 0
            return False
        return True


def _changes_user(beginning: bytes) -> bool:
    """Tell whether the bytes behind the command's first one begin as a valid request to change the user."""
    fields = Fields(beginning)
    try:
        user = fields.text()
        fields.take(fields.number(1))
        database = fields.last_text()
        if fields:
            fields.number(2)
        plugin = fields.last_text()
    except Malformed:
        return False
    return all((_NAME.fullmatch(user), _NAME.fullmatch(database), _PLUGIN.fullmatch(plugin)))
