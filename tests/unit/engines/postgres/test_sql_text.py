"""Text of SQL that contains names which others chose."""

import pytest

from rdsiam.engines.postgres.sql_text import comment


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x00", "\x1b[2J"])
def test_no_character_ends_a_comment(end):
    made = comment(f"members get readonly on x{end}DROP ROLE y; --")
    assert made.isprintable()
    assert made.startswith("-- members get readonly on x\\")
    assert made.endswith("DROP ROLE y; --")


def test_a_comment_keeps_what_can_be_read():
    assert comment("größe 90% 'a' \"b\" \\n") == "-- größe 90% 'a' \"b\" \\n"
