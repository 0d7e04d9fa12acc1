"""Character sets of clients: a server has to be able to read the names of a login."""

import pytest

from rdsiam.proxy.mysql.charsets import is_known_of_clients, is_readable

LATIN1, ASCII, UTF8, UTF8MB4, NEWEST, GBK, SJIS = 8, 11, 33, 45, 255, 28, 13


@pytest.mark.parametrize("charset", [35, 54, 55, 56, 60, 61, 62, 90, 101, 128, 151, 159, 160, 183])
def test_wide_characters_are_no_client_s(charset):
    assert not is_known_of_clients(charset)


@pytest.mark.parametrize("charset", [LATIN1, ASCII, UTF8, UTF8MB4, NEWEST, GBK, SJIS, 0, 63])
def test_names_of_ascii_are_readable_in_all_others(charset):
    assert is_known_of_clients(charset)
    assert is_readable(b"shop_2", charset)
    assert is_readable(b"", charset)


@pytest.mark.parametrize(
    ("name", "charset", "readable"),
    [
        ("jörg".encode(), UTF8, True),
        ("jörg".encode(), UTF8MB4, True),
        ("店".encode(), NEWEST, True),
        (b"j\xf6rg", LATIN1, True),
        (b"j\xf6rg", UTF8MB4, False),
        (b"\xff\xfe", UTF8, False),
        (b"\xed\xa0\x80", UTF8MB4, False),
        ("😀".encode(), UTF8, False),
        ("jörg".encode(), ASCII, False),
        ("jörg".encode(), GBK, False),
        (b"\x81", SJIS, False),
        (b"j\xf6rg", 0, False),
    ],
)
def test_other_names_are_readable_in_utf8_and_latin1_only(name, charset, readable):
    assert is_readable(name, charset) is readable
