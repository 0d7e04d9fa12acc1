"""The folder of what is fetched once for a machine."""

import os
import threading
from pathlib import Path

import pytest

from localcloud.core import cache


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    assert cache.folder() == tmp_path


def test_the_cache_of_root_can_be_entered_by_nobody(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache.folder() == Path("/var/cache/localcloud")


def test_the_cache_of_a_user_is_in_their_home(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "localcloud"


def test_the_cache_of_a_user_follows_the_desktop_standard(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "localcloud"


def test_cleaning_removes_the_servers_and_nothing_else(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LOCALCLOUD_CACHE", str(tmp_path))
    for name in ("postgres/14/bin", "mysql/usr", "mysql-data-8.4.7-0", "photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mysql-not-had").touch()

    assert cache.main(["--clean"]) == 0

    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert cache.clean() == []


def test_one_download_waits_for_another(tmp_path):
    order = []

    def second():
        with cache.locked(tmp_path):
            order.append("second")

    with cache.locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)

    assert order == ["first", "second"]


def test_an_unknown_option_is_refused():
    with pytest.raises(SystemExit, match="2"):
        cache.main(["--clear"])
