"""Commands of a client after its login: a change of the user is refused in its turn, and nothing else is touched."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.proxy.mysql.commands import Commands

CHANGE = b"\x11bob\0\x14" + b"s" * 20 + b"shop\0\x2d\0mysql_native_password\0\x0c\x01a\x09localhost"


def packet(payload, sequence=0):
    return len(payload).to_bytes(3, "little") + bytes((sequence,)) + payload


def pass_on(data, cuts=(), attributes=False, file=True):
    """Return what becomes of bytes that come in pieces.

    :param file: the server may have asked for a file.
    """
    commands = Commands(attributes, lambda: file)
    edges = [0, *sorted(cuts), len(data)]
    return b"".join(commands.inspect(data[a:b]) for a, b in itertools.pairwise(edges))


def refusal(attributes=False):
    return pass_on(packet(CHANGE), attributes=attributes)


@pytest.mark.parametrize(
    "change",
    [
        CHANGE,
        b"\x11bob\0\0\0",  # no password, no schema, nothing more
        b"\x11bob\0\0shop",
        b"\x11\0\0\0\x08\0",
        b"\x11bob\0\x20" + bytes(range(32)) + b"\0\xff\0caching_sha2_password",
        b"\x11j\xc3\xb6rg\0\0\0\x2d\0",
    ],
)
def test_a_change_of_the_user_becomes_a_statement_that_fails_with_the_reason(change):
    commands = pass_on(packet(b"\x03SELECT 1") + packet(change) + packet(b"\x0e"))
    first, last = packet(b"\x03SELECT 1"), packet(b"\x0e")
    assert commands.startswith(first)
    assert commands.endswith(last)
    statement = commands[len(first) : -len(last)]
    assert statement == refusal()
    assert statement[3:] == b"\0\x03" + statement[5:]
    assert b"SIGNAL SQLSTATE '28000'" in statement
    text = statement.split(b"MESSAGE_TEXT = '")[1].removesuffix(b"'")
    assert len(text) <= 128  # no server takes more
    assert int.from_bytes(statement[:3], "little") == len(statement) - 4


def test_with_attributes_the_statement_has_none_of_them():
    assert refusal(attributes=True)[4:].startswith(b"\x03\0\1SIGNAL")


@pytest.mark.parametrize("attributes", [False, True])
def test_every_split_gives_the_same_bytes(attributes):
    data = packet(b"\x03SELECT 1") + packet(CHANGE) + packet(b"") + packet(b"\x1f") + packet(CHANGE) + packet(b"\x0e")
    whole = pass_on(data, attributes=attributes)
    assert whole.count(b"SIGNAL") == 2
    for cut in range(len(data) + 1):
        assert pass_on(data, [cut], attributes) == whole
    assert pass_on(data, range(len(data)), attributes) == whole


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x03SELECT 1", b"\x01", b"\x1f", b"\x12\0\0\0\0", b"\x11", b"\x11bob", b"\x11bob\0\x14short", b"\x10\x11",
     b"\x11bob\nmallory\0\0\0", b"\x11" + b"x" * 200_000],
    ids=range(11),
)  # fmt: skip
def test_other_packets_pass_untouched(payload):
    data = packet(payload) + packet(b"\x0e")
    assert pass_on(data) == data
    for cut in range(0, len(data), 1 + len(data) // 50):
        assert pass_on(data, [cut, min(cut + 3, len(data))]) == data


def test_a_long_packet_and_what_continues_it_are_no_commands():
    part = b"\x03" + b"x" * 0xFFFFFE
    data = packet(part) + packet(CHANGE, 1) + packet(CHANGE) + packet(b"\x0e")
    assert pass_on(data) == data.replace(packet(CHANGE), refusal())
    # After 255 the numbers begin again: a packet that continues another one may have the number 0.
    data = packet(part) + packet(b"x" * 0xFFFFFF, 1) + packet(CHANGE, 0) + packet(b"\x0e")
    assert pass_on(data) == data
    exact = packet(part) + packet(b"", 1) + packet(CHANGE)
    assert pass_on(exact).endswith(refusal())


@pytest.mark.parametrize("pieces", [1, 253, 254, 255, 256, 600])
def test_a_file_is_no_command_whatever_its_numbers(pieces):
    file = b"".join(packet(CHANGE, (2 + number) % 256) for number in range(pieces))
    end = packet(b"", (2 + pieces) % 256)
    data = packet(b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t") + file + end
    assert pass_on(data) == data
    assert pass_on(data, range(0, len(data), 7)) == data
    assert pass_on(data + packet(CHANGE)) == data + refusal()


def test_a_file_has_long_packets_too():
    long = packet(b"\x11" + b"y" * 0xFFFFFE, 2) + packet(b"", 3)
    data = packet(b"\x03LOAD") + long + packet(CHANGE, 4) + packet(CHANGE, 0) + packet(b"", 5)
    assert pass_on(data) == data
    assert pass_on(data + packet(CHANGE)).endswith(refusal())


def test_an_empty_file_ends_at_once():
    data = packet(b"\x03LOAD") + packet(b"", 2)
    assert pass_on(data + packet(CHANGE)) == data + refusal()


def test_a_file_after_very_many_results_begins_with_the_number_0():
    data = packet(b"\x03SELECT 1; LOAD DATA") + packet(b"\x11 is a control character", 0) + packet(b"", 1)
    assert pass_on(data) == data


def test_bytes_of_one_packet_pass_without_being_copied():
    commands = Commands(False, lambda: True)
    commands.inspect(packet(b"\x03" + b"x" * 100_000)[:1000])
    piece = b"y" * 50_000
    assert commands.inspect(piece) is piece
    whole = packet(b"\x03SELECT 1")
    assert Commands(False, lambda: True).inspect(whole) is whole


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_any_bytes_in_any_pieces_are_passed_in_order_and_little_is_held(data, cuts):
    cuts = [cut for cut in cuts if cut <= len(data)]
    result = pass_on(data, cuts)
    assert result == pass_on(data)
    if b"\x11" not in data:
        assert data.startswith(result)
        assert len(data) - len(result) <= 4


def test_what_is_held_is_bounded():
    commands = Commands(False, lambda: True)
    start = packet(b"\x11bob\0\0" + b"x" * 100_000)
    passed = sum(len(commands.inspect(piece)) for piece in (start[:5], start[5:50_000]))
    assert passed == 0
    longer = packet(b"\x11bob\n\0\0" + b"x" * 200_000)
    commands = Commands(False, lambda: True)
    assert commands.inspect(longer[:70_000]) == longer[:70_000]
    assert pass_on(longer[:10], file=False) == refusal()


#: Names that only a file would have, if it could begin here.
ODD = {
    "an odd plugin": b"\x11bob\0\0\0\x2d\0a plugin",
    "an odd user": b"\x11b\tb\0\0\0\x2d\0mysql_native_password",
    "an odd schema": b"\x11bob\0\0a\tb\0\x2d\0mysql_native_password",
    "a long name": b"\x11" + b"b" * 200_000 + b"\0\0\0",
    "half a character set": b"\x11bob\0\0\0\x2d",
    "nothing": b"\x11",
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_a_change_of_the_user_is_refused_whatever_its_form_where_no_file_can_begin(change):
    data = packet(b"\x03SELECT 1") + packet(change) + packet(b"\x0e")
    assert pass_on(data, file=False) == data.replace(packet(change), refusal())
    assert pass_on(data, range(0, len(data), 1 + len(data) // 50), file=False) == data.replace(
        packet(change), refusal()
    )


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("padding", [0, 65_000, 131_072, 200_000, 0xFFFFFF - len(CHANGE), 2**24 + 5, 2 * 2**24])
def test_a_change_of_the_user_is_refused_however_long_it_is(file, padding):
    """Servers ignore what is behind the names."""
    rest = CHANGE + bytes(padding)
    change, number, part = b"", 0, bytes(0xFFFFFF)
    while len(part) == 0xFFFFFF:
        part, rest = rest[:0xFFFFFF], rest[0xFFFFFF:]
        change += packet(part, number)
        number += 1
    data = packet(b"\x03SELECT 1") + change + packet(b"\x0e") + packet(CHANGE)
    expected = packet(b"\x03SELECT 1") + refusal() + packet(b"\x0e") + refusal()
    for cuts in [(), range(0, len(data), 70_001), (13, 14, 20, len(data) - len(CHANGE) - 9)]:
        assert pass_on(data, cuts, file=file) == expected
