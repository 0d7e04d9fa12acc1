"""The arguments of `python -m localcloud`."""

import pytest

from localcloud.__main__ import _parser


def test_the_administrator_is_like_rds_unless_vanilla_is_asked_for():
    assert _parser().parse_args([]).administrator == "rds"
    assert _parser().parse_args(["--administrator", "vanilla"]).administrator == "vanilla"


def test_another_administrator_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        _parser().parse_args(["--administrator", "superuser"])
    assert "vanilla" in capsys.readouterr().err
