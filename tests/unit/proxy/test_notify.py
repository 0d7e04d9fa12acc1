"""The proxy's state for systemd."""

import socket

import pytest

from rdsiam.proxy.notify import READY, notify


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_gets_the_state_as_one_datagram(monkeypatch, tmp_path, abstract):
    name = f"@rdsiam-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0", 1))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify(READY)
        assert systemd.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "/nonexistent/notify", "@rdsiam-nobody-listens", "vsock:2:1234", "/" + 200 * "x"])
def test_a_proxy_runs_without_a_listening_systemd(monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify(READY)


def test_a_full_queue_does_not_hold_the_proxy_up(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        for _ in range(2000):
            notify(READY)
        assert systemd.recv(100) == b"READY=1"
