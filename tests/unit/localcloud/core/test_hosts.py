"""The hosts file that clouds share: each has its lines, and nobody's are lost, seen half, or left behind."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcloud.core import hosts
from localcloud.core.hosts import AddressRange, HostsFile, NamesUnavailable, variables

SYSTEM = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.7 intranet # a comment"
HOST = "orders.c9akciq32abc.eu-central-1.rds.amazonaws.com"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a hosts file whose last line has no end."""
    path = tmp_path / "hosts"
    path.write_text(SYSTEM)
    path.chmod(0o640)
    return path


@pytest.fixture
def ranges() -> Iterator[list[AddressRange]]:
    """Return the addresses of three clouds that run."""
    made = [AddressRange() for _ in range(3)]
    yield made
    for each in made:
        each.close()


@pytest.fixture(params=["by another file", "in place"])
def replacing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the file be replaced, or refuse it, as for a file that is a mount."""
    if request.param == "in place":
        monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("Device or resource busy")))
    return str(request.param)


def test_a_cloud_s_names_come_and_go_and_other_lines_stay_as_they_were(path, ranges, replacing):
    first, second, _ = ranges
    file, before = HostsFile(path), path.stat()
    file.write(first.number, {first.address(): HOST})
    file.write(second.number, {second.address(): "inventory.example"})
    file.write(first.number, {"127.9.9.9": "more.example", "127.9.9.8": HOST})
    text = path.read_text()
    assert text.startswith(SYSTEM + "\n")
    assert text.splitlines()[3:] == [
        f"127.{second.number}.0.1 inventory.example localcloud-{second.number}",
        f"127.9.9.9 more.example localcloud-{first.number}",
        f"127.9.9.8 {HOST} localcloud-{first.number}",
    ]
    file.write(first.number, {})
    file.write(second.number, {})
    assert path.read_text() == SYSTEM + "\n"
    assert (path.stat().st_mode, path.stat().st_uid) == (before.st_mode, before.st_uid)
    assert list(path.parent.iterdir()) == [path]


def test_the_names_of_a_cloud_that_was_killed_go_with_the_next_change(path, ranges):
    script = "from localcloud.core.hosts import *; r = AddressRange(); HostsFile().write(r.number, {r.address(): 'x'})"
    killed = f"{script}; import os; os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", killed], env=os.environ | {hosts.VARIABLE: str(path)}, check=False)
    assert done.returncode == -9
    assert "127." in path.read_text().removeprefix(SYSTEM)
    HostsFile(path).write(ranges[0].number, {})
    assert path.read_text() == SYSTEM + "\n"


def test_a_full_disk_and_a_link_leave_the_file_as_it_was(path, ranges, monkeypatch):
    link = path.with_name("link")
    link.symlink_to(path)
    HostsFile(link).write(ranges[0].number, {ranges[0].address(): HOST})
    assert link.is_symlink()
    before = path.read_text()
    assert HOST in before
    written = os.pwrite
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("Device or resource busy")))
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: written(file, data[:90] if b"much" in data else data, at))
    with pytest.raises(OSError, match="No space left"):
        HostsFile(path).write(ranges[1].number, {"127.9.9.9": "much.example"})
    assert path.read_text() == before


def test_lines_that_only_look_like_a_cloud_s_stay(path, ranges):
    alike = "127.200.0.1 mine.example\n10.1.1.1 x localcloud-200\n127.200.0.1 a localcloud-200 b\n# localcloud-200\n"
    path.write_text(alike + "127.200.0.1 a.example localcloud-200\n")
    HostsFile(path).write(ranges[0].number, {})
    assert path.read_text() == alike + ("127.200.0.1 a.example localcloud-200\n" if hosts.is_claimed(200) else "")


def test_many_writers_lose_nothing_and_readers_see_whole_files(path, ranges):
    stop = threading.Event()

    def read() -> int:
        count = 0
        while not stop.is_set():
            text = path.read_text()
            assert text.startswith(SYSTEM)
            assert text == SYSTEM or text.endswith(tuple(f" localcloud-{each.number}\n" for each in ranges)), text
            count += 1
        return count

    def write(claimed: AddressRange) -> None:
        names: dict[str, str] = {}
        for number in range(40):
            names[claimed.address()] = f"host-{number}.example"
            HostsFile(path).write(claimed.number, names)

    with ThreadPoolExecutor(4) as pool:
        reader = pool.submit(read)
        for job in [pool.submit(write, each) for each in ranges]:
            job.result()
        stop.set()
        assert reader.result() > 0
    assert all(path.read_text().count(f"127.{each.number}.0.") == 40 for each in ranges)


def test_ranges_are_disjoint_and_free_again_once_a_cloud_has_ended(ranges, monkeypatch):
    assert len({each.number for each in ranges}) == 3
    number = ranges[0].number
    assert [ranges[0].address() for _ in range(255)][-2:] == [f"127.{number}.0.254", f"127.{number}.1.1"]
    monkeypatch.setattr(hosts, "_NUMBERS", range(number, number + 1))
    with pytest.raises(NamesUnavailable, match="clouds run on this machine"):
        AddressRange()
    ranges[0].close()
    again = AddressRange()
    assert again.number == number
    again.close()


def test_programs_find_the_names_of_another_file_through_nss_wrapper(tmp_path, monkeypatch, ranges):
    monkeypatch.setenv(hosts.VARIABLE, str(tmp_path / "names"))
    address = ranges[0].address()
    HostsFile().write(ranges[0].number, {address: HOST})
    look = f"import socket; print([socket.getaddrinfo(n, 5432)[0][4][0] for n in ({HOST!r}, 'localhost')])"
    given = variables({"LD_PRELOAD": "/usr/lib/libc.so.6"})
    assert given["LD_PRELOAD"].endswith("libnss_wrapper.so:/usr/lib/libc.so.6")
    assert variables(given) == given
    environment = os.environ | variables({})
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout in (f"['{address}', '127.0.0.1']\n", f"['{address}', '::1']\n"), done.stderr
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(HOST, 5432)


def test_nobody_needs_a_library_if_the_system_s_file_has_the_names(tmp_path, monkeypatch):
    monkeypatch.delenv(hosts.VARIABLE, raising=False)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert variables() == {}
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("LOCALCLOUD_CACHE", str(tmp_path))
    assert variables()["NSS_WRAPPER_HOSTS"] == str(tmp_path / "hosts")
    monkeypatch.setattr(hosts, "_FOLDERS", (str(tmp_path),))
    with pytest.raises(NamesUnavailable, match="apt-get install libnss-wrapper"):
        variables()
