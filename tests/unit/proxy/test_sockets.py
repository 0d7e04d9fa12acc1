"""Unix sockets of the proxy: what is at their path before and after; and the limit of open files."""

import fcntl
import os
import resource
import socket
import stat

import pytest

from rdsiam.errors import ListenFailed, ProxySettingsInvalid
from rdsiam.proxy.contracts import Listener
from rdsiam.proxy.settings import Settings
from rdsiam.proxy.sockets import allow
from tests.unit.proxy.peers import run
from tests.unit.proxy.stubs import Site


def test_a_unix_socket_is_its_owners_and_goes_with_the_proxy(tmp_path):
    path = tmp_path / ".s.PGSQL.5432"

    async def main():
        async with Site(Settings((Listener("orders", socket=path),))) as site:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            client = await site.client(path=path)
            assert await client.ask("hello") == "hello"
            client.close()

    run(main)
    assert not path.exists()


@pytest.mark.parametrize(
    ("limits", "raised", "room"),
    [
        ((256, 4096), 1400, 500),
        ((4096, 4096), None, 500),
        ((256, 1000), 1000, 333),
        ((1300, 1300), None, 450),
        ((-1, -1), None, 500),
        ((3, 3), None, 1),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed(monkeypatch, caplog, limits, raised, room):
    changes = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: changes.append(new))
    assert allow(500) == room
    assert changes == ([(raised, limits[1])] if raised else [])
    assert ("too low for max_connections" in caplog.text) is (room < 500)


def test_connections_without_a_file_are_told_what_to_raise(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (6, 6))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)

    async def main():
        async with Site() as site:
            clients = [await site.client() for _ in range(3)]
            assert [client.answer for client in clients[:2]] == ["ok", "ok"]
            assert clients[2].answer.endswith("its limit; close some, or raise the limit of open files (ulimit -n)")
            for client in clients:
                client.close()

    run(main)


def test_a_stale_unix_socket_is_replaced_and_one_in_use_is_not(tmp_path):
    path = tmp_path / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def main():
        async with Site(Settings((Listener("orders", socket=path),))) as site:
            with pytest.raises(ListenFailed, match="another program listens there"):
                async with Site(Settings((Listener("orders", socket=path),))):
                    pass
            client = await site.client(path=path)
            assert client.answer == "ok"
            client.close()

    run(main)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / ".s.PGSQL.5432"
    path.write_text("precious")

    async def main():
        with pytest.raises(ListenFailed, match="exists and is no socket"):
            async with Site(Settings((Listener("orders", socket=path),))):
                pass

    run(main)
    assert path.read_text() == "precious"


def test_whoever_locks_the_folder_of_a_unix_socket_stops_neither_start_nor_end(tmp_path, caplog):
    """Everyone can who may read it."""
    path = tmp_path / ".s.PGSQL.5432"
    site = Site(Settings((Listener("orders", socket=path),)))
    folder = os.open(tmp_path, os.O_RDONLY)

    async def main():
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(ListenFailed, match="is locked by another program"):
            async with site:
                pass
        fcntl.flock(folder, fcntl.LOCK_UN)
        async with site:
            fcntl.flock(folder, fcntl.LOCK_EX)
            assert await site.server.drain() is True

    run(main)
    os.close(folder)
    assert path.exists()
    assert "can't be removed" in caplog.text


@pytest.mark.parametrize("instead", ["nothing", "a file", "no folder"])
def test_a_proxy_ends_well_whatever_became_of_its_unix_socket(tmp_path, instead):
    path = tmp_path / "folder" / ".s.PGSQL.5432"
    path.parent.mkdir()

    async def main():
        async with Site(Settings((Listener("orders", socket=path),))) as site:
            path.unlink()
            if instead == "a file":
                path.write_text("precious")
            elif instead == "no folder":
                path.parent.rmdir()
            assert await site.server.drain() is True

    run(main)
    assert path.exists() is (instead == "a file")


@pytest.mark.parametrize("made", [True, False])
def test_a_path_that_is_too_long_for_a_unix_socket_says_so(tmp_path, made):
    folder = tmp_path / ("a" * 100)
    if made:
        folder.mkdir()

    async def main():
        with pytest.raises(ListenFailed, match=r"too long for a unix socket: .*; choose a shorter path"):
            async with Site(Settings((Listener("orders", socket=folder / ".s.PGSQL.5432"),))):
                pass

    run(main)


@pytest.mark.parametrize("name", ["proxy.sock", ".s.PGSQL.", ".s.PGSQL.0", ".s.PGSQL.5432.lock", "s.PGSQL.5432"])
def test_a_socket_that_clients_of_postgresql_can_not_name_is_refused(tmp_path, name):
    async def main():
        with pytest.raises(ProxySettingsInvalid, match="find no socket of that name"):
            async with Site(Settings((Listener("orders", socket=tmp_path / name),))):
                pass

    run(main)
