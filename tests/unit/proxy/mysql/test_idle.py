"""Connections of MySQL that are between two statements, by the last bytes of the server."""

import pytest

from rdsiam.proxy.mysql.idle import file_may_begin, is_idle

AUTOCOMMIT, IN_TRANSACTION, MORE = 0x0002, 0x0001, 0x0008


def packet(payload: bytes, number: int = 1) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def ok(status: int, changed: bytes = b"\0", last: bytes = b"\0", more: bytes = b"", kind: int = 0) -> bytes:
    return packet(bytes([kind]) + changed + last + status.to_bytes(2, "little") + b"\0\0" + more)


def eof(status: int) -> bytes:
    return packet(b"\xfe\0\0" + status.to_bytes(2, "little"), 7)


ANSWERS = {
    "ok": ok(AUTOCOMMIT),
    "ok without autocommit": ok(0),
    "many rows changed": ok(AUTOCOMMIT, b"\xfd\x01\x02\x03", b"\xfe" + b"\x01" * 8),
    "ok with a text": ok(AUTOCOMMIT, more=b"Rows matched: 1  Changed: 0  Warnings: 0"),
    "rows, EOF": packet(b"\x01\x31") + eof(AUTOCOMMIT),
    "rows, OK": packet(b"\x01\x31") + ok(AUTOCOMMIT, kind=0xFE),
}
BUSY = {
    "nothing": b"",
    "ok in a transaction": ok(IN_TRANSACTION),
    "ok with more results": ok(AUTOCOMMIT | MORE),
    "rows in a transaction, EOF": packet(b"\x01\x31") + eof(AUTOCOMMIT | IN_TRANSACTION),
    "rows in a transaction, OK": packet(b"\x01\x31") + ok(IN_TRANSACTION, kind=0xFE),
    "rows, and more results": packet(b"\x01\x31") + eof(AUTOCOMMIT | MORE),
    "a row": packet(b"\x01\x31"),
    "a row of zeros": packet(b"\x05\0\0\0\0\0"),
    "an error": packet(b"\xff\x7a\x04#42S02no such table"),
    "prepared": packet(b"\0\x01\0\0\0\0\0\0\0\0\0\0"),
    "half of an ok": ok(AUTOCOMMIT)[:-1],
    "a header": b"\x07\0\0\x01",
}


@pytest.mark.parametrize("before", [b"", b"\0" * 53, b"\xfe" * 53, b"x" * 40], ids=["alone", "zeros", "0xfe", "text"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_client_that_has_its_whole_answer_is_idle(answer, before):
    assert is_idle((before + answer)[-64:])


@pytest.mark.parametrize("before", [b"", b"\xfe" * 53, b"x" * 40], ids=["alone", "0xfe", "text"])
@pytest.mark.parametrize("answer", BUSY.values(), ids=BUSY)
def test_a_client_in_a_statement_or_transaction_is_busy(answer, before):
    assert not is_idle((before + answer)[-64:])


ROWS = b"".join(packet(b"\x01\x31", number) for number in range(20))


@pytest.mark.parametrize(
    ("answer", "may"),
    [
        (packet(b"\xfb/tmp/lines", 255), True),
        (packet(b"\x01\x31", 254) + packet(b"\xfb/tmp/lines", 255), True),
        (packet(b"\xfb/tmp/" + b"l" * 300, 255), True),
        (packet(b"\xfb/tmp/lines", 1), False),
        (b"", False),
        (ok(AUTOCOMMIT), False),
        (packet(b"\xff\x15\x04#28000denied"), False),
        (ROWS + eof(AUTOCOMMIT), False),
        (ROWS + ok(AUTOCOMMIT, kind=0xFE), False),
    ],
)
def test_a_file_may_begin_at_number_0_only_if_the_server_has_asked_for_it(answer, may):
    assert file_may_begin(answer[-64:]) is may
