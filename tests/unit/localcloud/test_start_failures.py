"""A start that fails says why, and what to do."""

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from localcloud.aws.expand import TemplateRefused, read
from localcloud.core.tails import last_lines
from localcloud.core.web import HttpServer, PortUnavailable, Response
from localcloud.databases.servers import server
from localcloud.databases.servers.server import ServerFailed, copy_template, run_as_nobody
from localcloud.start_failures import StartFailed, check_space, reason

ROOT = Path(__file__).parents[3]
Usage = namedtuple("Usage", "total used free")


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a cloud that can't start."""
    return subprocess.run(
        [sys.executable, "-m", "localcloud", *arguments],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port} of 127.0.0.1 is taken .*; choose another one"):
            HttpServer(lambda _: Response(200), port)


def test_a_port_that_this_user_may_not_use_is_named(monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("localcloud.core.web._Server.server_bind", refuse)
    with pytest.raises(PortUnavailable, match=r"port 80 of 127.0.0.1 \(Permission denied\); choose"):
        HttpServer(lambda _: Response(200), 80)


@pytest.mark.parametrize("port", ["65536", "-1", "http", "1.5", "٨٠"])
def test_a_number_that_is_no_port_is_a_wrong_argument(port):
    done = start(f"--port={port}")

    assert done.returncode == 2
    assert "is no port (0 to 65535)" in done.stderr


@pytest.mark.parametrize("database", ["oracle:orders", "sqlserver-ex:orders", "Postgres:orders"])
def test_an_engine_that_has_no_server_is_a_wrong_argument(database):
    done = start("--database", database)

    assert done.returncode == 2
    assert "is no engine (postgres, mariadb, mysql, aurora-postgresql, aurora-mysql)" in done.stderr


def test_the_last_line_of_a_failed_start_is_its_reason_without_a_traceback(tmp_path):
    done = start("--log-file", str(tmp_path / "missing" / "log"))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"localcloud: did not start: {tmp_path}/missing/log: No such file or directory\n"


@pytest.mark.parametrize("content", [None, "a: [", "- a list", "Resources: none", b"\xff\xfe"])
def test_a_template_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "template.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(TemplateRefused, match=f"{path} (can't be read: .|is no template)"):
        read(path)


def test_a_disk_without_room_for_a_database_is_refused_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 3_000_000))

    with pytest.raises(StartFailed, match=f"{tmp_path} has 3 MB of free space .*free some, or .* TMPDIR"):
        check_space(tmp_path / "cloud")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("file", ["/cloud/ca.pem", None])
def test_a_disk_that_is_full_is_named(number, file):
    text = reason(OSError(number, os.strerror(number), file))

    assert text.startswith(f"no space is left for {file or tempfile.gettempdir()}; free some")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModuleNotFoundError("No module named 'moto'", name="moto"), "No module named 'moto'; run `make setup`"),
        (ImportError("libz.so.1: cannot open shared object file"), "libz.so.1: cannot open .*; run `make setup`"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/x']"), "No usable .* TMPDIR"),
        (PermissionError(errno.EACCES, "Permission denied", "/cloud/x"), "^/cloud/x: Permission denied$"),
        (ServerFailed("initdb ended with 1: disk full"), "^initdb ended with 1: disk full$"),
        (KeyError("Resources"), "^KeyError: 'Resources'$"),
    ],
)
def test_each_kind_of_error_is_a_sentence(error, text):
    assert re.search(text, reason(error))


def test_a_failed_program_of_a_server_says_what_its_log_says(tmp_path):
    log = tmp_path / "initdb.log"
    script = "echo starting; echo 'initdb: error: No space left on device' >&2; echo bye; exit 3"

    with pytest.raises(ServerFailed, match=r"^sh ended with 3: initdb: error: No space left on device$"):
        run_as_nobody(["/bin/sh", "-c", script], log)


def test_a_program_that_hangs_says_what_its_log_says(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "START_LIMIT", 0.5)
    with pytest.raises(ServerFailed, match=r"^sh took more than 0 s: waiting for the lock$"):
        run_as_nobody(["/bin/sh", "-c", "echo waiting for the lock; sleep 20"], tmp_path / "log")


def test_data_that_can_not_be_copied_say_why(tmp_path):
    with pytest.raises(ServerFailed, match=r"missing could not be copied: .*No such file or directory"):
        copy_template(tmp_path / "missing", tmp_path / "copy")


def test_the_end_of_a_log_is_short_and_names_the_problem(tmp_path):
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_bytes(b"\n\n")
    assert last_lines(log) == ""
    log.write_bytes(b"one\ntwo\nthree\nfour\n")
    assert last_lines(log) == ": two | three | four"
    log.write_bytes(b"x" * 100_000 + b"\n\xff FATAL: disk full\nshutting down\n")
    assert last_lines(log) == ": \ufffd FATAL: disk full"
    log.write_bytes(b"error " * 10_000)
    assert len(last_lines(log)) < 700
