"""Settings of the proxy, and the rules that keep it off the network unless it is protected."""

import ssl
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rdsiam.errors import ProxySettingsInvalid
from rdsiam.proxy.contracts import Listener
from rdsiam.proxy.sockets import is_loopback

__all__ = ["Protection", "Settings", "address", "check", "protection"]

#: Bytes of a shared secret at least, if others than this machine's users can try to guess it.
_LEAST = 16
_MOST = 1024


@dataclass(frozen=True)
class Settings:
    """Everything that a configuration file or the options set; times in seconds.

    :ivar max_connections: of clients, over all listeners.
    :ivar connections_per_second: new ones of each listener.
    :ivar login_timeout: from the accepted connection to the finished login.
    :ivar drain_timeout: for open connections after SIGTERM.
    :ivar health_port: of /healthz, /readyz and /metrics; None: they are not served.
    :ivar password_file: has the secret that clients give as their password.
    :ivar cut: close open connections of users whose access has ended.
    :ivar cut_interval: after which that is asked again, on average.
    """

    listeners: tuple[Listener, ...]
    max_connections: int = 1000
    connections_per_second: int = 50
    login_timeout: float = 30.0
    drain_timeout: float = 30.0
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    password_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    cut: bool = False
    cut_interval: float = 30.0


@dataclass(frozen=True)
class Protection:
    """Secret and TLS for clients; None: not asked for, not offered."""

    secret: bytes | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


def address(listener: Listener) -> str:
    """Return the place of a listener, for logs and labels."""
    if listener.socket is not None:
        return str(listener.socket)
    port = "" if listener.port is None else f":{listener.port}"
    return f"[{listener.host}]{port}" if ":" in listener.host else f"{listener.host}{port}"


def check(settings: Settings) -> None:
    """Check what settings say together.

    :raises ProxySettingsInvalid: no database, one place twice, or the network without protection.
    """
    problems: list[str] = []
    if not settings.listeners:
        problems.append("no database is named; one begins with [[database]], its name and its port")
    if (settings.certificate is None) != (settings.key is None):
        problems.append("certificate and key are given together, or neither")
    protected = settings.password_file is not None and settings.certificate is not None
    for listener in settings.listeners:
        if listener.socket is None and not is_loopback(listener.host) and not protected:
            problems.append(
                f"{listener.database}: {listener.host} can be reached from other machines: that needs certificate, key "
                "and require_password_file"
            )
        if listener.user is not None and listener.users:
            problems.append(f"{listener.database}: give user or users, not both")
    problems += _collisions(settings)
    if problems:
        raise ProxySettingsInvalid(problems)


def protection(settings: Settings) -> Protection:
    """Read secret, certificate and key.

    :raises ProxySettingsInvalid: a file can't be read, others can read it, or it has no such thing.
    """
    secret = _secret(settings) if settings.password_file is not None else None
    if settings.certificate is None or settings.key is None:
        return Protection(secret)
    _check_private(settings.key, "the key")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password, so that a key with one is an error instead of a question on the terminal.
        tls.load_cert_chain(settings.certificate, settings.key, "")
    except (OSError, ValueError) as error:
        problem = f"{settings.certificate}, {settings.key}: no certificate and key that belong together ({error})"
        raise ProxySettingsInvalid([problem]) from None
    return Protection(secret, tls)


def _collisions(settings: Settings) -> list[str]:
    """Return the places that two listeners would have."""
    places: Counter[str] = Counter()
    for listener in settings.listeners:
        if listener.socket is not None:
            places[str(listener.socket)] += 1
        elif listener.port:
            places[address(listener)] += 1
    if settings.health_port:
        places[f"{settings.health_host}:{settings.health_port}"] += 1
    twice = [f"{place} is given twice" for place, number in places.items() if number > 1]
    same = Counter(settings.listeners)
    twice += [f"{listener.database} is named twice" for listener, number in same.items() if number > 1]
    # 127.0.0.1 and localhost, or an address and all addresses.
    ports: dict[int, set[str]] = {}
    for listener in settings.listeners:
        if listener.socket is None and listener.port:
            ports.setdefault(listener.port, set()).add(listener.host)
    for port, hosts in ports.items():
        for wide, narrow in (("localhost", {"127.0.0.1", "::1"}), ("0.0.0.0", None), ("::", None)):  # noqa: S104  compared only
            others = hosts - {wide} if narrow is None else hosts & narrow
            if wide in hosts and others:
                twice.append(f"port {port}: {wide} includes {', '.join(sorted(others))}")
    return twice


def _secret(settings: Settings) -> bytes:
    file = settings.password_file
    assert file is not None
    _check_private(file, "the password")
    try:
        secret = file.read_bytes()[: _MOST + 2]
    except OSError as error:
        raise ProxySettingsInvalid([f"{file}: {error.strerror}"]) from None
    secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if not secret or len(secret) > _MOST or any(byte in secret for byte in b"\0\r\n"):
        raise ProxySettingsInvalid([f"{file}: not one line with a password of up to {_MOST} bytes"])
    on_network = any(listener.socket is None and not is_loopback(listener.host) for listener in settings.listeners)
    if on_network and len(secret) < _LEAST:
        raise ProxySettingsInvalid([f"{file}: the password is too short for the network, at least {_LEAST} bytes"])
    return secret


def _check_private(file: Path, content: str) -> None:
    """Check that a file's group may at most read it, and others nothing: a mounted secret has the pod's group."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ProxySettingsInvalid([f"{file}: {error.strerror}"]) from None
    if not stat.S_ISREG(mode):
        raise ProxySettingsInvalid([f"{file}: not a file"])
    if mode & 0o037:
        problem = f"{file}: others can read or change {content} (mode {stat.S_IMODE(mode):04o}); chmod 600 {file}"
        raise ProxySettingsInvalid([problem])
